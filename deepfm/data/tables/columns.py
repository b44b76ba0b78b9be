"""Cells as polars expressions: numbers, ids as text, lists, moments; whatever type a file holds them in."""

from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray
from polars.datatypes import DataType

from deepfm.data.categories import id_text, same_text
from deepfm.data.tables.schema import TableColumn
from deepfm.errors import DataError

Where = str | Path
DAY = 86_400
DATE_FORMATS = ("%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%dT%H:%M:%S%.fZ", "%Y-%m-%d %H:%M")
ZONED_FORMATS = ("%Y-%m-%d %H:%M:%S%.f%#z", "%Y-%m-%dT%H:%M:%S%.f%#z")
MOMENT = "a date and time such as 2026-01-31 12:00:00 (a zone, +01:00 or Z, may follow), or seconds since 1970"
UNITS = ((1e17, 1e9), (1e14, 1e6), (1e11, 1e3))  # a number of that size counts that many parts of a second


def number(name: str, kind: DataType, where: Where) -> pl.Expr:
    """A column as float64; null where a text is no number.

    Raises:
        DataError: the column's type holds no numbers.
    """
    if kind == pl.String:
        return pl.col(name).str.strip_chars().cast(pl.Float64, strict=False)
    if kind.is_numeric() or kind in (pl.Boolean, pl.Null):
        return pl.col(name).cast(pl.Float64)
    raise DataError(f"column {name!r} of {where} is of type {kind}; expected numbers, or another type in its schema")


def truth(name: str, kind: DataType, where: Where) -> pl.Expr:
    """A label as float64: a number, or true and false in any capitals; null where a text is neither.

    Raises:
        DataError: the column's type holds no numbers.
    """
    values = number(name, kind, where)
    if kind != pl.String:
        return values
    word = pl.col(name).str.strip_chars().str.to_lowercase()
    return pl.when(word == "true").then(1.0).when(word == "false").then(0.0).otherwise(values)


def finite(values: pl.Expr) -> pl.Expr:
    """Numbers, null where one is not finite."""
    return pl.when(values.is_finite()).then(values)


def is_empty(name: str, kind: DataType) -> pl.Expr:
    """Whether a cell holds nothing: null, NaN, text without a character, or a list without a value."""
    cell = pl.col(name)
    if isinstance(kind, pl.List):
        return cell.is_null() | (cell.list.len() == 0)
    if kind == pl.String:
        return cell.is_null() | (cell.str.strip_chars() == "")
    return cell.is_null() | cell.is_nan() if kind.is_float() else cell.is_null()


def log_bucket(values: pl.Expr) -> pl.Expr:
    """Whole numbers, above 2 as floor(ln(x)²): the winners' way with Criteo's counts; as text, null for none."""
    whole = finite(values).cast(pl.Int64, strict=False)
    logs = (whole.clip(lower_bound=1).cast(pl.Float64).log() ** 2).floor().cast(pl.Int64)
    return pl.when(whole > 2).then(logs).otherwise(whole).cast(pl.String)


def seconds(name: str, kind: DataType, where: Where) -> pl.Expr:
    """A column of moments as seconds since 1970 in UTC, float64; null where there is no moment.

    Dates and times, their ISO texts, and numbers of seconds, or of milli-, micro- or nanoseconds where they are as
    large as those are today.

    Raises:
        DataError: the column's type holds no moments.
    """
    if isinstance(kind, pl.Datetime | pl.Date):
        return pl.col(name).cast(pl.Datetime("us")).dt.epoch("us").cast(pl.Float64) / 1e6
    counted = finite(number(name, kind, where))
    answer = counted
    for size, unit in reversed(UNITS):
        answer = pl.when(counted.abs() >= size).then(counted / unit).otherwise(answer)
    if kind == pl.String:
        text = pl.col(name).str.strip_chars()
        parsed = [text.str.to_datetime(form, strict=False, time_unit="us") for form in DATE_FORMATS]
        parsed += [
            text.str.to_datetime(form, strict=False, time_unit="us", time_zone="UTC").dt.replace_time_zone(None)
            for form in ZONED_FORMATS
        ]
        day = text.str.to_date("%Y-%m-%d", strict=False).cast(pl.Datetime("us"))
        answer = pl.coalesce(answer, pl.coalesce(*parsed, day).dt.epoch("us").cast(pl.Float64) / 1e6)
    return answer


