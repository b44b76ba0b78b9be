"""How well scores rank models on one task, against what the models reached there.

Every metric takes `truth` `(N,)`, NaN where nobody measured (those models are left out), and `RankedScores` of the same
models. Models without evidence come last, tied. Ties in the scores never favour anyone: metrics of a cut at k are the
expectation over all orders of the tied.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepfm.errors import DataError
from deepfm.model_selection.scores import Order, RankedScores

Weighting = Literal["symmetric", "by truth"]
Pair = tuple[NDArray[np.float64], NDArray[np.float64]]


def weighted_tau(truth: ArrayLike, scores: RankedScores, weighting: Weighting = "symmetric") -> float:
    """Kendall's tau with hyperbolic weights, so that the top counts most (Vigna, 2015), from -1 to 1.

    Two definitions are in use under one name. "symmetric" averages the weights by truth and by score (scipy's default,
    `rank=True`; SFDA, TransferGraph); "by truth" weighs by the true ranks alone (`rank=None`; Model Spider).

    Raises:
        DataError: see `aligned`, or the weighting has another name.
    """
    from scipy.stats import weightedtau

    if weighting not in ("symmetric", "by truth"):
        raise DataError(f"weighting {weighting!r} of tau is unknown; expected 'symmetric' or 'by truth'")
    true, predicted = aligned(truth, scores)
    return _or_zero(weightedtau(true, predicted, rank=True if weighting == "symmetric" else None).statistic)


def spearman(truth: ArrayLike, scores: RankedScores) -> float:
    """Spearman's rank correlation, with average ranks for ties; 0 where the scores are all tied.

    Raises:
        DataError: see `aligned`.
    """
    from scipy.stats import rankdata

    true, predicted = (rankdata(values) for values in aligned(truth, scores))
    if np.ptp(predicted) == 0:
        return 0.0
    return float(np.corrcoef(true, predicted)[0, 1])


def kendall_tau_b(truth: ArrayLike, scores: RankedScores) -> float:
    """Kendall's tau-b, which allows for ties on both sides; 0 where the scores are all tied.

    Raises:
        DataError: see `aligned`.
    """
    from scipy.stats import kendalltau

    return _or_zero(kendalltau(*aligned(truth, scores)).statistic)


def regret(truth: ArrayLike, scores: RankedScores, k: int = 1) -> float:
    """What is lost by trying the k best-scored models and keeping the best of them, in the unit of the truth, from 0.

    Raises:
        DataError: see `aligned`, or k is below 1.
    """
    true, predicted = aligned(truth, scores)
    sure, tied, places = _cut(predicted, k)
    floor = true[sure].max() if sure.any() else -np.inf
    rest = np.sort(true[tied])[::-1]
    # Of `places` drawn from n tied, the i-th best is the best with probability C(n-1-i, places-1) / C(n, places).
    chance = np.zeros(len(rest))
    left = 1.0
    for i in range(len(rest) - places + 1):
        chance[i] = left * places / (len(rest) - i)
        left -= chance[i]
    return float(true.max() - chance @ np.maximum(rest, floor))


def recall(truth: ArrayLike, scores: RankedScores, k: int = 5) -> float:
    """The share of the truly k best models among the k best-scored, from 0 to 1.

    Any model as good as the k-th best counts as one of them. Another definition in use, whether the one best model is
    among the k, is `holds_best`.

    Raises:
        DataError: see `aligned`, or k is below 1.
    """
    true, predicted = aligned(truth, scores)
    sure, tied, places = _cut(predicted, k)
    best = true >= np.sort(true)[-min(k, len(true))]
    hits = best[sure].sum() + places * best[tied].mean()
    return float(hits / min(k, len(true)))


def holds_best(truth: ArrayLike, scores: RankedScores, k: int = 5) -> float:
    """The probability that the k best-scored models hold a best one.

    Raises:
        DataError: see `aligned`, or k is below 1.
    """
    true, predicted = aligned(truth, scores)
    return 1 - regret((true == true.max()).astype(np.float64), RankedScores(predicted), k)


def ndcg(truth: ArrayLike, scores: RankedScores, k: int = 5) -> float:
    """Discounted gain of the k best-scored models against the best, from 0 to 1 (Järvelin and Kekäläinen, 2002).

    A model's gain is how far it lies above the worst one, in the unit of the truth. Tied models share the mean of their
    gains (McSherry and Najork, 2008).

    Raises:
        DataError: see `aligned`, or k is below 1.
    """
    true, predicted = aligned(truth, scores)
    _check_k(k)
    gains = true - true.min()
    levels, group = np.unique(-predicted, return_inverse=True)
    shared = np.bincount(group, gains, len(levels)) / np.bincount(group, minlength=len(levels))
    ranked = shared[group][np.argsort(-predicted, kind="stable")][:k]
    discounts = 1 / np.log2(np.arange(2, len(ranked) + 2))
    return float(discounts @ ranked / (discounts @ np.sort(gains)[::-1][: len(ranked)]))


def coverage(truth: ArrayLike, low: ArrayLike, high: ArrayLike) -> float:
    """The share of models whose truth lies within `[low, high]`, all `(N,)`; an interval without end covers.

    Raises:
        DataError: the shapes differ, or nothing was measured.
    """
    true, lowest, highest = (np.asarray(values, np.float64) for values in (truth, low, high))
    if not true.shape == lowest.shape == highest.shape or true.ndim != 1:
        raise DataError(
            f"truth and interval ends have shapes {true.shape}, {lowest.shape}, {highest.shape}; give (N,) each"
        )
    measured = ~np.isnan(true)
    if not measured.any():
        raise DataError("no truth is known, so no interval can be checked; expected at least one measured model")
    return float(((lowest <= true) & (true <= highest))[measured].mean())


def aligned(truth: ArrayLike, scores: RankedScores) -> Pair:
    """The measured models' truth and scores, both `(n,)` without NaN.

    Raises:
        DataError: `scores` is no `RankedScores` (an `Order` least of all), the lengths differ, or fewer than two
            measured models differ, so that there is nothing to rank.
    """
    if isinstance(scores, Order):
        raise DataError("a metric was given an Order, which holds indices, not scores; expected its .scores()")
    if not isinstance(scores, RankedScores):
        raise DataError(f"a metric was given scores of type {type(scores).__name__}; expected RankedScores")
    true = np.asarray(truth, np.float64)
    if true.shape != scores.values.shape:
        raise DataError(
            f"truth has the shape {true.shape} and there are {len(scores)} scores; expected one each a model"
        )
    measured = ~np.isnan(true)
    if not measured.any() or np.ptp(true[measured]) == 0:
        raise DataError(
            f"{measured.sum()} models were measured and none differs from another; expected at least two that differ"
        )
    return true[measured], scores.filled()[measured]


def _cut(predicted: NDArray[np.float64], k: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_], int]:
    """Who is among the k best for sure, who ties for the last places, and how many places those are."""
    _check_k(k)
    k = min(k, len(predicted))
    last = np.sort(predicted)[-k]
    sure = predicted > last
    return sure, predicted == last, k - int(sure.sum())


def _check_k(k: int) -> None:
    if k < 1:
        raise DataError(f"k = {k} models; expected at least 1")


def _or_zero(value: Any) -> float:
    """What scipy says, where scores that are all tied give NaN: they rank nothing, so 0."""
    return 0.0 if np.isnan(value) else float(value)


Metric = Callable[[ArrayLike, RankedScores], float]

METRICS: Mapping[str, Metric] = {
    "weighted tau": weighted_tau,
    "weighted tau by truth": partial(weighted_tau, weighting="by truth"),
    "Spearman": spearman,
    "Kendall tau-b": kendall_tau_b,
    **{f"regret@{k}": partial(regret, k=k) for k in (1, 3, 5)},
    **{f"recall@{k}": partial(recall, k=k) for k in (1, 3, 5)},
    "holds best@5": partial(holds_best, k=5),
    "NDCG@5": partial(ndcg, k=5),
}
