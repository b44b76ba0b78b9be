"""Baselines that learn nothing: one feature, one sign, or chance."""

import numpy as np
from numpy.typing import NDArray

from deepfm.equities.baselines.base import Baseline, RankedFeatures, Scores, Sessions
from deepfm.errors import DataError


class Rule(Baseline):
    """Rank by one feature, the same for every horizon.

    Args:
        feature: its name.
        sign: +1 where high values are to be bought (momentum), -1 where low ones are (reversal).
    """

    def __init__(self, feature: str, sign: int = 1) -> None:
        self.feature = feature
        self.sign = sign

    def __repr__(self) -> str:
        return f"Rule({self.feature!r}, sign={self.sign:+d})"

    def _learn(self, features: RankedFeatures, targets: NDArray[np.float32], sessions: Sessions) -> None:
        if self.feature not in features.names:
            raise DataError(f"no feature is called {self.feature!r}; expected one of {', '.join(features.names)}")

    def _score(self, features: RankedFeatures, num_horizons: int) -> Scores:
        column = self.sign * features.values[:, :, features.names.index(self.feature)]
        return np.repeat(column[:, :, None], num_horizons, axis=2)


class RandomScores(Baseline):
    """Chance: scores from a generator that is passed in, for whoever has a feature."""

    def __init__(self, generator: np.random.Generator) -> None:
        self.generator = generator

    def _learn(self, features: RankedFeatures, targets: NDArray[np.float32], sessions: Sessions) -> None:
        """There is nothing to learn."""

    def _score(self, features: RankedFeatures, num_horizons: int) -> Scores:
        known = np.asarray(np.isfinite(features.values).any(axis=2))
        drawn = self.generator.random((*known.shape, num_horizons), dtype=np.float32)
        return np.where(known[:, :, None], drawn, np.float32(np.nan))
