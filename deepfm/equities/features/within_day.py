"""Places and scores within a day: statistics of one session's stocks, of no other session."""

import numpy as np
from numpy.typing import NDArray

from deepfm.errors import DataError

Float = NDArray[np.float32]
Mask = NDArray[np.bool_]
CHUNK = 1 << 19  # values sorted at once


def rank_within_day(values: NDArray, where: Mask) -> Float:
    """Each value's rank among those of its session, in (-1/2, 1/2]; ties share their mean rank.

    Args:
        values: `(T, N)` or `(T, N, K)`.
        where: which stocks take part on a session, `(T, N)`; the others, and missing values, are NaN.
    """
    _check(values, where)
    inside = np.isfinite(values) & (where[..., None] if values.ndim == 3 else where)
    return np.where(inside, place_within_day(values, where), np.float32(np.nan))


def zscore_within_day(values: NDArray, where: Mask) -> Float:
    """Each value minus its session's mean, over the standard deviation; NaN as in `rank_within_day`.

    Where no value differs from another, all are 0.
    """
    _check(values, where)
    inside = np.isfinite(values) & (where[..., None] if values.ndim == 3 else where)
    count = np.maximum(inside.sum(axis=1, keepdims=True), 1)
    wide = np.where(inside, values, 0.0).astype(np.float64)
    apart = np.where(inside, wide - wide.sum(axis=1, keepdims=True) / count, 0.0)
    spread = np.sqrt((apart**2).sum(axis=1, keepdims=True) / count)
    scores = np.where(spread > 1e-12, apart / np.maximum(spread, 1e-12), 0.0)
    return np.where(inside, scores, np.nan).astype(np.float32)


def place_within_day(values: NDArray, where: Mask) -> Float:
    """Where each value would stand among those of its session's `where`, as a rank in (-1/2, 1/2].

    A stock outside `where` is placed among those inside without moving them. NaN is missing, and so is a session
    without one value inside.

    Args:
        values: `(T, N)` or `(T, N, F)`.
        where: `(T, N)`.
    """
    _check(values, where)
    if values.ndim == 2:
        return place_within_day(values[..., None], where)[..., 0]
    sessions, stocks, columns = values.shape
    placed = np.empty(values.shape, dtype=np.float32)
    step = max(1, CHUNK // max(1, stocks * columns))
    for start in range(0, sessions, step):
        part = np.ascontiguousarray(values[start : start + step].transpose(0, 2, 1), dtype=np.float32)
        inside = np.broadcast_to(where[start : start + step, None, :], part.shape)
        placed[start : start + step] = _places(part, inside).transpose(0, 2, 1)
    return placed


def _places(values: Float, inside: Mask) -> Float:
    """Ranks along the last axis among those inside: (below + not above + 1) / 2, over how many there are."""
    missing = ~np.isfinite(values)
    order = np.argsort(np.where(missing, np.float32(np.inf), values), axis=-1)
    ordered = np.take_along_axis(values, order, axis=-1)
    counted = np.cumsum(np.take_along_axis(inside & ~missing, order, axis=-1), axis=-1, dtype=np.int32)
    starts = np.ones(values.shape, dtype=bool)
    starts[..., 1:] = ordered[..., 1:] != ordered[..., :-1]
    ends = np.ones(values.shape, dtype=bool)
    ends[..., :-1] = starts[..., 1:]
    total = counted[..., -1:]
    before = np.zeros_like(counted)
    before[..., 1:] = counted[..., :-1]
    below = np.maximum.accumulate(np.where(starts, before, 0), axis=-1)
    up_to = np.minimum.accumulate(np.where(ends, counted, total)[..., ::-1], axis=-1)[..., ::-1]
    rank = np.minimum((below + up_to + 1) / 2, total) / np.maximum(total, 1) - 0.5
    placed = np.empty(values.shape, dtype=np.float32)
    np.put_along_axis(placed, order, rank.astype(np.float32), axis=-1)
    placed[missing | (total == 0)] = np.nan
    return placed


def _check(values: NDArray, where: Mask) -> None:
    if values.ndim not in (2, 3) or where.shape != values.shape[:2]:
        raise DataError(
            f"values of the shape {values.shape} and where of the shape {where.shape}; expected (T, N) or (T, N, K), "
            "and (T, N)"
        )
