"""From a configuration to a finished run folder, and back from a folder to its model."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from deepfm.config import ExperimentConfig, load_config
from deepfm.data.adapter import Adapter
from deepfm.data.adapters import kept_files, open_adapter, ranks_candidates
from deepfm.data.dataset import TabularDataset
from deepfm.data.negatives import load_candidates
from deepfm.data.saved_encoders import load_encoders
from deepfm.data.schema import DatasetSchema
from deepfm.engine.device import resolve_device
from deepfm.engine.loop import Observer
from deepfm.engine.run import RunFolder, environment
from deepfm.engine.settings import settings_to_dict
from deepfm.engine.task import Progress, no_progress
from deepfm.errors import CheckpointError, ConfigError, RunError
from deepfm.models import BaseCTRModel, create_model, model_class
from deepfm.models.calibration import Calibration
from deepfm.reporting import write_html
from deepfm.training.evaluation import Evaluation
from deepfm.training.report import build_run_report
from deepfm.training.trainer import Trainer
from deepfm.utils.io import read_json, save_arrays, write_json
from deepfm.utils.logging import get_logger, run_log
from deepfm.utils.seeding import seed_everything

log = get_logger(__name__)


@dataclass(frozen=True, eq=False)
class ExperimentData:
    """A data set as an experiment uses it: the adapter, the schema and the three parts."""

    adapter: Adapter
    schema: DatasetSchema
    train: TabularDataset
    validation: TabularDataset
    test: TabularDataset

    def save(self, run: RunFolder) -> None:
        """Write what later commands need to see the data as this run did."""
        self.schema.save(run.schema)
        self.adapter.save(run)


def open_data(config: ExperimentConfig, run: RunFolder | None = None) -> ExperimentData:
    """Build the data sets of an experiment.

    Args:
        run: a finished or interrupted run whose encoders and candidates are used instead of new ones.

    Raises:
        DataError: the data are missing, damaged or foreign.
    """
    adapter = _adapter(config, run)
    if run is None:
        return ExperimentData(adapter, *adapter.build())
    candidates = load_candidates(run.candidates) if adapter.has_candidates else None
    return ExperimentData(adapter, *adapter.build(load_encoders(run.encoders), candidates))


def check_experiment(config: ExperimentConfig) -> None:
    """Find what would stop an experiment, before any work starts.

    Raises:
        ConfigError: the model or the data set is unknown, or the monitored metric needs candidates, which a table has
            not.
        DeviceError: the device is not there.
    """
    model_class(config.model_name)
    resolve_device(config.device)
    refuse_ranking(config, ranks_candidates(config.data.dataset_name))


def refuse_ranking(config: ExperimentConfig, has_candidates: bool | None) -> None:
    """Hold the monitored metric to what the data can measure; None for data that are not open yet.

    Raises:
        ConfigError: it ranks candidates, and the data have none.
    """
    if has_candidates is False and "@" in config.training.metric:
        raise ConfigError(
            f"training.metric = {config.training.metric!r} ranks candidates, and data.dataset_name="
            f"{config.data.dataset_name} has rows alone; use auc or logloss"
        )


def train_experiment(
    config: ExperimentConfig, run: RunFolder, observers: Sequence[Observer] = (), *, overwrite: bool = False
) -> dict[str, Any]:
    """Train from the start into a new run folder, to final validation and test metrics.

    Args:
        run: the folder, which is written to only when the data are read and the model is built.
        observers: watch the fit.
        overwrite: replace the run that the folder holds.

    Returns:
        the content of the run's `results.json`.

    Raises:
        DeepFMError: anything that is wrong with the settings, the data or the device, before work starts.
    """
    check_experiment(config)
    run.refuse_existing(overwrite)
    with run_log() as log_to:
        data = open_data(config)
        refuse_ranking(config, data.adapter.has_candidates)
        seed_everything(config.seed)
        trainer = _trainer(config, data, run, observers)
        run.create(overwrite)
        log_to(run.log)
        run.write_config(settings_to_dict(config))
        data.save(run)
        return _finish(trainer, data, run, resume=False)


def resume_experiment(run: RunFolder, observers: Sequence[Observer] = ()) -> dict[str, Any]:
    """Continue an interrupted run to what it would have become uninterrupted.

    Raises:
        RunError: the folder holds no run.
        CheckpointError: the checkpoint is damaged, or of other data or another model.
    """
    config = run_config(run.require("config", "checkpoint"))
    run.require(*_data_files(config))
    with run_log() as log_to:
        log_to(run.log)
        data = open_data(config, run)
        seed_everything(config.seed)
        return _finish(_trainer(config, data, run, observers), data, run, resume=True)


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
        CheckpointError: the weights are damaged, or of another schema, model or data set.
    """
    if run.finished and run.read_results()["kind"] == "baseline":
        raise RunError(f"{run.path} is a baseline's run, which has no weights; its metrics are in {run.results.name}")
    config, data, model = restore_run(run, overrides)
    trainer = _trainer(config, data, model=model)
    for split, dataset in (("validation", data.validation), ("test", data.test)):
        trainer.evaluate(dataset, split, on_progress)
    return trainer.evaluations


