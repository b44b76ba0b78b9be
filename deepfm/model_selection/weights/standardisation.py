"""Features on one scale, by constants of the training rows alone."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deepfm.errors import DataError

LIMIT = 10.0  # deviations beyond which a value says no more than that it is far off


@dataclass(frozen=True, eq=False)
class Standardisation:
    """Each feature's mean and deviation, fixed once; never those of what it is applied to.

    Args:
        means: `(W,)`, float32.
        deviations: `(W,)`, float32, above 0; 1 for a feature that was constant.
    """

    means: NDArray[np.float32]
    deviations: NDArray[np.float32]

    @classmethod
    def fit(cls, rows: NDArray[np.floating]) -> "Standardisation":
        """The constants of rows `(n, W)`.

        Raises:
            DataError: there is no row, or a value is not finite.
        """
        if rows.ndim != 2 or not len(rows) or not np.isfinite(rows).all():
            raise DataError(f"standardising needs finite rows (n, W), at least one; got shape {rows.shape}")
        means, deviations = rows.mean(axis=0, dtype=np.float64), rows.std(axis=0, dtype=np.float64)
        constant = deviations <= 1e-6 * np.maximum(1e-3, np.abs(means))  # what rounding leaves of equal values
        return cls(means.astype(np.float32), np.where(constant, 1.0, deviations).astype(np.float32))

    def apply(self, values: NDArray[np.floating]) -> NDArray[np.float32]:
        """`(..., W)` in deviations from the mean, held to ±`LIMIT`.

        Raises:
            DataError: the values have another number of features.
        """
        if values.shape[-1] != len(self.means):
            raise DataError(f"{values.shape[-1]} features do not fit a standardisation of {len(self.means)}")
        scaled = (values.astype(np.float64) - self.means) / self.deviations
        return np.clip(scaled, -LIMIT, LIMIT).astype(np.float32)
