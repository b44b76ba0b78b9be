"""How far a fit has come, and its checkpoint: everything that resuming bit for bit needs."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from deepfm.engine.device import random_state, restore_random_state
from deepfm.engine.optimizer import CombinedOptimizer
from deepfm.engine.schedule import Schedule
from deepfm.engine.task import Task
from deepfm.errors import CheckpointError
from deepfm.utils.io import load_checkpoint, save_checkpoint

CHECKPOINT_VERSION = 3


@dataclass
class FitState:
    """How far a fit has come, and the best it has seen.

    Attributes:
        epoch: epochs finished.
        history: a record an epoch: epoch, loss, lr, seconds, rows_per_second, and the validation metrics.
        best_epoch: the epoch whose weights are best; 0 before the first.
        best_weights: the model's state dict of that epoch.
        seconds: wall time in training and validation, over all sessions of the run.
        batches: of the epoch that is under way, how many are done; 0 between epochs, as the next three.
        rows: the rows of those batches.
        loss_sum: the sum of those rows' losses.
        epoch_seconds: wall time that those batches took, over all sessions of the run.
    """

    epoch: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)
    best_epoch: int = 0
    best_weights: dict[str, Tensor] = field(default_factory=dict)
    seconds: float = 0.0
    batches: int = 0
    rows: int = 0
    loss_sum: float = 0.0
    epoch_seconds: float = 0.0

    def epoch_is_under_way(self, batches: int, rows: int, loss_sum: float, seconds: float) -> None:
        """Note how far the epoch after the finished ones has come; zeros once it is finished."""
        self.batches, self.rows, self.loss_sum, self.epoch_seconds = batches, rows, loss_sum, seconds

    @property
    def epochs_since_best(self) -> int:
        """How many epochs in a row brought no improvement."""
        return self.epoch - self.best_epoch

    @property
    def rows_per_second(self) -> float:
        """Training rows per second, the median over epochs, validation apart."""
        rates = sorted(record["rows_per_second"] for record in self.history)
        return float(rates[len(rates) // 2]) if rates else 0.0


def save_fit(
    path: Path,
    task: Task,
    optimizer: CombinedOptimizer,
    schedule: Schedule,
    device: torch.device,
    state: FitState,
) -> None:
    """Write a checkpoint, whole or not at all."""
    save_checkpoint(
        {
            "version": CHECKPOINT_VERSION,
            "fingerprint": task.fingerprint(),
            "model": task.model.state_dict(),
            "optimizer": optimizer.state_dict(),
            "schedule": schedule.state_dict(),
            "random": random_state(device),
            "state": dict(vars(state)),
            "num_batches": task.num_batches(),
        },
        path,
    )


def load_fit(
    path: Path, task: Task, optimizer: CombinedOptimizer, schedule: Schedule, device: torch.device
) -> FitState:
    """Read a checkpoint into a task's model, its optimizer, schedule and random state.

    Raises:
        CheckpointError: the file is missing, damaged, or of another task or model.
    """
    saved = load_checkpoint(path, device)
    if saved.get("version") != CHECKPOINT_VERSION:
        raise CheckpointError(
            f"checkpoint {path} is of version {saved.get('version')!r}; expected {CHECKPOINT_VERSION}, so train again"
        )
    try:
        for what, own in task.fingerprint().items():
            if saved["fingerprint"].get(what) != own:
                raise CheckpointError(f"checkpoint {path} was written with another {what}; resume with the one it had")
        if saved["state"]["batches"] and saved["num_batches"] != task.num_batches():
            raise CheckpointError(
                f"checkpoint {path} is of an epoch of {saved['num_batches']} batches, and an epoch has "
                f"{task.num_batches()} here; resume with the batch size and the rows that it had"
            )
        task.model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        schedule.load_state_dict(saved["schedule"])
        restore_random_state(saved["random"], device)
        state = FitState(**saved["state"])
        for name, default in vars(FitState()).items():
            if not isinstance(getattr(state, name), type(default)):
                raise TypeError(f"{name} is of type {type(getattr(state, name)).__name__}")
        return state
    except (RuntimeError, KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(f"checkpoint {path} does not fit this model: {reason}") from error
