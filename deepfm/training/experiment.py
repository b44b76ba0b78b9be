"""From a configuration to a finished run folder, and back from a folder to its model."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from deepfm.config import ExperimentConfig, load_config
from deepfm.data.dataset import InteractionDataset, TrainingInteractions
from deepfm.data.movielens import MovieLensAdapter
from deepfm.data.negatives import load_candidates, save_candidates
from deepfm.data.schema import DatasetSchema
from deepfm.data.transforms import load_encoders, save_encoders
from deepfm.engine.device import resolve_device
from deepfm.engine.loop import Observer
from deepfm.engine.run import RunFolder, environment
from deepfm.engine.settings import settings_to_dict
from deepfm.engine.task import Progress, no_progress
from deepfm.errors import DataError, RunError
from deepfm.models import create_model, model_class
from deepfm.reporting import write_html
from deepfm.training.evaluation import Evaluation
from deepfm.training.report import build_run_report
from deepfm.training.trainer import Trainer, weights_metadata
from deepfm.utils.io import save_arrays
from deepfm.utils.logging import close_log_file, get_logger
from deepfm.utils.seeding import seed_everything

log = get_logger(__name__)
ADAPTERS = {"movielens": MovieLensAdapter}


@dataclass(frozen=True, eq=False)
class ExperimentData:
    """A data set as an experiment uses it: the adapter, the schema and the three parts."""

    adapter: MovieLensAdapter
    schema: DatasetSchema
    train: TrainingInteractions
    validation: InteractionDataset
    test: InteractionDataset

    def save(self, run: RunFolder) -> None:
        """Write what later commands need to see the data as this run did."""
        self.schema.save(run.schema)
        save_encoders(self.adapter.encoders, run.encoders)
        save_candidates(self.adapter.candidates, run.candidates)


def open_data(config: ExperimentConfig, run: RunFolder | None = None) -> ExperimentData:
    """Build the data sets of an experiment.

    Args:
        run: a finished or interrupted run whose encoders and candidates are used instead of new ones.

    Raises:
        DataError: the data are missing, damaged or foreign.
    """
    adapter = ADAPTERS[config.data.dataset_name](config.data.data_dir, config.data, seed=config.seed)
    if run is None:
        return ExperimentData(adapter, *adapter.build())
    return ExperimentData(adapter, *adapter.build(load_encoders(run.encoders), load_candidates(run.candidates)))


def check_experiment(config: ExperimentConfig) -> None:
    """Find what would stop an experiment, before any work starts.

    Raises:
        ConfigError: the model is unknown.
        DeviceError: the device is not there.
    """
    model_class(config.model_name)
    resolve_device(config.device)


def train_experiment(config: ExperimentConfig, run: RunFolder, observers: Sequence[Observer] = ()) -> dict[str, Any]:
    """Train from the start into a created run folder, to final validation and test metrics.

    Returns:
        the content of the run's `results.json`.

    Raises:
        DeepFMError: anything that is wrong with the settings, the data or the device, before work starts.
    """
    check_experiment(config)
    data = _logged(run, lambda: open_data(config))
    run.write_config(settings_to_dict(config))
    data.save(run)
    seed_everything(config.seed)
    trainer = _trainer(config, data, run, observers)
    return _logged(run, lambda: _finish(trainer, data, run, resume=False))


def resume_experiment(run: RunFolder, observers: Sequence[Observer] = ()) -> dict[str, Any]:
    """Continue an interrupted run to what it would have become uninterrupted.

    Raises:
        RunError: the folder holds no run.
        CheckpointError: the checkpoint is damaged or does not fit.
    """
    config = run_config(run.require("config", "checkpoint", "encoders", "candidates"))
    data = _logged(run, lambda: open_data(config, run))
    seed_everything(config.seed)
    trainer = _trainer(config, data, run, observers)
    return _logged(run, lambda: _finish(trainer, data, run, resume=True))


def run_config(run: RunFolder, overrides: Sequence[str] = ()) -> ExperimentConfig:
    """The configuration that a run folder was made with."""
    return load_config(run.require("config").config, overrides)


def evaluate_run(
    run: RunFolder, overrides: Sequence[str] = (), on_progress: Progress = no_progress
) -> dict[str, Evaluation]:
    """Evaluate a run's best weights on its validation and test candidates.

    Args:
        overrides: mostly `data.data_dir=…` and `device=…`, where the folder has moved.
        on_progress: called with rows scored and rows in all.

    Raises:
        RunError: files are missing.
        CheckpointError: the weights are damaged, or of another schema or model.
        DataError: the data are not those of the run.
    """
    if run.finished and run.read_results()["kind"] == "baseline":
        raise RunError(f"{run.path} is a baseline's run, which has no weights; its metrics are in {run.results.name}")
    run.require("config", "weights", "encoders", "candidates")
    config = run_config(run, overrides)
    data = open_data(config, run)
    if run.finished and (seen := run.read_results()["data"]["hash"]) != data.adapter.info.hash:
        raise DataError(
            f"{run.path} was trained on data {seen[:12]}, and {config.data.data_dir} holds "
            f"{data.adapter.info.hash[:12]}; give the run's own data with data.data_dir="
        )
    weights = run.load_weights(weights_metadata(data.schema, config))
    trainer = _trainer(config, data)
    trainer.model.load_state_dict(weights)
    for split, dataset in (("validation", data.validation), ("test", data.test)):
        trainer.evaluate(dataset, split, on_progress)
    return trainer.evaluations


def finish_run(run: RunFolder, results: Mapping[str, Any], evaluations: Mapping[str, Evaluation]) -> dict[str, Any]:
    """Write what a finished run has: each positive's rank, the report, and last of all the results.

    Returns:
        the content of `results.json`.
    """
    save_arrays(run.ranks, {split: evaluation.ranks for split, evaluation in evaluations.items()})
    config_yaml = run.config.read_text(encoding="utf-8")
    write_html(build_run_report(results, run.read_history(), config_yaml, evaluations), run.report)
    run.write_results(results)
    return run.read_results()


def run_results(
    kind: str,
    model: str,
    data: ExperimentData,
    evaluations: Mapping[str, Evaluation],
    device: str,
    **fit: Any,
) -> dict[str, Any]:
    """The content of `results.json` for a model or a baseline.

    Args:
        kind: `model` or `baseline`.
        fit: best_epoch, epochs, seconds and rows_per_second.
    """
    metrics = {split: evaluation.metrics for split, evaluation in evaluations.items()}
    about = {"data": asdict(data.adapter.info), "protocol": data.adapter.protocol()}
    return {"kind": kind, "model": model, **about, **metrics, **fit, "env": environment(device)}


def _trainer(
    config: ExperimentConfig,
    data: ExperimentData,
    run: RunFolder | None = None,
    observers: Sequence[Observer] = (),
) -> Trainer:
    model = create_model(config.model_name, data.schema, config)
    return Trainer(model, data.schema, config, data.train, data.validation, data.test, run=run, observers=observers)


def _finish(trainer: Trainer, data: ExperimentData, run: RunFolder, resume: bool) -> dict[str, Any]:
    parameters = sum(weight.numel() for weight in trainer.model.parameters())
    log.info(
        "%s, %s parameters, on %s; run folder %s",
        trainer.config.model_name,
        f"{parameters:,}",
        trainer.device,
        run.path,
    )
    state = trainer.train(resume)
    for split, dataset in (("validation", data.validation), ("test", data.test)):
        trainer.evaluate(dataset, split)
    results = run_results(
        "model",
        trainer.config.model_name,
        data,
        trainer.evaluations,
        str(trainer.device),
        best_epoch=state.best_epoch,
        epochs=state.epoch,
        seconds=round(state.seconds, 3),
        rows_per_second=round(state.rows_per_second, 1),
    )
    return finish_run(run, results, trainer.evaluations)


def _logged(run: RunFolder, work: Any) -> Any:
    """Do some work while the package's log also goes to the run's file."""
    logger = get_logger(file=run.log)
    try:
        return work()
    finally:
        close_log_file(logger, run.log)
