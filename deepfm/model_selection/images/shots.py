"""Shots: a few rows of each class to learn from, the rest to judge by."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepfm.errors import DataError


def split_shots(labels: ArrayLike, shots: int, rng: np.random.Generator) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Draw `shots` rows, stratified: each class has its share of them, and one at least.

    Args:
        labels: `(n,)`, classes.
        shots: how many rows to draw in all.
        rng: what draws; the same generator draws the same rows.

    Returns:
        The places of the shots and of the rest, each rising.

    Raises:
        DataError: fewer shots than classes, or more than rows.
    """
    taken = np.asarray(labels)
    names, classes, sizes = np.unique(taken, return_inverse=True, return_counts=True)
    if not len(names) <= shots <= len(taken):
        raise DataError(
            f"shots = {shots}; expected from {len(names)}, one a class, to {len(taken)}, all rows of the data set"
        )
    share = sizes * shots / len(taken)
    counts = np.maximum(np.floor(share).astype(int), 1)
    while counts.sum() != shots:
        change = 1 if counts.sum() < shots else -1
        owed = np.where((counts < sizes) if change > 0 else (counts > 1), change * (share - counts), -np.inf)
        counts[owed.argmax()] += change
    drawn = [rng.permutation(np.flatnonzero(classes == each))[:count] for each, count in enumerate(counts)]
    chosen = np.zeros(len(taken), bool)
    chosen[np.concatenate(drawn)] = True
    return np.flatnonzero(chosen), np.flatnonzero(~chosen)
