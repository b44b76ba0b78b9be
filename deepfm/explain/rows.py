"""Validation rows written out: a seeded sample, whose columns can be exchanged one by one."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deepfm.data.batches import Features
from deepfm.data.dataset import Rows, TabularDataset, take_rows
from deepfm.data.history import Histories
from deepfm.data.interactions import InteractionDataset
from deepfm.utils.seeding import random_stream


class RowTable(TabularDataset):
    """Encoded rows in memory, whose candidates of one group share a history.

    Args:
        features: field → `(N, …)`, on any device.
        labels: `(N,)`.
        group_offsets: `(U + 1,)` where each user's candidates begin and end; None for rows without groups.
        histories: behaviour sequence → its U histories, one a group.
    """

    def __init__(
        self,
        features: Features,
        labels: Tensor,
        group_offsets: NDArray[np.int64] | None = None,
        histories: Mapping[str, Histories] | None = None,
    ) -> None:
        super().__init__({}, np.zeros(0))
        self.features, self.labels = dict(features), labels
        self.group_offsets, self.histories = group_offsets, dict(histories or {})
        self._groups = None if group_offsets is None else torch.as_tensor(self.group_ids, device=labels.device)

    def batch(self, rows: Rows) -> tuple[Features, Tensor]:
        """As any data set's; a history stands once for the rows that share it, where all share alike."""
        features, labels = super().batch(rows)
        if self.histories and self._groups is not None:
            groups = take_rows(self._groups, rows)
            shared, copies = torch.unique_consecutive(groups, return_counts=True)
            moments = shared if len(copies) and bool((copies == copies[0]).all()) else groups
            features |= {name: history.latest(moments) for name, history in self.histories.items()}
        return features, labels

    def exchanged(self, columns: Features, histories: Mapping[str, Histories] | None = None) -> "RowTable":
        """The same rows with other values in some fields."""
        return RowTable(
            self.features | columns, self.labels, self.group_offsets, {**self.histories, **(histories or {})}
        )

    @property
    def first_rows(self) -> Tensor:
        """The first row `(U,)` of each group; every row where there are no groups."""
        starts = np.arange(len(self)) if self.group_offsets is None else self.group_offsets[:-1]
        return torch.as_tensor(starts, device=self.device)

    def is_shared(self, name: str) -> bool:
        """Whether all candidates of each group have one value of a field, as they have of their user's fields."""
        if name in self.histories:
            return True
        if self._groups is None:
            return False
        column = self.features[name]
        return bool((column == column.index_select(0, self.first_rows.index_select(0, self._groups))).all())


@dataclass(frozen=True)
class Sample:
    """Which validation rows were looked at.

    Args:
        rows: how many.
        of_rows: how many there are.
        groups: users whose candidates they are, each with all of them; 0 without groups.
        of_groups: users that there are.
        seed: what the choice depends on.
    """

    rows: int
    of_rows: int
    groups: int
    of_groups: int
    seed: int

    @property
    def whole(self) -> bool:
        """Whether nothing was left out."""
        return self.rows == self.of_rows

    def __str__(self) -> str:
        if self.groups:
            chosen = f"all candidates of {self.groups:,} of {self.of_groups:,} users"
            every = f"all candidates of all {self.of_groups:,} users"
        else:
            chosen, every = f"{self.rows:,} of {self.of_rows:,} rows", f"all {self.of_rows:,} rows"
        return f"{every} of validation" if self.whole else f"{chosen} of validation, chosen by seed {self.seed}"


def sample_rows(dataset: TabularDataset, rows: int, seed: int) -> tuple[RowTable, Sample]:
    """About so many rows of a data set, in their order: whole groups where there are such, at least one.

    Args:
        rows: how many rows to take at most, or a group's more.
    """
    offsets = dataset.group_offsets
    units = len(dataset) if offsets is None else len(offsets) - 1
    wanted = rows if offsets is None else max(1, rows * units // len(dataset))
    chosen = np.arange(units)
    if wanted < units:
        chosen = np.sort(random_stream("explained rows", seed).choice(units, wanted, replace=False))
    if offsets is None:
        table = _written(dataset, torch.from_numpy(chosen), None)
        return table, Sample(len(table), len(dataset), 0, 0, seed)
    sizes = np.diff(offsets)[chosen]
    ends = np.concatenate([[0], sizes.cumsum()])
    numbers = np.arange(ends[-1]) + np.repeat(offsets[:-1][chosen] - ends[:-1], sizes)
    table = _written(dataset, torch.from_numpy(numbers), ends, torch.from_numpy(chosen))
    return table, Sample(len(table), len(dataset), len(chosen), units, seed)


def rows_of(dataset: TabularDataset, numbers: list[int]) -> RowTable:
    """Some rows by their numbers, each with its history for itself."""
    return _written(dataset, torch.tensor(numbers), None)


def _written(
    dataset: TabularDataset, numbers: Tensor, offsets: NDArray[np.int64] | None, groups: Tensor | None = None
) -> RowTable:
    numbers = numbers.to(dataset.device)
    if groups is None or not isinstance(dataset, InteractionDataset):
        features, labels = dataset.batch(numbers)
        return RowTable(features, labels, offsets)
    features = dataset.describe(*dataset.pairs(numbers))
    moments = groups.to(dataset.device)
    histories = {name: history.select(moments) for name, history in dataset.histories.items()}
    return RowTable(features, take_rows(dataset.labels, numbers), offsets, histories)
