"""Stock-ranking experiments as they are tuned: trials see the first fold's training and validation, and no test day."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from deepfm.data.adapter import DataInfo
from deepfm.engine.checkpoint import FitState
from deepfm.engine.device import resolve_device
from deepfm.engine.loop import Observer, fit
from deepfm.engine.progress import progress_observers
from deepfm.engine.run import RunFolder
from deepfm.engine.settings import settings_to_dict
from deepfm.equities.experiment.beforehand import refuse_unready
from deepfm.equities.experiment.fold_run import identity, ranking_task, settings_hash
from deepfm.equities.experiment.market import FoldArrays, Market, fold_arrays, open_market
from deepfm.equities.experiment.ranker import untrained_ranker
from deepfm.equities.experiment.record import experiment_settings
from deepfm.equities.experiment.walk import run_experiment
from deepfm.equities.settings import METRIC, EquitiesSettings, load_equities
from deepfm.errors import ConfigError
from deepfm.tuning.rules import Rules
from deepfm.tuning.subject import Subject
from deepfm.tuning.trial import Shelf
from deepfm.utils.seeding import seed_everything

RULES = Rules(
    settings_class=EquitiesSettings,
    never_vary={
        "task": "says what is tuned",
        "data": "decides which rows are trained on and judged",
        "split": "decides which days are trained on and judged",
        "evaluation": "changes no training",
        "ablation": "changes no training",
        "training.horizon_weights": "weighs what trials are judged by",
        "training.compile": "changes no result",
        "training.activation_checkpointing": "changes no result",
        "training.checkpoint_batches": "changes no result",
        "seeds": "is luck, which no later run has",
        "device": "changes no result",
        "output_dir": "changes no result",
        "analysis_seconds": "changes no result",
    },
    may_vary=("data.sequence_length", "data.scaling", "data.winsorise", "data.target"),
    of_the_place=("device", "output_dir", "data.path", "data.sectors"),
    epochs="training.max_epochs",
    shipped=Path(__file__).with_name("space.yaml"),
)


class MarketShelf(Shelf):
    """The panel up to the end of the first fold's validation, read once; the days that any fold tests are not there.

    What was scaled for the last configuration is kept for the next one with the same data.
    """

    def __init__(self) -> None:
        self._market: tuple[Any, Market] | None = None
        self._arrays: tuple[Any, FoldArrays] | None = None

    def open(self, config: EquitiesSettings) -> DataInfo:
        """Read the panel, its features and its labels."""
        return DataInfo(**self._market_of(config).about)

    def fit(self, config: EquitiesSettings, observers: Sequence[Observer]) -> FitState:
        """Train the first fold with the first seed, as `deepfm equities train` does."""
        market, device = self._market_of(config), resolve_device(config.device)
        fold, inputs = market.folds[0], self._arrays_of(config, market)
        ranker = untrained_ranker(market, inputs, config, fold.name, config.seed)
        task = ranking_task(ranker, inputs, config, identity(market, fold, config, config.seed), device)
        seed_everything(config.seed)
        return fit(task, config.training.loop(), device=device, observers=observers)

    def _market_of(self, config: EquitiesSettings) -> Market:
        key = (config.data, config.split)
        if self._market is None or self._market[0] != key:
            self._market = (key, open_market(config, without_tests=True))
        return self._market[1]

    def _arrays_of(self, config: EquitiesSettings, market: Market) -> FoldArrays:
        key = (config.data, config.split, config.graph)
        if self._arrays is None or self._arrays[0] != key:
            self._arrays = (key, fold_arrays(market, market.folds[0], config))
        return self._arrays[1]


class StockRanking(Subject):
    """The networks of `deepfm equities train`."""

    rules = RULES

    def load(self, path: str | Path | None, overrides: Sequence[str]) -> EquitiesSettings:
        """The configuration as `deepfm equities train` reads it."""
        return load_equities(path, overrides)

    def check(self, config: EquitiesSettings) -> None:
        """Find a device that is not there, a panel that is not named, and what else needs no data to be seen."""
        resolve_device(config.device)
        if config.data.path is None:
            raise ConfigError("data.path is not set; name a file of prices in the configuration's data section")
        refuse_unready(config)

    def shelf(self) -> MarketShelf:
        """An empty shelf."""
        return MarketShelf()

    def model(self, config: EquitiesSettings) -> str:
        """The network's name."""
        return "atft"

    def winner(self, config: EquitiesSettings, trials: int) -> EquitiesSettings:
        """The best trial's configuration, whose Sharpe ratio is deflated by the trials of the study."""
        known = config.evaluation.trials
        evaluation = dataclasses.replace(config.evaluation, trials=known - 1 + trials)
        return dataclasses.replace(config, evaluation=evaluation)

    def run_config(self, run: RunFolder) -> EquitiesSettings:
        """The configuration of an experiment."""
        return experiment_settings(run)

    def train(self, config: EquitiesSettings, run: RunFolder, observers: Sequence[Observer]) -> dict[str, Any]:
        """All folds and seeds of an experiment, then its tests; folds that stand there already are kept."""
        begun = run.config.exists() and settings_hash(self.run_config(run)) == settings_hash(config)
        if begun:
            run.write_config(settings_to_dict(config))  # more trials than when it was begun
        return run_experiment(config, run, _watch(observers), resume=begun, overwrite=not begun)

    def resume(self, run: RunFolder, observers: Sequence[Observer]) -> dict[str, Any]:
        """Go on with such an experiment."""
        return run_experiment(self.run_config(run), run, _watch(observers), resume=True)


def _watch(observers: Sequence[Observer]) -> Any:
    """Bars of its own for each fit, where the search has any."""
    return lambda *_: progress_observers(METRIC, quiet=not observers)
