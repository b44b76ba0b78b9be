"""Pairs of users and items, whose features and histories are gathered on demand.

`InteractionDataset` is for evaluation, with the candidates of a user in one group; `TrainingInteractions` draws its
negatives anew each epoch.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deepfm.data.batches import Features
from deepfm.data.dataset import Rows, TabularDataset, as_tensor, take_rows
from deepfm.data.history import Histories
from deepfm.data.negatives import Candidates, NegativeSampler
from deepfm.engine.memory import require_memory
from deepfm.errors import DataError
from deepfm.utils.seeding import random_stream

ROW_BYTES = 60  # of a training row: user, item and label, and what drawing and shuffling take for a while


class InteractionDataset(TabularDataset):
    """Pairs of a user and an item, with the features of both gathered on demand.

    Args:
        tables: the users' and the items': field → `(num_users, …)` and `(num_items, …)`, encoded.
        users, items: `(N,)` each row's positions in the two tables.
        labels: `(N,)`.
        group_offsets: `(U + 1,)` for an evaluation set: rows `offsets[u]` to `offsets[u + 1]` are the candidates of one
            user, ragged; None for rows without groups.
        histories: behaviour sequence → its histories, one a group of candidates, or one a row without groups.
    """

    def __init__(
        self,
        tables: tuple[Mapping[str, NDArray[Any]], Mapping[str, NDArray[Any]]],
        users: NDArray[np.int64],
        items: NDArray[np.int64],
        labels: NDArray[np.float32],
        group_offsets: NDArray[np.int64] | None = None,
        histories: Mapping[str, Histories] | None = None,
    ) -> None:
        super().__init__({}, labels)
        self.histories = dict(histories or {})
        self.user_table, self.item_table = (
            {name: as_tensor(column) for name, column in table.items()} for table in tables
        )
        self.users, self.items = torch.as_tensor(users), torch.as_tensor(items)
        self._check_rows({"users": self.users, "items": self.items})
        self.group_offsets = group_offsets
        moments = self._num_moments()
        for name, history in self.histories.items():
            if len(history) != moments:
                raise DataError(f"behaviour sequence {name!r} has {len(history)} histories; expected {moments}")

    @classmethod
    def from_candidates(
        cls,
        tables: tuple[Mapping[str, NDArray[Any]], Mapping[str, NDArray[Any]]],
        candidates: Candidates,
        histories: Mapping[str, Histories] | None = None,
    ) -> "InteractionDataset":
        """The evaluation set of some candidates, one group and one history a user.

        Raises:
            DataError: a user or an item that the tables do not have.
        """
        for what, table, positions in zip(("user", "item"), tables, (candidates.users, candidates.items), strict=True):
            rows = len(next(iter(table.values())))
            outside = positions[(positions < 0) | (positions >= rows)]
            if len(outside):
                raise DataError(f"the candidates name {what} number {outside[0]}; expected 0 to {rows - 1}")
        users = np.repeat(candidates.users, candidates.sizes)
        return cls(tables, users, candidates.items, candidates.labels, candidates.offsets, histories)

    def batch(self, rows: Rows) -> tuple[Features, Tensor]:
        """The features `{field: (B, …)}` and labels `(B,)` of rows given by index `(B,)` or slice."""
        features = self.describe(*self.pairs(rows))
        if self.histories:
            moments = self.moments(rows)
            features |= {name: history.latest(moments) for name, history in self.histories.items()}
        return features, take_rows(self.labels, rows)

    def describe(self, users: Tensor, items: Tensor) -> Features:
        """The features `{field: (B, …)}` of pairs of positions `(B,)` in the two tables, without histories."""
        features = {name: table.index_select(0, users) for name, table in self.user_table.items()}
        return features | {name: table.index_select(0, items) for name, table in self.item_table.items()}

    def moments(self, rows: Rows) -> Tensor:
        """Which history `(B,)` belongs to each of some rows: that of its group, or its own."""
        numbers = torch.arange(*rows.indices(len(self)), device=self.device) if isinstance(rows, slice) else rows
        if self.group_offsets is None:
            return numbers
        ends = torch.as_tensor(self.group_offsets[1:], device=self.device)
        return torch.searchsorted(ends, numbers, right=True)

    def pairs(self, rows: Rows) -> tuple[Tensor, Tensor]:
        """The positions `(B,)` of rows' users and items in the two tables."""
        return take_rows(self.users, rows), take_rows(self.items, rows)

    @property
    def num_entities(self) -> int:
        """Users and items in the two tables; 0 where one of them describes nobody."""
        tables = (self.user_table, self.item_table)
        return sum(len(next(iter(table.values()))) for table in tables) if all(tables) else 0

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors."""
        return super().nbytes + sum(history.nbytes for history in self.histories.values())

    def _num_moments(self) -> int:
        return len(self) if self.group_offsets is None else len(self.group_offsets) - 1

    def _stored_column(self, name: str) -> Tensor | None:
        if name in self.histories:
            return self.histories[name].events
        return self.user_table.get(name, self.item_table.get(name))

    def _tensors(self) -> list[Tensor]:
        return [self.labels, self.users, self.items, *self.user_table.values(), *self.item_table.values()]

    def _map_tensors(self, change: Callable[[Tensor], Tensor]) -> None:
        self.labels, self.users, self.items = map(change, (self.labels, self.users, self.items))
        for history in self.histories.values():
            history.map_tensors(change)
        self.user_table = {name: change(column) for name, column in self.user_table.items()}
        self.item_table = {name: change(column) for name, column in self.item_table.items()}


class Blocks(NamedTuple):
    """A batch of P likes, each with its W - 1 negatives: row `p·W` is like p, and the rows after it are its negatives.

    Histories stand once a like: `(P, L)` in `features`, where everything else is `(P·W, …)`.

    Args:
        features: `{field: (P·W, …)}`.
        labels: `(P·W,)`.
        hidden: `(P, W)` negatives that are none, since the user may not be shown them.
        log_q: `(P, W)` the logarithm of the chance with which a row's item is drawn as a negative, where asked for.
    """

    features: Features
    labels: Tensor
    hidden: Tensor
    log_q: Tensor | None = None


class CatalogueBlock(NamedTuple):
    """A batch of P likes whose negatives are all other items that the user may be shown.

    Args:
        features: `{field: (P, …)}` of the likes.
        items: `(P,)` positions of the liked items in the catalogue.
        hidden: `(P, C)` items that are no negatives of a like, itself apart.
        catalogue: `{field: (C, …)}` of every item.
    """

    features: Features
    items: Tensor
    hidden: Tensor
    catalogue: Features


class TrainingInteractions(InteractionDataset):
    """Likes, each followed by its sampled negatives, which `resample` draws anew.

    Row `i` belongs to like `i // (1 + num_negatives)`; the first row of each block is the like itself.

    Args:
        tables: as in `InteractionDataset`.
        users, items: `(P,)` the likes.
        sampler: draws items that may stand as negatives.
        num_negatives: negatives a like.
        seed: with the epoch, all that a draw depends on.
        histories: behaviour sequence → its P histories, one a like, which its negatives share.
    """

    def __init__(
        self,
        tables: tuple[Mapping[str, NDArray[Any]], Mapping[str, NDArray[Any]]],
        users: NDArray[np.int64],
        items: NDArray[np.int64],
        *,
        sampler: NegativeSampler,
        num_negatives: int,
        seed: int,
        histories: Mapping[str, Histories] | None = None,
    ) -> None:
        self.num_negatives, self.sampler, self.seed = num_negatives, sampler, seed
        self._like_users, self._like_items = users, items
        self._excluded_pairs: Tensor | None = None
        self._log_qs: dict[int, Tensor] = {}
        require_memory(
            len(users) * (1 + num_negatives) * ROW_BYTES,
            f"{len(users):,} likes with {num_negatives:,} negatives each",
            "lower data.num_neg_train or take fewer rows",
        )
        block = np.zeros(1 + num_negatives, dtype=np.float32)
        block[0] = 1.0
        labels = np.tile(block, len(users))
        super().__init__(tables, np.repeat(users, len(block)), self._draw(0), labels, histories=histories)

    @property
    def num_likes(self) -> int:
        """P."""
        return len(self._like_users)

    def resample(self, epoch: int) -> None:
        """Draw the negatives of an epoch, a pure function of (seed, epoch)."""
        self.items = torch.as_tensor(self._draw(epoch), device=self.items.device)

    def moments(self, rows: Rows) -> Tensor:
        """Which like `(B,)` each of some rows belongs to, and so which history."""
        numbers = torch.arange(*rows.indices(len(self)), device=self.device) if isinstance(rows, slice) else rows
        return numbers // (1 + self.num_negatives)

    def blocks(self, likes: Tensor, num_in_batch: int = 0, with_log_q: bool = True) -> Blocks:
        """Some likes with their negatives.

        Args:
            likes: `(P,)` numbers of likes.
            num_in_batch: items of the next so many likes of the batch that stand as further negatives of each; those
                that the user may not be shown are hidden.
            with_log_q: whether the chances of being drawn are given.
        """
        device, wide = self.device, 1 + self.num_negatives
        rows = (likes.unsqueeze(1) * wide + torch.arange(wide, device=device)).view(-1)
        users, items = (part.view(-1, wide) for part in self.pairs(rows))
        hidden = torch.zeros(len(likes), wide, dtype=torch.bool, device=device)
        if num_in_batch:
            steps = torch.arange(1, 1 + num_in_batch, device=device)
            others = (torch.arange(len(likes), device=device).unsqueeze(1) + steps) % len(likes)
            borrowed = items[:, 0][others]  # (P, num_in_batch)
            items = torch.cat([items, borrowed], dim=1)
            owners = users[:, :1].expand_as(borrowed)
            taken = self._excluded(owners, borrowed)
            again = (steps >= len(likes)).expand_as(taken)  # a small batch has no more others
            hidden = torch.cat([hidden, taken | again | (borrowed == items[:, :1])], dim=1)
            users = users[:, :1].expand_as(items)
        features = self.describe(users.reshape(-1), items.reshape(-1))
        features |= {name: history.latest(likes) for name, history in self.histories.items()}
        labels = torch.zeros(items.shape, device=device)
        labels[:, 0] = 1.0
        log_q = self._log_q(num_in_batch)[items] if with_log_q else None
        return Blocks(features, labels.view(-1), hidden, log_q)

    def catalogue_block(self, likes: Tensor) -> CatalogueBlock:
        """Some likes `(P,)` against the whole catalogue."""
        users, items = self.pairs(likes * (1 + self.num_negatives))
        features = self.describe(users, items)
        features |= {name: history.latest(likes) for name, history in self.histories.items()}
        catalogue = torch.arange(self.sampler.num_items, device=self.device)
        hidden = self._excluded(users.unsqueeze(1), catalogue)
        return CatalogueBlock(features, items, hidden.scatter_(1, items.unsqueeze(1), False), self.item_table)

    def _excluded(self, users: Tensor, items: Tensor) -> Tensor:
        """Whether the user of each pair may not be shown the item; of any shapes that go together, on the device."""
        if self._excluded_pairs is None or self._excluded_pairs.device != users.device:
            self._excluded_pairs = torch.as_tensor(self.sampler.excluded_pairs, device=users.device)
        keys = users.long() * self.sampler.num_items + items
        places = torch.searchsorted(self._excluded_pairs, keys).clamp_(max=len(self._excluded_pairs) - 1)
        return self._excluded_pairs[places] == keys

    def _log_q(self, num_in_batch: int) -> Tensor:
        """`(C,)` of the mixture from which negatives come: uniform draws, and other likes of the batch."""
        if num_in_batch not in self._log_qs or self._log_qs[num_in_batch].device != self.device:
            self._log_qs = {num_in_batch: self._mixture(num_in_batch)}
        return self._log_qs[num_in_batch]

    def _mixture(self, num_in_batch: int) -> Tensor:
        counts = np.bincount(self._like_items, minlength=self.sampler.num_items) + 1.0  # no item is impossible
        share = num_in_batch / (self.num_negatives + num_in_batch)
        mixture = (1 - share) / self.sampler.num_items + share * counts / counts.sum()
        return torch.as_tensor(np.log(mixture), dtype=torch.float32, device=self.device)

    def _num_moments(self) -> int:
        return self.num_likes

    def _draw(self, epoch: int) -> NDArray[np.int64]:
        rng = random_stream("training negatives", self.seed, epoch)
        negatives = self.sampler.sample(self._like_users, self.num_negatives, rng)
        return np.concatenate([self._like_items[:, None], negatives], axis=1).reshape(-1)
