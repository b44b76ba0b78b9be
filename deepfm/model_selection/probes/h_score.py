"""H-score: how far class means lie apart, measured by the spread of all features."""

import numpy as np
from numpy.typing import ArrayLike

from deepfm.errors import DataError
from deepfm.model_selection.probes.rows import ProbeRows


def h_score(features: ArrayLike, labels: ArrayLike, *, shrinkage: float | None = None) -> float:
    """tr(cov(f)⁻¹ cov(E[f|y])), from 0 to the number of classes less one (Bao et al., 2019, definition 2).

    The default is the regularised H-score of Ibrahim et al. (2022, section 3): the covariance is shrunk to a multiple
    of the identity as Ledoit and Wolf (2004) say, and the class means with it, which holds where there are fewer rows
    than dimensions. Features that are multiplied by a number or rotated score the same.

    Args:
        features: `(n, D)`; the mean is taken off.
        labels: `(n,)`, classes.
        shrinkage: from 0, the plain H-score with a pseudo-inverse, to 1; None for Ledoit and Wolf's.

    Raises:
        DataError: as `ProbeRows.of` does, or a shrinkage out of range.
    """
    if shrinkage is not None and not 0 <= shrinkage <= 1:
        raise DataError(f"shrinkage = {shrinkage}; expected a share from 0 to 1, or None for Ledoit and Wolf's")
    return h_score_of_rows(ProbeRows.of(features, labels), shrinkage)


def h_score_of_rows(rows: ProbeRows, shrinkage: float | None = None) -> float:
    """`h_score` of rows that were checked; 0 for constant features."""
    parts = rows.centred
    if not len(parts.singular):
        return 0.0
    rotated = parts.left * parts.singular  # (n, r): the centred features in the axes of their covariance
    variances = parts.singular**2 / len(rotated)  # (r,); the covariance is diagonal here
    means = rows.indicators.T @ rotated / rows.sizes[:, None]  # (K, r)
    between = (rows.sizes[:, None] * means**2).sum(axis=0) / len(rotated)
    average = variances.sum() / parts.width
    share = ledoit_wolf_shrinkage(rotated, variances, parts.width) if shrinkage is None else shrinkage
    return float((1 - share) * (between / ((1 - share) * variances + share * average)).sum())


def ledoit_wolf_shrinkage(rotated: np.ndarray, variances: np.ndarray, width: int) -> float:
    """The share of the identity that is best for the covariance of centred rows (Ledoit and Wolf, 2004, lemma 3.4).

    Args:
        rotated: `(n, r)`, centred rows in the axes of their covariance.
        variances: `(r,)`, along these axes.
        width: D, of which `D - r` axes have no variance.
    """
    squared = (variances**2).sum()
    distance = squared - variances.sum() ** 2 / width  # ‖S − μI‖²
    noise = ((rotated**2).sum(axis=1) ** 2).sum() / len(rotated) ** 2 - squared / len(rotated)
    return float(np.clip(noise / distance, 0.0, 1.0)) if distance > 1e-12 * squared else 0.0
