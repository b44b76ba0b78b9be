"""What the lines of MovieLens' larger versions hold, and which of them is wrong."""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import polars as pl

from deepfm.data.grouplens.columns import AGE_BUCKETS
from deepfm.data.grouplens.download import decode_file
from deepfm.errors import DataError

_MOST_DIGITS = 18  # of a number that int64 surely holds
_SINGLE = "\x1f"  # stands for "::" while a file is read: one byte that no title holds


@dataclass(frozen=True)
class Kind:
    """What one column holds.

    Args:
        expected: of its values, for people.
        low, high: of its numbers; `high` None for no limit.
        step: what ratings are multiples of; 0 for other numbers.
        among: the only values; empty for all in the range.
        whole: whether the values are whole numbers; text where there is no `step` either.
    """

    expected: str
    low: float = 0
    high: float | None = None
    step: float = 0
    among: tuple[int, ...] = ()
    whole: bool = False

    def good(self, column: pl.Expr) -> pl.Expr:
        """Whether values that were read are right."""
        if not self.whole and not self.step:
            return column.is_not_null()
        fine = column.is_not_null() & (column >= self.low)
        if self.high is not None:
            fine = fine & (column <= self.high)
        if self.step:
            fine = fine & ((column / self.step) == (column / self.step).floor())
        return fine & column.is_in(self.among) if self.among else fine

    def reads(self, text: str) -> bool:
        """Whether a cell's text is right."""
        if not self.whole and not self.step:
            return bool(text)
        if self.whole and not (text.isascii() and text.isdecimal() and len(text) <= _MOST_DIGITS):
            return False
        try:
            value = float(text)
        except ValueError:
            return False
        good = value >= self.low and (self.high is None or value <= self.high)
        good = good and (not self.step or (value / self.step).is_integer())
        return good and (not self.among or value in self.among)


TEXT = Kind("expected text")
ID = Kind("expected a whole number, 0 or more", whole=True)
TIME = ID
AGES = Kind(f"expected one of {', '.join(map(str, AGE_BUCKETS))}", among=AGE_BUCKETS, whole=True)
RATING_5 = Kind("expected a whole number from 1 to 5", 1, 5, step=1)
RATING_HALVES = Kind("expected a number from 0.5 to 5 in halves", 0.5, 5, step=0.5)


@dataclass(frozen=True)
class Layout:
    """One file: its columns in order, and what stands between two values.

    CSV files are UTF-8 with a header; those with `::` are latin-1 without one.
    """

    columns: dict[str, Kind]
    separator: str

    @property
    def has_header(self) -> bool:
        """Whether the first line names the columns."""
        return self.separator == ","

    @property
    def single(self) -> str:
        """The one byte that separates values where polars reads them."""
        return self.separator if self.has_header else _SINGLE


def source_of(path: Path, layout: Layout, advice: str) -> Path | BytesIO:
    """What polars is to read: the file itself, or its text with one byte between two values.

    Raises:
        DataError: the file cannot be read, is empty, is in another encoding, or has another header.
    """
    try:
        if not layout.has_header:
            text = decode_file(str(path), path.read_bytes(), ascii_only=False, advice=advice)
            return BytesIO(text.replace(_SINGLE, "\N{REPLACEMENT CHARACTER}").replace("::", _SINGLE).encode())
        with open(path, "rb") as file:
            head = file.readline(4096)
    except OSError as error:
        reason = error.strerror or str(error)
        raise DataError(f"{path} cannot be read: {reason}; expected a file; {advice}") from error
    if not head.strip():
        raise DataError(f"{path} is empty; expected a header and rows; {advice}")
    found, expected = head.decode("utf-8-sig", "replace").strip(), ",".join(layout.columns)
    if found != expected:
        hint = " (a '::' separator, as in MovieLens-1M, which is another data set)" if "::" in found else ""
        raise DataError(f"{path} line 1: the header is {_show(found)}{hint}, expected {expected!r}; {advice}")
    return path


def is_cut_off(path: Path, last: pl.Series) -> bool:
    """Whether a file lacks its last newline and its last value is shorter than all others."""
    with open(path, "rb") as file:
        file.seek(-1, 2)
        if file.read(1) == b"\n" or len(last) < 2:
            return False
    lengths = last.cast(pl.String).str.len_chars()
    return bool(lengths[-1] < lengths[:-1].min())


def first_fault(path: Path, layout: Layout, advice: str, reason: str) -> str:
    """One sentence on the first line that is wrong.

    Args:
        path: the file.
        layout: what it should hold.
        advice: what the reader may do.
        reason: what is said where every line looks right.
    """
    names = list(layout.columns)
    lines = _lines(path, layout)
    for number, cells in lines:
        if len(cells) != len(names):
            few = "too few" if len(cells) < len(names) else "too many"
            hint = " (the last line: the file was cut off)" if few == "too few" and next(lines, None) is None else ""
            return (
                f"{path} line {number}: {_show(layout.separator.join(cells))} has {few} columns, {len(cells)}{hint}, "
                f"expected {len(names)} separated by {layout.separator!r}; {advice}"
            )
        for name, cell in zip(names, cells, strict=True):
            if not layout.columns[name].reads(cell):
                return f"{path} line {number}: {name} {_show(cell)}, {layout.columns[name].expected}; {advice}"
    return f"{path} cannot be read: {reason}; {advice}"


def _lines(path: Path, layout: Layout) -> Iterator[tuple[int, list[str]]]:
    """Number and cells of each line."""
    encoding = "utf-8-sig" if layout.has_header else "latin-1"
    with open(path, encoding=encoding, errors="replace", newline="" if layout.has_header else None) as file:
        if not layout.has_header:
            for number, line in enumerate(file, 1):
                yield number, line.removesuffix("\n").split(layout.separator)
            return
        reader = csv.reader(file)
        next(reader, None)
        for cells in reader:
            yield reader.line_num, cells


def _show(value: str) -> str:
    return repr(value if len(value) <= 60 else value[:57] + "...")
