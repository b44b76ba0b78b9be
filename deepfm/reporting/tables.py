"""Tables of plain values that know which cell is the best, for terminals, Markdown and JSON."""

import math
import numbers
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from deepfm.errors import DataError

if TYPE_CHECKING:
    from rich.console import Console

Cell = str | int | float | bool | None
MISSING = "–"  # noqa: RUF001  what a missing or non-finite value prints as


@dataclass(frozen=True)
class Column:
    """How one column reads.

    Args:
        name: the heading, unique in its table.
        align: "left" or "right"; left out, columns with a format go right and the others left.
        format: a format specification for numbers, such as ".4f", ",d" or ".1%"; text ignores it.
        better: which numbers win, "high" or "low"; None where no cell is better than another.

    Raises:
        DataError: an argument is none of these.
    """

    name: str
    align: Literal["left", "right"] | None = None
    format: str = ""
    better: Literal["high", "low"] | None = None

    def __post_init__(self) -> None:
        if self.align not in ("left", "right", None):
            raise DataError(f"column {self.name!r} has align {self.align!r}; expected 'left' or 'right'")
        if self.better not in ("high", "low", None):
            raise DataError(f"column {self.name!r} has better {self.better!r}; expected 'high', 'low' or None")
        if self.align is None:
            object.__setattr__(self, "align", "right" if self.format else "left")

    def text(self, value: Cell) -> str:
        """The cell as a reader sees it.

        Raises:
            DataError: the column's format does not fit the number.
        """
        if value is None or (isinstance(value, float) and not math.isfinite(value)):
            return MISSING
        if isinstance(value, bool):
            return "yes" if value else "no"
        if isinstance(value, str):
            return value
        try:
            return format(value, self.format)
        except ValueError as error:
            raise DataError(
                f"column {self.name!r} cannot print {value!r} with the format {self.format!r}; "
                "expected one such as '.4f' for fractions or 'd' for whole numbers"
            ) from error


@dataclass(frozen=True)
class Table:
    """Rows of plain values under typed columns; `best=False` marks no cell.

    NumPy scalars become plain values. None and non-finite numbers print as "–" and never win.

    Example:
        >>> columns = [Column("model"), Column("auc", format=".3f", better="high")]
        >>> print(Table(columns, [["DeepFM", 0.912], ["FM", 0.904]]).to_markdown())
        | model | auc |
        | :--- | ---: |
        | DeepFM | **0.912** |
        | FM | 0.904 |

    Raises:
        DataError: no column, a name used twice, a row of another length, or a value that is not plain.
    """

    columns: Sequence[Column]
    rows: Sequence[Sequence[Any]]
    caption: str = ""
    best: bool = True

    def __post_init__(self) -> None:
        columns = tuple(self.columns)
        names = [column.name for column in columns]
        if not names:
            raise DataError("a table has no columns; expected at least one")
        if repeated := sorted({name for name in names if names.count(name) > 1}):
            raise DataError(f"a table has the column {repeated[0]!r} twice; expected names that differ")
        rows = []
        for number, row in enumerate(self.rows, start=1):
            if len(row) != len(columns):
                raise DataError(f"row {number} of a table has {len(row)} cells; expected {len(columns)}: {names}")
            rows.append(tuple(_plain(value, column) for value, column in zip(row, columns, strict=True)))
        object.__setattr__(self, "columns", columns)
        object.__setattr__(self, "rows", tuple(rows))

    def __repr__(self) -> str:
        names = [column.name for column in self.columns]
        return f"Table(columns={names}, rows={len(self.rows)}, caption={self.caption!r})"

    def texts(self) -> list[list[str]]:
        """The printed cells, row by row."""
        return [[column.text(value) for column, value in zip(self.columns, row, strict=True)] for row in self.rows]

    def best_cells(self) -> frozenset[tuple[int, int]]:
        """The (row, column) of every best cell.

        Numbers that print alike are tied, and every tied cell is best. A table of one row has no best cell.
        """
        if not self.best or len(self.rows) < 2:
            return frozenset()
        found = set()
        for at, column in enumerate(self.columns):
            numbers_at = {
                row: float(cells[at]) for row, cells in enumerate(self.rows) if column.better and _is_number(cells[at])
            }
            if numbers_at:
                pick = max if column.better == "high" else min
                winner = pick(numbers_at, key=numbers_at.__getitem__)
                text = column.text(self.rows[winner][at])
                found |= {(row, at) for row in numbers_at if column.text(self.rows[row][at]) == text}
        return frozenset(found)

    def to_markdown(self) -> str:
        """A Markdown table, the best cells bold, the caption below; text in it is escaped."""
        best = self.best_cells()
        lines = [
            [escape_markdown(column.name) for column in self.columns],
            ["---:" if column.align == "right" else ":---" for column in self.columns],
        ]
        for row, cells in enumerate(self.texts()):
            escaped = [escape_markdown(cell) for cell in cells]
            lines.append([f"**{cell}**" if (row, at) in best else cell for at, cell in enumerate(escaped)])
        text = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
        return f"{text}\n\n{escape_markdown(self.caption)}" if self.caption else text

    def to_records(self) -> list[dict[str, Cell]]:
        """One dict per row, ready for JSON: raw values, non-finite numbers as None."""
        names = [column.name for column in self.columns]
        return [
            {
                name: None if isinstance(value, float) and not math.isfinite(value) else value
                for name, value in zip(names, row, strict=True)
            }
            for row in self.rows
        ]


def print_table(table: Table, console: "Console | None" = None) -> None:
    """Print a table to a terminal: the best cells bold and marked with `*`, the caption below.

    Without a console it goes to stdout; where that is a file or a pipe, no cell is cut or folded.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table as RichTable
    from rich.text import Text

    if console is None:
        console = Console()
        if not console.is_terminal:
            console = Console(width=10_000)
    best = table.best_cells()
    drawn = RichTable(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in table.columns:
        drawn.add_column(Text(column.name), justify=column.align or "left", overflow="fold")
    for row, cells in enumerate(table.texts()):
        drawn.add_row(
            *(Text(f"*{cell}", style="bold") if (row, at) in best else Text(cell) for at, cell in enumerate(cells))
        )
    console.print(drawn)
    if table.caption:
        console.print(Text(table.caption, style="dim"))


def escape_markdown(text: str) -> str:
    """Text that Markdown, also inside a table's cell, shows as it stands, on one line."""
    text = " ".join(text.split())
    for character in "\\`*_[]|":
        text = text.replace(character, "\\" + character)
    return re.sub(r"&(?=#?\w+;)", "&amp;", text).replace("<", "&lt;")


def _is_number(value: Cell) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _plain(value: Any, column: Column) -> Cell:
    """The value as str, bool, int, float or None, once its column can print it."""
    if value is not None and not isinstance(value, str | bool):
        if isinstance(value, numbers.Integral):
            value = int(value)
        elif isinstance(value, numbers.Real):
            value = float(value)
        elif type(value).__module__ == "numpy" and type(value).__name__ in ("bool", "bool_"):
            value = bool(value)
        else:
            raise DataError(
                f"column {column.name!r} holds a {type(value).__name__}; expected text, a number, a boolean or None"
            )
    column.text(value)
    return value
