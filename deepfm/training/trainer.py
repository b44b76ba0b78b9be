"""Train and evaluate one click model on data sets that are already built."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from deepfm.config import ExperimentConfig
from deepfm.data.dataset import TabularDataset
from deepfm.data.schema import DatasetSchema
from deepfm.engine.checkpoint import FitState
from deepfm.engine.device import resolve_device
from deepfm.engine.loop import Observer, fit
from deepfm.engine.memory import fits
from deepfm.engine.run import RunFolder
from deepfm.engine.task import Progress, no_progress
from deepfm.models import BaseCTRModel
from deepfm.models.calibration import fit_calibration
from deepfm.training.evaluation import Evaluation, evaluate_scores, score_rows
from deepfm.training.monitors import Monitor, monitored
from deepfm.training.objectives import RANKING_LOSSES
from deepfm.training.task import CTRTask
from deepfm.utils.logging import get_logger

log = get_logger(__name__)


class Trainer:
    """Trains a model to its best validation metric and evaluates it.

    Args:
        model: the model; it is moved to the device.
        schema: what the data sets hold; they are checked against it.
        config: the experiment.
        train_ds, val_ds, test_ds: the data sets; they are moved to the device where they fit.
        device: where to train; None for `config.device`.
        run: a folder for checkpoints, weights and the epochs' metrics; None for no files.
        observers: watch the fit.
        identity: what checkpoints and weights must agree on to be loaded, such as `{"schema": hash}`.

    Attributes:
        evaluations: by name of the split, what `evaluate` found.
        monitors: by name of the split, what was seen inside the model.
        best_validation: the validation of the best epoch, after `train`.

    Raises:
        SchemaError: the data do not fit the schema.

    Example:
        >>> schema, train, val, test = adapter.build()  # doctest: +SKIP
        >>> model = create_model("deepfm", schema, config)  # doctest: +SKIP
        >>> trainer = Trainer(model, schema, config, train, val, test)  # doctest: +SKIP
        >>> trainer.train().best_epoch, trainer.evaluate(test, "test")["ndcg@10"]  # doctest: +SKIP
    """

    def __init__(
        self,
        model: BaseCTRModel,
        schema: DatasetSchema,
        config: ExperimentConfig,
        train_ds: TabularDataset,
        val_ds: TabularDataset,
        test_ds: TabularDataset,
        *,
        device: torch.device | None = None,
        run: RunFolder | None = None,
        observers: Sequence[Observer] = (),
        identity: Mapping[str, str] | None = None,
    ) -> None:
        self.device = device or resolve_device(config.device)
        self.model, self.schema, self.config, self.run = model.to(self.device), schema, config, run
        self.train_ds, self.val_ds, self.test_ds = train_ds, val_ds, test_ds
        for dataset in (train_ds, val_ds, test_ds):
            dataset.check(schema)
            if fits(dataset.nbytes, self.device):
                dataset.to(self.device)
            else:
                log.info("%r stays in main memory, as %s has too little free; batches are copied", dataset, self.device)
        self.evaluations: dict[str, Evaluation] = {}
        self.monitors: dict[str, Mapping[str, Monitor]] = {}
        self.best_validation: Evaluation | None = None
        self.identity = dict(identity or {"schema": schema.fingerprint(), "model": config.model_name})
        self._task = CTRTask(model, config, train_ds, val_ds, self.identity)
        self._observers = [*observers, _EpochLog(self)]

    def __repr__(self) -> str:
        return f"Trainer({type(self.model).__name__}, {self.train_ds!r}, device={self.device})"

    def train(self, resume: bool = False) -> FitState:
        """Fit to the best validation metric; the model ends with the best epoch's weights, calibrated.

        Args:
            resume: continue from the run folder's checkpoint.

        Raises:
            TrainingError: the loss or a score is no longer finite.
            CheckpointError: there is nothing to resume from, or it does not fit.
        """
        state = fit(
            self._task,
            self.config.training,
            device=self.device,
            checkpoint=self.run.checkpoint if self.run else None,
            resume=resume,
            observers=self._observers,
        )
        self.keep_best(state)
        if self.best_validation is None:  # the best epoch was before an interruption
            self.evaluate(self.val_ds, "validation")
            self.best_validation = self.evaluations["validation"]
        self._calibrate()
        self.evaluations["validation"] = self._measured(self.best_validation.scores, self.val_ds)
        return state

    def evaluate(
        self, dataset: TabularDataset, split_name: str, on_progress: Progress = no_progress
    ) -> dict[str, float | None]:
        """The metrics of the model as it is now on a data set; the arrays behind them go to `evaluations[split_name]`.

        Raises:
            TrainingError: a score is not finite.
        """
        with monitored(self.model) as self.monitors[split_name]:
            scores = score_rows(self.model, dataset, on_progress)
        self.evaluations[split_name] = self._measured(scores, dataset)
        return self.evaluations[split_name].metrics

    def keep_best(self, state: FitState) -> None:
        """Write the best weights and the history to the run folder, where there is one."""
        if self.run is not None and state.best_weights:
            self.run.save_weights(state.best_weights, self.identity)
            self.run.write_history(state.history)

    def _measured(self, scores: NDArray[np.float32], dataset: TabularDataset) -> Evaluation:
        ks = self.config.training.ranking_ks
        return evaluate_scores(scores, dataset, ks, calibration=self.model.calibration)

    def _calibrate(self) -> None:
        """Make `model.predict` give probabilities again after a ranking loss."""
        training, evaluation = self.config.training, self.best_validation
        method = training.calibration
        if method == "auto":
            method = "platt" if training.loss in RANKING_LOSSES else "none"
        self.model.calibration = None
        if method != "none" and evaluation is not None:
            self.model.calibration = fit_calibration(method, evaluation.scores, evaluation.labels)
            log.info("predict gives probabilities calibrated on the validation set, %s", self.model.calibration)


class _EpochLog(Observer):
    """A line per epoch, and the files that follow the epochs."""

    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer

    def fit_started(self, first_epoch: int, num_epochs: int, num_batches: int) -> None:
        if first_epoch > 1:
            log.info("resumed after epoch %d of at most %d", first_epoch - 1, num_epochs)

    def batches_skipped(self, batches: int) -> None:
        log.info("the epoch goes on after its batch %d", batches)

    def epoch_finished(self, state: FitState, improved: bool) -> None:
        record, metric = state.history[-1], self.trainer.config.training.metric
        other = "logloss" if metric == "auc" else "auc"
        log.info(
            "epoch %d: loss %.4f, %s %.4f%s, %s %.4f, lr %.1e, %.1f s, %s rows/s",
            state.epoch, record["loss"], metric, record[metric], " *" if improved else "", other, record[other],
            record["lr"], record["seconds"], f"{record['rows_per_second']:,.0f}",
        )  # fmt: skip
        if improved:
            self.trainer.best_validation = self.trainer._task.evaluation
            self.trainer.monitors["validation"] = self.trainer._task.monitors
            self.trainer.keep_best(state)
        elif self.trainer.run is not None:
            self.trainer.run.write_history(state.history)
