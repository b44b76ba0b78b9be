"""A number per day, summed up: its mean, how sure that is, and how it went year by year."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from deepfm.equities.evaluation.places import Floats
from deepfm.errors import DataError
from deepfm.statistics import SerialMean, newey_west, paired_newey_west

LEAST_LAGS = 5


def newey_west_lags(horizon: int) -> int:
    """How many sessions the daily values of overlapping labels hang together: `max(horizon − 1, 5)`."""
    return max(horizon - 1, LEAST_LAGS)


@dataclass(frozen=True)
class YearlyMean:
    """One calendar year of a daily number."""

    year: int
    mean: float
    error: float
    days: int


@dataclass(frozen=True)
class DailySummary:
    """What a daily number comes to.

    Args:
        mean: over the days that have a value; NaN without any.
        deviation: the standard deviation of the days.
        error: the Newey-West error of the mean.
        positive_share: the share of days above zero.
        days: how many days have a value.
        skipped: how many have none, because too few stocks have both a score and a return.
        years: each calendar year apart.
    """

    mean: float
    deviation: float
    error: float
    positive_share: float
    days: int
    skipped: int
    years: tuple[YearlyMean, ...] = field(default=())

    @property
    def ratio(self) -> float:
        """The mean by the deviation of the days, not annualised: the ICIR of an information coefficient."""
        return self.mean / self.deviation if self.deviation > 0 else float("nan")

    @property
    def t(self) -> float:
        """The mean in Newey-West errors."""
        return SerialMean(self.mean, self.error, self.days).t

    @property
    def interval(self) -> tuple[float, float]:
        """The ends of the 95 % interval of the mean."""
        return SerialMean(self.mean, self.error, self.days).interval


def summarise_days(daily: Floats, dates: NDArray[np.datetime64], horizon: int) -> DailySummary:
    """Sum up a daily series `(S,)`, NaN where a day was skipped, on its dates `(S,)`.

    Raises:
        DataError: as many dates as values are needed.
    """
    if daily.shape != dates.shape or daily.ndim != 1:
        raise DataError(f"a daily series has the shape {daily.shape} and {dates.shape} dates; expected one date each")
    known = np.isfinite(daily)
    values, years = daily[known], dates[known].astype("datetime64[Y]").astype(int) + 1970
    if not len(values):
        return DailySummary(np.nan, np.nan, np.nan, np.nan, 0, len(daily))
    lags = newey_west_lags(horizon)
    whole = newey_west(values, lags)
    apart = tuple(
        YearlyMean(int(year), found.mean, found.error, found.count)
        for year in np.unique(years)
        for found in [newey_west(values[years == year], lags)]
    )
    deviation = float(values.std(ddof=1)) if len(values) > 1 else 0.0
    return DailySummary(
        whole.mean, deviation, whole.error, float((values > 0).mean()), len(values), int((~known).sum()), apart
    )


def paired_difference(ours: Floats, theirs: Floats, horizon: int) -> SerialMean:
    """The mean difference of two daily series `(S,)` over the days that both have, with its Newey-West error.

    Raises:
        DataError: shapes that differ, or no day in common.
    """
    if ours.shape != theirs.shape:
        raise DataError(f"paired series have shapes {ours.shape} and {theirs.shape}; expected the same days for both")
    both = np.isfinite(ours) & np.isfinite(theirs)
    if not both.any():
        raise DataError(
            "two methods have no day in common, so they cannot be paired; score the same sessions with both"
        )
    return paired_newey_west(ours[both], theirs[both], newey_west_lags(horizon))
