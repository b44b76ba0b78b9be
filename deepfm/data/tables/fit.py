"""Learning from training rows in one pass, a batch of rows at a time: what is held grows with distinct values alone."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl
from polars.datatypes import DataType

from deepfm.data.categories import CategoryEncoder
from deepfm.data.tables.columns import Where, finite, log_bucket, number, tokens, vector_lists
from deepfm.data.tables.schema import TableColumn
from deepfm.data.transforms import MinMaxScaler, Standardiser
from deepfm.data.vectors import VectorTable, vector_matrix
from deepfm.data.vocabularies import QuantileBuckets
from deepfm.errors import DataError

COMPACT_ROWS = 1_000_000  # counts that are kept apart before equal values are put together
MOST_NUMBERS = 4_000_000  # of which quantiles are exact; above, of every second, fourth … one


class ColumnFit(ABC):
    """What one encoder learns.

    Args:
        name: the column that errors name.
        where: the table that errors name.
    """

    def __init__(self, name: str, where: Where) -> None:
        self.name, self.where = name, where

    @abstractmethod
    def query(self, rows: pl.LazyFrame) -> pl.LazyFrame:
        """What is needed of a batch of rows."""

    @abstractmethod
    def add(self, found: pl.DataFrame) -> None:
        """Take a query's answer."""

    @abstractmethod
    def finish(self) -> Any:
        """The encoder.

        Raises:
            DataError: there was nothing to learn.
        """


class CategoryFit(ColumnFit):
    """How often each value stands in a column and in those that share its table."""

    def __init__(
        self, name: str, columns: Mapping[str, TableColumn], types: Mapping[str, DataType], where: Where
    ) -> None:
        super().__init__(name, where)
        self.columns, self.types = columns, types
        self._counts: list[pl.DataFrame] = []
        self._pending = 0

    def query(self, rows: pl.LazyFrame) -> pl.LazyFrame:
        """Distinct values as text, and how many rows or tokens hold each."""
        counts = []
        for name, column in self.columns.items():
            kind = self.types[name]
            values = tokens(name, column, kind, self.where) if column.buckets == "none" else None
            if column.type == "sequence" and values is not None:
                counted = rows.select(values.explode().alias("value")).group_by("value").agg(pl.len().alias("rows"))
            else:  # counted as they come, then made text
                if values is None:
                    values = log_bucket(number(name, kind, self.where))
                counted = rows.select(name).group_by(name).agg(pl.len().alias("rows"))
                counted = counted.select(values.alias("value"), "rows")
            counts.append(counted)
        return pl.concat(counts)

    def add(self, found: pl.DataFrame) -> None:
        """Keep counts; put equal values together once in a while."""
        self._counts.append(found)
        self._pending += len(found)
        if self._pending > COMPACT_ROWS + 2 * len(self._counts[0]):
            self._counts, self._pending = [self._total()], 0

    def finish(self) -> CategoryEncoder:
        """The values that are frequent enough."""
        column, total = self.columns[self.name], self._total()
        encoder = CategoryEncoder(column.min_count, column.oov, column.keeps_missing)
        encoder.fit_counts(total["value"], total["rows"])
        if not encoder.values:
            raise DataError(
                f"no value of column {self.name!r} stands in {column.min_count} or more rows of {self.where}; lower "
                "its min_count, or leave it out of the table schema"
            )
        return encoder

    def _total(self) -> pl.DataFrame:
        return pl.concat(self._counts).group_by("value").agg(pl.col("rows").sum())


class _NumberFit(ColumnFit):
    def __init__(self, name: str, column: TableColumn, kind: DataType, where: Where) -> None:
        super().__init__(name, where)
        self.column, self.kind = column, kind

    def _numbers(self) -> pl.Expr:
        return finite(number(self.name, self.kind, self.where))


