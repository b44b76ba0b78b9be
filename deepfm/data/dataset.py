"""Encoded rows, answered a batch at a time.

`TabularDataset` holds columns; it and what derives from it are map-style datasets that a plain `DataLoader` can batch,
at the speed of one gather a batch.
"""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from deepfm.data.batches import Features, GatheredRows
from deepfm.data.history import Histories
from deepfm.data.schema import DatasetSchema, FeatureType
from deepfm.engine.memory import require_memory
from deepfm.errors import DataError, SchemaError

Rows = Tensor | slice


class TabularDataset(Dataset[tuple[Features, Tensor]]):
    """Rows of encoded features with a label.

    Args:
        features: field → `(N,)` for sparse (integers) and dense (floats) fields, `(N, max_length)` for sequences.
        labels: `(N,)`, kept as float32.
        weights: `(N,)`, how much each row counts in training; None for equally. Metrics count rows equally.

    Raises:
        DataError: columns of different lengths, or a weight that is negative or not finite.

    Example:
        >>> rows = TabularDataset({"user_id": np.array([1, 2])}, np.array([0, 1]))
        >>> rows[1]
        ({'user_id': tensor(2)}, tensor(1.))
    """

    group_offsets: NDArray[np.int64] | None = None  # (U + 1,) where each user's candidates begin and end
    histories: Mapping[str, Histories] = MappingProxyType({})  # behaviour sequences that are not written out per row

    weights: Tensor | None = None
    streams = False  # whether rows come from files, in an order of their own (`deepfm.data.streaming`)

    def __init__(
        self, features: Mapping[str, NDArray[Any]], labels: NDArray[Any], weights: NDArray[Any] | None = None
    ) -> None:
        copied = sum(_copied_bytes(column) for column in features.values())
        require_memory(copied, f"{len(labels):,} rows of {len(features)} fields", "take fewer rows or fields")
        self.labels = torch.as_tensor(np.asarray(labels, dtype=np.float32))
        self.features = {name: as_tensor(column) for name, column in features.items()}
        self._check_rows(self.features)
        if weights is not None:
            self.weights = torch.as_tensor(np.asarray(weights, dtype=np.float32))
            self._check_rows({"weights": self.weights})
            wrong = (~(self.weights >= 0) | self.weights.isinf()).nonzero()
            if len(wrong) or not bool(self.weights.any()):
                value = f"row {int(wrong[0])} has {self.weights[wrong[0]].item()}" if len(wrong) else "all are 0"
                raise DataError(f"{value} among the row weights; expected finite numbers of 0 or more, some above 0")

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
        return {name: take_rows(column, rows) for name, column in self.features.items()}, take_rows(self.labels, rows)

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
            axes = 2 if field.feature_type is FeatureType.SEQUENCE or field.dimension > 1 else 1
            if field.dimension > 1 and column.shape[1:] != (field.dimension,):
                raise SchemaError(
                    f"dense field {field.name!r} has rows of shape {tuple(column.shape[1:])}; expected "
                    f"({field.dimension},), its dimension"
                )
            if field.name in self.histories:
                column = column.unsqueeze(1)
            if column.dim() != axes and not (field.feature_type is FeatureType.DENSE and column.shape[1:] == (1,)):
                raise SchemaError(
                    f"field {field.name!r} has rows of shape {tuple(column.shape[1:])}; expected "
                    f"{'a list of ids' if axes == 2 else 'one value'} a row, as it is {field.feature_type}"
                )
            if field.feature_type is FeatureType.DENSE:
                continue
            if field.is_behaviour and field.name not in self.histories:
                longest = int((column != 0).sum(dim=1).max()) if column.numel() else 0
                if longest > field.max_length:
                    raise SchemaError(
                        f"behaviour sequence {field.name!r} has a history of {longest} events; expected at most "
                        f"{field.max_length}, its max_length: keep the latest, or raise max_length"
                    )
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

    def has_events(self, name: str) -> bool:
        """Whether any history of a behaviour sequence holds an event."""
        if name in self.histories:
            return self.histories[name].num_empty < len(self.histories[name])
        column = self._stored_column(name)
        return column is not None and bool(column.any())

    def _check_rows(self, columns: Mapping[str, Tensor]) -> None:
        for name, column in columns.items():
            if len(column) != len(self.labels):
                raise DataError(
                    f"column {name!r} has {len(column)} rows and the labels have {len(self.labels)}; expected as many"
                )

    def _stored_column(self, name: str) -> Tensor | None:
        return self.features.get(name)

    def _tensors(self) -> list[Tensor]:
        return [self.labels, *self.features.values(), *([] if self.weights is None else [self.weights])]

    def _map_tensors(self, change: Callable[[Tensor], Tensor]) -> None:
        self.labels = change(self.labels)
        self.weights = None if self.weights is None else change(self.weights)
        self.features = {name: change(column) for name, column in self.features.items()}


def take_rows(column: Tensor, rows: Rows) -> Tensor:
    """Some rows of a column."""
    return column[rows] if isinstance(rows, slice) else column.index_select(0, rows)  # a slice is a view


def _copied_bytes(column: NDArray[Any]) -> int:
    """What `as_tensor` takes beyond the column itself: nothing where it keeps it."""
    column = np.asarray(column)
    kept = column.dtype in (np.float32, np.int32, np.int64)
    return 0 if kept else column.size * max(4, min(8, column.itemsize))


def as_tensor(column: NDArray[Any]) -> Tensor:
    """Integers as int32 or int64, as they come, and floats as float32, which every device and embedding takes."""
    column = np.asarray(column)
    if column.dtype.kind == "f":
        return torch.as_tensor(column.astype(np.float32, copy=False))
    narrow = column.dtype.itemsize < 4 or column.dtype == np.int32
    return torch.as_tensor(column.astype(np.int32 if narrow else np.int64, copy=False))
