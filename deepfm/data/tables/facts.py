"""What a table's columns hold, measured on rows: the facts that inference and descriptions go by."""

from dataclasses import dataclass
from typing import Any

import polars as pl
from polars.datatypes import DataType

from deepfm.data.tables import columns as cells
from deepfm.data.tables.columns import Where

SEPARATORS = ("|", ";", ",", " ")
NO_LISTS = {  # texts of one form that a separator's sign stands in, and how that form should be written
    "numbers with commas between thousands": r"^[+-]?(\d{1,3}(,\d{3})+(\.\d+)?|\d+(\.\d+)?)$",
    "dates in a form that is not read": r"^\d{1,4}[/.-]\d{1,2}[/.-]\d{1,4}([ T].*)?$",
    "times of a day": r"^\d{1,2}:\d{2}(:\d{2}(\.\d+)?)?$",
}
LIST_SHARE = 0.05  # of the cells that hold a separator, from which on a text may be a list


@dataclass(frozen=True)
class ColumnFacts:
    """One column.

    Args:
        kind: `number`, `moment`, `list`, `vector`, `boolean`, `text` or `empty`.
        rows, missing, distinct: counts; a missing cell is no distinct value.
        whole: whether all numbers are whole.
        low, high, median: of numbers; None for others.
        singles: how many values stand once.
        length: characters of a text in the mean; tokens of a list that 95 % of lists do not exceed.
        separator: of a text that holds lists.
        tokens: distinct tokens of lists.
        increasing: whether whole numbers only go up, as a row's number does.
        numbers: how many cells of a text are finite numbers all the same.
        odd: of those that are none, the first.
        form: what all texts are, where that is something to be written otherwise.
    """

    name: str
    kind: str
    rows: int
    missing: int
    distinct: int
    whole: bool = False
    low: float | None = None
    high: float | None = None
    median: float | None = None
    singles: int = 0
    length: float = 0.0
    separator: str | None = None
    tokens: int = 0
    increasing: bool = False
    numbers: int = 0
    odd: str = ""
    form: str = ""

    @property
    def known(self) -> int:
        """Cells that hold something."""
        return self.rows - self.missing


def column_facts(frame: pl.DataFrame, name: str, where: Where = "the table") -> ColumnFacts:
    """Measure one column of rows in memory."""
    kind, column = frame.schema[name], frame[name]
    rows = len(frame)
    if isinstance(kind, pl.List | pl.Array):
        return _list_facts(column.arr.to_list() if isinstance(kind, pl.Array) else column, name, kind)
    empty = frame.select(cells.is_empty(name, kind).alias(name))[name]
    held = frame.filter(~empty)
    counts = held[name].value_counts(name="rows: " + name)["rows: " + name]
    common: dict[str, Any] = {
        "rows": rows,
        "missing": int(empty.sum()),
        "distinct": len(counts),
        "singles": int((counts == 1).sum()),
    }
    if not len(held):
        return ColumnFacts(name, "empty", **common)
    if kind == pl.Boolean:
        return ColumnFacts(name, "boolean", **common)
    if isinstance(kind, pl.Datetime | pl.Date):
        return ColumnFacts(name, "moment", **common)
    if kind.is_numeric() or kind == pl.String:
        numbers = held.select(cells.finite(cells.number(name, kind, where)).alias(name))[name]
        if not numbers.null_count():
            whole = bool((numbers == numbers.round()).all())
            steps = numbers.diff().drop_nulls()
            facts: dict[str, Any] = {"low": numbers.min(), "high": numbers.max(), "median": numbers.median()}
            return ColumnFacts(
                name, "number", **common, whole=whole, **facts, increasing=whole and bool((steps > 0).all())
            )
        common |= {"numbers": len(numbers) - numbers.null_count(), "odd": str(held[name].filter(numbers.is_null())[0])}
    if kind == pl.String:
        moments = held.select(cells.seconds(name, kind, where).alias(name))[name]
        if not moments.null_count():
            return ColumnFacts(name, "moment", **common)
        texts = held[name].str.strip_chars()
        if form := next((form for form, pattern in NO_LISTS.items() if texts.str.contains(pattern).all()), ""):
            return ColumnFacts(name, "text", **common, form=form)
        if words := truth_words(texts):
            return ColumnFacts(name, "boolean", **common | {"distinct": len(words)})
        listed = _separated(held[name])
        if listed is not None:
            separator, length, tokens = listed
            return ColumnFacts(name, "list", **common, length=length, separator=separator, tokens=tokens)
    mean = held[name].cast(pl.String).str.len_chars().mean()
    return ColumnFacts(name, "text", **common, length=float(mean) if isinstance(mean, float | int) else 0.0)


def truth_words(texts: pl.Series) -> set[str]:
    """Which of true and false texts are, in any capitals; none where one is neither."""
    words = set(texts.str.to_lowercase().unique().to_list())
    return words if words <= {"true", "false"} else set()


def _list_facts(column: pl.Series, name: str, kind: DataType) -> ColumnFacts:
    inner = kind.inner if isinstance(kind, pl.List | pl.Array) else None
    held = column.drop_nulls()
    held = held.filter(held.list.len() > 0)
    missing = len(column) - len(held)
    if not len(held):
        return ColumnFacts(name, "empty", len(column), missing, 0)
    lengths = held.list.len()
    common: dict[str, Any] = {
        "rows": len(column),
        "missing": missing,
        "length": float(lengths.quantile(0.95, "higher") or 1),
    }
    if inner is not None and inner.is_float() and lengths.n_unique() == 1:
        return ColumnFacts(name, "vector", distinct=0, **common)
    return ColumnFacts(name, "list", distinct=0, tokens=held.explode().n_unique(), **common)


def _separated(texts: pl.Series) -> tuple[str, float, int] | None:
    """The separator of lists in text, the length that 95 % do not exceed, and distinct tokens; None for no lists."""
    for separator in SEPARATORS:
        if texts.str.contains(separator, literal=True).mean() < LIST_SHARE:  # type: ignore[operator]
            continue
        tokens = texts.str.split(separator)
        all_tokens = tokens.explode().str.strip_chars()
        distinct = all_tokens.n_unique()
        # A list's tokens come again in other company; a sentence's or a title's mostly do not.
        if 2 * distinct <= len(all_tokens) and distinct < texts.n_unique() * (4 if separator in ", " else 100):
            length = tokens.list.len().quantile(0.95, "higher")
            return separator, float(length or 1), distinct
    return None
