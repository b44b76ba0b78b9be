"""How sure a number is: bootstrap intervals over users, Newey-West errors over days, paired where two saw the same."""

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


@dataclass(frozen=True)
class SerialMean:
    """The mean of a series whose neighbours are alike, its Newey-West error, and of how many values it is."""

    mean: float
    error: float
    count: int

    def __str__(self) -> str:
        return f"{self.mean:+.4f} (s.e. {self.error:.4f}, t {self.t:+.1f})"

    @property
    def t(self) -> float:
        """The mean in errors; 0 where both are zero, infinite where only the error is."""
        if self.error > 0:
            return self.mean / self.error
        return 0.0 if self.mean == 0 else float(np.copysign(np.inf, self.mean))

    @property
    def interval(self) -> tuple[float, float]:
        """The ends of the 95 % interval, by the normal approximation."""
        return self.mean - 1.96 * self.error, self.mean + 1.96 * self.error


def newey_west_error(series: ArrayLike, lags: int, at: ArrayLike | None = None) -> float:
    """The standard error of the mean of a serially correlated series `(S,)` (Newey and West, 1987, Bartlett kernel).

    The long-run variance is `γ0 + 2 Σ (1 − l / (lags + 1)) γl` over `l = 1 .. lags`, each `γ` a sum over `S`; the error
    is the root of it over `S`. With no lags it is the naive error.

    Args:
        series: the values in time order.
        lags: how many.
        at: when each value was, rising whole numbers `(S,)`, where some are missing between them: only values that are
            `l` apart count for `γl` (Parzen, 1963). Left out, they follow one another.

    Raises:
        DataError: no values, one that is not finite, fewer than no lags, or times that do not rise.
    """
    values = np.asarray(series, dtype=np.float64)
    if values.ndim != 1 or not len(values) or not np.isfinite(values).all():
        raise DataError(f"a Newey-West error needs finite values (S,), at least one; got shape {values.shape}")
    if lags < 0:
        raise DataError(f"a Newey-West error was asked for {lags} lags; expected 0 or more")
    centred = values - values.mean()
    if at is not None:
        times = np.asarray(at, dtype=np.int64)
        if times.shape != values.shape or (np.diff(times) <= 0).any():
            raise DataError("a Newey-West error needs rising times, one for each value")
        centred = np.zeros(times[-1] - times[0] + 1)
        centred[times - times[0]] = values - values.mean()
    variance = centred @ centred
    for lag in range(1, min(lags, len(centred) - 1) + 1):
        variance += 2 * (1 - lag / (lags + 1)) * (centred[lag:] @ centred[:-lag])
    return float(np.sqrt(max(variance, 0.0)) / len(values))


def newey_west(series: ArrayLike, lags: int, at: ArrayLike | None = None) -> SerialMean:
    """The mean of `(S,)` values with its Newey-West error; arguments and errors as in `newey_west_error`."""
    values = np.asarray(series, dtype=np.float64)
    error = newey_west_error(values, lags, at)
    return SerialMean(float(values.mean()), error, len(values))


def paired_newey_west(ours: ArrayLike, theirs: ArrayLike, lags: int) -> SerialMean:
    """The mean difference of two series `(S,)` of the same days, with its Newey-West error.

    Raises:
        DataError: shapes that differ, and as in `newey_west_error`.
    """
    first, second = np.asarray(ours, dtype=np.float64), np.asarray(theirs, dtype=np.float64)
    if first.shape != second.shape:
        raise DataError(f"paired series have shapes {first.shape} and {second.shape}; expected the same days for both")
    return newey_west(first - second, lags)
