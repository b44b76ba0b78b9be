"""What users liked after what: a Markov chain over items whose steps may skip a few likes."""

import numpy as np
from numpy.typing import NDArray

from deepfm.baselines.base import Baseline, Integers
from deepfm.errors import ConfigError

NEGLIGIBLE = 1e-3  # a pair of likes with a smaller weight is left out


class Transitions(Baseline):
    """Item-to-item transitions that decay with the likes between, scored from the latest likes.

    T[a, b] is the sum of exp(-(d - 1) / τ) over all training likes of a that a like of b by the same user follows d
    places later, over the number of likes of b to the power of the damping. An item's score is the sum of
    0.5^(age / half_life) T[h, item] over the visible likes h.

    Args:
        tau: τ, in likes; near 0 only the very next like counts.
        damping: how much a popular target is held back: 0 not at all, 1 as much as it is popular.
        half_life: of a like's weight in the score, in likes that came after it.
    """

    def __init__(self, tau: float = 10.0, damping: float = 0.5, half_life: float = 5.0) -> None:
        super().__init__(half_life)
        if not 0 < tau < np.inf:
            raise ConfigError(f"tau = {tau} is out of range; expected above 0, in likes")
        if not 0 <= damping <= 1:
            raise ConfigError(f"damping = {damping} is out of range; expected 0 to 1")
        self.tau, self.damping = tau, damping

    def _item_weights(self, users: Integers, items: Integers) -> NDArray[np.float64]:
        num_items = self._likes.shape[1]
        popularity = np.bincount(items, minlength=num_items).clip(min=1)
        return decayed_transitions(users, items, num_items, self.tau) / popularity**self.damping


def decayed_transitions(users: Integers, items: Integers, num_items: int, tau: float) -> NDArray[np.float64]:
    """The sums `(num_items, num_items)` of exp(-(d - 1) / τ) over pairs of likes d places apart, earlier one first.

    Args:
        users, items: `(P,)` likes, those of a user oldest first.
        tau: τ; pairs so far apart that they weigh less than `NEGLIGIBLE` are left out.
    """
    order = np.argsort(users, kind="stable")
    users, items = users[order], items[order]
    table = np.zeros((num_items, num_items))
    for distance in range(1, len(users)):
        weight = np.exp(-(distance - 1) / tau)
        same_user = users[distance:] == users[:-distance]
        if weight < NEGLIGIBLE or not same_user.any():
            break
        np.add.at(table, (items[:-distance][same_user], items[distance:][same_user]), weight)
    return table
