"""Features brought to one scale before they are probed."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepfm.errors import DataError
from deepfm.model_selection.probes.rows import checked_features


def standardised(features: ArrayLike, groups: ArrayLike | None = None) -> NDArray[np.float64]:
    """Features z-scored per group of dimensions: each column less its mean, over the spread of its group.

    A probe such as LogME changes with the scale of the features, which says nothing of what a model is worth; so probes
    run on these. Within a group the ratio of the columns' spreads stays, so that a column which hardly moves does not
    come to weigh as much as the rest. Constant columns become zeros.

    Args:
        features: `(n, D)`.
        groups: `(D,)`, which group a dimension is of, such as the layer that it came from; None for one group of all.

    Returns:
        `(n, D)` with mean 0 in each column and mean square 1 over each group that is not constant.

    Raises:
        DataError: features that are not finite numbers `(n, D)`, or groups of another length.
    """
    taken = checked_features(features)
    named = np.zeros(taken.shape[1], np.intp) if groups is None else np.unique(groups, return_inverse=True)[1]
    if named.shape != taken.shape[1:]:
        raise DataError(f"groups have shape {named.shape}; expected one for each of {taken.shape[1]} dimensions")
    largest = np.abs(taken).max(axis=0)
    scaled = taken / np.where(largest > 0, largest.max(initial=0.0), 1.0)  # squares of huge values would overflow
    centred = scaled - scaled.mean(axis=0)
    constant = np.ptp(taken, axis=0) <= 1e-12 * largest
    centred[:, constant] = 0.0
    squares = np.bincount(named, (centred**2).mean(axis=0)) / np.bincount(named)
    return centred / np.sqrt(np.where(squares > 0, squares, 1.0))[named]
