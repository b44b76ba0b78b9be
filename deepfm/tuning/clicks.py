"""Click models as they are tuned: their data on a shelf, a trial's training, and the winner's run."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deepfm.config import DataConfig, ExperimentConfig, load_config
from deepfm.data.adapter import DataInfo
from deepfm.data.dataset import TabularDataset
from deepfm.data.schema import DatasetSchema
from deepfm.engine.checkpoint import FitState
from deepfm.engine.device import resolve_device
from deepfm.engine.loop import Observer, fit
from deepfm.engine.memory import fits
from deepfm.engine.run import RunFolder
from deepfm.models import create_model, model_class
from deepfm.training.experiment import (
    check_experiment,
    open_data,
    refuse_ranking,
    resume_experiment,
    run_config,
    train_experiment,
)
from deepfm.training.task import CTRTask
from deepfm.tuning.click_rules import CLICK_RULES
from deepfm.tuning.subject import Subject
from deepfm.tuning.trial import Shelf
from deepfm.utils.seeding import seed_everything


@dataclass(frozen=True, eq=False)
class TrialData:
    """What a trial sees of a data set: its training and its validation rows."""

    info: DataInfo
    schema: DatasetSchema
    train: TabularDataset
    validation: TabularDataset


class DataShelf(Shelf):
    """Data sets, each read and encoded once for all trials of this process that share it; test rows are not kept."""

    def __init__(self) -> None:
        self._held: dict[tuple[DataConfig, int, int], TrialData] = {}

    def open(self, config: ExperimentConfig) -> DataInfo:
        """Read and encode the data of a configuration.

        Raises:
            DataError: they are missing, damaged or foreign.
            ConfigError: the metric ranks candidates, and they have none.
        """
        return self._data(config).info

    def fit(self, config: ExperimentConfig, observers: Sequence[Observer]) -> FitState:
        """Train as `deepfm train` does."""
        data, device = self._data(config), resolve_device(config.device)
        for dataset in (data.train, data.validation):
            if fits(dataset.nbytes, device):
                dataset.to(device)
        seed_everything(config.seed)
        model = create_model(config.model_name, data.schema, config).to(device)
        task = CTRTask(model, config, data.train, data.validation)
        return fit(task, config.training, device=device, observers=observers)

    def _data(self, config: ExperimentConfig) -> TrialData:
        history = config.feature.max_history if model_class(config.model_name).reads_behaviour else 0
        key = (config.data, config.seed, history)
        if key not in self._held:
            data = open_data(config)
            refuse_ranking(config, data.adapter.has_candidates)
            self._held[key] = TrialData(data.adapter.info, data.schema, data.train, data.validation)
        return self._held[key]


class ClickModels(Subject):
    """The models of `deepfm train`."""

    rules = CLICK_RULES

    def load(self, path: str | Path | None, overrides: Sequence[str]) -> ExperimentConfig:
        """The configuration as `deepfm train` reads it."""
        return load_config(path, overrides)

    def check(self, config: ExperimentConfig) -> None:
        """Find an unknown model, data set, device or metric."""
        check_experiment(config)

    def shelf(self) -> DataShelf:
        """An empty shelf."""
        return DataShelf()

    def model(self, config: ExperimentConfig) -> str:
        """The model's name."""
        return config.model_name

    def run_config(self, run: RunFolder) -> ExperimentConfig:
        """The configuration of a run."""
        return run_config(run)

    def train(self, config: ExperimentConfig, run: RunFolder, observers: Sequence[Observer]) -> dict[str, Any]:
        """A run of `deepfm train`."""
        return train_experiment(config, run, observers, overwrite=True)

    def resume(self, run: RunFolder, observers: Sequence[Observer]) -> dict[str, Any]:
        """Go on with such a run."""
        return resume_experiment(run, observers)
