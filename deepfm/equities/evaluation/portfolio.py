"""The portfolio that a ranking stands for: what it holds, what it earns, and what trading it takes.

A day's scores are known at its close `t`; they are traded at the close `t + delay` and first earn the return from there
to the next close. With a horizon of `h` sessions, `h` tranches of `1 / h` each overlap, one renewed a day.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepfm.equities.evaluation.metrics import LEAST_NAMES
from deepfm.equities.evaluation.places import Floats, Mask, places_within_day
from deepfm.equities.features.windows import CARRY, carry_forward
from deepfm.errors import ConfigError, DataError

LARGEST_RETURN = 0.5
TENTH = 0.1


def daily_returns(close: NDArray[np.floating], carried: int = CARRY, largest: float = LARGEST_RETURN) -> Floats:
    """Each stock's return from the session before, `(T, N)`, clipped at ± `largest`.

    A missing close is carried forward at most `carried` sessions, which earns 0 until the next print; where nothing can
    be carried the return is NaN. The clip keeps bad prints from deciding a backtest.
    """
    filled = carry_forward(np.asarray(close, dtype=np.float64), carried)
    returns = np.full(filled.shape, np.nan)
    known = np.isfinite(filled[1:]) & np.isfinite(filled[:-1]) & (filled[:-1] > 0)
    np.divide(filled[1:], filled[:-1], out=returns[1:], where=known)
    return np.clip(returns - 1, -largest, largest)


def target_weights(
    scores: ArrayLike,
    where: ArrayLike,
    share: float = TENTH,
    long_only: bool = False,
    least_names: int = LEAST_NAMES,
) -> Floats:
    """The day's equal weights of the best `share` of stocks, 1 in all, less those of the worst, `(S, N)`.

    Stocks that tie for the last places share them, so that scores which are all alike hold nothing (long only: all
    stocks alike). A day with fewer than `least_names` scores holds nothing.

    Args:
        scores: `(S, N)`, higher is bought.
        where: the universe, `(S, N)`.
        share: of the day's stocks on each side, at least one stock.
        long_only: hold the best alone.

    Raises:
        ConfigError: the share is no part up to a half.
    """
    if not 0 < share <= 0.5:
        raise ConfigError(f"share = {share} of the day's stocks; expected above 0, at most 0.5")
    places = places_within_day(scores, where)
    counts = places.counts[:, None]
    wanted = np.maximum((counts * share + 1e-9).astype(np.int64), 1)
    tied = places.last - places.first + 1
    top = np.clip(places.last + 1 - np.maximum(places.first, counts - wanted), 0, None) / tied
    bottom = np.clip(np.minimum(places.last + 1, wanted) - places.first, 0, None) / tied
    weights = top / wanted if long_only else (top - bottom) / wanted
    return np.where(places.ranked & (counts >= max(least_names, 2)), weights, 0.0)


def overlapping_holdings(weights: Floats, horizon: int) -> Floats:
    """What the `horizon` last days' tranches hold together after each day, `(S, N)`; the first days hold less."""
    if horizon < 1:
        raise ConfigError(f"horizon = {horizon} sessions; expected 1 or more")
    total = np.cumsum(weights, axis=0)
    holdings = total.copy()
    holdings[horizon:] -= total[:-horizon]
    return np.where(np.abs(holdings) > 1e-12, holdings, 0.0) / horizon


def traded(holdings: Floats) -> Floats:
    """How much each day buys and sells, as a share of one side's capital, `(S,)`: entering one side trades 1."""
    before = np.concatenate([np.zeros_like(holdings[:1]), holdings[:-1]])
    return np.abs(holdings - before).sum(axis=1)


def market_returns(returns: Floats, where: Mask) -> Floats:
    """The mean return of the stocks that were in the universe the session before, `(T,)`; 0 without any."""
    if returns.shape != where.shape:
        raise DataError(f"returns and where have shapes {returns.shape} and {where.shape}; expected them alike")
    member = np.zeros_like(where)
    member[1:] = where[:-1]
    member = member & np.isfinite(returns)
    counts = member.sum(axis=1)
    return np.where(member, returns, 0.0).sum(axis=1) / np.maximum(counts, 1)
