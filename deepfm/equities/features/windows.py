"""Trailing windows over sessions, for all stocks at once.

A window's sum is built from blocks of doubled length, so that it costs log2(n) additions and depends on the window's
own values alone: neither the future nor where the panel begins changes a bit of it. Arrays are `(T, N)` or `(T,)`.
"""

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
CARRY = 5  # sessions that a close may be carried forward
FILLED = 0.75  # the share of a window that must be known


def lag(values: Array, sessions: int, fill: float = np.nan) -> Array:
    """The values of `sessions` earlier; `fill` where there were none."""
    if sessions == 0:
        return values
    moved = np.full_like(values, fill)
    moved[sessions:] = values[:-sessions]
    return moved


def carry_forward(values: Array, limit: int = CARRY) -> Array:
    """The last known value, at most `limit` sessions old."""
    carried = values.copy()
    for _ in range(limit):
        missing = np.isnan(carried[1:])
        if not missing.any():
            break
        np.copyto(carried[1:], carried[:-1].copy(), where=missing)
    return carried


def rolling_sum(values: Array, sessions: int) -> Array:
    """The sum over the last `sessions`, the day's own included; what is missing adds nothing."""
    return _doubled(np.where(np.isnan(values), 0.0, values), sessions, np.add, 0.0)


def rolling_count(values: Array, sessions: int) -> Array:
    """How many of the last `sessions` values are known."""
    return _doubled((~np.isnan(values)).astype(np.float64), sessions, np.add, 0.0)


def rolling_max(values: Array, sessions: int) -> Array:
    """The largest of the last `sessions` values; NaN where too few are known."""
    largest = _doubled(np.where(np.isnan(values), -np.inf, values), sessions, np.maximum, -np.inf)
    return where_filled(largest, rolling_count(values, sessions), sessions)


def rolling_min(values: Array, sessions: int) -> Array:
    """The smallest of the last `sessions` values; NaN where too few are known."""
    return -rolling_max(-values, sessions)


def rolling_mean(values: Array, sessions: int) -> Array:
    """The mean of the known values of the last `sessions`; NaN where too few are known."""
    count = rolling_count(values, sessions)
    return where_filled(rolling_sum(values, sessions) / np.maximum(count, 1), count, sessions)


def rolling_std(values: Array, sessions: int) -> Array:
    """The standard deviation (divisor n - 1) of the last `sessions` known values; NaN where too few are known."""
    count = rolling_count(values, sessions)
    total, squares = rolling_sum(values, sessions), rolling_sum(values * values, sessions)
    known = np.maximum(count, 1)
    spread = np.maximum(squares - total * total / known, 0.0) / np.maximum(count - 1, 1)
    return where_filled(np.sqrt(spread), count, sessions)


def rolling_skew(values: Array, sessions: int) -> Array:
    """The skewness (third standardised moment) of the last `sessions`; NaN where too few are known or none differs."""
    count = rolling_count(values, sessions)
    known = np.maximum(count, 1)
    mean = rolling_sum(values, sessions) / known
    second = rolling_sum(values**2, sessions) / known
    third = rolling_sum(values**3, sessions) / known
    variance = second - mean**2
    with np.errstate(divide="ignore", invalid="ignore"):
        skew = (third - 3 * mean * second + 2 * mean**3) / variance**1.5
    return where_filled(np.where(variance > 1e-12, skew, np.nan), count, sessions)


def where_filled(values: Array, count: Array, sessions: int) -> Array:
    """The values where at least three quarters of a window are known; NaN elsewhere."""
    return np.where(count >= math.ceil(FILLED * sessions), values, np.nan)


def _doubled(block: Array, sessions: int, join: Callable[[Array, Array], Array], empty: float) -> Array:
    """Join the last `sessions` values, from blocks of 1, 2, 4, ... sessions."""
    total, offset, size = None, 0, 1
    while True:
        if sessions & 1:
            part = lag(block, offset, empty) if offset < len(block) else np.full_like(block, empty)
            total = part if total is None else join(total, part)
            offset += size
        sessions >>= 1
        if not sessions:
            assert total is not None
            return total
        block = join(block, lag(block, size, empty)) if size < len(block) else block
        size *= 2
