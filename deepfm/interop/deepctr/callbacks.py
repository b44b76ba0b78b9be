"""What follows the epochs of a fit: its history, stopping early, saving."""

import copy
import operator
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from deepfm.errors import ConfigError
from deepfm.utils.io import atomic_path
from deepfm.utils.logging import get_logger

if TYPE_CHECKING:
    from deepfm.interop.deepctr.models.basemodel import BaseModel

log = get_logger(__name__)
Logs = dict[str, float]


class Callback:
    """What is told of a fit; every method may be left as it is. Epochs count from 0.

    Attributes:
        model: what is trained, once a fit begins.
        params: of the fit: `batch_size`, `epochs`, `verbose`, `metrics`.
    """

    def __init__(self) -> None:
        self.model: BaseModel | None = None
        self.params: dict[str, Any] = {}

    def set_model(self, model: "BaseModel") -> None:
        """Before a fit."""
        self.model = model

    def set_params(self, params: dict[str, Any] | None) -> None:
        """Before a fit."""
        self.params = params or {}

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """A fit begins."""

    def on_train_end(self, logs: Logs | None = None) -> None:
        """A fit has ended, and not by an error."""

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        """An epoch begins."""

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """An epoch is done; `logs` has its loss and metrics. `model.stop_training = True` makes it the last."""


class CallbackList:
    """Several callbacks, told one after another.

    Args:
        callbacks: of this module's kind.

    Raises:
        ConfigError: one is of another kind.
    """

    def __init__(self, callbacks: Iterable[Callback] | None = None) -> None:
        self.callbacks = list(callbacks or [])
        for callback in self.callbacks:
            if not hasattr(callback, "on_epoch_end") or not hasattr(callback, "set_model"):
                raise ConfigError(
                    f"callback {callback!r} is a {type(callback).__name__}; expected a "
                    "deepfm.interop.deepctr.callbacks.Callback"
                )

    def append(self, callback: Callback) -> None:
        """One more."""
        self.callbacks.append(callback)

    def set_model(self, model: "BaseModel") -> None:
        """Before a fit."""
        for callback in self.callbacks:
            callback.set_model(model)

    def set_params(self, params: dict[str, Any] | None) -> None:
        """Before a fit."""
        for callback in self.callbacks:
            callback.set_params(params)

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """A fit begins."""
        for callback in self.callbacks:
            callback.on_train_begin(logs)

    def on_train_end(self, logs: Logs | None = None) -> None:
        """A fit has ended."""
        for callback in self.callbacks:
            callback.on_train_end(logs)

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        """An epoch begins."""
        for callback in self.callbacks:
            callback.on_epoch_begin(epoch, logs)

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """An epoch is done."""
        for callback in self.callbacks:
            callback.on_epoch_end(epoch, logs)


class History(Callback):
    """What a fit measured.

    Attributes:
        epoch: the epochs, from 0.
        history: name → its value of each epoch: `loss` (the penalties in it), metrics, and `val_` for validation.
    """

    def __init__(self) -> None:
        super().__init__()
        self.epoch: list[int] = []
        self.history: dict[str, list[float]] = {}

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Begin anew."""
        self.epoch, self.history = [], {}
        if self.model is not None:
            self.model.history = self

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Note an epoch."""
        self.epoch.append(epoch)
        for name, value in (logs or {}).items():
            self.history.setdefault(name, []).append(value)


class _Monitor(Callback):
    """Compares one of the logs' values with the best so far."""

    def __init__(self, monitor: str, mode: str, min_delta: float = 0.0) -> None:
        super().__init__()
        if mode not in ("auto", "min", "max"):
            raise ConfigError(f"mode = {mode!r} is unknown; expected auto, min or max")
        self.monitor, self.mode, self.min_delta = monitor, mode, abs(min_delta)
        grows = "acc" in monitor or monitor.endswith("auc") or monitor.startswith("fmeasure")
        self.maximize = mode == "max" or (mode == "auto" and grows)
        self.worst = -float("inf") if self.maximize else float("inf")
        self.best = self.worst
        self._told = False

    def monitored(self, logs: Logs | None) -> float | None:
        """The value, or None, with a warning once a fit, where the fit does not measure it."""
        value = (logs or {}).get(self.monitor)
        if value is None and not self._told:
            self._told = True
            log.warning(
                "%s watches %r, which this fit does not measure, and does nothing; known: %s",
                type(self).__name__, self.monitor, ", ".join(logs or {}),
            )  # fmt: skip
        return value

    def improves(self, value: float) -> bool:
        """Whether a value is better than the best by more than `min_delta`."""
        better = operator.gt if self.maximize else operator.lt
        return better(value, self.best + (self.min_delta if self.maximize else -self.min_delta))


