"""Nearest neighbours: how often a row has the class of the other rows that a model puts beside it."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepfm.errors import DataError
from deepfm.model_selection.probes.rows import ProbeRows

CHUNK = 1024  # rows whose distances to all others are held at once
TIED = 1e-10  # distances that differ by less, in units of the largest, are one


def neighbour_accuracy(features: ArrayLike, labels: ArrayLike, *, neighbours: int = 1) -> float:
    """Accuracy of a vote of the k nearest other rows, each row left out in turn.

    Rows at the same distance share the places that are left for them, and classes with the same votes share the row,
    so that the order of the rows decides nothing.

    Args:
        features: `(n, D)`, compared by Euclidean distance.
        labels: `(n,)`, classes.
        neighbours: k, of at most n - 1.

    Raises:
        DataError: as `ProbeRows.of` does, or a k out of range.
    """
    return neighbour_accuracy_of_rows(ProbeRows.of(features, labels), neighbours)


def neighbour_accuracy_of_rows(rows: ProbeRows, neighbours: int = 1) -> float:
    """`neighbour_accuracy` of rows that were checked."""
    count = len(rows.features)
    if not 1 <= neighbours < count:
        raise DataError(f"neighbours = {neighbours}; expected from 1 to {count - 1}, the other rows")
    centred = rows.features - rows.features.mean(axis=0)
    squares = (centred**2).sum(axis=1)
    right = 0.0
    for start in range(0, count, CHUNK):
        part = slice(start, min(start + CHUNK, count))
        distances = squares[part, None] + squares - 2 * centred[part] @ centred.T  # (chunk, n)
        distances[np.arange(part.stop - start), np.arange(start, part.stop)] = np.inf
        votes = _votes(distances, TIED * squares.max(), neighbours) @ rows.indicators  # (chunk, K)
        right += _credit(votes, rows.classes[part], shared=neighbours == 1).sum()
    return right / count


def _votes(distances: NDArray[np.float64], close: float, neighbours: int) -> NDArray[np.float64]:
    """What each row's vote weighs, k in all: `(chunk, n)`."""
    last = np.partition(distances, neighbours - 1, axis=1)[:, neighbours - 1, None]
    nearer = distances < last - close
    tied = ~nearer & (distances <= last + close)
    left = neighbours - nearer.sum(axis=1, keepdims=True)
    shared: NDArray[np.float64] = nearer + tied * (left / tied.sum(axis=1, keepdims=True))
    return shared


def _credit(votes: NDArray[np.float64], classes: NDArray[np.intp], *, shared: bool) -> NDArray[np.float64]:
    """How right each vote is, from 0 to 1; one neighbour's tied places are drawn, those of more are put to the vote."""
    of_own = votes[np.arange(len(votes)), classes]
    if shared:
        return of_own
    most = votes.max(axis=1)
    first = votes >= most[:, None] - 1e-9
    return np.where(of_own >= most - 1e-9, 1.0 / first.sum(axis=1), 0.0)
