"""What a table holds over its split: columns, unknown values, label rates, time spans, and warnings of leaks."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from deepfm.config import DataConfig
from deepfm.data.tables import columns as cells
from deepfm.data.tables.columns import Where
from deepfm.data.tables.csv_files import ReadOptions
from deepfm.data.tables.facts import column_facts
from deepfm.data.tables.files import find_table, reading, require_columns, scan_table
from deepfm.data.tables.infer import SEEN_ROWS, infer_schema
from deepfm.data.tables.schema import TableSchema
from deepfm.data.tables.split import split_table
from deepfm.errors import DataError

PARTS = ("training", "validation", "test")
LEAK_AUC = 0.99
DUPLICATE_SHARE = 0.01  # of validation or test rows that stand in the training rows too, from which on a warning
ENOUGH = 64  # rows from which on values that are all different are no chance
HEAD = 3


@dataclass(frozen=True)
class ColumnDescription:
    """A feature.

    Args:
        distinct, missing: counts of values and of rows.
        head: the most frequent values with their shares of all rows.
        unknown: part → the share of its filled cells (of lists: of tokens) that training rows do not know; ids only.
        auc: how well the column tells the label by itself, .5 to 1; None where it cannot be measured.
    """

    name: str
    type: str
    distinct: int
    missing: int
    head: tuple[tuple[str, float], ...]
    unknown: dict[str, float]
    auc: float | None


@dataclass(frozen=True)
class PartDescription:
    """A part of the split; `first` and `last` in seconds since 1970, `duplicates` in rows that training has too."""

    name: str
    rows: int
    label_rate: float | None
    first: float | None
    last: float | None
    duplicates: int


@dataclass(frozen=True)
class TableDescription:
    """All of it; `warnings` in one sentence each."""

    columns: tuple[ColumnDescription, ...]
    parts: tuple[PartDescription, ...]
    warnings: tuple[str, ...]


def describe_data(
    data: str, strategy: str | None, options: ReadOptions, schema: str | None, roles: Mapping[str, str | None]
) -> TableDescription:
    """Describe the first rows of files, split as training would.

    Args:
        data: a table: a file, a folder or a glob of files; or the folder of `train`, `valid` and `test` files.
        strategy: how one table is split; None for three files, which are the split.
        schema: a file; None to infer it, of three files from the training rows, unless one lies beside them.
        roles: columns that are known; with `schema`, the time alone.

    Raises:
        DataError, SchemaError: as reading, inferring and splitting.
    """
    config = DataConfig(dataset_name="table", table=None if strategy is None else data)
    files = [data] if strategy is not None else [str(find_table(data, stem)) for stem in ("train", "valid", "test")]
    found = []
    for file in files:
        with reading(file):
            found.append(scan_table(file, options).head(SEEN_ROWS).collect(engine="streaming"))
    beside = Path(data, "schema.yaml")
    path = schema or (str(beside) if strategy is None and beside.is_file() else None)
    if path is None:
        described = infer_schema(found[0].lazy(), **roles, where=files[0]).schema
    else:
        described = TableSchema.load(path)
        described = replace(described, time=roles["time"]) if roles.get("time") else described
    if strategy is None:
        parts = np.repeat(np.arange(3, dtype=np.int8), [len(frame) for frame in found])
        for file, frame in zip(files[1:], found[1:], strict=True):
            require_columns(frame.lazy(), found[0].columns, file)
        found = [pl.concat([frame.select(found[0].columns) for frame in found], how="vertical_relaxed")]
    else:
        parts = split_table(found[0].lazy(), described, strategy, config.candidate_seed, config.min_interactions, data)
    return describe_table(found[0], described, parts, data)


def describe_table(
    frame: pl.DataFrame, schema: TableSchema, parts: NDArray[np.int8], where: Where = "the table"
) -> TableDescription:
    """Describe rows in memory.

    Args:
        parts: of each row `(N,)`: 0 training, 1 validation, 2 test.

    Raises:
        DataError: a column is missing or holds nothing of its type, or a label is no number.
    """
    for name in (schema.label, *schema.columns):
        if name not in frame.columns:
            raise DataError(f"{where} has no column {name!r}; infer its schema again, or mend the schema")
    labels = frame.select(cells.truth(schema.label, frame.schema[schema.label], where).alias("y"))["y"]
    bad = (~labels.is_between(0, 1)).fill_null(True).arg_true()
    if len(bad):
        cell = frame[schema.label][bad[0]]
        raise DataError(
            f"label column {schema.label!r} of {where} holds {'nothing' if cell is None else repr(cell)} in row "
            f"{bad[0] + 1}; expected 0 or 1"
        )
    truth = labels.to_numpy() > 0.5
    columns = tuple(_column(frame, name, schema, parts, truth, where) for name in schema.columns)
    found = _parts(frame, schema, parts, labels.to_numpy(), where)
    return TableDescription(columns, found, tuple(_warnings(frame, schema, columns, found, where)))


def rank_auc(scores: NDArray[np.float64], truth: NDArray[np.bool_]) -> float | None:
    """How often a score of a true row is above one of a false row, ties half; None without both."""
    ones, zeros = int(truth.sum()), int((~truth).sum())
    if not ones or not zeros:
        return None
    ranks = pl.Series(scores).rank("average").to_numpy()
    return float((ranks[truth].sum() - ones * (ones + 1) / 2) / (ones * zeros))


def column_auc(frame: pl.DataFrame, name: str, number: bool, truth: NDArray[np.bool_], where: Where) -> float | None:
    """How well one column tells the label: a number by its rank, a category by its mean label on every other row."""
    kind = frame.schema[name]
    if number:
        values = frame.select(cells.finite(cells.number(name, kind, where)).alias("v"))["v"]
        known = values.is_not_null().to_numpy()
        auc = rank_auc(values.drop_nulls().to_numpy(), truth[known])
    else:
        text = frame.select(cells.text(pl.col(name), kind, name, where).fill_null("").alias("v"))["v"]
        first = np.arange(len(truth)) % 2 == 0
        rows = pl.DataFrame({"v": text, "y": truth.astype(float)})
        means = rows.filter(pl.Series(first)).group_by("v").agg(pl.col("y").mean().alias("mean"))
        overall = float(truth[first].mean()) if first.any() else 0.5
        held = rows.filter(pl.Series(~first)).join(means, on="v", how="left", maintain_order="left")
        auc = rank_auc(held["mean"].fill_null(overall).to_numpy(), truth[~first])
    return None if auc is None else max(auc, 1 - auc)


def _column(
    frame: pl.DataFrame, name: str, schema: TableSchema, parts: NDArray[np.int8], truth: NDArray[np.bool_], where: Where
) -> ColumnDescription:
    column, kind = schema.columns[name], frame.schema[name]
    number = column.type in ("dense", "time") or column.buckets != "none"
    listed = column.type in ("sequence", "vector")
    facts = column_facts(frame.select(name), name, where)
    head: tuple[tuple[str, float], ...] = ()
    unknown: dict[str, float] = {}
    if column.has_vocabulary and column.buckets == "none":
        tokens = frame.select(cells.tokens(name, column, kind, where).alias("v"), pl.Series("part", parts))
        tokens = tokens.explode("v") if column.type == "sequence" else tokens
        tokens = tokens.filter(pl.col("v").is_not_null() & (pl.col("v") != ""))
        counts = tokens["v"].value_counts(sort=True, name="rows").sort(["rows", "v"], descending=[True, False])
        head = tuple((value, rows / len(frame)) for value, rows in counts.head(HEAD).rows())
        if column.hash_buckets is None:
            seen = tokens.filter(pl.col("part") == 0)["v"].value_counts(name="rows")
            known = seen.filter(pl.col("rows") >= column.min_count)["v"]
            for part, its in enumerate(PARTS[1:], start=1):
                mine = tokens.filter(pl.col("part") == part)["v"]
                unknown[its] = float((~mine.is_in(known.implode())).mean() or 0.0)  # type: ignore[arg-type]
        distinct = len(counts)
    else:
        distinct = facts.distinct
    auc = None if listed or column.type == "time" else column_auc(frame, name, number, truth, where)
    return ColumnDescription(name, column.type, distinct, facts.missing, head, unknown, auc)


def _parts(
    frame: pl.DataFrame, schema: TableSchema, parts: NDArray[np.int8], labels: NDArray[np.float64], where: Where
) -> tuple[PartDescription, ...]:
    features = [name for name in frame.columns if name not in (schema.label, schema.weight)]
    hashes = frame.select(features).hash_rows(1)
    known = hashes.filter(pl.Series(parts == 0)).unique()
    again = hashes.is_in(known.implode()).to_numpy()
    moments = None
    if schema.time is not None and schema.time in frame.columns:
        moments = frame.select(cells.seconds(schema.time, frame.schema[schema.time], where).alias("m"))["m"]
    found = []
    for part, name in enumerate(PARTS):
        mine = parts == part
        span = None if moments is None else moments.filter(pl.Series(mine)).drop_nulls()
        first, last = (None, None) if span is None or not len(span) else (float(span.min()), float(span.max()))  # type: ignore[arg-type]
        rate = float(labels[mine].mean()) if mine.any() else None
        found.append(PartDescription(name, int(mine.sum()), rate, first, last, int(again[mine].sum()) if part else 0))
    return tuple(found)


def _warnings(
    frame: pl.DataFrame,
    schema: TableSchema,
    columns: tuple[ColumnDescription, ...],
    parts: tuple[PartDescription, ...],
    where: Where,
) -> list[str]:
    warnings = []
    for part in parts:
        if part.label_rate in (0.0, 1.0):
            warnings.append(
                f"the label is {part.label_rate:g} in every {part.name} row of {where}; training needs both 0 and 1"
            )
    for column in columns:
        if column.auc is not None and column.auc > LEAK_AUC:
            warnings.append(
                f"column {column.name!r} tells the label alone (AUC {column.auc:.4f}); leave it out unless it is known "
                "before the click"
            )
        filled = len(frame) - column.missing
        hashed = schema.columns[column.name].buckets != "none"
        if column.type == "sparse" and not hashed and filled >= ENOUGH and column.distinct == filled:
            warnings.append(
                f"column {column.name!r} has another id in each of {filled:,} rows, from which nothing can be learned; "
                "leave it out"
            )
    for part in parts[1:]:
        if part.duplicates and part.duplicates >= DUPLICATE_SHARE * part.rows:
            warnings.append(
                f"{part.duplicates:,} of {part.rows:,} {part.name} rows of {where} stand in the training rows too, but "
                "for the label; remove duplicates before the split"
            )
    return warnings
