"""The Sharpe ratio of the portfolio that the scores would hold."""

import torch
from torch import Tensor

from deepfm.equities.days.layout import DayLayout
from deepfm.equities.losses.by_day import centred, deviation, lists_by_day
from deepfm.errors import DataError

RETURN_FLOOR = 1e-4  # of the portfolio's deviation, a hundredth of a usual day's
LEAST_DAYS = 16


def sharpe_loss(
    scores: Tensor,
    returns: Tensor,
    day: Tensor | DayLayout,
    stock: Tensor,
    *,
    turnover_cost: float = 0.0,
    least_days: int = LEAST_DAYS,
) -> Tensor:
    """Minus the mean over the deviation of a long-short portfolio's returns, one for each day of the batch.

    A day's weights are `z / Σ|z|` of its standardised scores: long what is scored high, short what is scored low, one
    unit in all. What is traded from one day of the batch to the next, `Σ|w_d - w_{d-1}|` over stocks, costs
    `turnover_cost` a unit; the first day costs nothing. It is not annualised: times √(252 / h) it would be, for
    returns over h sessions, one after the other.

    Args:
        scores: `(R, K)` or `(R,)`.
        returns: raw forward returns of the same shape; NaN where there is none.
        day: days of the rows, never falling, or their layout.
        stock: `(R,)`, each stock at most once a day.
        turnover_cost: a share of what is traded; .0005 is 5 basis points.
        least_days: below that many days, a deviation says nothing.

    Returns:
        for each horizon `(K,)`, or a scalar.

    Raises:
        DataError: there are fewer days than `least_days`, or the shapes differ.
    """
    layout = day if isinstance(day, DayLayout) else DayLayout.of(day)
    if layout.num_days < least_days:
        raise DataError(
            f"a portfolio's Sharpe ratio over {layout.num_days} days says nothing; expected {least_days} days or more "
            "in a batch, so raise batch_size or set sharpe_weight to 0"
        )
    lists = lists_by_day(scores, returns, layout)
    central = centred(lists.scores, lists.counts)
    standard = central / deviation(central, lists.counts)
    weights = standard / standard.abs().sum(1, keepdim=True).clamp(min=1e-6)  # (D, N, K)
    earned = (weights * lists.targets).sum(1)  # (D, K)
    if turnover_cost:
        earned = earned - turnover_cost * turnover(layout.rows(weights), layout, stock)
    held = lists.number > 1  # a day with one return, or none, holds nothing
    days = held.sum(0).clamp(min=1)
    mean = torch.where(held, earned, torch.zeros_like(earned)).sum(0) / days
    away = torch.where(held, earned - mean, torch.zeros_like(earned))
    ratio = -mean / (away.square().sum(0) / days + RETURN_FLOOR**2).sqrt()
    return ratio if scores.ndim == 2 else ratio.squeeze(0)


def turnover(weights: Tensor, layout: DayLayout, stock: Tensor) -> Tensor:
    """What is traded at each day, `Σ|w_d - w_{d-1}|` over the stocks of either day, `(D, K)`; 0 at the first.

    Args:
        weights: of the rows, `(R, K)`.
        layout: the rows' days.
        stock: `(R,)`.
    """
    order = torch.argsort(stock * layout.num_days + layout.day)
    held, at, whose = weights[order], layout.day[order], stock[order]
    kept = (whose[1:] == whose[:-1]) & (at[1:] == at[:-1] + 1)  # held the day before
    before = torch.cat([torch.zeros_like(held[:1]), torch.where(kept.unsqueeze(1), held[:-1], 0.0)])
    bought = (held - before).abs()
    gone = torch.cat([~kept, torch.ones_like(kept[:1])]).unsqueeze(1)  # not held the day after
    traded = held.new_zeros(layout.num_days + 1, held.shape[1])
    traded = traded.index_add(0, at, bought).index_add(0, at + 1, torch.where(gone, held.abs(), 0.0))
    first = torch.arange(layout.num_days, device=held.device).unsqueeze(1) == 0
    return torch.where(first, torch.zeros_like(traded[:-1]), traded[:-1])
