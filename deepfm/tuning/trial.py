"""One trial: a configuration trained by the engine's loop and judged on the validation split alone."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import optuna

from deepfm.data.adapter import DataInfo
from deepfm.engine.checkpoint import FitState
from deepfm.engine.loop import Observer

OF_THE_LOOP = ("epoch", "loss", "lr", "seconds", "rows_per_second")


class Shelf(ABC):
    """The data that the trials of a process share, each read once; of test data nothing is kept."""

    @abstractmethod
    def open(self, config: Any) -> DataInfo:
        """Read what a configuration trains and validates on; what it is.

        Raises:
            DataError: it is missing, damaged or foreign.
            ConfigError: the configuration does not fit it.
        """

    @abstractmethod
    def fit(self, config: Any, observers: Sequence[Observer]) -> FitState:
        """Train a configuration as its own command does, on what `open` read.

        Raises:
            DeepFMError: it cannot be trained.
        """


def run_trial(trial: optuna.Trial, config: Any, shelf: Shelf, interrupted: Callable[[], bool]) -> float:
    """Train a configuration and give the validation metric of its best epoch.

    Args:
        trial: is told each epoch's metric, and ends the training early where its pruner says so.
        interrupted: whether the work is to stop, asked after each batch.

    Raises:
        TrialPruned: it was ended early.
        DeepFMError: it cannot be trained.
        KeyboardInterrupt: the work is to stop.
    """
    metric = config.training.metric
    watch = _Watch(trial, metric, interrupted)
    state = shelf.fit(config, [watch])
    best = state.history[state.best_epoch - 1]
    trial.set_user_attr("validation", {name: value for name, value in best.items() if name not in OF_THE_LOOP})
    trial.set_user_attr("best_epoch", state.best_epoch)
    if watch.pruned:
        raise optuna.TrialPruned
    return float(best[metric])


class _Watch(Observer):
    """Tells a trial how its epochs go."""

    def __init__(self, trial: optuna.Trial, metric: str, interrupted: Callable[[], bool]) -> None:
        self.pruned = False
        self._trial, self._metric, self._interrupted = trial, metric, interrupted
        self._last_epoch = 0

    def fit_started(self, first_epoch: int, num_epochs: int, num_batches: int) -> None:
        """Note which epoch is the last."""
        self._last_epoch = num_epochs

    def batch_finished(self, rows: int) -> None:
        """Stop where the work is to stop."""
        if self._interrupted():
            raise KeyboardInterrupt

    def epoch_finished(self, state: FitState, improved: bool) -> None:
        """Report the epoch; the last one is never pruned."""
        self._trial.report(float(state.history[-1][self._metric]), state.epoch)
        if state.epoch < self._last_epoch and self._trial.should_prune():
            self.pruned = self.stop_requested = True
