"""Prices that cannot be right: what they are, and which may be masked without looking ahead."""

import numpy as np
from numpy.typing import NDArray

from deepfm.equities.features.windows import lag, rolling_count, rolling_sum
from deepfm.equities.panels.settings import EligibilityRule

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
JUMP = 0.5  # a return beyond it, in size, is as large as a split
UNDONE = 0.25  # how near the price before a jump the next print is, when the jump was none
MEMORY = 250  # sessions for which a stock's undone jump makes its next ones doubtful
FEW_STOCKS = 2 / 3
LITTLE_VOLUME = 0.1
ENOUGH_STOCKS = 10  # below it, nobody can say that a session has few


def jumps(close: Array) -> tuple[Mask, Mask, Array]:
    """Closes that jump by more than half from the last print: all, those undone by the next print, and the returns.

    Args:
        close: `(T, N)`, NaN where there is no print.

    Returns:
        jumped, undone, returns from print to print, each `(T, N)`.
    """
    order, prints, moved = _prints(close)
    returns = prints / lag(prints, 1) - 1
    jumped = np.abs(returns) > JUMP
    back = np.full_like(prints, np.nan)
    back[1:-1] = prints[2:] / prints[:-2] - 1
    undone = jumped & (np.abs(back) < UNDONE)
    return _restored(jumped, order, moved), _restored(undone, order, moved), _restored(returns, order, moved)


def known_bad_prints(close: Array) -> Mask:
    """Closes that are doubtful on their own session, from what was known at it, `(T, N)`.

    A close is doubtful if it differs by more than half from both prints before it, and the stock's prints of the last
    250 sessions held a jump of more than half that the next print undid.
    """
    order, prints, moved = _prints(close)
    first, second = lag(prints, 1), lag(prints, 2)
    away = (np.abs(prints / first - 1) > JUMP) & (np.abs(prints / second - 1) > JUMP)
    was_undone = (np.abs(first / second - 1) > JUMP) & (np.abs(prints / second - 1) < UNDONE)
    before = rolling_sum(lag(was_undone.astype(np.float64), 1, 0.0), MEMORY) > 0
    return _restored(away & before, order, moved)


def is_partial_last(close: NDArray[np.floating], volume: NDArray[np.floating]) -> bool:
    """Whether the last session has far fewer prints, or far less volume, than the twenty before it usually had."""
    prints = np.isfinite(close).sum(axis=1)
    if len(prints) < 3 or np.median(prints[-21:-1]) < ENOUGH_STOCKS:
        return False
    traded = np.nansum(volume[-21:], axis=1)
    few = prints[-1] < FEW_STOCKS * np.median(prints[-21:-1])
    return bool(few or traded[-1] < LITTLE_VOLUME * np.median(traded[:-1]))


def trailing_eligible(close: Array, volume: Array, rule: EligibilityRule) -> Mask:
    """Who belongs to the universe on each session by the rule, from nothing later than its close, `(T, N)`."""
    listed = np.isfinite(close)
    traded = np.where(np.isfinite(volume), close * volume, np.where(listed, 0.0, np.nan))
    enough = np.where(np.isnan(traded), np.nan, (traded >= rule.min_dollar_volume).astype(np.float64))
    count, above = rolling_count(traded, rule.window), rolling_sum(enough, rule.window)
    liquid = 2 * above > count
    for session in np.unique(np.flatnonzero((2 * above == count).any(axis=1))):  # half of them: the two middle ones
        undecided = np.flatnonzero((2 * above[session] == count[session]) & listed[session])
        if len(undecided):
            window = traded[max(0, session - rule.window + 1) : session + 1, undecided]
            liquid[session, undecided] = np.nanmedian(window, axis=0) >= rule.min_dollar_volume
    long_known = np.cumsum(listed, axis=0) - listed >= rule.min_rows
    return listed & (np.nan_to_num(close) >= rule.min_price) & liquid & (count > 0) & long_known


def _prints(close: Array) -> tuple[NDArray[np.int64], Array, Mask]:
    """Each stock's prints moved to the top in their order, the order that did it, and where a print came from."""
    listed = np.isfinite(close)
    order = np.argsort(~listed, axis=0, kind="stable")
    return order, np.take_along_axis(close, order, axis=0), listed


def _restored(values: NDArray, order: NDArray[np.int64], listed: Mask) -> NDArray:
    back = np.empty_like(values)
    np.put_along_axis(back, order, values, axis=0)
    return back & listed if back.dtype == bool else back
