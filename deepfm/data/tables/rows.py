"""Rows of a table on their way: read a batch at a time, encoded as arrays."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from deepfm.data.tables.columns import Where
from deepfm.data.tables.files import reading
from deepfm.errors import DataError

AnyFrame = pl.LazyFrame | pl.DataFrame
BATCH_ROWS = 262_144  # rows that are fitted or encoded at once


@dataclass(frozen=True, eq=False)
class EncodedRows:
    """Rows of a table as arrays.

    Args:
        features: ids `(N,)` or `(N, max_length)` int32, numbers `(N,)` or `(N, K)` float32.
        labels: `(N,)` float32; None where they were not asked for.
        weights: `(N,)` float32 with mean 1 over the training rows; None without a weight column.
    """

    features: dict[str, NDArray[Any]]
    labels: NDArray[np.float32] | None = None
    weights: NDArray[np.float32] | None = None

    def where(self, chosen: NDArray[np.bool_]) -> "EncodedRows":
        """The rows for which `chosen` `(N,)` is true."""
        return EncodedRows(
            {name: column[chosen] for name, column in self.features.items()},
            None if self.labels is None else self.labels[chosen],
            None if self.weights is None else self.weights[chosen],
        )


def frames(table: AnyFrame, where: Where, rows: int = BATCH_ROWS) -> Iterator[pl.DataFrame]:
    """A table's rows in order, so many at a time; what polars says of them becomes one sentence."""
    with reading(where):
        batches = table.lazy().collect_batches(chunk_size=rows, maintain_order=True)
        while True:
            batch = next(batches, None)
            if batch is None:
                return
            for start, end in pairwise([*range(0, len(batch), rows), len(batch)]):
                yield batch[start:end]


def require_rows(count: int, where: Where) -> None:
    """Refuse a table without rows.

    Raises:
        DataError: there is none.
    """
    if not count:
        raise DataError(f"{where} holds a header and no rows; expected at least one row")


def cell_text(table: pl.LazyFrame, name: str, row: int) -> str:
    """What stands in a row, for an error."""
    value = table.select(pl.col(name)).slice(row, 1).collect().item()
    return "nothing" if value is None else repr(value)
