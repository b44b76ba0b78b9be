"""pandas frames as polars ones: a column's type decides what becomes of it, not what numpy would make of it."""

from typing import Any

import numpy as np
import polars as pl

from deepfm.data.categories import id_text
from deepfm.errors import DataError

EXTENSION_TYPES = {
    "i": pl.Int64,
    "u": pl.UInt64,
    "f": pl.Float64,
    "b": pl.Boolean,
}  # numpy's kind → what holds gaps too


def polars_frame(frame: Any, where: str = "X") -> pl.DataFrame:
    """A pandas or polars frame as a polars one, its columns' names as text; missing values are null.

    Numbers and booleans stay what they are, in object columns too; categories become text. Missing values of a
    `float64` column are NaN.

    Args:
        where: names the frame in an error.

    Raises:
        DataError: two columns of one name, or values that no column of polars can hold.
    """
    if isinstance(frame, pl.DataFrame):
        return frame
    names = [str(name) for name in frame.columns]
    if len(set(names)) != len(names):
        raise DataError(f"{where} has columns of the same name: {sorted(names)}; give each one of its own")
    return pl.DataFrame({name: read_series(frame.iloc[:, place], name, where) for place, name in enumerate(names)})


def read_series(column: Any, name: str, where: str = "a table") -> pl.Series:
    """A pandas, polars or pyarrow column, an array of one or two dimensions, or a list, as a polars series.

    Args:
        name, where: name the column in an error.

    Raises:
        DataError: values that no column of polars can hold.
    """
    try:
        return _series(column)
    except (TypeError, ValueError, OverflowError, pl.exceptions.PolarsError) as error:
        reason = " ".join(str(error).split())[:200].rstrip(".")
        raise DataError(
            f"column {name!r} of {where} cannot be read: {reason}; expected text, numbers, dates or lists"
        ) from error


def _series(column: Any) -> pl.Series:
    if isinstance(column, pl.Series):
        return column
    if type(column).__module__.startswith("pyarrow"):
        return pl.Series(column)
    if not hasattr(column, "iloc"):
        return _values(column)
    if hasattr(column, "cat"):
        return _categories(column)
    kind = column.dtype.kind
    if isinstance(column.dtype, np.dtype) and kind in EXTENSION_TYPES:
        return _numbers(column.to_numpy())
    known = column.astype(object).where(column.notna(), None).tolist()
    if kind in EXTENSION_TYPES:
        return pl.Series(known, dtype=EXTENSION_TYPES[kind])
    return _objects(known)


def _numbers(values: Any) -> pl.Series:
    wide = values.dtype.kind == "f" and values.dtype.itemsize not in (4, 8)
    return pl.Series(values.astype(np.float64) if wide else values)


def _values(column: Any) -> pl.Series:
    """An array, or anything that can be walked through; NaN among texts or lists is a missing value."""
    if isinstance(column, np.ndarray) and column.dtype.kind in EXTENSION_TYPES:
        return _numbers(column)
    if isinstance(column, np.ndarray) and column.dtype.kind in "mM":
        return pl.Series(column)
    values = column.tolist() if hasattr(column, "tolist") else list(column)
    if any(isinstance(value, str | list | tuple | np.ndarray) for value in values):
        values = [None if isinstance(value, float) and value != value else value for value in values]
    return _objects(values)


def _objects(known: list[Any]) -> pl.Series:
    if any(isinstance(value, np.ndarray) for value in known):
        known = [value.tolist() if isinstance(value, np.ndarray) else value for value in known]
    return pl.Series(known, strict=False)


def _categories(column: Any) -> pl.Series:
    """Categories are ids, whatever their type: numbers, texts, or the intervals of `pandas.cut`."""
    values = _series(column.cat.categories.to_series())
    if values.dtype == pl.Object:
        values = pl.Series([str(value) for value in values], dtype=pl.String)
    texts = values.to_frame("value").select(id_text(pl.col("value"), values.dtype)).to_series()
    codes = pl.Series(column.cat.codes.to_numpy().astype(np.int64))
    return texts.gather(codes.set(codes < 0, None))
