"""Three item-to-item baselines on implicit feedback: they fit `(P,)` likes and score `(N,)` pairs."""

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from deepfm.errors import ConfigError

Integers = NDArray[np.int64]


class Baseline(ABC):
    """Scores of an item for a user: the user's liked items times item-to-item weights."""

    def __init__(self) -> None:
        self._likes: Any = None  # (num_users, num_items) sparse
        self._weights: NDArray[np.float64] = np.zeros((0, 0))

    def fit(self, users: Integers, items: Integers, num_users: int, num_items: int) -> "Baseline":
        """Learn from liked pairs `(P,)`; repeats count once."""
        ones = np.ones(len(users))
        self._likes = sparse.csr_matrix((ones, (users, items)), shape=(num_users, num_items))
        self._likes.data[:] = 1.0
        self._weights = self._item_weights((self._likes.T @ self._likes).toarray())
        return self

    def score(self, users: Integers, items: Integers) -> NDArray[np.float32]:
        """Scores `(N,)`, higher for a better item; they are no probabilities."""
        known, rows = np.unique(users, return_inverse=True)
        return (self._likes[known] @ self._weights)[rows, items].astype(np.float32)

    @abstractmethod
    def _item_weights(self, gram: NDArray[np.float64]) -> NDArray[np.float64]:
        """Weights `(items, items)` from counts of users who liked both."""


class Popularity(Baseline):
    """The number of users who liked an item."""

    def score(self, users: Integers, items: Integers) -> NDArray[np.float32]:
        """The item's count, whoever asks: `(N,)`."""
        return self._weights[items, items].astype(np.float32)

    def _item_weights(self, gram: NDArray[np.float64]) -> NDArray[np.float64]:
        return gram


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

    def _item_weights(self, gram: NDArray[np.float64]) -> NDArray[np.float64]:
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
    """

    def __init__(self, l2: float = 200.0) -> None:
        super().__init__()
        if not 0 < l2 < np.inf:
            raise ConfigError(f"l2 = {l2} is out of range; expected above 0")
        self.l2 = l2

    def _item_weights(self, gram: NDArray[np.float64]) -> NDArray[np.float64]:
        inverse = np.linalg.inv(gram + self.l2 * np.eye(len(gram)))
        weights = inverse / -inverse.diagonal()
        np.fill_diagonal(weights, 0.0)
        return weights