def cycles(moments: NDArray[np.float64], periods: tuple[str, ...]) -> NDArray[np.float32]:
    """Sine and cosine of each period's place, `(N, 2·periods)`; zeros where a moment is NaN."""
    known = ~np.isnan(moments)
    stamps = np.where(known, moments, 0.0).astype("datetime64[s]")
    days, months, years = (stamps.astype(f"datetime64[{unit}]") for unit in "DMY")
    since = stamps.astype(np.int64) - days.astype(np.int64) * DAY
    places = {
        "hour": since / DAY,
        "weekday": ((days.astype(np.int64) + 3) % 7) / 7,  # 1970-01-01 was a Thursday
        "month_day": (days - months.astype("datetime64[D]")).astype(np.int64) / 31,
        "year_day": (days - years.astype("datetime64[D]")).astype(np.int64) / 366,
    }
    angles = 2 * np.pi * np.stack([places[period] for period in periods], axis=1)
    pairs = np.stack([np.sin(angles), np.cos(angles)], axis=2).reshape(len(moments), -1)
    return (pairs * known[:, None]).astype(np.float32)


def tokens(name: str, column: TableColumn, kind: DataType, where: Where) -> pl.Expr:
    """A column of ids as text, or of lists of ids as lists of text; missing ones null.

    Raises:
        DataError: the column's type holds no ids.
    """
    if column.type == "sparse":
        return text(pl.col(name), kind, name, where)
    if isinstance(kind, pl.List | pl.Array):
        lists = pl.col(name) if isinstance(kind, pl.List) else pl.col(name).arr.to_list()
        assert kind.inner is not None
        inner = kind.inner() if isinstance(kind.inner, type) else kind.inner
        return lists.list.eval(text(pl.element(), inner, name, where).drop_nulls())
    texts = pl.col(name) if kind == pl.String else text(pl.col(name), kind, name, where)
    parts = texts.str.split(column.separator).list.eval(same_text(pl.element()))
    return parts.list.eval(pl.element().filter(pl.element() != ""))


def text(values: pl.Expr, kind: DataType, name: str, where: Where) -> pl.Expr:
    """Ids as text: alike, whatever type holds them.

    Raises:
        DataError: the column's type holds no ids.
    """
    texts = isinstance(kind, pl.String | pl.Categorical | pl.Enum | pl.Boolean | pl.Null)
    if not (texts or kind.is_numeric() or (kind.is_temporal() and kind != pl.Duration)):
        raise DataError(
            f"column {name!r} of {where} is of type {kind}; expected text or whole numbers, or type: sequence for lists"
        )
    return id_text(values, kind)


def vector_lists(name: str, column: TableColumn, kind: DataType, where: Where) -> pl.Expr:
    """A column of vectors as lists of float64.

    Raises:
        DataError: the column's type holds no lists of numbers.
    """
    if isinstance(kind, pl.List | pl.Array) and kind.inner is not None and kind.inner.is_numeric():
        lists = pl.col(name) if isinstance(kind, pl.List) else pl.col(name).arr.to_list()
        return lists.cast(pl.List(pl.Float64))
    if kind == pl.String:
        parts = pl.col(name).str.strip_chars().str.strip_chars("[]")
        split = parts.str.split(column.separator).list.eval(
            pl.element().str.strip_chars().cast(pl.Float64, strict=False)
        )
        return pl.when(parts != "").then(split)
    raise DataError(
        f"column {name!r} of {where} is of type {kind}; expected lists of numbers, or text with separator "
        f"{column.separator!r}"
    )


def padded(lists: pl.Series, length: int) -> NDArray[np.int32]:
    """Lists of indices → `(N, length)`, each from the left, padded with 0; null is an empty list."""
    sizes = lists.list.len().fill_null(0).cast(pl.Int64).to_numpy()
    codes = lists.filter(lists.list.len() > 0).explode().to_numpy()
    rows = np.repeat(np.arange(len(lists)), sizes)
    places = np.arange(len(codes)) - np.repeat(sizes.cumsum() - sizes, sizes)
    matrix = np.zeros((len(lists), length), dtype=np.int32)
    matrix[rows, places] = codes
    return matrix
