"""Losses of the order within a day, which know no scale of the scores (but ListNet)."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from deepfm.equities.days.layout import DayLayout
from deepfm.equities.losses.by_day import SPREAD_FLOOR, centred, deviation, lists_by_day, mean_over_days

PAIRS = 4_000_000  # held at once, 16 MB


def ic_loss(scores: Tensor, targets: Tensor, day: Tensor | DayLayout) -> Tensor:
    """1 - Pearson's correlation within the day, the mean over days with two different targets or more.

    Args:
        scores: `(R, K)` or `(R,)`.
        targets: the same shape; NaN where there is none.
        day: days of the rows, never falling, or their layout.

    Returns:
        for each horizon `(K,)`, or a scalar; 0 to 2.
    """
    lists = lists_by_day(scores, targets, day)
    return _one_less_correlation(lists.scores, lists.targets, lists.counts, scores.shape)


def rankic_loss(scores: Tensor, targets: Tensor, day: Tensor | DayLayout, temperature: float = 0.1) -> Tensor:
    """1 - the correlation of soft ranks of the scores with ranks of the targets, within the day.

    A score's soft rank is the sum over the day's stocks of `σ((s_i - s_j) / τ)` (Qin et al., 2010, equation 11), where
    τ is `temperature` deviations of the day's scores, so that their scale does not matter. With τ → 0 this is
    1 - Spearman's correlation. Time is O(N²) for each day, memory does not grow with days.

    Args:
        scores, targets, day: as in `ic_loss`.
        temperature: in deviations of the day's scores.
    """
    lists = lists_by_day(scores, targets, day)
    spread = deviation(centred(lists.scores, lists.counts), lists.counts)
    listed = (lists.scores / (temperature * spread)).transpose(1, 2).flatten(0, 1)  # (D · K, N)
    ranks: Tensor = _SoftRanks.apply(listed, lists.counts.transpose(1, 2).flatten(0, 1))
    number = lists.number.unsqueeze(1).clamp(min=1)  # (D, 1, K)
    soft = ranks.unflatten(0, (-1, lists.scores.shape[2])).transpose(1, 2) / number
    return _one_less_correlation(soft, _ranks(lists.targets, lists.counts) / number, lists.counts, scores.shape)


def listnet_loss(scores: Tensor, targets: Tensor, day: Tensor | DayLayout) -> Tensor:
    """How far the softmax of a day's scores is from that of its standardised targets (Cao et al., 2007, equation 6).

    The Kullback-Leibler divergence, which differs from the paper's cross-entropy by what no score can change: 0 for
    scores equal to the standardised targets, at any number of stocks.

    Args:
        scores, targets, day: as in `ic_loss`.
    """
    lists = lists_by_day(scores, targets, day)
    central = centred(lists.targets, lists.counts)
    lowest = torch.finfo(torch.float32).min
    wanted = (central / deviation(central, lists.counts)).masked_fill(~lists.counts, lowest).log_softmax(1)
    given = lists.scores.masked_fill(~lists.counts, lowest).log_softmax(1)
    terms = torch.where(lists.counts, wanted.exp() * (wanted - given), torch.zeros_like(given))
    return mean_over_days(terms.sum(1), _has_order(lists.targets, lists.counts), scores.shape)


def _one_less_correlation(scores: Tensor, targets: Tensor, counts: Tensor, shape: torch.Size) -> Tensor:
    """1 - Pearson's correlation of lists `(D, N, K)`."""
    score, target = centred(scores, counts), centred(targets, counts)
    together = (score * target).sum(1) / counts.sum(1).clamp(min=1)
    correlation = together / (deviation(score, counts) * deviation(target, counts)).squeeze(1)
    return mean_over_days(1.0 - correlation, _has_order(targets, counts), shape)


def _has_order(targets: Tensor, counts: Tensor) -> Tensor:
    """Which days have two different targets, `(D, K)`."""
    return centred(targets, counts).abs().amax(1) > SPREAD_FLOOR


def _ranks(values: Tensor, counts: Tensor) -> Tensor:
    """How many of the day lie below each value, and half of those that equal it, `(D, N, K)`."""
    listed = values.masked_fill(~counts, float("inf")).transpose(1, 2).contiguous()
    ordered = listed.sort(-1).values
    below = torch.searchsorted(ordered, listed)
    upto = torch.searchsorted(ordered, listed, right=True)
    return torch.where(counts, (below + upto).transpose(1, 2).to(values.dtype) / 2, torch.zeros_like(values))


class _SoftRanks(torch.autograd.Function):
    """`r_i = Σ_j σ(s_i - s_j)` of lists `(B, N)`; pairs are formed again for the derivative instead of kept."""

    @staticmethod
    def forward(ctx: Any, scores: Tensor, counts: Tensor) -> Tensor:
        ctx.save_for_backward(scores, counts)
        counted = counts.to(scores.dtype)
        parts = zip(*_chunks(scores, counted), strict=True)
        return torch.cat([(_pairs(part).sigmoid_() @ seen.unsqueeze(2)).squeeze(2) * seen for part, seen in parts])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, received: Tensor) -> Tensor:
        scores, counts = ctx.saved_tensors
        counted = counts.to(scores.dtype)
        gradients = []
        for part, seen, wanted in zip(*_chunks(scores, counted, received * counted), strict=True):
            slope = _pairs(part).sigmoid_()
            slope = slope.mul_(1.0 - slope)  # symmetric in the pair
            both = torch.stack([seen, wanted], dim=2)
            around, pulled = (slope @ both).unbind(2)  # Σ_j slope · (whether j counts, what j's rank receives)
            gradients.append(wanted * around - seen * pulled)
        return torch.cat(gradients), None  # type: ignore[return-value]


def _pairs(scores: Tensor) -> Tensor:
    """`s_i - s_j`, `(B, N, N)`."""
    return scores.unsqueeze(2) - scores.unsqueeze(1)


def _chunks(scores: Tensor, *others: Tensor) -> list[tuple[Tensor, ...]]:
    """Each tensor in the same chunks of lists, so many that their pairs are held at once."""
    size = max(1, PAIRS // max(1, scores.shape[1] ** 2))
    return [part.split(size) for part in (scores, *others)]
