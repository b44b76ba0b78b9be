"""From a table's rows to what a model reads: encoders fitted on the training rows, and the schema that they imply."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from polars.datatypes import DataType

from deepfm.data.categories import CategoryEncoder, id_text, same_text
from deepfm.data.dataset import TabularDataset
from deepfm.data.schema import DatasetSchema, FeatureType, FieldSchema
from deepfm.data.table_files import reading, require_columns
from deepfm.data.table_schema import TableColumn, TableSchema
from deepfm.data.transforms import MinMaxScaler
from deepfm.errors import DataError, NotFittedError

LABEL, ROWS = "label of the rows", "number of rows"  # beside columns for a while; nobody's column has these names
Where = str | Path


class TableEncoder:
    """Encodes a table, a polars frame that may not have been read yet, as its schema describes.

    Ids are compared as text, so that 7 in a Parquet file is the "7" of a CSV. What comes out is int32 ids and float32
    numbers; while they are made, more than that is held in memory.

    Args:
        schema: the columns.
        encoders: what an earlier `fit` made, by column; None before `fit`.

    Example:
        >>> schema = TableSchema("click", {"user": TableColumn()})
        >>> rows = pl.DataFrame({"user": ["a", "b"], "click": [0, 1]}).lazy()
        >>> TableEncoder(schema).fit(rows).transform(rows)
        {'user': array([1, 2], dtype=int32)}
    """

    def __init__(self, schema: TableSchema, encoders: Mapping[str, Any] | None = None) -> None:
        self.schema = schema
        self.encoders: dict[str, Any] = dict(encoders or {})

    def __repr__(self) -> str:
        return f"TableEncoder({len(self.schema.columns)} columns, {'fitted' if self.encoders else 'not fitted'})"

    def fit(self, table: pl.LazyFrame, where: Where = "the table") -> "TableEncoder":
        """Learn categories and ranges from training rows.

        Args:
            where: names the rows in an error.

        Raises:
            DataError: a column is missing or of the wrong kind, or has nothing to learn.
        """
        types = require_columns(table, self.schema.columns, where)
        self.encoders = {}
        self._fit_categories(table, types, where)
        scaled = [name for name, column in self.schema.columns.items() if column.scale == "min_max" and _dense(column)]
        if scaled:
            numbers = table.select(_finite(_number(name, types[name], where)).alias(name) for name in scaled)
            with reading(where):
                ends = numbers.select(
                    pl.len().alias(ROWS), pl.all().min().name.prefix("low "), pl.all().max().name.prefix("high ")
                )
                found = ends.collect(engine="streaming").row(0, named=True)
            _require_rows(found[ROWS], where)
            for name in scaled:
                if found[f"low {name}"] is None:
                    raise DataError(f"column {name!r} of {where} holds no number; leave it out of the table schema")
                state = {"low": found[f"low {name}"], "high": found[f"high {name}"]}
                if not np.isfinite(state["high"] - state["low"]):
                    raise DataError(
                        f"column {name!r} of {where} goes from {state['low']:g} to {state['high']:g}, too far for "
                        "scale: min_max; mend the rows"
                    )
                self.encoders[name] = MinMaxScaler.from_dict(state)
        return self

    def transform(self, table: pl.LazyFrame, where: Where = "the table") -> dict[str, NDArray[Any]]:
        """The features: ids `(N,)` or `(N, max_length)`, numbers `(N,)`.

        Raises:
            NotFittedError: before `fit`.
            DataError: a column is missing or of the wrong kind, or a row holds no number where one is expected.
        """
        return self._arrays(self._collect(table, where, ()), table, where)

    def dataset(self, table: pl.LazyFrame, where: Where = "the table") -> TabularDataset:
        """Features and labels, read in one pass.

        Raises:
            NotFittedError: before `fit`.
            DataError: as `transform`, or no rows, or a label outside [0, 1].
        """
        label = self.schema.label
        kind = require_columns(table, [label], where)[label]
        found = self._collect(table, where, [_number(label, kind, where).alias(LABEL)])
        _require_rows(len(found), where)
        bad = found[LABEL].is_between(0, 1).fill_null(False).not_().arg_true()
        if len(bad):
            value = _cell(table, label, bad[0])
            raise DataError(
                f"column {label!r} of {where} holds {value} in row {bad[0] + 1}; expected a label from 0 to 1"
            )
        labels = found[LABEL].cast(pl.Float32).to_numpy(writable=True)
        return TabularDataset(self._arrays(found, table, where), labels)

    def dataset_schema(self) -> DatasetSchema:
        """The fields, in the order of the table schema.

        Raises:
            NotFittedError: before `fit`.
            SchemaError: columns that share a table and differ in width.
        """
        fields = {}
        for name, column in self.schema.columns.items():
            fields[name] = FieldSchema(
                name,
                FeatureType(column.type),
                0 if _dense(column) else self._categories(name).vocabulary_size,
                column.embedding_dim,
                group=self.schema.group(name),
                max_length=column.max_length or 0,
                combiner=column.combiner,
                shares_embedding_with=column.shares_embedding_with,
            )
        roles = {"user_field": self.schema.user, "item_field": self.schema.item, "time_field": self.schema.time}
        return DatasetSchema(fields, self.schema.label, **roles)

    @property
    def unknown(self) -> dict[str, int]:
        """Column of ids → the index of its unknown values.

        Raises:
            NotFittedError: before `fit`.
        """
        return {
            name: self._categories(name).unknown for name, column in self.schema.columns.items() if not _dense(column)
        }

    def _fit_categories(self, table: pl.LazyFrame, types: Mapping[str, DataType], where: Where) -> None:
        """One encoder a vocabulary, fitted on all the columns that share it."""
        counts: dict[str, list[pl.LazyFrame]] = {}
        for name, column in self.schema.columns.items():
            if _dense(column):
                continue
            values = _tokens(name, column, types[name], where)
            values = values.explode() if column.type == "sequence" else values
            counted = table.select(values.alias("value")).group_by("value").agg(pl.len().alias("rows"))
            counts.setdefault(self.schema.owner(name), []).append(counted)
        with reading(where):
            merged = [
                (parts[0] if len(parts) == 1 else pl.concat(parts).group_by("value").agg(pl.col("rows").sum()))
                for parts in counts.values()
            ]
            found = pl.collect_all(merged, engine="streaming")
        if found and not any(map(len, found)):  # lists may all be empty where there are rows
            with reading(where):
                _require_rows(table.select(pl.len()).collect(engine="streaming").item(), where)
        for name, frame in zip(counts, found, strict=True):
            column = self.schema.columns[name]
            encoder = CategoryEncoder(column.min_count, column.oov).fit_counts(frame["value"], frame["rows"])
            if not encoder.values:
                raise DataError(
                    f"no value of column {name!r} stands in {column.min_count} or more rows of {where}; lower its "
                    "min_count, or leave it out of the table schema"
                )
            self.encoders[name] = encoder

    def _categories(self, name: str) -> CategoryEncoder:
        encoder = self.encoders.get(self.schema.owner(name))
        if not isinstance(encoder, CategoryEncoder):
            raise NotFittedError(
                f"column {name!r} has no encoder; fit on the training rows first, or use the run's own"
            )
        return encoder

    def _collect(self, table: pl.LazyFrame, where: Where, beside: Sequence[pl.Expr]) -> pl.DataFrame:
        """Every column encoded, sequences as lists; a number that is none, or not finite, is null."""
        types = require_columns(table, self.schema.columns, where)
        encoded = [self._encoded(name, column, types[name], where) for name, column in self.schema.columns.items()]
        with reading(where):
            return table.select(*encoded, *beside).collect(engine="streaming")

    def _encoded(self, name: str, column: TableColumn, kind: DataType, where: Where) -> pl.Expr:
        if _dense(column):
            number = _finite(_number(name, kind, where))
            if column.scale == "min_max":
                scaler = self.encoders.get(name)
                if not isinstance(scaler, MinMaxScaler):
                    raise NotFittedError(f"column {name!r} has no scaler; fit on the training rows first")
                low, high = scaler.to_dict()["low"], scaler.to_dict()["high"]
                number = (number.clip(low, high) - low) / (high - low if high > low else 1.0)
            return number.cast(pl.Float32).alias(name)
        tokens, encoder = _tokens(name, column, kind, where), self._categories(name)
        if column.type == "sparse":
            return encoder.expression(tokens).alias(name)
        known = tokens.list.eval(encoder.expression(pl.element())).list.eval(pl.element().filter(pl.element() > 0))
        longest = column.max_length or 0
        return (known.list.tail(longest) if column.keeps_latest else known.list.head(longest)).alias(name)

    def _arrays(self, found: pl.DataFrame, table: pl.LazyFrame, where: Where) -> dict[str, NDArray[Any]]:
        arrays: dict[str, NDArray[Any]] = {}
        for name, column in self.schema.columns.items():
            values = found[name]
            if column.type == "sequence":
                arrays[name] = _padded(values, column.max_length or 0)
                continue
            if _dense(column):
                bad = (values.is_null() | values.is_nan() | values.is_infinite()).arg_true()
                if len(bad):
                    raise DataError(
                        f"dense column {name!r} of {where} holds {_cell(table, name, bad[0])} in row {bad[0] + 1}; "
                        "expected a finite number, so mend the row or make the column sparse"
                    )
            arrays[name] = values.to_numpy(writable=True)
        return arrays


def _require_rows(count: int, where: Where) -> None:
    if not count:
        raise DataError(f"{where} holds a header and no rows; expected at least one row")


def _dense(column: TableColumn) -> bool:
    return column.type == "dense"


def _number(name: str, kind: DataType, where: Where) -> pl.Expr:
    """A column as float64; null where a text is no number."""
    if kind == pl.String:
        return pl.col(name).str.strip_chars().cast(pl.Float64, strict=False)
    if kind.is_numeric() or kind == pl.Boolean:
        return pl.col(name).cast(pl.Float64)
    raise DataError(f"column {name!r} of {where} is of type {kind}; expected numbers, or another type in its schema")


def _finite(number: pl.Expr) -> pl.Expr:
    return pl.when(number.is_finite()).then(number)


def _tokens(name: str, column: TableColumn, kind: DataType, where: Where) -> pl.Expr:
    """A column of ids as text, or of lists of ids as lists of text; missing ones null."""
    if column.type == "sparse":
        return _text(pl.col(name), kind, name, where)
    if isinstance(kind, pl.List | pl.Array):
        lists = pl.col(name) if isinstance(kind, pl.List) else pl.col(name).arr.to_list()
        assert kind.inner is not None
        inner = kind.inner() if isinstance(kind.inner, type) else kind.inner
        return lists.list.eval(_text(pl.element(), inner, name, where).drop_nulls())
    texts = pl.col(name) if kind == pl.String else _text(pl.col(name), kind, name, where)
    tokens = texts.str.split(column.separator).list.eval(same_text(pl.element()))
    return tokens.list.eval(pl.element().filter(pl.element() != ""))


def _text(values: pl.Expr, kind: DataType, name: str, where: Where) -> pl.Expr:
    """Ids as text: alike, whatever type holds them."""
    texts = isinstance(kind, pl.String | pl.Categorical | pl.Enum | pl.Boolean | pl.Null)
    if not (texts or kind.is_numeric() or (kind.is_temporal() and kind != pl.Duration)):
        raise DataError(
            f"column {name!r} of {where} is of type {kind}; expected text or whole numbers, or type: sequence for lists"
        )
    return id_text(values, kind)


def _padded(lists: pl.Series, length: int) -> NDArray[np.int32]:
    """Lists of indices → `(N, length)`, each from the left, padded with 0; null is an empty list."""
    sizes = lists.list.len().fill_null(0).cast(pl.Int64).to_numpy()
    codes = lists.filter(lists.list.len() > 0).explode().to_numpy()
    rows = np.repeat(np.arange(len(lists)), sizes)
    places = np.arange(len(codes)) - np.repeat(sizes.cumsum() - sizes, sizes)
    matrix = np.zeros((len(lists), length), dtype=np.int32)
    matrix[rows, places] = codes
    return matrix


def _cell(table: pl.LazyFrame, name: str, row: int) -> str:
    """What stands in a row, for an error."""
    value = table.select(pl.col(name)).slice(row, 1).collect().item()
    return "nothing" if value is None else repr(value)
