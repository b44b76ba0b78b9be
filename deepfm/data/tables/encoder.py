"""From a table's rows to what a model reads: encoders fitted on the training rows, and the schema that they imply."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from polars.datatypes import DataType

from deepfm.data.categories import CategoryEncoder
from deepfm.data.dataset import TabularDataset
from deepfm.data.schema import DatasetSchema, FeatureType, FieldSchema
from deepfm.data.tables import columns as cells
from deepfm.data.tables.columns import Where
from deepfm.data.tables.files import reading, require_columns
from deepfm.data.tables.fit import CategoryFit, ColumnFit, QuantileFit, RangeFit, VectorFit, WeightFit
from deepfm.data.tables.rows import AnyFrame, EncodedRows, cell_text, frames, require_rows
from deepfm.data.tables.schema import TableColumn, TableSchema
from deepfm.data.transforms import MinMaxScaler, Standardiser
from deepfm.data.vectors import VectorTable, vector_matrix
from deepfm.data.vocabularies import HashEncoder, QuantileBuckets
from deepfm.errors import DataError, NotFittedError
from deepfm.utils.logging import get_logger

LABEL, WEIGHT, BAD = "label of the rows", "weight of the rows", "no value: "  # nobody's column has these names
Vocabulary = CategoryEncoder | HashEncoder | QuantileBuckets
log = get_logger(__name__)


class TableEncoder:
    """Encodes a table, a polars frame that may not have been read yet, as its schema describes.

    Ids are compared as text, so that 7 in a Parquet file is the "7" of a CSV. What comes out is int32 ids and float32
    numbers; while they are made, more than that is held in memory.

    Args:
        schema: the columns.
        encoders: what an earlier `fit` made, by column; None before `fit`.

    Example:
        >>> schema = TableSchema("click", {"user": TableColumn()})
        >>> rows = pl.DataFrame({"user": ["a", "b"], "click": [0, 1]})
        >>> TableEncoder(schema).fit(rows).transform(rows)
        {'user': array([1, 2], dtype=int32)}
    """

    def __init__(self, schema: TableSchema, encoders: Mapping[str, Any] | None = None) -> None:
        self.schema = schema
        self.encoders: dict[str, Any] = dict(encoders or {})

    def __repr__(self) -> str:
        return f"TableEncoder({len(self.schema.columns)} columns, {'fitted' if self.encoders else 'not fitted'})"

    def fit(self, table: AnyFrame, where: Where = "the table") -> "TableEncoder":
        """Learn categories and ranges from training rows, in one pass over batches of them.

        Args:
            where: names the rows in an error.

        Raises:
            DataError: a column is missing or of the wrong kind, or has nothing to learn.
        """
        table = table.lazy()
        named = [*self.schema.columns, *([self.schema.weight] if self.schema.weight else [])]
        types = require_columns(table, named, where)
        fits = self._fits(types, where)
        rows = 0
        for batch in frames(table.select(named), where):
            rows += len(batch)
            with reading(where):
                answers = pl.collect_all([fit.query(batch.lazy()) for fit in fits.values()])
            for fit, answer in zip(fits.values(), answers, strict=True):
                fit.add(answer)
        require_rows(rows, where)
        self.encoders = self._unfitted() | {name: fit.finish() for name, fit in fits.items()}
        for name, encoder in self.encoders.items():
            if isinstance(encoder, CategoryEncoder) and encoder.oov == "learned" and encoder.min_count == 1:
                log.warning(
                    "column %r has oov: learned and min_count: 1, so no training value is unknown and that row stays "
                    "as it was drawn; set min_count: 2 to train it", name,
                )  # fmt: skip
        return self

    def transform(self, table: AnyFrame, where: Where = "the table", first_row: int = 0) -> dict[str, NDArray[Any]]:
        """The features: ids `(N,)` or `(N, max_length)`, numbers `(N,)` or `(N, K)`.

        Args:
            first_row: what errors count rows from, where `table` is a part of a whole.

        Raises:
            NotFittedError: before `fit`.
            DataError: a column is missing or of the wrong kind, or a row holds no number where one is expected.
        """
        return self.encode(table, where, first_row, labelled=False).features

    def encode(
        self, table: AnyFrame, where: Where = "the table", first_row: int = 0, *, labelled: bool = True
    ) -> EncodedRows:
        """Features, and labels and weights where they are asked for, read in one pass.

        Raises:
            NotFittedError: before `fit`.
            DataError: as `transform`, or a label outside [0, 1], or a weight below 0.
        """
        table = table.lazy()
        types = require_columns(table, self.schema.columns, where)
        beside = []
        if labelled:
            for role, name in (("label", self.schema.label), ("weight", self.schema.weight)):
                if name is not None:
                    kind = require_columns(table, [name], where)[name]
                    read = cells.truth if role == "label" else cells.number
                    beside.append(read(name, kind, where).alias(LABEL if role == "label" else WEIGHT))
        expressions = [part for name in self.schema.columns for part in self._encoded(name, types[name], where)]
        with reading(where):
            found = table.select(*expressions, *beside).collect(engine="streaming")
        for name in self.schema.columns:
            if BAD + name in found.columns and len(rows := found[BAD + name].arg_true()):
                raise DataError(self._no_value(name, cell_text(table, name, rows[0]), where, first_row + rows[0] + 1))
        labels = self._labels(found, table, where, first_row) if labelled else None
        weights = self._weights(found, table, where, first_row) if WEIGHT in found.columns else None
        return EncodedRows(self._arrays(found, where, first_row), labels, weights)

    def dataset(self, table: AnyFrame, where: Where = "the table") -> TabularDataset:
        """Features, labels and weights, read in one pass.

        Raises:
            NotFittedError: before `fit`.
            DataError: as `encode`, or no rows.
        """
        rows = self.encode(table, where)
        assert rows.labels is not None
        require_rows(len(rows.labels), where)
        return TabularDataset(rows.features, rows.labels, rows.weights)

    def batches(self, table: AnyFrame, where: Where = "the table", *, labelled: bool = True) -> Iterator[EncodedRows]:
        """The whole table, encoded a batch of rows at a time; little of it is held in memory at once.

        Raises:
            NotFittedError, DataError: as `encode`.
        """
        first_row = 0
        for frame in frames(table, where):
            yield self.encode(frame.lazy(), where, first_row, labelled=labelled)
            first_row += len(frame)

    def dataset_schema(self) -> DatasetSchema:
        """The fields, in the order of the table schema.

        Raises:
            NotFittedError: before `fit`.
            SchemaError: columns that share a table and differ in width.
        """
        fields = {}
        for name, column in self.schema.columns.items():
            width = self._width(name, column)
            fields[name] = FieldSchema(
                name,
                FeatureType(column.type) if column.has_vocabulary else FeatureType.DENSE,
                self._vocabulary(name).vocabulary_size if column.has_vocabulary else 0,
                column.embedding_dim,
                group=self.schema.group(name),
                max_length=column.max_length or 0,
                combiner=column.combiner,
                shares_embedding_with=column.shares_embedding_with,
                dimension=width,
            )
        roles = {"user_field": self.schema.user, "item_field": self.schema.item, "time_field": self.schema.time}
        return DatasetSchema(fields, self.schema.label, **roles)

    @property
    def unknown(self) -> dict[str, int]:
        """Column of listed ids → the index of its unknown values.

        Raises:
            NotFittedError: before `fit`.
        """
        found = {name: self._vocabulary(name) for name, column in self.schema.columns.items() if column.has_vocabulary}
        return {name: encoder.unknown for name, encoder in found.items() if isinstance(encoder, CategoryEncoder)}

    def _fits(self, types: Mapping[str, DataType], where: Where) -> dict[str, ColumnFit]:
        """What has to be learned from rows, by the name of its encoder."""
        fits: dict[str, ColumnFit] = {}
        for name, column in self.schema.columns.items():
            if column.type == "dense" and column.scale != "none":
                fits[name] = RangeFit(name, column, types[name], where)
            elif column.type == "dense":
                cells.number(name, types[name], where)
            elif column.type == "vector" and column.vectors is None:
                fits[name] = VectorFit(name, column, types[name], where)
            elif column.buckets == "quantile":
                fits[name] = QuantileFit(name, column, types[name], where)
            elif column.has_vocabulary and self.schema.owner(name) == name and column.hash_buckets is None:
                sharing = {other: its for other, its in self.schema.columns.items() if self.schema.owner(other) == name}
                fits[name] = CategoryFit(name, sharing, types, where)
        if self.schema.weight is not None:
            weight = self.schema.weight
            fits[weight] = WeightFit(weight, TableColumn("dense"), types[weight], where)
        return fits

    def _unfitted(self) -> dict[str, Any]:
        """Encoders that learn nothing from rows."""
        made: dict[str, Any] = {}
        for name, column in self.schema.columns.items():
            if column.hash_buckets is not None and self.schema.owner(name) == name:
                made[name] = HashEncoder(column.hash_buckets, column.keeps_missing)
            elif column.vectors is not None:
                made[name] = VectorTable.load(column.vectors)
        return made

    def _vocabulary(self, name: str) -> Vocabulary:
        encoder = self.encoders.get(self.schema.owner(name))
        if not isinstance(encoder, CategoryEncoder | HashEncoder | QuantileBuckets):
            raise NotFittedError(
                f"column {name!r} has no encoder; fit on the training rows first, or use the run's own"
            )
        return encoder

    def _width(self, name: str, column: TableColumn) -> int:
        """How many numbers a row has of a column without a vocabulary; 1 for others."""
        if column.type == "vector":
            return self._vectors(name).width
        if column.type == "time":
            return 2 * len(column.periods)
        return 2 if column.type == "dense" and column.keeps_missing else 1

    def _vectors(self, name: str) -> VectorTable:
        table = self.encoders.get(name)
        if not isinstance(table, VectorTable):
            raise NotFittedError(f"column {name!r} has no vectors; fit on the training rows first")
        return table

    def _encoded(self, name: str, kind: DataType, where: Where) -> list[pl.Expr]:
        """A column's values, and beside them whether a cell holds something that is none."""
        column = self.schema.columns[name]
        if column.type == "vector" and column.vectors is not None:
            return [cells.text(pl.col(name), kind, name, where).alias(name)]
        if column.type == "vector":
            return [cells.vector_lists(name, column, kind, where).alias(name)]
        if column.type == "time":
            moment = cells.seconds(name, kind, where)
            return [moment.alias(name), (moment.is_null() & ~cells.is_empty(name, kind)).alias(BAD + name)]
        if column.type == "dense":
            number = self._scaled(name, cells.finite(cells.number(name, kind, where))).cast(pl.Float32)
            bad = ~number.is_finite().fill_null(False)
            bad = bad & ~cells.is_empty(name, kind) if column.keeps_missing else bad
            return [number.alias(name), bad.alias(BAD + name)]
        encoder = self._vocabulary(name)
        if column.buckets != "none":
            number = cells.finite(cells.number(name, kind, where))
            value = cells.log_bucket(number) if column.buckets == "log" else number
            bad = number.is_null() & ~cells.is_empty(name, kind)
            return [encoder.expression(value).alias(name), bad.alias(BAD + name)]
        tokens = cells.tokens(name, column, kind, where)
        if column.type == "sparse":
            return [encoder.expression(tokens).alias(name)]
        known = tokens.list.eval(encoder.expression(pl.element())).list.eval(pl.element().filter(pl.element() > 0))
        longest = column.max_length or 0
        return [(known.list.tail(longest) if column.keeps_latest else known.list.head(longest)).alias(name)]

    def _scaled(self, name: str, number: pl.Expr) -> pl.Expr:
        if self.schema.columns[name].scale == "none":
            return number
        scaler = self.encoders.get(name)
        if isinstance(scaler, Standardiser):
            return (number - scaler.mean) / (scaler.deviation or 1.0)
        if not isinstance(scaler, MinMaxScaler):
            raise NotFittedError(f"column {name!r} has no scaler; fit on the training rows first")
        low, high = scaler.to_dict()["low"], scaler.to_dict()["high"]
        return (number.clip(low, high) - low) / (high - low if high > low else 1.0)

    def _no_value(self, name: str, cell: str, where: Where, row: int) -> str:
        column = self.schema.columns[name]
        if column.type == "time":
            return f"time column {name!r} of {where} holds {cell} in row {row}; expected {cells.MOMENT}"
        if column.type == "sparse":
            return f"column {name!r} of {where} holds {cell} in row {row}; expected a number, as it has buckets"
        missing = ", or missing: own in its schema" if cell == "nothing" else ""
        return (
            f"dense column {name!r} of {where} holds {cell} in row {row}; expected a finite number, so mend the row or "
            f"make the column sparse{missing}"
        )

    def _labels(self, found: pl.DataFrame, table: pl.LazyFrame, where: Where, first_row: int) -> NDArray[np.float32]:
        bad = found[LABEL].is_between(0, 1).fill_null(False).not_().arg_true()
        if len(bad):
            cell = cell_text(table, self.schema.label, bad[0])
            raise DataError(
                f"column {self.schema.label!r} of {where} holds {cell} in row {first_row + bad[0] + 1}; expected a "
                "label from 0 to 1, so mend the row or name another label"
            )
        return found[LABEL].cast(pl.Float32).to_numpy(writable=True)

    def _weights(self, found: pl.DataFrame, table: pl.LazyFrame, where: Where, first_row: int) -> NDArray[np.float32]:
        name = self.schema.weight
        scaler = self.encoders.get(name or "")
        if name is None or not isinstance(scaler, Standardiser):
            raise NotFittedError(f"weight column {name!r} has no mean; fit on the training rows first")
        bad = (cells.finite(pl.col(WEIGHT)) >= 0).fill_null(False).not_()
        rows = found.select(bad.alias(WEIGHT))[WEIGHT].arg_true()
        if len(rows):
            raise DataError(
                f"weight column {name!r} of {where} holds {cell_text(table, name, rows[0])} in row "
                f"{first_row + rows[0] + 1}; expected a number of 0 or more"
            )
        return (found[WEIGHT] / scaler.mean).cast(pl.Float32).to_numpy(writable=True)

    def _arrays(self, found: pl.DataFrame, where: Where, first_row: int) -> dict[str, NDArray[Any]]:
        arrays: dict[str, NDArray[Any]] = {}
        for name, column in self.schema.columns.items():
            values = found[name]
            if column.type == "sequence":
                arrays[name] = cells.padded(values, column.max_length or 0)
            elif column.type == "time":
                arrays[name] = cells.cycles(values.fill_null(np.nan).to_numpy(), column.periods)
            elif column.type == "vector" and column.vectors is not None:
                arrays[name] = self._vectors(name).encode(values)
            elif column.type == "vector":
                named = f"column {name!r} of {where}"
                arrays[name] = vector_matrix(values, self._vectors(name).width, named, first_row)
            elif column.type == "dense" and column.keeps_missing:
                missing = values.is_null().to_numpy()
                arrays[name] = np.stack([values.fill_null(0.0).to_numpy(), missing], axis=1, dtype=np.float32)
            else:
                arrays[name] = values.to_numpy(writable=True)
            if arrays[name].ndim == 2 and arrays[name].shape[1] == 1 and not column.has_vocabulary:
                arrays[name] = arrays[name][:, 0]
        return arrays
