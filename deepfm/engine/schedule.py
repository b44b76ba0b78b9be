"""The learning rate: warm-up, then cosine decay, cuts at a plateau, or neither."""

import math
from dataclasses import dataclass
from typing import Any

from deepfm.engine.optimizer import CombinedOptimizer


@dataclass
class Schedule:
    """Sets an optimizer's learning rate before each step.

    Args:
        kind: `reduce_on_plateau`, `cosine`, `none`, or `given`, which leaves the optimizer's rates alone.
        base_lr: the rate that the factors multiply.
        total_steps: optimizer steps until cosine reaches zero.
        warmup_steps: steps over which the rate rises linearly from 0.
        plateau_factor: what a cut multiplies the rate by.
        plateau_patience: epochs in a row without improvement that are let pass; the next one cuts (torch's meaning).
        min_lr: no cut goes below it.
    """

    kind: str
    base_lr: float
    total_steps: int
    warmup_steps: int = 0
    plateau_factor: float = 0.1
    plateau_patience: int = 1
    min_lr: float = 0.0
    step: int = 0
    cuts: int = 0
    stalled_epochs: int = 0

    @property
    def lr(self) -> float:
        """The rate of the next step."""
        rate = self.base_lr * self.plateau_factor**self.cuts
        if self.cuts:
            rate = max(rate, min(self.min_lr, self.base_lr))
        if self.step < self.warmup_steps:
            return rate * (self.step + 1) / self.warmup_steps
        if self.kind == "cosine":
            decaying = max(1, self.total_steps - self.warmup_steps)
            return rate * 0.5 * (1 + math.cos(math.pi * min(1.0, (self.step - self.warmup_steps) / decaying)))
        return rate

    def apply(self, optimizer: CombinedOptimizer) -> None:
        """Set the rate of the step about to be taken, times a group's own `lr_factor`, and count it."""
        for group in optimizer.param_groups if self.kind != "given" else ():
            group["lr"] = self.lr * group.get("lr_factor", 1.0)
        self.step += 1

    def epoch_ended(self, improved: bool) -> bool:
        """Note an epoch's outcome; True where the rate was cut, and training should go on from the best weights."""
        self.stalled_epochs = 0 if improved else self.stalled_epochs + 1
        if self.kind != "reduce_on_plateau" or self.stalled_epochs <= self.plateau_patience:
            return False
        self.cuts += 1
        self.stalled_epochs = 0
        return True

    def state_dict(self) -> dict[str, Any]:
        """What resuming needs."""
        return {"step": self.step, "cuts": self.cuts, "stalled_epochs": self.stalled_epochs}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict`."""
        self.step, self.cuts, self.stalled_epochs = state["step"], state["cuts"], state["stalled_epochs"]