class RangeFit(_NumberFit):
    """Smallest, largest, mean and deviation of a column's numbers (Chan et al., 1983, for batches)."""

    def __init__(self, name: str, column: TableColumn, kind: DataType, where: Where) -> None:
        super().__init__(name, column, kind, where)
        self.count, self.mean, self.squares = 0, 0.0, 0.0
        self.low, self.high = np.inf, -np.inf

    def query(self, rows: pl.LazyFrame) -> pl.LazyFrame:
        """Five figures."""
        column = pl.col("value")
        return rows.select(self._numbers().alias("value")).select(
            column.count().alias("count"),
            column.mean().alias("mean"),
            column.var(ddof=0).alias("variance"),
            column.min().alias("low"),
            column.max().alias("high"),
        )

    def add(self, found: pl.DataFrame) -> None:
        """Join two sets' figures."""
        row = found.row(0, named=True)
        if not row["count"]:
            return
        total, step = self.count + row["count"], row["mean"] - self.mean
        self.squares += row["variance"] * row["count"] + step**2 * self.count * row["count"] / total
        self.mean += step * row["count"] / total
        self.count, self.low, self.high = total, min(self.low, row["low"]), max(self.high, row["high"])

    def finish(self) -> MinMaxScaler | Standardiser:
        """The scaler that the schema asks for."""
        if not self.count:
            raise DataError(f"column {self.name!r} of {self.where} holds no number; leave it out of the table schema")
        if not np.isfinite(self.high - self.low) or not np.isfinite(self.squares):
            raise DataError(
                f"column {self.name!r} of {self.where} goes from {self.low:g} to {self.high:g}, too far for scale: "
                f"{self.column.scale}; mend the rows"
            )
        if self.column.scale == "standard":
            return Standardiser(self.mean, float(np.sqrt(self.squares / self.count)))
        return MinMaxScaler.from_dict({"low": self.low, "high": self.high})


class WeightFit(RangeFit):
    """The mean of the row weights, which training divides by."""

    def finish(self) -> Standardiser:
        """The mean, as a scaler whose deviation nobody reads."""
        if not self.count or self.mean <= 0:
            raise DataError(
                f"weight column {self.name!r} of {self.where} holds no weight above 0; mend it or leave it out"
            )
        return Standardiser(self.mean, float(np.sqrt(self.squares / self.count)))


class QuantileFit(_NumberFit):
    """Numbers, thinned where there are many."""

    def __init__(self, name: str, column: TableColumn, kind: DataType, where: Where) -> None:
        super().__init__(name, column, kind, where)
        self._numbers_seen: list[np.ndarray] = []
        self._held, self._step = 0, 1

    def query(self, rows: pl.LazyFrame) -> pl.LazyFrame:
        """The numbers."""
        return rows.select(self._numbers().drop_nulls().alias("value"))

    def add(self, found: pl.DataFrame) -> None:
        """Keep every `step`th."""
        self._numbers_seen.append(found["value"].to_numpy()[:: self._step])
        self._held += len(self._numbers_seen[-1])
        if self._held > MOST_NUMBERS:
            self._numbers_seen = [np.concatenate(self._numbers_seen)[::2]]
            self._held, self._step = len(self._numbers_seen[0]), 2 * self._step

    def finish(self) -> QuantileBuckets:
        """The edges."""
        if not self._held:
            raise DataError(f"column {self.name!r} of {self.where} holds no number; leave it out of the table schema")
        return QuantileBuckets.fit(
            np.concatenate(self._numbers_seen), self.column.num_buckets, self.column.keeps_missing
        )


class VectorFit(_NumberFit):
    """The width of a column's vectors."""

    width: int | None = None

    def query(self, rows: pl.LazyFrame) -> pl.LazyFrame:
        """The first vector."""
        lists = vector_lists(self.name, self.column, self.kind, self.where)
        return rows.select(lists.alias("value")).filter(pl.col("value").is_not_null()).head(1)

    def add(self, found: pl.DataFrame) -> None:
        """Take its width."""
        if self.width is None and len(found):
            self.width = vector_matrix(found["value"], None, f"column {self.name!r} of {self.where}").shape[1]

    def finish(self) -> VectorTable:
        """A table without ids, of that width."""
        if not self.width:
            raise DataError(f"column {self.name!r} of {self.where} holds no vector; leave it out of the table schema")
        return VectorTable([], np.zeros((0, self.width), dtype=np.float32))
