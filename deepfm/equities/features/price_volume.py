"""The 34 price and volume features of the baselines, and two relative to the sector.

Closes are carried forward at most five sessions, daily returns are clipped at ±50 %, a window needs three quarters of
its sessions, and standard deviations have the divisor n - 1.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from deepfm.equities.features.history import History
from deepfm.equities.features.registry import Feature, FeatureRegistry
from deepfm.equities.features.windows import (
    CARRY,
    lag,
    rolling_count,
    rolling_max,
    rolling_mean,
    rolling_min,
    rolling_skew,
    rolling_std,
    rolling_sum,
    where_filled,
)

Array = NDArray[np.float64]
RSI = 14
BETA = 60
LEAST_ILLIQUIDITY = 1e-18  # below it lies only a stock whose price never moved


def past_return(history: History, sessions: int) -> Array:
    """Close over the close of {} sessions before, minus 1."""
    return history.past_return(sessions)


def momentum_12_1(history: History) -> Array:
    """Close of 20 sessions before over that of 250 before, minus 1."""
    return history.past_return(250, until=20)


def gap(history: History) -> Array:
    """Open over the close before, minus 1."""
    return history.open / lag(history.carried, 1) - 1


def intraday(history: History) -> Array:
    """Close over open, minus 1."""
    return history.close / history.open - 1


def day_range(history: History) -> Array:
    """High minus low, over close."""
    return (history.high - history.low) / history.close


def close_location(history: History) -> Array:
    """Where the close lies between low (-1/2) and high (1/2)."""
    return (history.close - history.low) / (history.high - history.low) - 0.5


def volatility(history: History, sessions: int) -> Array:
    """Standard deviation of {} daily returns."""
    return rolling_std(history.returns, sessions)


def downside(history: History, sessions: int) -> Array:
    """Root mean square of {} daily returns, gains counted as 0."""
    return np.sqrt(rolling_mean(np.minimum(history.returns, 0.0) ** 2, sessions))


def largest(history: History, sessions: int) -> Array:
    """Largest of {} daily returns."""
    return rolling_max(history.returns, sessions)


def smallest(history: History, sessions: int) -> Array:
    """Smallest of {} daily returns."""
    return rolling_min(history.returns, sessions)


def skew(history: History, sessions: int) -> Array:
    """Skewness of {} daily returns."""
    return rolling_skew(history.returns, sessions)


def log_volume(history: History, sessions: int) -> Array:
    """Mean of log(1 + close times volume) over {} sessions."""
    return rolling_mean(history.log_dollar_volume, sessions)


def volume_shock(history: History, sessions: int) -> Array:
    """Log dollar volume minus its mean over {} sessions."""
    return history.log_dollar_volume - rolling_mean(history.log_dollar_volume, sessions)


def volume_trend(history: History) -> Array:
    """Mean log dollar volume of 5 sessions minus that of 60."""
    return rolling_mean(history.log_dollar_volume, 5) - rolling_mean(history.log_dollar_volume, 60)


def illiquidity(history: History, sessions: int) -> Array:
    """Log of the mean of abs(return) over dollar volume, {} sessions (Amihud, 2002)."""
    moved = rolling_mean(np.abs(history.returns) / (history.dollar_volume + 1e4), sessions)
    return np.log(np.maximum(moved, LEAST_ILLIQUIDITY))


def volume_volatility(history: History, sessions: int) -> Array:
    """Standard deviation of {} sessions' log dollar volume."""
    return rolling_std(history.log_dollar_volume, sessions)


def above_mean(history: History, sessions: int) -> Array:
    """Close over its mean of {} sessions, minus 1."""
    return history.close / rolling_mean(history.carried, sessions) - 1


def below_high(history: History, sessions: int) -> Array:
    """Close over the highest close of {} sessions, minus 1."""
    return history.close / rolling_max(history.carried, sessions) - 1


def relative_strength(history: History) -> Array:
    """Gains as a share of all moves of 14 sessions, in per cent (simple means)."""
    gains = rolling_mean(np.maximum(history.returns, 0.0), RSI)
    moves = rolling_mean(np.abs(history.returns), RSI)
    return np.where(moves > 0, 100 * gains / moves, np.where(moves == 0, 50.0, np.nan))


def beta(history: History) -> Array:
    """Slope of 60 daily returns on the universe's mean return."""
    return market_model(history)[0]


def own_volatility(history: History) -> Array:
    """Standard deviation of what the market leaves of 60 daily returns."""
    return market_model(history)[1]


