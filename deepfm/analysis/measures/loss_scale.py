"""How the loss goes with the number of rows: a mean stays, a sum grows."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from deepfm.analysis.subject import Subject


@dataclass(frozen=True)
class LossScale:
    """The loss of all rows, of the same rows twice, and their ratio: 1 for a mean, 2 for a sum."""

    SOURCES: ClassVar[dict[str, str]] = {"ratio": "measured: the loss of a batch, and of the batch twice"}
    once: float
    twice: float
    ratio: float | None


def measure_loss_scale(subject: Subject) -> LossScale:
    """Two runs in evaluation mode."""
    batch = subject.batches[0]
    with subject.scratch(train=False) as model, torch.no_grad():
        once = float(subject.loss_of(model, batch))
        twice = float(subject.loss_of(model, subject.sized(batch, 2 * subject.rows)))
    return LossScale(once, twice, twice / once if abs(once) > 1e-12 else None)
