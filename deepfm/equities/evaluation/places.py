"""Where each stock stands within its day, ties told apart from order."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepfm.errors import DataError

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]
SESSIONS_AT_ONCE = 64  # what stays in the cache


class Places(NamedTuple):
    """The places of a day's values from the lowest, 0, to the highest, `n - 1`.

    Tied values share the places `first` to `last`; both are 0 where nothing is ranked.

    Args:
        first, last: `(S, N)`.
        ranked: where there is a value, `(S, N)`.
    """

    first: NDArray[np.int32]
    last: NDArray[np.int32]
    ranked: Mask

    @property
    def counts(self) -> NDArray[np.int64]:
        """How many stocks each day ranks, `(S,)`."""
        return self.ranked.sum(axis=1)

    @property
    def average(self) -> Floats:
        """The mean of the places that a value shares, `(S, N)`; NaN where nothing is ranked."""
        return np.where(self.ranked, (self.first + self.last) / 2, np.nan)


def places_within_day(values: ArrayLike, where: ArrayLike | None = None) -> Places:
    """The places of values `(S, N)` within each day; `where` `(S, N)` says which stocks take part, NaN never does.

    Raises:
        DataError: shapes that do not fit.
    """
    numbers = np.asarray(values)
    if numbers.ndim != 2:
        raise DataError(f"values to rank within a day have the shape {numbers.shape}; expected (sessions, stocks)")
    ranked = np.isfinite(numbers)
    if where is not None:
        if np.shape(where) != numbers.shape:
            raise DataError(f"where has the shape {np.shape(where)}; expected {numbers.shape}, that of the values")
        ranked = ranked & np.asarray(where, dtype=np.bool_)
    first, last = np.zeros(numbers.shape, np.int32), np.zeros(numbers.shape, np.int32)
    for start in range(0, len(numbers) if numbers.size else 0, SESSIONS_AT_ONCE):
        part = slice(start, start + SESSIONS_AT_ONCE)
        first[part], last[part] = _shared_places(np.where(ranked[part], numbers[part], np.nan))
    first[~ranked] = last[~ranked] = 0
    return Places(first, last, ranked)


def _shared_places(values: NDArray[np.floating]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """The first and the last place of each value's tie along the rows, NaN behind all others."""
    order = np.argsort(values, axis=1)
    ordered = np.take_along_axis(values, order, axis=1)
    at = np.arange(values.shape[1], dtype=np.int32)
    breaks = ordered[:, 1:] != ordered[:, :-1]
    edge = np.ones((len(values), 1), dtype=np.bool_)
    starts = np.where(np.concatenate([edge, breaks], axis=1), at, 0)
    ends = np.where(np.concatenate([breaks, edge], axis=1), at, at[-1])
    first, last = np.empty(values.shape, np.int32), np.empty(values.shape, np.int32)
    np.put_along_axis(first, order, np.maximum.accumulate(starts, axis=1), axis=1)
    np.put_along_axis(last, order, np.minimum.accumulate(ends[:, ::-1], axis=1)[:, ::-1], axis=1)
    return first, last


def blend(scores: Mapping[str, NDArray[np.floating]]) -> NDArray[np.float32]:
    """The rank average of several scores within each day and horizon, from above -1/2 to 1/2.

    Args:
        scores: by method, each `(S, N, K)`.

    Returns:
        The mean of the centred ranks, `(S, N, K)`; NaN where a method has no score.

    Raises:
        DataError: nothing to blend, or shapes that differ.
    """
    arrays = list(scores.values())
    if not arrays:
        raise DataError("there are no scores to blend; expected at least one method's")
    shapes = {name: array.shape for name, array in scores.items()}
    if len(set(shapes.values())) > 1 or arrays[0].ndim != 3:
        raise DataError(f"scores to blend have the shapes {shapes}; expected (sessions, stocks, horizons), all alike")
    shared = np.isfinite(arrays[0])
    for array in arrays[1:]:
        shared = shared & np.isfinite(array)
    blended = np.zeros(shared.shape, dtype=np.float32)
    for array in arrays:
        for at in range(shared.shape[2]):
            places = places_within_day(array[:, :, at], shared[:, :, at])
            counts = np.maximum(places.counts, 1)[:, None]
            blended[:, :, at] += ((places.average + 1) / counts - 0.5) / len(arrays)
    return np.where(shared, blended, np.float32(np.nan))
