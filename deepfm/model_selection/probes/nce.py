"""NCE: how well labels follow from the source class that a model takes a row for."""

import numpy as np
from numpy.typing import ArrayLike

from deepfm.model_selection.probes.source import checked_source


def nce(source_probabilities: ArrayLike, labels: ArrayLike) -> float:
    """The negative conditional entropy −H(Y|Z) in nats, Z the most likely source class (Tran et al., 2019, equation 4).

    Args:
        source_probabilities: `(n, Z)`, what the model's own head says of each row.
        labels: `(n,)`, classes.

    Raises:
        DataError: as `checked_source` does.
    """
    shares, classes = checked_source(source_probabilities, labels)
    joint = np.zeros((classes.max() + 1, shares.shape[1]))
    np.add.at(joint, (classes, shares.argmax(axis=1)), 1 / len(shares))
    conditional = joint / np.maximum(joint.sum(axis=0), np.finfo(np.float64).tiny)
    return float((joint * np.log(np.where(joint > 0, conditional, 1.0))).sum())
