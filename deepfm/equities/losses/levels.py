"""Losses in units of the target: quantiles, the middle, and a whole distribution."""

import math

import torch
from torch import Tensor

from deepfm.equities.days.layout import DayLayout
from deepfm.equities.losses.by_day import row_mean


def pinball_loss(quantiles: Tensor, targets: Tensor, day: Tensor | DayLayout, levels: tuple[float, ...]) -> Tensor:
    """The mean over levels τ of `max(τ (y - q), (τ - 1)(y - q))` (Koenker and Bassett, 1978).

    Args:
        quantiles: `(R, K, Q)` or `(R, Q)`.
        targets: `(R, K)` or `(R,)`; NaN where there is none.
        day: days of the rows, never falling, or their layout.
        levels: the Q shares.

    Returns:
        the mean over days for each horizon, `(K,)`, or a scalar.
    """
    known = _known(targets)
    error = known.unsqueeze(-1) - quantiles.float()
    level = torch.tensor(levels, device=error.device)
    return row_mean(torch.maximum(level * error, (level - 1) * error).mean(-1), targets, day)


def huber_loss(centre: Tensor, targets: Tensor, day: Tensor | DayLayout, delta: float = 0.1) -> Tensor:
    """Half the squared error up to `delta`, linear beyond (Huber, 1964); shapes as in `lists_by_day`."""
    error = (centre.float() - _known(targets)).abs()
    small = error.clamp(max=delta)
    return row_mean(small * (error - 0.5 * small), targets, day)


def student_t_loss(parameters: Tensor, targets: Tensor, day: Tensor | DayLayout) -> Tensor:
    """The negative log-likelihood of Student's t.

    Args:
        parameters: location, scale and degrees of freedom, `(R, K, 3)` or `(R, 3)`.
        targets: `(R, K)` or `(R,)`; NaN where there is none.
        day: days of the rows, never falling, or their layout.
    """
    location, scale, freedom = parameters.float().unbind(-1)
    score = (_known(targets) - location) / scale
    constant = torch.lgamma(freedom / 2) - torch.lgamma((freedom + 1) / 2) + 0.5 * (freedom * math.pi).log()
    return row_mean(constant + scale.log() + (freedom + 1) / 2 * torch.log1p(score.square() / freedom), targets, day)


def _known(targets: Tensor) -> Tensor:
    """Targets with 0 for those that there are none of, so that no NaN meets a gradient."""
    return torch.nan_to_num(targets.float(), nan=0.0, posinf=0.0, neginf=0.0)
