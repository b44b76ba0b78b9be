"""What the baselines share: they fit `(P,)` likes, and score items for users at a moment."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from deepfm.errors import ConfigError

Integers = NDArray[np.int64]
NO_ITEM = -1


@dataclass(frozen=True, eq=False)
class Moments:
    """G moments at which a ranking is asked for, and what may be seen of each.

    Args:
        users: `(G,)` who is asked about.
        histories: `(G, L)` the items that they liked before, oldest first, right-aligned, `NO_ITEM` where there is
            none: the last column is of age 0, the one before it of age 1, and so on.
    """

    users: Integers
    histories: Integers

    def __repr__(self) -> str:
        return f"Moments({len(self.users)}, at most {self.histories.shape[1]} likes before each)"

    def decayed_likes(self, half_life: float, num_items: int) -> Any:
        """A sparse matrix `(G, num_items)`: the sum of 0.5^(age / half_life) over the likes of an item."""
        groups, places = np.nonzero(self.histories != NO_ITEM)
        weights = 0.5 ** ((self.histories.shape[1] - 1 - places) / half_life)
        where = groups, self.histories[groups, places]
        return sparse.csr_matrix((weights, where), shape=(len(self.users), num_items))


class Baseline(ABC):
    """Scores of an item for a user: the user's likes times item-to-item weights.

    Args:
        half_life: None to take the user's training likes, each counting 1; else the likes that are visible at the
            moment (a test may see the validation like), one that `half_life` others followed counting a half.
    """

    def __init__(self, half_life: float | None = None) -> None:
        if half_life is not None and not 0 < half_life < np.inf:
            raise ConfigError(f"half_life = {half_life} is out of range; expected above 0, in likes")
        self.half_life = half_life
        self._likes: Any = None  # (num_users, num_items) sparse
        self._weights: NDArray[np.float64] = np.zeros((0, 0))

    @property
    def options(self) -> dict[str, float]:
        """The settings by name, without those that are None."""
        return {name: value for name, value in vars(self).items() if name[0] != "_" and value is not None}

    def fit(self, users: Integers, items: Integers, num_users: int, num_items: int) -> "Baseline":
        """Learn from liked pairs `(P,)`, those of a user oldest first."""
        ones = np.ones(len(users))
        self._likes = sparse.csr_matrix((ones, (users, items)), shape=(num_users, num_items))
        self._likes.data[:] = 1.0
        self._weights = self._item_weights(users, items)
        return self

    def score(self, moments: Moments, groups: Integers, items: Integers) -> NDArray[np.float32]:
        """Scores `(N,)` of items `(N,)`, higher for a better one; they are no probabilities.

        Args:
            groups: `(N,)` the number of the moment at which each item is scored.
        """
        if self.half_life is None:
            likes = self._likes[moments.users]
        else:
            likes = moments.decayed_likes(self.half_life, self._likes.shape[1])
        return (likes @ self._weights)[groups, items].astype(np.float32)

    @abstractmethod
    def _item_weights(self, users: Integers, items: Integers) -> NDArray[np.float64]:
        """Weights `(items, items)` of a liked item (row) for another (column), from liked pairs `(P,)`."""

    def _gram(self) -> NDArray[np.float64]:
        """How many users liked both of two items `(items, items)`; repeats count once."""
        return (self._likes.T @ self._likes).toarray()