def residual_return(history: History) -> Array:
    """Return of 5 sessions minus beta times the market's."""
    return (
        history.past_return(5)
        - beta(history) * where_filled(rolling_sum(history.market, 5), rolling_count(history.market, 5), 5)[:, None]
    )


def minus_sector(history: History, sessions: int) -> Array:
    """Return of {} sessions minus the median of the sector's."""
    return history.minus_sector(history.past_return(sessions))


def market_model(history: History) -> tuple[Array, Array]:
    """The slope and the residual's standard deviation of 60 daily returns on the market's, each `(T, N)`."""
    shared = history.__dict__
    if "market_model" not in shared:
        shared["market_model"] = _market_model(history.returns, history.market)
    model: tuple[Array, Array] = shared["market_model"]
    return model


def _market_model(returns: Array, market: Array) -> tuple[Array, Array]:
    beside = np.where(np.isnan(returns), np.nan, market[:, None])
    stocks = np.where(np.isnan(beside), np.nan, returns)
    count = rolling_count(beside, BETA)
    known = np.maximum(count, 1)
    mean_market, mean_stock = rolling_sum(beside, BETA) / known, rolling_sum(stocks, BETA) / known
    spread = rolling_sum(beside**2, BETA) - known * mean_market**2
    joint = rolling_sum(beside * stocks, BETA) - known * mean_market * mean_stock
    own = rolling_sum(stocks**2, BETA) - known * mean_stock**2
    slope = np.where(spread > 1e-12, joint / spread, np.nan)
    left = np.maximum(own - slope * joint, 0.0) / np.maximum(count - 2, 1)
    return where_filled(slope, count, BETA), where_filled(np.sqrt(left), count, BETA)


class _Over:
    """An operation with the length of its window."""

    def __init__(self, function: Callable[[History, int], Array], sessions: int) -> None:
        self.function, self.sessions = function, sessions
        self.meaning = (function.__doc__ or "").format(sessions)

    def __call__(self, history: History) -> Array:
        return self.function(history, self.sessions)


def _over(name: str, group: str, function: Callable[[History, int], Array], sessions: int, extra: int) -> Feature:
    return Feature(name, group, sessions + extra, _Over(function, sessions))


_RETURN = CARRY  # a return of n sessions reads n sessions back, and carried closes further still
_WINDOW = CARRY  # n returns read n sessions back: the first of them needs the close before it
_LEVELS = CARRY - 1  # n closes read n - 1 back
_EACH = (
    *(_over(f"ret{n}", "momentum", past_return, n, _RETURN) for n in (1, 2, 3, 5, 10, 20, 60, 120)),
    Feature("mom250_20", "momentum", 250 + CARRY, momentum_12_1),
    Feature("gap", "momentum", 1 + CARRY, gap),
    Feature("intra", "momentum", 0, intraday),
    Feature("range", "risk", 0, day_range),
    Feature("clv", "value", 0, close_location),
    *(_over(f"vol{n}", "risk", volatility, n, _WINDOW) for n in (5, 20, 60)),
    _over("dvol20", "risk", downside, 20, _WINDOW),
    _over("max20", "risk", largest, 20, _WINDOW),
    _over("min20", "risk", smallest, 20, _WINDOW),
    _over("skew20", "risk", skew, 20, _WINDOW),
    _over("ldv20", "volume", log_volume, 20, -1),
    _over("vshock", "volume", volume_shock, 20, -1),
    Feature("v5_60", "volume", 59, volume_trend),
    _over("amihud", "volume", illiquidity, 20, _WINDOW),
    _over("turnvol", "volume", volume_volatility, 20, -1),
    *(_over(f"ma{n}", "value", above_mean, n, _LEVELS) for n in (5, 10, 20, 60)),
    _over("hi250", "value", below_high, 250, _LEVELS),
    Feature("rsi14", "value", RSI + CARRY, relative_strength),
    Feature("beta60", "risk", BETA + CARRY, beta),
    Feature("ivol60", "risk", BETA + CARRY, own_volatility),
    Feature("res5", "momentum", BETA + CARRY, residual_return),
)
PRICE_VOLUME = tuple(replace(each, per_stock=True) for each in _EACH)
SECTOR_RELATIVE = tuple(_over(f"irel{n}", "sector", minus_sector, n, _RETURN) for n in (5, 20))
DEFAULT_FEATURES = FeatureRegistry((*PRICE_VOLUME, *SECTOR_RELATIVE))
