"""LEEP: how well labels follow from a model's own source classes, weighted by their probabilities."""

import numpy as np
from numpy.typing import ArrayLike

from deepfm.model_selection.probes.source import checked_source


def leep(source_probabilities: ArrayLike, labels: ArrayLike) -> float:
    """The mean log of Σ_z P(y|z) θ(x)_z, P(y|z) being the empirical one; at most 0 (Nguyen et al., 2020, equation 2).

    Args:
        source_probabilities: `(n, Z)`, what the model's own head says of each row.
        labels: `(n,)`, classes.

    Raises:
        DataError: as `checked_source` does.
    """
    shares, classes = checked_source(source_probabilities, labels)
    joint = np.eye(classes.max() + 1)[classes].T @ shares / len(shares)  # (K, Z)
    source = joint.sum(axis=0)
    conditional = joint / np.where(source > 0, source, 1.0)
    return float(np.log((conditional[classes] * shares).sum(axis=1)).mean())
