"""Encoded rows, answered a batch at a time.

`TabularDataset` holds columns. `InteractionDataset` holds pairs of users and items and gathers their features on
demand from one table a side, so that nothing is repeated per row; `TrainingInteractions` draws its negatives anew
each epoch. All are map-style datasets that a plain `DataLoader` can batch, at the speed of one gather a batch.
"""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from deepfm.data.batches import Features, GatheredRows
from deepfm.data.history import Histories
from deepfm.data.negatives import Candidates, NegativeSampler
from deepfm.data.schema import DatasetSchema, FeatureType
from deepfm.engine.memory import require_memory
from deepfm.errors import DataError, SchemaError
from deepfm.utils.seeding import random_stream

ROW_BYTES = 60  # of a training row: user, item and label, and what drawing and shuffling take for a while

Rows = Tensor | slice


class TabularDataset(Dataset[tuple[Features, Tensor]]):
    """Rows of encoded features with a label.

    Args:
        features: field → `(N,)` for sparse (integers) and dense (floats) fields, `(N, max_length)` for sequences.
        labels: `(N,)`, kept as float32.

    Raises:
        DataError: columns of different lengths.

    Example:
        >>> rows = TabularDataset({"user_id": np.array([1, 2])}, np.array([0, 1]))
        >>> rows[1]
        ({'user_id': tensor(2)}, tensor(1.))
    """

    group_offsets: NDArray[np.int64] | None = None  # (U + 1,) where each user's candidates begin and end
    histories: Mapping[str, Histories] = MappingProxyType({})  # behaviour sequences that are not written out per row

    def __init__(self, features: Mapping[str, NDArray[Any]], labels: NDArray[Any]) -> None:
        copied = sum(_copied_bytes(column) for column in features.values())
        require_memory(copied, f"{len(labels):,} rows of {len(features)} fields", "take fewer rows or fields")
        self.labels = torch.as_tensor(np.asarray(labels, dtype=np.float32))
        self.features = {name: _tensor(column) for name, column in features.items()}
        self._check_rows(self.features)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self)} rows)"

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Features, Tensor]:
        """One row: field → tensor without the batch axis, and its label."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"row {index} is outside 0 to {len(self) - 1}")
        features, labels = self.batch(torch.tensor([index % len(self)], device=self.labels.device))
        return {name: column[0] for name, column in features.items()}, labels[0]

    def __getitems__(self, indices: Sequence[int]) -> GatheredRows:
        """Many rows at once: a sequence of rows that default collation takes whole."""
        return GatheredRows(*self.batch(torch.as_tensor(indices, dtype=torch.int64, device=self.labels.device)))

    def batch(self, rows: Rows) -> tuple[Features, Tensor]:
        """The features `{field: (B, …)}` and labels `(B,)` of rows given by index `(B,)` or slice."""
        return {name: _take(column, rows) for name, column in self.features.items()}, _take(self.labels, rows)

    def to(self, device: torch.device | str) -> "TabularDataset":
        """Move all tensors to a device, in place."""
        self._map_tensors(lambda tensor: tensor.to(device))
        return self

    @property
    def device(self) -> torch.device:
        """Where the rows are."""
        return self.labels.device

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors."""
        return sum(tensor.nbytes for tensor in self._tensors())

    @property
    def group_ids(self) -> NDArray[np.int64]:
        """(N,) the number of each row's group.

        Raises:
            DataError: the rows have no groups.
        """
        if self.group_offsets is None:
            raise DataError(f"{self!r} has no groups; ranking metrics need one group of candidates a user")
        return np.repeat(np.arange(len(self.group_offsets) - 1), np.diff(self.group_offsets))

    def resample(self, epoch: int) -> None:
        """Draw anew what an epoch's rows depend on; plain rows depend on nothing."""

    def check(self, schema: DatasetSchema) -> None:
        """Hold every stored column to the schema.

        Raises:
            SchemaError: a field is missing, or an id is outside its vocabulary: field, row and value are named.
            DataError: a label outside [0, 1].
        """
        wrong = ((self.labels < 0) | (self.labels > 1) | self.labels.isnan()).nonzero()
        if len(wrong):
            row = int(wrong[0])
            raise DataError(f"label {row} is {self.labels[row].item()}; expected 0 to 1, the probability of a click")
        for field in schema.fields.values():
            column = self._stored_column(field.name)
            if column is None:
                raise SchemaError(f"field {field.name!r} of the schema is not in the data; expected a column for it")
            axes = 2 if field.feature_type is FeatureType.SEQUENCE else 1
            if field.name in self.histories:
                column = column.unsqueeze(1)
            if column.dim() != axes and not (field.feature_type is FeatureType.DENSE and column.shape[1:] == (1,)):
                raise SchemaError(
                    f"field {field.name!r} has rows of shape {tuple(column.shape[1:])}; expected "
                    f"{'a list of ids' if axes == 2 else 'one value'} a row, as it is {field.feature_type}"
                )
            if field.feature_type is FeatureType.DENSE:
                continue
            if column.is_floating_point():
                raise SchemaError(
                    f"field {field.name!r} holds fractions; expected whole numbers, the ids of its vocabulary"
                )
            outside = (column < 0) | (column >= field.vocabulary_size)
            if bool(outside.any()):
                place = outside.nonzero()[0]
                raise SchemaError(
                    f"field {field.name!r} holds id {column[tuple(place)].item()} in row {place[0].item()}; expected 0 "
                    f"to {field.vocabulary_size - 1}, its vocabulary"
                )

    def _check_rows(self, columns: Mapping[str, Tensor]) -> None:
        for name, column in columns.items():
            if len(column) != len(self.labels):
                raise DataError(
                    f"column {name!r} has {len(column)} rows and the labels have {len(self.labels)}; expected as many"
                )

    def _stored_column(self, name: str) -> Tensor | None:
        return self.features.get(name)

    def _tensors(self) -> list[Tensor]:
        return [self.labels, *self.features.values()]

    def _map_tensors(self, change: Callable[[Tensor], Tensor]) -> None:
        self.labels = change(self.labels)
        self.features = {name: change(column) for name, column in self.features.items()}


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
            {name: _tensor(column) for name, column in table.items()} for table in tables
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
        return features, _take(self.labels, rows)

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
        return _take(self.users, rows), _take(self.items, rows)

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
        log_q: `(P, W)` the logarithm of the probability with which a row's item is drawn as a negative.
    """

    features: Features
    labels: Tensor
    hidden: Tensor
    log_q: Tensor


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

    def blocks(self, likes: Tensor, num_in_batch: int = 0) -> Blocks:
        """Some likes with their negatives.

        Args:
            likes: `(P,)` numbers of likes.
            num_in_batch: items of the next so many likes of the batch that stand as further negatives of each; those
                that the user may not be shown are hidden.
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
            excluded = self.sampler.excluded(owners.reshape(-1).cpu().numpy(), borrowed.reshape(-1).cpu().numpy())
            taken = torch.from_numpy(excluded).to(device).view_as(borrowed)
            hidden = torch.cat([hidden, taken | (borrowed == items[:, :1])], dim=1)
            users = users[:, :1].expand_as(items)
        features = self.describe(users.reshape(-1), items.reshape(-1))
        features |= {name: history.latest(likes) for name, history in self.histories.items()}
        labels = torch.zeros(items.shape, device=device)
        labels[:, 0] = 1.0
        return Blocks(features, labels.view(-1), hidden, self._log_q(num_in_batch)[items])

    def catalogue_block(self, likes: Tensor) -> CatalogueBlock:
        """Some likes `(P,)` against the whole catalogue."""
        users, items = self.pairs(likes * (1 + self.num_negatives))
        features = self.describe(users, items)
        features |= {name: history.latest(likes) for name, history in self.histories.items()}
        hidden = torch.from_numpy(self.sampler.excluded_mask(users.cpu().numpy())).to(self.device)
        return CatalogueBlock(features, items, hidden.scatter_(1, items.unsqueeze(1), False), self.item_table)

    def _log_q(self, num_in_batch: int) -> Tensor:
        """`(C,)` of the mixture from which negatives come: uniform draws, and other likes of the batch."""
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


def _take(column: Tensor, rows: Rows) -> Tensor:
    return column[rows] if isinstance(rows, slice) else column.index_select(0, rows)  # a slice is a view


def _copied_bytes(column: NDArray[Any]) -> int:
    """What `_tensor` takes beyond the column itself: nothing where it keeps it."""
    column = np.asarray(column)
    kept = column.dtype in (np.float32, np.int32, np.int64)
    return 0 if kept else column.size * max(4, min(8, column.itemsize))


def _tensor(column: NDArray[Any]) -> Tensor:
    """Integers as int32 or int64, as they come, and floats as float32, which every device and embedding takes."""
    column = np.asarray(column)
    if column.dtype.kind == "f":
        return torch.as_tensor(column.astype(np.float32, copy=False))
    narrow = column.dtype.itemsize < 4 or column.dtype == np.int32
    return torch.as_tensor(column.astype(np.int32 if narrow else np.int64, copy=False))
