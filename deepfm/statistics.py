"""How sure a number is: bootstrap intervals over users, paired where two methods saw the same candidates."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from deepfm.errors import DataError
from deepfm.utils.seeding import random_stream

CHUNK = 500  # resamples held in memory at once


@dataclass(frozen=True)
class Interval:
    """An estimate and the interval that a share `level` of resamples falls into."""

    mean: float
    low: float
    high: float
    level: float

    def __str__(self) -> str:
        return f"{self.mean:+.4f} [{self.low:+.4f}, {self.high:+.4f}]"

    @property
    def excludes_zero(self) -> bool:
        """Whether the whole interval lies on one side of zero."""
        return self.low > 0 or self.high < 0


def bootstrap_mean(values: ArrayLike, *, level: float = 0.95, resamples: int = 10_000, seed: int = 0) -> Interval:
    """The percentile bootstrap of the mean of `(U,)` values, one a user (Efron, 1979).

    Raises:
        DataError: no values, or one that is not finite.
    """
    sample = np.asarray(values, dtype=np.float64)
    if sample.ndim != 1 or not len(sample) or not np.isfinite(sample).all():
        raise DataError(f"a bootstrap needs finite values (U,), at least one; got shape {sample.shape}")
    if resamples < 1 or not 0 < level < 1:
        raise DataError(
            f"resamples = {resamples} and level = {level}; expected at least 1, and a share between 0 and 1"
        )
    rng = random_stream("bootstrap", seed)
    means = np.concatenate(
        [
            sample[rng.integers(len(sample), size=(min(CHUNK, resamples - start), len(sample)))].mean(axis=1)
            for start in range(0, resamples, CHUNK)
        ]
    )
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(sample.mean()), float(low), float(high), level)


def paired_bootstrap(
    ours: ArrayLike, theirs: ArrayLike, *, level: float = 0.95, resamples: int = 10_000, seed: int = 0
) -> Interval:
    """The bootstrap of the mean difference of two methods on the same users: `(U,)` values of each, in one order.

    Raises:
        DataError: shapes that differ, or values that are not finite.
    """
    first, second = np.asarray(ours, dtype=np.float64), np.asarray(theirs, dtype=np.float64)
    if first.shape != second.shape:
        raise DataError(f"paired values have shapes {first.shape} and {second.shape}; expected the same users for both")
    return bootstrap_mean(first - second, level=level, resamples=resamples, seed=seed)
