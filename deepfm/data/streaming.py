"""Rows that are read from encoded files a buffer at a time, in an order that is shuffled within and between files."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from deepfm.data.batches import Features
from deepfm.data.dataset import Rows, TabularDataset
from deepfm.data.schema import DatasetSchema
from deepfm.data.store import LABEL, Shard, joined, read_shard
from deepfm.data.tables.rows import EncodedRows
from deepfm.utils.seeding import random_stream

Batch = tuple[Features, Tensor] | tuple[Features, Tensor, Tensor]


class StreamedDataset(TabularDataset):
    """A part of a table in encoded files; of all rows only the labels are held in memory.

    Args:
        shards: the files, in the order of the rows.
        buffer_rows: rows that are shuffled at once; about three times as many are in memory.
    """

    streams = True

    def __init__(self, shards: Sequence[Shard], buffer_rows: int) -> None:
        self.shards, self.buffer_rows = list(shards), buffer_rows
        labels = [read_shard(shard, [LABEL]).labels for shard in self.shards]
        super().__init__(
            {}, np.concatenate([part for part in labels if part is not None] or [np.zeros(0, dtype=np.float32)])
        )
        self._starts = np.cumsum([0, *(shard.rows for shard in self.shards)])
        self._held: tuple[int, TabularDataset] | None = None

    def batch(self, rows: Rows) -> tuple[Features, Tensor]:
        """As in memory; rows in their order are read once, others a file at a time."""
        if isinstance(rows, Tensor):
            wanted = rows.cpu().numpy()
            places = np.searchsorted(self._starts, wanted, side="right") - 1
            parts, order = [], np.argsort(places, kind="stable")
            for place in np.unique(places):
                inside = torch.from_numpy(wanted[order][places[order] == place] - self._starts[place])
                parts.append(self._shard(int(place)).batch(inside))
            back = torch.from_numpy(np.argsort(order))
            features, labels = _stacked(parts)
            return {name: column[back] for name, column in features.items()}, labels[back]
        start, stop, _ = rows.indices(len(self))
        first = int(np.searchsorted(self._starts, start, side="right")) - 1
        last = int(np.searchsorted(self._starts, max(stop, start + 1), side="left"))
        parts = []
        for place in range(first, last):
            low, high = max(start - self._starts[place], 0), min(stop - self._starts[place], self.shards[place].rows)
            parts.append(self._shard(place).batch(slice(int(low), int(high))))
        return _stacked(parts)

    def to(self, device: torch.device | str) -> "StreamedDataset":
        """Nothing moves: batches go to the device as they come."""
        return self

    @property
    def nbytes(self) -> int:
        """What a device would hold: nothing."""
        return 0

    def check(self, schema: DatasetSchema) -> None:
        """Hold every file to the schema, one at a time.

        Raises:
            SchemaError, DataError: as in memory.
        """
        for place in range(len(self.shards)):
            self._shard(place).check(schema)

    def has_events(self, name: str) -> bool:
        """Whether any history of a behaviour sequence holds an event."""
        return any(self._shard(place).has_events(name) for place in range(len(self.shards)))

    def shuffled_batches(self, bounds: Sequence[int], seed: int, epoch: int, start: int = 0) -> Iterator[Batch]:
        """An epoch's batches, every row once, a pure function of (seed, epoch).

        Files come in a shuffled order; so many of them as make a buffer are read together and their rows shuffled.
        The next buffer is read while this one is used.

        Args:
            bounds: where batches begin and end, from 0 to all rows.
            start: the first batch that is wanted; files before it are not read.
        """
        order = random_stream("shard order", seed, epoch).permutation(len(self.shards))
        buffers: list[list[int]] = [[]]
        for place in order.tolist():
            if sum(self.shards[one].rows for one in buffers[-1]) >= self.buffer_rows:
                buffers.append([])
            buffers[-1].append(place)
        ends = np.cumsum([sum(self.shards[place].rows for place in buffer) for buffer in buffers])
        first = int(np.searchsorted(ends, bounds[start], side="right"))
        held: list[tuple[Tensor, ...]] = []
        begin = int(ends[first - 1]) if first else 0  # the number of the first row that is held
        with ThreadPoolExecutor(1) as reader:
            upcoming = reader.submit(self._buffer, buffers, first, seed, epoch) if first < len(buffers) else None
            number = first
            for low, high in pairwise(bounds[start:]):
                while upcoming is not None and begin + sum(len(part[0]) for part in held) < high:
                    held.append(upcoming.result())
                    number += 1
                    upcoming = (
                        reader.submit(self._buffer, buffers, number, seed, epoch) if number < len(buffers) else None
                    )
                while begin + len(held[0][0]) <= low:
                    begin += len(held.pop(0)[0])
                yield self._cut(held, low - begin, high - begin)

    def _buffer(self, buffers: list[list[int]], number: int, seed: int, epoch: int) -> tuple[Tensor, ...]:
        """Labels, weights where there are any, and features of a buffer's rows, shuffled."""
        rows = joined([read_shard(self.shards[place]) for place in buffers[number]])
        self._names, self._weighted = list(rows.features), rows.weights is not None
        assert rows.labels is not None
        order = random_stream("buffer order", seed, epoch, number).permutation(len(rows.labels))
        # By numpy: torch would start OpenMP threads for this thread too, and more threads than cores slow training.
        return tuple(torch.from_numpy(np.take(column, order, axis=0)) for column in _columns(rows))

    def _cut(self, held: list[tuple[Tensor, ...]], low: int, high: int) -> Batch:
        pieces, begin = [], 0
        for part in held:
            end = begin + len(part[0])
            if begin < high and end > low:
                pieces.append([column[max(low - begin, 0) : high - begin] for column in part])
            begin = end
        columns = pieces[0] if len(pieces) == 1 else [torch.cat(group) for group in zip(*pieces, strict=True)]
        features = dict(zip(self._names, columns[1 + self._weighted :], strict=True))
        return (features, columns[0], columns[1]) if self._weighted else (features, columns[0])

    def _shard(self, place: int) -> TabularDataset:
        if self._held is None or self._held[0] != place:
            rows = read_shard(self.shards[place])
            assert rows.labels is not None
            labels, *columns = _columns(EncodedRows(rows.features, rows.labels))
            self._held = place, TabularDataset(dict(zip(rows.features, columns, strict=True)), labels)
        return self._held[1]


def _columns(rows: EncodedRows) -> list[np.ndarray]:
    assert rows.labels is not None
    beside = [rows.labels] if rows.weights is None else [rows.labels, rows.weights]
    return [np.require(column, requirements=["W", "C"]) for column in [*beside, *rows.features.values()]]


def _stacked(parts: list[tuple[Features, Tensor]]) -> tuple[Features, Tensor]:
    if len(parts) == 1:
        return parts[0]
    features = {name: torch.cat([part[0][name] for part in parts]) for name in parts[0][0]}
    return features, torch.cat([part[1] for part in parts])
