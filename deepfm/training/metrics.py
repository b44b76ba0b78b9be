"""Metrics of clicks and of ranking, in float64 on the CPU, with ties that never help.

Ranking follows the leave-one-out protocol: the rank of a positive is 1 + the number of negatives of its group that
score at least as high.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepfm.errors import DataError

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


def compute_auc(labels: ArrayLike, scores: ArrayLike) -> float:
    """The area under the ROC curve of `(N,)` labels (0 or 1) and scores; tied pairs count half.

    Raises:
        DataError: only one class, shapes that differ, or a score that is not finite.
    """
    positive, values = _checked(labels, scores)
    num_positive = int(positive.sum())
    num_negative = len(positive) - num_positive
    if not num_positive or not num_negative:
        raise DataError(f"AUC needs both classes; got {num_positive} positives and {num_negative} negatives")
    order = np.argsort(-values, kind="stable")
    ends_of_ties = np.append(np.flatnonzero(np.diff(values[order])), len(order) - 1)
    true_positives = np.concatenate([[0], positive[order].cumsum()[ends_of_ties]])
    false_positives = np.concatenate([[0], 1 + ends_of_ties]) - true_positives
    return float(np.trapezoid(true_positives, false_positives) / (num_positive * num_negative))


def compute_logloss(labels: ArrayLike, scores: ArrayLike) -> float:
    """The mean negative log likelihood of `(N,)` labels (0 or 1) under probabilities `scores`.

    Raises:
        DataError: a score outside [0, 1] (a logit needs a sigmoid first), shapes that differ, or NaN.
    """
    positive, probabilities = _checked(labels, scores)
    if len(probabilities) and not (probabilities.min() >= 0 and probabilities.max() <= 1):
        raise DataError(
            f"log loss needs probabilities; got values from {probabilities.min():.4g} to {probabilities.max():.4g}, "
            "so apply a sigmoid to logits first"
        )
    tiny = np.finfo(np.float64).eps
    likelihood = np.where(positive, probabilities, 1.0 - probabilities)
    return float(-np.log(likelihood.clip(min=tiny)).mean())


def compute_hr_at_k(ranks: ArrayLike, k: int) -> float:
    """The share of `(U,)` 1-based ranks that are at most k.

    Raises:
        DataError: no rank, or one below 1.
    """
    return float((_checked_ranks(ranks) <= k).mean())


def compute_ndcg_at_k(ranks: ArrayLike, k: int) -> float:
    """The mean of 1 / log2(rank + 1) over `(U,)` 1-based ranks, 0 beyond k (one relevant item a user).

    Raises:
        DataError: no rank, or one below 1.
    """
    return float(_gains(_checked_ranks(ranks), k).mean())


def metric_by_group(name: str, ranks: ArrayLike, groups: ArrayLike) -> Floats:
    """What each of G groups reaches, `(G,)`, whose mean is the metric `hr@K` or `ndcg@K`; for errors over users.

    Args:
        ranks, groups: `(P,)`, as `RankingEvaluator.ranks` gives them.
    """
    kind, _, k = name.partition("@")
    checked, numbers = _checked_ranks(ranks), np.asarray(groups)
    gains = _gains(checked, int(k)) if kind == "ndcg" else (checked <= int(k)).astype(np.float64)
    return np.bincount(numbers, gains) / np.bincount(numbers)


class RankingEvaluator:
    """HR@K and NDCG@K over groups of candidates.

    A group with several positives counts each against the group's negatives and takes their mean, so that every
    group (a user) weighs the same.

    Args:
        ks: the cut-offs.

    Example:
        >>> RankingEvaluator([1])([0.9, 0.5, 0.2, 0.2], [1, 0, 1, 0], [0, 0, 1, 1])
        {'hr@1': 0.5, 'ndcg@1': 0.5}
    """

    def __init__(self, ks: Sequence[int]) -> None:
        self.ks = tuple(ks)

    def __call__(self, scores: ArrayLike, labels: ArrayLike, group_ids: ArrayLike) -> dict[str, float]:
        """The metrics of `(N,)` scores and labels in groups `(N,)`.

        Raises:
            DataError: a score that is not finite, or a group without a positive or a negative.
        """
        return self.summarise(*self.ranks(scores, labels, group_ids))

    def ranks(self, scores: ArrayLike, labels: ArrayLike, group_ids: ArrayLike) -> tuple[Integers, Integers]:
        """The 1-based rank of each positive `(P,)`, and the number of its group `(P,)`, sorted by group."""
        positive, values = _checked(labels, scores)
        _, groups = np.unique(np.asarray(group_ids), return_inverse=True)
        if len(groups) != len(values):
            raise DataError(f"{len(values)} scores come with {len(groups)} group ids; expected as many")
        num_groups = int(groups.max(initial=-1)) + 1
        negatives = _rows_by_group(np.flatnonzero(~positive), groups)
        positives = _rows_by_group(np.flatnonzero(positive), groups)
        num_negatives = np.bincount(groups[negatives], minlength=num_groups)
        num_positives = np.bincount(groups[positives], minlength=num_groups)
        for what, counts in (("positive", num_positives), ("negative", num_negatives)):
            if not counts.all():
                raise DataError(
                    f"group {np.asarray(group_ids)[groups == int(counts.argmin())][0]} has no {what}; every group "
                    "needs at least one positive and one negative"
                )
        # Pair each positive with all negatives of its group, one after another.
        against = num_negatives[groups[positives]]  # (P,)
        pair_starts = against.cumsum() - against
        first_negative = (num_negatives.cumsum() - num_negatives)[groups[positives]]
        partner = np.arange(against.sum()) + np.repeat(first_negative - pair_starts, against)
        beaten = values[negatives[partner]] >= np.repeat(values[positives], against)
        return 1 + np.add.reduceat(beaten.astype(np.int64), pair_starts), groups[positives]

    def summarise(self, ranks: Integers, groups: Integers) -> dict[str, float]:
        """The metrics of ranks `(P,)` in groups `(P,)`."""
        weights = 1.0 / np.bincount(groups)[groups]
        total = weights.sum()  # the number of groups
        metrics = {f"hr@{k}": float((weights * (ranks <= k)).sum() / total) for k in self.ks}
        return metrics | {f"ndcg@{k}": float((weights * _gains(ranks, k)).sum() / total) for k in self.ks}


def _checked_ranks(ranks: ArrayLike) -> NDArray[Any]:
    values = np.asarray(ranks)
    if not values.size or values.min() < 1:
        raise DataError(f"ranks are {'none' if not values.size else f'as low as {values.min()}'}; expected 1 or more")
    return values


def _gains(ranks: NDArray[Any], k: int) -> Floats:
    return np.where(ranks <= k, 1.0 / np.log2(ranks + 1.0), 0.0)


def _rows_by_group(rows: Integers, groups: Integers) -> Integers:
    return rows[np.argsort(groups[rows], kind="stable")]


def _checked(labels: ArrayLike, scores: ArrayLike) -> tuple[NDArray[np.bool_], Floats]:
    truth, values = np.asarray(labels), np.asarray(scores, dtype=np.float64)
    if truth.shape != values.shape or values.ndim != 1:
        raise DataError(f"labels have shape {truth.shape} and scores {values.shape}; expected (N,) for both")
    if not len(values):
        raise DataError("there are no rows to evaluate; expected at least one")
    bad = np.flatnonzero(~np.isfinite(values))
    if len(bad):
        raise DataError(f"score {bad[0]} is {values[bad[0]]}; expected finite scores, so look at the model")
    wrong = np.flatnonzero((truth != 0) & (truth != 1))
    if len(wrong):
        raise DataError(f"label {wrong[0]} is {truth[wrong[0]]}; expected 0 or 1")
    return truth.astype(bool), values
