"""Numbers as a reader sees them, and the table of figures that says where each comes from."""

from collections.abc import Iterable, Mapping
from typing import Any

from deepfm.reporting import Block, Column, Note, Paragraph, Table, TableBlock

Row = tuple[str, Any, str]


def figures(rows: Iterable[Row], caption: str = "") -> Block:
    """A table of named figures with their sources; those that are None are left out."""
    kept = [[name, text(value), source] for name, value, source in rows if value is not None]
    if not kept:
        return Paragraph("Not measured.")
    return TableBlock(Table([Column("figure"), Column("value"), Column("source")], kept, caption, best=False))


def table(names: Iterable[str], rows: Iterable[Iterable[Any]], caption: str = "", empty: str = "None.") -> Block:
    """A table of texts and numbers; `empty` where it has no rows."""
    made = [[text(cell) for cell in row] for row in rows]
    columns = [Column(name) for name in names]
    return TableBlock(Table(columns, made, caption, best=False)) if made else Paragraph(empty)


def skipped(what: str, reason: str | None) -> Block:
    """What is not there, and why."""
    return Note(f"{what} was not measured: {reason or 'it failed'}")


def text(value: Any) -> str:
    """A figure in words: thousands apart, four digits of a fraction."""
    if value is None:
        return "–"  # noqa: RUF001  as tables print what is missing
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1e5 and value == round(value) else f"{value:.4g}"
    return str(value)


def source_of(part: Any, name: str) -> str:
    """What a result says of the source of its figure."""
    return str(getattr(part, "SOURCES", {}).get(name, "measured"))


def size(count: float | None) -> str | None:
    """Bytes in a unit that fits."""
    if count is None:
        return None
    for unit, step in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if abs(count) >= step:
            return f"{count / step:,.2f} {unit}"
    return f"{count:,.0f} B"


def operations(count: float | None) -> str | None:
    """FLOPs, whole and in a unit that fits."""
    if count is None:
        return None
    for unit, step in (("T", 1e12), ("G", 1e9), ("M", 1e6)):
        if count >= step:
            return f"{count:,.0f} ({count / step:.3g} {unit}FLOP)"
    return f"{count:,.0f} FLOP"


def seconds(value: float | None) -> str | None:
    """A time in a unit that fits."""
    if value is None:
        return None
    for unit, step in (("h", 3600.0), ("min", 60.0), ("s", 1.0), ("ms", 1e-3)):
        if value >= step:
            return f"{value / step:.3g} {unit}"
    return f"{value * 1e6:.3g} µs"


def shape(sizes: Iterable[Any]) -> str:
    """A shape in brackets."""
    return "(" + ", ".join(map(str, sizes)) + ")"


def shares(values: Mapping[str, float]) -> str:
    """Named shares, the largest first."""
    return ", ".join(f"{name} {share:.0%}" for name, share in sorted(values.items(), key=lambda pair: -pair[1]))
