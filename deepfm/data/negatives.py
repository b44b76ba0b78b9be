"""Negatives and evaluation candidates: uniform over the items that a user may be shown, without trial and error.

The r-th item that is *not* excluded for a user follows from the user's sorted excluded items e_0 < e_1 < … by
counting those with e_j - j ≤ r; one binary search over all users' keys answers a whole array at once.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deepfm.errors import DataError, RunError
from deepfm.utils.io import load_arrays, save_arrays

Integers = NDArray[np.int64]


class NegativeSampler:
    """Draws items uniformly from those that are not excluded for a user.

    Args:
        users, items: `(P,)` the excluded pairs, as positions 0 … num_users - 1 and 0 … num_items - 1; repeats are fine.
        num_users, num_items: the sizes of the two tables.
    """

    def __init__(self, users: Integers, items: Integers, num_users: int, num_items: int) -> None:
        self.num_items = num_items
        pairs = _distinct(users.astype(np.int64) * num_items + items)
        pair_users, pair_items = np.divmod(pairs, num_items)
        counts = np.bincount(pair_users, minlength=num_users)
        self._offsets = np.concatenate([[0], counts.cumsum()])
        self.num_allowed: Integers = num_items - counts
        """(num_users,) how many items each user may be shown."""
        self._pairs = pairs
        order_in_user = np.arange(len(pairs)) - self._offsets[pair_users]
        self._keys = pair_users * (num_items + 1) + pair_items - order_in_user

    def __repr__(self) -> str:
        return (
            f"NegativeSampler({len(self.num_allowed)} users, {self.num_items} items, {len(self._keys)} pairs excluded)"
        )

    def sample(self, users: Integers, count: int, rng: np.random.Generator) -> Integers:
        """`count` items for each of `users (N,)`, drawn with replacement: `(N, count)`.

        Raises:
            DataError: a user for whom every item is excluded.
        """
        allowed = self.num_allowed[users]
        if len(allowed) and not allowed.min():
            raise self._nothing_left(int(users[int(allowed.argmin())]))
        ranks = (rng.random((len(users), count)) * allowed[:, None]).astype(np.int64)
        return self._select(np.repeat(users, count), ranks.reshape(-1)).reshape(len(users), count)

    def sample_distinct(self, user: int, count: int, rng: np.random.Generator) -> Integers:
        """`count` different items for one user, or all that are allowed where there are fewer.

        Raises:
            DataError: every item is excluded for this user.
        """
        allowed = int(self.num_allowed[user])
        if not allowed:
            raise self._nothing_left(user)
        ranks = rng.choice(allowed, size=min(count, allowed), replace=False)
        return self._select(np.full(len(ranks), user), ranks)

    @property
    def excluded_pairs(self) -> Integers:
        """The excluded pairs as sorted numbers `user · num_items + item`, one at least (-1, where none is excluded)."""
        return self._pairs if len(self._pairs) else np.array([-1])

    def _nothing_left(self, user: int) -> DataError:
        return DataError(
            f"user number {user} has every one of the {self.num_items} items excluded, so no negative can be "
            "drawn; leave this user out or add items"
        )

    def _select(self, users: Integers, ranks: Integers) -> Integers:
        """The `ranks`-th allowed item of each user, both `(N,)`."""
        before = np.searchsorted(self._keys, users * (self.num_items + 1) + ranks, side="right")
        return ranks + before - self._offsets[users]


def _distinct(numbers: Integers) -> Integers:
    """What `np.unique` gives, by one sort, which is several times faster with tens of millions."""
    numbers.sort()
    kept = np.ones(len(numbers), dtype=bool)
    np.not_equal(numbers[1:], numbers[:-1], out=kept[1:])
    return numbers if kept.all() else numbers[kept]


@dataclass(frozen=True)
class Candidates:
    """The rows of an evaluation set: for each user its held-out positives, then its negatives.

    Args:
        users: `(U,)` one a group.
        offsets: `(U + 1,)` where each group's rows begin and end.
        items: `(N,)` the candidates of all groups, one after another.
        labels: `(N,)` float32, 1 for a positive.
    """

    users: Integers
    offsets: Integers
    items: Integers
    labels: NDArray[np.float32]

    def __post_init__(self) -> None:
        """Refuse offsets that do not describe the rows."""
        if (
            len(self.offsets) != len(self.users) + 1
            or len(self.items) != len(self.labels)
            or self.offsets[0] != 0
            or self.offsets[-1] != len(self.items)
            or (np.diff(self.offsets) < 1).any()
        ):
            raise DataError(f"candidates of {len(self.users)} users do not fit their {len(self.items)} rows")

    def __repr__(self) -> str:
        return f"Candidates({len(self.users)} users, {len(self.items)} rows, {int(self.labels.sum())} positives)"

    @property
    def sizes(self) -> Integers:
        """(U,) rows of each group."""
        return np.diff(self.offsets)


def draw_candidates(
    users: Integers,
    positives: Integers,
    sampler: NegativeSampler,
    num_negatives: int,
    rng: np.random.Generator,
) -> Candidates:
    """One group for each distinct user of the held-out pairs: its positives, then distinct negatives.

    Args:
        users, positives: `(P,)` the held-out pairs.
        sampler: excludes whatever a user has rated.
        num_negatives: negatives a user; one with fewer allowed items gets all of them.
    """
    order = np.argsort(users, kind="stable")
    group_users, starts = np.unique(users[order], return_index=True)
    ends = np.append(starts[1:], len(users))
    groups, sorted_positives = [], positives[order]
    for user, start, end in zip(group_users.tolist(), starts, ends, strict=False):
        groups.append((sorted_positives[start:end], sampler.sample_distinct(user, num_negatives, rng)))
    rows = [part for pair in groups for part in pair]
    labels = [np.full(len(part), float(i % 2 == 0), dtype=np.float32) for i, part in enumerate(rows)]
    sizes = np.array([len(own) + len(negatives) for own, negatives in groups], dtype=np.int64)
    empty = np.zeros(0, dtype=np.int64)
    return Candidates(
        users=group_users,
        offsets=np.concatenate([[0], sizes.cumsum()]).astype(np.int64),
        items=np.concatenate([empty, *rows]),
        labels=np.concatenate([empty.astype(np.float32), *labels]),
    )


def save_candidates(sets: Mapping[str, Candidates], path: str | Path) -> None:
    """Write the candidates of each split to one `.npz`."""
    arrays = {f"{split}_{name}": array for split, one in sets.items() for name, array in vars(one).items()}
    save_arrays(path, arrays)


def load_candidates(path: str | Path) -> dict[str, Candidates]:
    """Read what `save_candidates` wrote; nothing in the file is ever unpickled.

    Raises:
        RunError: the file is missing or damaged.
    """
    arrays = load_arrays(path, "candidates file")
    names = ("users", "offsets", "items", "labels")
    try:
        splits = dict.fromkeys(name.rsplit("_", 1)[0] for name in arrays)
        return {split: Candidates(*(arrays[f"{split}_{name}"] for name in names)) for split in splits}
    except (KeyError, DataError) as error:
        raise RunError(f"candidates file {path} holds no candidates ({error}); train again to write it") from error


def candidates_fingerprint(sets: Mapping[str, Candidates]) -> str:
    """A short hash of all candidates: two runs with the same one ranked the same lists."""
    digest = hashlib.sha256()
    for split in sorted(sets):
        for name, array in sorted(vars(sets[split]).items()):
            digest.update(f"{split} {name} {array.shape}".encode())
            digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:16]
