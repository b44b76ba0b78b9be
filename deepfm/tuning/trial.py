"""One trial: a configuration trained by the engine's loop and judged on the validation split alone."""

from collections.abc import Callable
from dataclasses import dataclass

import optuna

from deepfm.config import DataConfig, ExperimentConfig
from deepfm.data.adapter import DataInfo
from deepfm.data.dataset import TabularDataset
from deepfm.data.schema import DatasetSchema
from deepfm.engine.checkpoint import FitState
from deepfm.engine.device import resolve_device
from deepfm.engine.loop import Observer, fit
from deepfm.engine.memory import fits
from deepfm.models import create_model, model_class
from deepfm.training.experiment import open_data, refuse_ranking
from deepfm.training.task import CTRTask
from deepfm.utils.seeding import seed_everything


@dataclass(frozen=True, eq=False)
class TrialData:
    """What a trial sees of a data set: its training and its validation rows."""

    info: DataInfo
    schema: DatasetSchema
    train: TabularDataset
    validation: TabularDataset


class DataShelf:
    """Data sets, each read and encoded once for all trials of this process that share it; test rows are not kept."""

    def __init__(self) -> None:
        self._held: dict[tuple[DataConfig, int, int], TrialData] = {}

    def open(self, config: ExperimentConfig) -> TrialData:
        """The data of a configuration.

        Raises:
            DataError: they are missing, damaged or foreign.
            ConfigError: the metric ranks candidates, and they have none.
        """
        history = config.feature.max_history if model_class(config.model_name).reads_behaviour else 0
        key = (config.data, config.seed, history)
        if key not in self._held:
            data = open_data(config)
            refuse_ranking(config, data.adapter.has_candidates)
            self._held[key] = TrialData(data.adapter.info, data.schema, data.train, data.validation)
        return self._held[key]


def run_trial(
    trial: optuna.Trial, config: ExperimentConfig, shelf: DataShelf, interrupted: Callable[[], bool]
) -> float:
    """Train a configuration as `deepfm train` does, and give the validation metric of its best epoch.

    Args:
        trial: is told each epoch's metric, and ends the training early where its pruner says so.
        interrupted: whether the work is to stop, asked after each batch.

    Raises:
        TrialPruned: it was ended early.
        DeepFMError: it cannot be trained.
        KeyboardInterrupt: the work is to stop.
    """
    data, device = shelf.open(config), resolve_device(config.device)
    for dataset in (data.train, data.validation):
        if fits(dataset.nbytes, device):
            dataset.to(device)
    seed_everything(config.seed)
    model = create_model(config.model_name, data.schema, config).to(device)
    task = CTRTask(model, config, data.train, data.validation)
    watch = _Watch(trial, config, interrupted)
    state = fit(task, config.training, device=device, observers=[watch])
    metric = config.training.metric
    best = state.history[state.best_epoch - 1]
    names = [name for name in best if name in ("auc", "logloss") or "@" in name]
    trial.set_user_attr("validation", {name: best[name] for name in names})
    trial.set_user_attr("best_epoch", state.best_epoch)
    if watch.pruned:
        raise optuna.TrialPruned
    return float(best[metric])


class _Watch(Observer):
    """Tells a trial how its epochs go."""

    def __init__(self, trial: optuna.Trial, config: ExperimentConfig, interrupted: Callable[[], bool]) -> None:
        self.pruned = False
        self._trial, self._training, self._interrupted = trial, config.training, interrupted

    def batch_finished(self, rows: int) -> None:
        """Stop where the work is to stop."""
        if self._interrupted():
            raise KeyboardInterrupt

    def epoch_finished(self, state: FitState, improved: bool) -> None:
        """Report the epoch; the last one is never pruned."""
        self._trial.report(float(state.history[-1][self._training.metric]), state.epoch)
        if state.epoch < self._training.num_epochs and self._trial.should_prune():
            self.pruned = self.stop_requested = True
