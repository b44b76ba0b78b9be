"""Rows that are already a batch, for torch's own `DataLoader`."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data._utils.collate import default_collate_fn_map

Features = dict[str, Tensor]


class GatheredRows(Sequence[Any]):
    """Rows of one batch: a sequence of `(features, label)` that `default_collate` returns without copying."""

    def __init__(self, features: Features, labels: Tensor) -> None:
        self.features, self.labels = features, labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: Any) -> Any:
        return _Row(({name: column[index] for name, column in self.features.items()}, self.labels[index]))

    def __iter__(self) -> Iterator[Any]:
        return (self[index] for index in range(len(self)))


class _Row(tuple[Features, Tensor]):
    """A row whose type tells default collation that its batch is already gathered."""


def _collate_gathered(batch: Any, **_: Any) -> Any:
    if isinstance(batch, GatheredRows):
        return batch.features, batch.labels
    return torch.utils.data.default_collate([tuple(row) for row in batch])


# The documented way to teach torch's default collation a type.
default_collate_fn_map[_Row] = _collate_gathered
