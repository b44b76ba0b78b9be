"""Tables of the wing: read from Parquet or CSV, held to their columns, written whole or not at all."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import polars as pl

from deepfm.errors import DataError
from deepfm.utils.io import atomic_path


def read_table(path: Path, what: str) -> pl.DataFrame:
    """A table of Parquet or CSV; `what` names it in errors.

    Raises:
        DataError: it is missing or cannot be read.
    """
    try:
        is_csv = path.suffix.lower() == ".csv"
        return pl.read_csv(path, infer_schema_length=None) if is_csv else pl.read_parquet(path)
    except FileNotFoundError as error:
        raise DataError(f"{what} {path} does not exist; expected a table in Parquet or CSV") from error
    except (OSError, pl.exceptions.PolarsError) as error:
        raise DataError(f"{what} {path} cannot be read as a table; expected Parquet, or CSV with a header") from error


def write_table(rows: pl.DataFrame, path: Path) -> None:
    """Write Parquet, whole or not at all."""
    with atomic_path(path) as beside:
        rows.write_parquet(beside)


def in_columns(
    rows: pl.DataFrame, columns: Mapping[str, pl.DataType], needed: Sequence[str], what: str
) -> pl.DataFrame:
    """The rows with `columns` first, absent ones empty, in their types; further columns follow as they are.

    Raises:
        DataError: a needed column is absent or has an empty cell, or a cell is of another type.
    """
    missing = [name for name in needed if name not in rows.columns]
    if missing:
        raise DataError(f"{what} has no column {missing[0]!r}; expected {', '.join(columns)}; got {rows.columns}")
    for name in needed:
        empty = rows[name].null_count()
        if empty:
            raise DataError(f"{what} has {empty} rows without {name!r}; expected it in every row; fill or drop them")
    for name, kind in columns.items():
        have = rows[name] if name in rows.columns else pl.Series(name, [None] * len(rows), kind)
        try:
            typed = have.cast(kind)
            if kind == pl.Int64() and have.dtype.is_float() and (typed.cast(pl.Float64) != have).any():
                raise pl.exceptions.InvalidOperationError("a fraction would be cut off")
            rows = rows.with_columns(typed.alias(name))
        except pl.exceptions.PolarsError as error:
            raise DataError(f"{what} has a {name!r} that is no {kind}; got column type {have.dtype}") from error
    return rows.select([*columns, *(name for name in rows.columns if name not in columns)])
