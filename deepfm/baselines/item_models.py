"""Three item-to-item baselines on which users liked what, whatever the order."""

import numpy as np
from numpy.typing import NDArray

from deepfm.baselines.base import Baseline, Integers, Moments
from deepfm.errors import ConfigError


class Popularity(Baseline):
    """The number of users who liked an item."""

    def __init__(self) -> None:
        super().__init__()

    def score(self, moments: Moments, groups: Integers, items: Integers) -> NDArray[np.float32]:
        """The item's count, whoever asks: `(N,)`."""
        return self._weights[items, items].astype(np.float32)

    def _item_weights(self, users: Integers, items: Integers) -> NDArray[np.float64]:
        return self._gram()


class ItemKNN(Baseline):
    """Cosine similarity with shrinkage, over the nearest neighbours of each item (Sarwar et al., 2001).

    Args:
        neighbours: kept for each item.
        shrink: added to the denominator, so that rare pairs count less.
    """

    def __init__(self, neighbours: int = 20, shrink: float = 10.0) -> None:
        super().__init__()
        if neighbours < 1:
            raise ConfigError(f"neighbours = {neighbours} is out of range; expected at least 1")
        if not 0 <= shrink < np.inf:
            raise ConfigError(f"shrink = {shrink} is out of range; expected at least 0")
        self.neighbours, self.shrink = neighbours, shrink

    def _item_weights(self, users: Integers, items: Integers) -> NDArray[np.float64]:
        gram = self._gram()
        norms = np.sqrt(gram.diagonal())
        similarity = gram / (np.outer(norms, norms) + self.shrink + np.finfo(np.float64).tiny)
        np.fill_diagonal(similarity, 0.0)
        if self.neighbours < len(similarity):
            cut = np.partition(similarity, -self.neighbours, axis=0)[-self.neighbours]
            similarity[similarity < cut] = 0.0
        return similarity


class EASE(Baseline):
    """A linear auto-encoder in closed form (Steck, 2019, equation 8).

    Args:
        l2: λ of the penalty on the weights.
        half_life: None to score from all training likes alike; else from the visible likes, the latest counting
            most (see `Baseline`). What is fitted is the same.
    """

    def __init__(self, l2: float = 200.0, half_life: float | None = None) -> None:
        super().__init__(half_life)
        if not 0 < l2 < np.inf:
            raise ConfigError(f"l2 = {l2} is out of range; expected above 0")
        self.l2 = l2

    def _item_weights(self, users: Integers, items: Integers) -> NDArray[np.float64]:
        gram = self._gram()
        inverse = np.linalg.inv(gram + self.l2 * np.eye(len(gram)))
        weights = inverse / -inverse.diagonal()
        np.fill_diagonal(weights, 0.0)
        return weights
