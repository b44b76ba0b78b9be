"""What every baseline offers: fit on some sessions, then score any."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from deepfm.equities.features.within_day import rank_within_day
from deepfm.errors import DataError, NotFittedError

Sessions = NDArray[np.integer]
Scores = NDArray[np.float32]
FEATURES_AT_ONCE = 4


class NamedFeatures(Protocol):
    """Features of stocks by session, such as a `FeatureTable`."""

    @property
    def values(self) -> NDArray[np.float32]:
        """The features, `(T, N, F)`; NaN is none."""

    @property
    def names(self) -> Sequence[str]:
        """The `F` features' names."""


@dataclass(frozen=True, eq=False)
class RankedFeatures:
    """Features ranked within each day's universe, in (-1/2, 1/2], `(T, N, F)`; NaN outside it and where unknown."""

    values: NDArray[np.float32]
    names: tuple[str, ...]

    def __post_init__(self) -> None:
        """Check that there is a name for each feature."""
        if self.values.ndim != 3 or self.values.shape[2] != len(self.names):
            raise DataError(
                f"features have the shape {self.values.shape} and {len(self.names)} names; expected "
                "(sessions, stocks, features) and a name each"
            )

    def at(self, sessions: Sessions) -> "RankedFeatures":
        """The features of some sessions."""
        return RankedFeatures(self.values[sessions], self.names)


def rank_features(features: NamedFeatures, where: NDArray[np.bool_]) -> RankedFeatures:
    """Rank features within each day among the stocks of `where` `(T, N)`, a few at a time for the sake of memory."""
    ranked = np.empty_like(features.values)
    for start in range(0, ranked.shape[2], FEATURES_AT_ONCE):
        part = slice(start, start + FEATURES_AT_ONCE)
        ranked[:, :, part] = rank_within_day(features.values[:, :, part], where)
    return RankedFeatures(ranked, tuple(features.names))


class Baseline(ABC):
    """A ranking to beat: `fit(features, targets, sessions)`, then `score(features)`."""

    num_horizons: int | None = None

    def fit(self, features: RankedFeatures, targets: NDArray[np.float32], sessions: Sessions) -> Self:
        """Learn from the given sessions alone.

        Args:
            features: `(T, N, F)`.
            targets: within-day ranks of the forward returns, `(T, N, K)`; NaN where there is none, and outside the
                universe.
            sessions: training indices into `T`.

        Raises:
            DataError: shapes that do not fit, or no session.
        """
        if targets.ndim != 3 or targets.shape[:2] != features.values.shape[:2]:
            raise DataError(
                f"targets have the shape {targets.shape} beside features of {features.values.shape}; expected "
                "(sessions, stocks, horizons)"
            )
        if not len(sessions):
            raise DataError("a baseline was given no session to learn from; expected at least one")
        self.num_horizons = targets.shape[2]
        self._learn(features, targets, sessions)
        return self

    def score(self, features: RankedFeatures) -> Scores:
        """Score stocks, higher is better, `(S, N, K)`; NaN where nothing is known of a stock.

        Raises:
            NotFittedError: `fit` was not called.
        """
        if self.num_horizons is None:
            raise NotFittedError(f"{type(self).__name__} was not fitted; call fit(features, targets, sessions) first")
        return self._score(features, self.num_horizons)

    @abstractmethod
    def _learn(self, features: RankedFeatures, targets: NDArray[np.float32], sessions: Sessions) -> None:
        """Learn, once the shapes are checked."""

    @abstractmethod
    def _score(self, features: RankedFeatures, num_horizons: int) -> Scores:
        """Score, once fitted."""