def restore_run(run: RunFolder, overrides: Sequence[str] = ()) -> tuple[ExperimentConfig, ExperimentData, BaseCTRModel]:
    """A run's configuration, its data as training saw them, and its model with the best weights, on the CPU.

    Args:
        overrides: mostly `data.data_dir=…` and `device=…`, where the folder has moved.

    Raises:
        RunError: files are missing.
        DataError: the data are missing, damaged or foreign.
        CheckpointError: the weights are damaged, or of another schema, model or data set.
    """
    run.require("config", "weights")
    config = run_config(run, overrides)
    run.require(*_data_files(config))
    data = open_data(config, run)
    model = create_model(config.model_name, data.schema, config)
    weights = run.load_weights(_identity(config, data))
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(f"{run.weights} does not fit the run's configuration: {reason}") from error
    if run.calibration.exists():
        model.calibration = Calibration.from_dict(read_json(run.calibration, "calibration"))
    return config, data, model


def finish_run(run: RunFolder, results: Mapping[str, Any], evaluations: Mapping[str, Evaluation]) -> dict[str, Any]:
    """Write what a finished run has: each positive's rank where candidates were, the report, last of all the results.

    Returns:
        the content of `results.json`.
    """
    if any(len(evaluation.ranks) for evaluation in evaluations.values()):
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
        fit: best_epoch, epochs, seconds, rows_per_second and the calibration of a calibrated model.
    """
    metrics = {split: evaluation.metrics for split, evaluation in evaluations.items()}
    about = {"data": asdict(data.adapter.info), "protocol": data.adapter.protocol()}
    return {"kind": kind, "model": model, **about, **metrics, **fit, "env": environment(device)}


def _adapter(config: ExperimentConfig, run: RunFolder | None) -> Adapter:
    max_history = config.feature.max_history if model_class(config.model_name).reads_behaviour else 0
    return open_adapter(config.data, seed=config.seed, max_history=max_history, run=run)


def _data_files(config: ExperimentConfig) -> tuple[str, ...]:
    """What a run keeps of its data."""
    return kept_files(config.data.dataset_name)


def _trainer(
    config: ExperimentConfig,
    data: ExperimentData,
    run: RunFolder | None = None,
    observers: Sequence[Observer] = (),
    model: BaseCTRModel | None = None,
) -> Trainer:
    return Trainer(
        model or create_model(config.model_name, data.schema, config),
        data.schema,
        config,
        data.train,
        data.validation,
        data.test,
        run=run,
        observers=observers,
        identity=_identity(config, data),
    )


def _identity(config: ExperimentConfig, data: ExperimentData) -> dict[str, str]:
    """What weights must agree on to be this experiment's."""
    return {"schema": data.schema.fingerprint(), "model": config.model_name, "data set": data.adapter.info.hash}


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
    trainer.evaluate(data.test, "test")
    calibration = trainer.model.calibration
    if calibration is not None:
        write_json(run.calibration, calibration.to_dict())
    seen = {
        split: {name: one.to_dict() for name, one in monitors.items()} for split, monitors in trainer.monitors.items()
    }
    if any(seen.values()):
        write_json(run.monitors, seen)
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
        **({} if calibration is None else {"calibration": str(calibration)}),
    )
    return finish_run(run, results, trainer.evaluations)
