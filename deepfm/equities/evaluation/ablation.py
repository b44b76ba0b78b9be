"""What a part of the network brings: the whole network less the one with that part the other way, day by day."""

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepfm.equities.evaluation.daily_summary import newey_west_lags
from deepfm.equities.evaluation.places import Floats
from deepfm.statistics import SerialMean, newey_west

SURE = 2.0  # errors from zero


@dataclass(frozen=True)
class PartDifference:
    """One part of the network the other way, at one horizon, beside the whole network on the same days.

    Args:
        part: such as "graph".
        state: what the part is in this arm: "off", "on", or a normalisation's kind.
        horizon: in sessions.
        runs: the folds that are compared, each with the seeds of the trainings on either side.
        whole: the mean daily RankIC of the whole network.
        arm: that of the network with the part the other way.
        difference: the whole less the arm, over the days that both have.
        seed_deviation: how much the whole network's mean RankIC on these folds deviates from seed to seed; None where
            it was trained with one.
    """

    part: str
    state: str
    horizon: int
    runs: tuple[tuple[str, tuple[int, ...]], ...]
    whole: SerialMean
    arm: SerialMean
    difference: SerialMean
    seed_deviation: float | None = None

    @property
    def name(self) -> str:
        """The arm in a word or two."""
        return f"{self.part} {self.state}"

    @property
    def luck(self) -> float | None:
        """How much a difference of two such means deviates where nothing but the seeds differs; None if unknown."""
        if self.seed_deviation is None:
            return None
        return self.seed_deviation * math.sqrt(2 / min(len(seeds) for _, seeds in self.runs))

    @property
    def told_apart(self) -> bool:
        """Whether the difference is beyond two errors, those of days and, where it is known, of luck together."""
        return abs(self.difference.mean) >= SURE * math.hypot(self.difference.error, self.luck or 0.0)

    def to_dict(self) -> dict[str, Any]:
        """As plain values."""
        parts = {name: getattr(self, name) for name in ("whole", "arm", "difference")}
        means = {
            name: {**dataclasses.asdict(found), "t": found.t, "interval": found.interval}
            for name, found in parts.items()
        }
        return {**dataclasses.asdict(self), **means, "told_apart": self.told_apart}


def compare_means(
    whole: Floats, arm: Floats, horizon: int, sessions: NDArray[np.int64]
) -> tuple[SerialMean, SerialMean, SerialMean]:
    """The means of two daily series `(S,)` over the days that both have, and of the first less the second.

    Args:
        whole, arm: the series.
        horizon: in sessions, of what they measure.
        sessions: the number of each day in the calendar `(S,)`, rising: folds need not follow one another.

    Raises:
        DataError: no day in common.
    """
    both, lags = np.isfinite(whole) & np.isfinite(arm), newey_west_lags(horizon)
    first, second, third = (newey_west(one[both], lags, sessions[both]) for one in (whole, arm, whole - arm))
    return first, second, third
