"""Scores and targets of rows as lists, one for each day and horizon."""

from dataclasses import dataclass

import torch
from torch import Tensor

from deepfm.equities.days.layout import DayLayout
from deepfm.errors import DataError

SPREAD_FLOOR = 1e-4  # scores are about 1 in size; keeps the gradient of a day of equal scores finite


@dataclass(frozen=True, eq=False)
class DayLists:
    """What was said and what came of a day's stocks, padded to the longest day.

    Args:
        scores: `(D, N, K)`; 0 where nothing counts.
        targets: the same.
        counts: where there is a target.
    """

    scores: Tensor
    targets: Tensor
    counts: Tensor

    @property
    def number(self) -> Tensor:
        """How many count, `(D, K)`."""
        return self.counts.sum(1)


def lists_by_day(scores: Tensor, targets: Tensor, day: Tensor | DayLayout) -> DayLists:
    """Arrange rows by their days.

    Args:
        scores: `(R, K)`, or `(R,)` for one horizon.
        targets: of the same shape; NaN where there is none.
        day: days of the rows, never falling, `(R,)`, or their layout.

    Raises:
        DataError: the shapes differ.
    """
    layout = day if isinstance(day, DayLayout) else DayLayout.of(day)
    if scores.shape != targets.shape or scores.ndim not in (1, 2) or len(scores) != len(layout.day):
        raise DataError(
            f"a loss takes scores and targets of one shape, (R,) or (R, K), and R days; got {tuple(scores.shape)}, "
            f"{tuple(targets.shape)} and {len(layout.day)} days"
        )
    scores, targets = scores.float(), targets.float()
    if scores.ndim == 1:
        scores, targets = scores.unsqueeze(1), targets.unsqueeze(1)
    counts = torch.isfinite(targets)
    padded = layout.pad(counts)
    return DayLists(
        layout.pad(torch.where(counts, scores, torch.zeros_like(scores))),
        layout.pad(torch.where(counts, targets, torch.zeros_like(targets))),
        padded,
    )


def centred(values: Tensor, counts: Tensor) -> Tensor:
    """Values less their day's mean, `(D, N, K)`; 0 where nothing counts."""
    mean = values.sum(1, keepdim=True) / counts.sum(1, keepdim=True).clamp(min=1)
    return torch.where(counts, values - mean, torch.zeros_like(values))


def deviation(central: Tensor, counts: Tensor) -> Tensor:
    """The deviation of centred values, `(D, 1, K)`, at least `SPREAD_FLOOR`."""
    variance = central.square().sum(1, keepdim=True) / counts.sum(1, keepdim=True).clamp(min=1)
    return (variance + SPREAD_FLOOR**2).sqrt()


def mean_over_days(values: Tensor, usable: Tensor, shape: torch.Size) -> Tensor:
    """The mean over the days that can be used, of `(D, K)`: `(K,)`, or a scalar for rows of one horizon.

    Args:
        values: of each day and horizon.
        usable: which count; where none does, the mean is 0, and has a gradient of 0.
        shape: the scores'.
    """
    mean = torch.where(usable, values, torch.zeros_like(values)).sum(0) / usable.sum(0).clamp(min=1)
    return mean if len(shape) == 2 else mean.squeeze(0)


def row_mean(cost: Tensor, targets: Tensor, day: Tensor | DayLayout) -> Tensor:
    """The mean of rows' costs within each day, then over days; the shape as in `mean_over_days`."""
    lists = lists_by_day(cost, torch.where(torch.isfinite(targets), cost.detach(), targets), day)
    number = lists.number
    return mean_over_days(lists.scores.sum(1) / number.clamp(min=1), number > 0, cost.shape)
