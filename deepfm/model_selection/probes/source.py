"""What a model says of a data set's rows in the classes that it was pre-trained on."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepfm.errors import DataError
from deepfm.model_selection.probes.rows import checked_classes


def checked_source(source_probabilities: ArrayLike, labels: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """Probabilities `(n, Z)` of source classes, and classes `(n,)` of the data set.

    Raises:
        DataError: shapes that do not fit, values that are no probabilities, or labels as `checked_classes` says.
    """
    taken = np.asarray(source_probabilities, dtype=np.float64)
    if taken.ndim != 2 or taken.shape[0] < 2 or not taken.shape[1]:
        raise DataError(f"source probabilities have shape {taken.shape}; expected (rows, source classes)")
    sums = taken.sum(axis=1)
    if not ((taken >= 0).all() and (np.abs(sums - 1) < 1e-3).all()):
        row = np.flatnonzero(~((taken >= 0).all(axis=1) & (np.abs(sums - 1) < 1e-3)))[0]
        raise DataError(
            f"source probabilities of row {row} sum to {sums[row]:.4g} with a smallest of {taken[row].min():.4g}; "
            "expected shares that sum to 1; apply softmax to the logits of the source head"
        )
    return taken / sums[:, None], checked_classes(labels, len(taken))
