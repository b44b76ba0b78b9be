"""How good a ranking of stocks is: one number per day, dense over days, so that days can be compared and averaged.

Every function takes one horizon's arrays `(S, N)` (sessions, stocks; NaN is none) and `where` `(S, N)`, the stocks that
take part, and gives NaN on a day that has too few of them.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepfm.equities.evaluation.places import Floats, Mask, places_within_day
from deepfm.errors import DataError

LEAST_NAMES = 20
QUANTILE_LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)


def taking_part(scores: ArrayLike, returns: ArrayLike, where: ArrayLike) -> Mask:
    """The stocks that have a score and a return, `(S, N)`.

    Raises:
        DataError: shapes that differ.
    """
    shapes = np.shape(scores), np.shape(returns), np.shape(where)
    if len(set(shapes)) > 1 or len(shapes[0]) != 2:
        raise DataError(
            f"scores, returns and where have the shapes {', '.join(map(str, shapes))}; expected (sessions, stocks), "
            "all alike"
        )
    return np.isfinite(scores) & np.isfinite(returns) & np.asarray(where, dtype=np.bool_)


def rank_ic(scores: ArrayLike, returns: ArrayLike, where: ArrayLike, least_names: int = LEAST_NAMES) -> Floats:
    """Spearman's correlation of scores and returns across the stocks of each day, ties averaged, `(S,)`.

    0 where all scores are tied, for they rank nothing; NaN where the returns are, or there are fewer than `least_names`
    stocks.
    """
    part = taking_part(scores, returns, where)
    ours, theirs = (places_within_day(values, part).average for values in (scores, returns))
    return _correlation(ours, theirs, part, least_names)


def information_coefficient(
    scores: ArrayLike, returns: ArrayLike, where: ArrayLike, least_names: int = LEAST_NAMES
) -> Floats:
    """Pearson's correlation of scores and returns across the stocks of each day, `(S,)`; NaN and 0 as in `rank_ic`."""
    part = taking_part(scores, returns, where)
    return _correlation(np.asarray(scores, np.float64), np.asarray(returns, np.float64), part, least_names)


def _correlation(first: Floats, second: Floats, part: Mask, least_names: int) -> Floats:
    counts = part.sum(axis=1)
    first, second = (_centred(values, part, counts) for values in (first, second))
    size = np.sqrt((first**2).sum(axis=1))
    other = np.sqrt((second**2).sum(axis=1))
    together = (first * second).sum(axis=1)
    known = (counts >= max(least_names, 2)) & (other > 0)
    return np.where(known, np.divide(together, size * other, where=size * other > 0, out=np.zeros(len(part))), np.nan)


def _centred(values: Floats, part: Mask, counts: NDArray[np.int64]) -> Floats:
    kept = np.where(part, values, 0.0)
    centred = np.where(part, kept - (kept.sum(axis=1) / np.maximum(counts, 1))[:, None], 0.0)
    spread = np.abs(centred).max(axis=1, initial=0.0)
    level = np.abs(kept).max(axis=1, initial=0.0)
    return np.where((spread > 1e-12 * level)[:, None], centred, 0.0)  # what rounding leaves of equal values is none


def group_returns(
    scores: ArrayLike, returns: ArrayLike, where: ArrayLike, groups: int = 10, least_names: int = LEAST_NAMES
) -> Floats:
    """The mean return of each tenth of a day's stocks by score, the lowest first, `(S, groups)`.

    Tied scores go where the middle of their places lies, so that no order of columns decides.
    """
    part = taking_part(scores, returns, where)
    places = places_within_day(scores, part)
    counts = places.counts
    share = (np.where(part, places.average, 0.0) + 0.5) / np.maximum(counts, 1)[:, None]
    group = np.minimum((share * groups).astype(np.int64), groups - 1)
    cell = (np.arange(len(part))[:, None] * groups + group)[part]
    length = len(part) * groups
    sums = np.bincount(cell, weights=np.asarray(returns, np.float64)[part], minlength=length)
    sizes = np.bincount(cell, minlength=length)
    means = np.divide(sums, sizes, where=sizes > 0, out=np.full(length, np.nan)).reshape(len(part), groups)
    return np.where((counts >= max(least_names, groups))[:, None], means, np.nan)


def quantile_coverage(quantiles: ArrayLike, targets: ArrayLike, where: ArrayLike) -> Floats:
    """The share of targets at or below each forecast quantile, `(Q,)`; a calibrated forecast gives its own levels.

    Args:
        quantiles: `(S, N, Q)`.
        targets: what the quantiles are of, `(S, N)`.
    """
    forecast, truth = _forecasts(quantiles, targets, where)
    return (truth[:, None] <= forecast).mean(axis=0) if len(truth) else np.full(forecast.shape[1], np.nan)


def interval_coverage(quantiles: ArrayLike, targets: ArrayLike, where: ArrayLike) -> float:
    """The share of targets between the lowest and the highest forecast quantile; shapes as in `quantile_coverage`."""
    forecast, truth = _forecasts(quantiles, targets, where)
    inside = (forecast[:, 0] <= truth) & (truth <= forecast[:, -1])
    return float(inside.mean()) if len(truth) else float("nan")


def pinball(
    quantiles: ArrayLike, targets: ArrayLike, where: ArrayLike, levels: tuple[float, ...] = QUANTILE_LEVELS
) -> float:
    """The mean pinball loss over stocks, days and levels (Koenker and Bassett, 1978), in the target's unit.

    Raises:
        DataError: as many levels as quantiles are needed.
    """
    forecast, truth = _forecasts(quantiles, targets, where)
    if forecast.shape[1] != len(levels):
        raise DataError(f"there are {forecast.shape[1]} quantiles and the levels {levels}; expected as many of each")
    missed = truth[:, None] - forecast
    share = np.asarray(levels)
    return float(np.maximum(share * missed, (share - 1) * missed).mean()) if len(truth) else float("nan")


def crossing_rate(quantiles: ArrayLike, where: ArrayLike) -> float:
    """The share of stock-days at which a higher quantile lies below a lower one; 0 from a sound head."""
    forecast = np.asarray(quantiles)[np.asarray(where, dtype=np.bool_)]
    forecast = forecast[np.isfinite(forecast).all(axis=1)]
    return float((np.diff(forecast, axis=1) < 0).any(axis=1).mean()) if len(forecast) else float("nan")


def _forecasts(quantiles: ArrayLike, targets: ArrayLike, where: ArrayLike) -> tuple[Floats, Floats]:
    """The quantiles `(M, Q)` and targets `(M,)` of the stock-days that have both."""
    forecast, truth = np.asarray(quantiles), np.asarray(targets)
    if forecast.ndim != 3 or forecast.shape[:2] != truth.shape or np.shape(where) != truth.shape:
        raise DataError(
            f"quantiles, targets and where have the shapes {forecast.shape}, {truth.shape}, {np.shape(where)}; "
            "expected (sessions, stocks, quantiles) and twice (sessions, stocks)"
        )
    both = np.asarray(where, dtype=np.bool_) & np.isfinite(truth) & np.isfinite(forecast).all(axis=2)
    return forecast[both].astype(np.float64), truth[both].astype(np.float64)