class EarlyStopping(_Monitor):
    """Ends a fit after `patience` epochs without improvement.

    Args:
        monitor: a name of the logs.
        min_delta: what counts as improvement.
        patience: see above; 0 stops at the first.
        verbose: whether stopping is told.
        mode: `min`, `max`, or `auto`: accuracies and AUC grow, all else shrinks.
        baseline: what the first epochs must improve on.
        restore_best_weights: whether the model ends with the best epoch's weights.

    Raises:
        ConfigError: an unknown mode.
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        min_delta: float = 0,
        patience: int = 0,
        verbose: int = 0,
        mode: str = "auto",
        baseline: float | None = None,
        restore_best_weights: bool = False,
    ) -> None:
        super().__init__(monitor, mode, min_delta)
        self.patience, self.verbose, self.baseline = patience, verbose, baseline
        self.restore_best_weights = restore_best_weights
        self.wait = self.stopped_epoch = 0
        self.best_weights: dict[str, Tensor] | None = None

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Begin anew."""
        self.wait = self.stopped_epoch = 0
        self.best_weights, self._told = None, False
        self.best = self.worst if self.baseline is None else self.baseline

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Compare an epoch with the best."""
        value = self.monitored(logs)
        if value is None or self.model is None:
            return
        if self.improves(value):
            self.best, self.wait = value, 0
            if self.restore_best_weights:
                self.best_weights = copy.deepcopy(self.model.state_dict())
            return
        self.wait += 1
        if self.wait >= self.patience:
            self.stopped_epoch = epoch + 1
            self.model.stop_training = True

    def on_train_end(self, logs: Logs | None = None) -> None:
        """Go back to the best weights where that was asked for."""
        if self.best_weights is not None and self.model is not None:
            self.model.load_state_dict(self.best_weights)
            self.best_weights = None
        if self.stopped_epoch and self.verbose:
            log.info("Epoch %05d: early stopping", self.stopped_epoch)


class ModelCheckpoint(_Monitor):
    """Saves the model, or its weights, after an epoch; a file is written whole or not at all.

    Args:
        filepath: may hold `{epoch}` (from 1) and names of the logs, such as `{val_auc:.4f}`.
        monitor: a name of the logs.
        verbose: whether saving is told.
        save_best_only: whether an epoch that is not better than all before it is passed over.
        save_weights_only: whether the state dict is saved instead of the whole model.
        mode: as for `EarlyStopping`.
        period: epochs from one look to the next.

    Raises:
        ConfigError: an unknown mode, or a path that asks for what the fit does not measure.
        RunError: the disk refuses the file.
    """

    def __init__(
        self,
        filepath: str | Path,
        monitor: str = "val_loss",
        verbose: int = 0,
        save_best_only: bool = False,
        save_weights_only: bool = False,
        mode: str = "auto",
        period: int = 1,
    ) -> None:
        super().__init__(monitor, mode)
        self.filepath, self.verbose, self.period = str(filepath), verbose, period
        self.save_best_only, self.save_weights_only = save_best_only, save_weights_only
        self.epochs_since_last_save = 0

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Save an epoch where it should be."""
        self.epochs_since_last_save += 1
        if self.epochs_since_last_save < self.period or self.model is None:
            return
        self.epochs_since_last_save = 0
        path = self._path(epoch, logs or {})
        if self.save_best_only:
            value = self.monitored(logs)
            if value is None:
                return
            if not self.improves(value):
                self._tell("Epoch %05d: %s did not improve from %0.5f", epoch + 1, self.monitor, self.best)
                return
            self._tell("Epoch %05d: %s improved from %0.5f to %0.5f, saving model to %s",
                       epoch + 1, self.monitor, self.best, value, path)  # fmt: skip
            self.best = value
        else:
            self._tell("Epoch %05d: saving model to %s", epoch + 1, path)
        with atomic_path(path) as beside:
            torch.save(self.model.state_dict() if self.save_weights_only else self.model, beside)

    def _path(self, epoch: int, logs: Logs) -> str:
        try:
            return self.filepath.format(epoch=epoch + 1, **logs)
        except (KeyError, IndexError) as error:
            raise ConfigError(
                f"filepath {self.filepath!r} asks for {error.args[0]!r}, which this fit does not measure; known: "
                f"epoch, {', '.join(logs)}"
            ) from error

    def _tell(self, message: str, *values: Any) -> None:
        if self.verbose:
            log.info(message, *values)
