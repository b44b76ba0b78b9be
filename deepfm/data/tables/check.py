"""All rows of a table against its schema: every fault in a sentence, nothing fitted."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl
from polars.datatypes import DataType

from deepfm.data.tables import columns as cells
from deepfm.data.tables.columns import Where
from deepfm.data.tables.files import reading
from deepfm.data.tables.rows import cell_text, require_rows
from deepfm.data.tables.schema import TableSchema
from deepfm.data.vectors import VectorTable
from deepfm.engine.settings import nearest
from deepfm.errors import DataError

LISTS = (pl.List, pl.Array)
ROW = "number of the row"  # nobody's column has this name


@dataclass(frozen=True)
class ColumnCheck:
    """What a column of the schema holds: counts of rows, and of values where they are no lists."""

    name: str
    type: str
    missing: int
    distinct: int | None
    faulty: int


@dataclass(frozen=True)
class TableCheck:
    """What was found: `faults` in one sentence each; none where the table fits."""

    rows: int
    columns: tuple[ColumnCheck, ...]
    faults: tuple[str, ...]


def check_table(table: pl.LazyFrame, schema: TableSchema, where: Where = "the table") -> TableCheck:
    """Hold every row to the schema, in one pass.

    Raises:
        DataError: the table cannot be read, or has no rows.
    """
    with reading(where):
        types = dict(table.collect_schema())
    kinds = {name: column.type for name, column in schema.columns.items()} | {schema.label: "label"}
    kinds |= {
        name: role for role in ("time", "weight", "title") if (name := getattr(schema, role)) and name not in kinds
    }
    faults, bad, asked = [], {}, [pl.len().alias("rows")]
    for name, kind in kinds.items():
        if name not in types:
            faults.append(f"{where} has no {kind} column {name!r}; {nearest(name, list(types))}")
            continue
        try:
            bad[name] = _bad(name, types[name], kind, schema, where).fill_null(True)
        except DataError as error:
            faults.append(str(error))
            continue
        asked += _counts(len(bad) - 1, name, types[name], bad[name])
    with reading(where):
        found = table.with_row_index(ROW).select(asked).collect(engine="streaming").row(0, named=True)
    require_rows(found["rows"], where)
    columns = []
    for place, name in enumerate(bad):
        its: dict[str, Any] = {key: found.get(f"{key} {place}") for key in ("bad", "row", "missing", "distinct")}
        columns.append(ColumnCheck(name, kinds[name], its["missing"], its["distinct"], its["bad"]))
        if its["bad"]:
            faults.append(_fault(name, kinds[name], its, cell_text(table, name, its["row"]), where))
        elif name == schema.label:
            faults += _one_class(name, types[name], table, found["rows"], where)
        elif kinds[name] == "weight":
            faults += _no_weight(name, types[name], table, where)
    return TableCheck(found["rows"], tuple(columns), tuple(faults))


def _bad(name: str, kind: DataType, use: str, schema: TableSchema, where: Where) -> pl.Expr:
    """Whether a cell holds what its column cannot.

    Raises:
        DataError: the column's type holds no such values at all.
    """
    empty, column = cells.is_empty(name, kind), schema.columns.get(name)
    if use == "label":
        return ~cells.truth(name, kind, where).is_in([0.0, 1.0])
    if use == "weight":
        return ~(cells.finite(cells.number(name, kind, where)) >= 0)
    if use == "time":
        moment = cells.seconds(name, kind, where)
        return moment.is_null() if column is None else moment.is_null() & ~empty
    if column is None:
        return pl.lit(False)
    if use == "dense" or column.buckets != "none":
        none = cells.finite(cells.number(name, kind, where)).is_null()
        return none & ~empty if use == "sparse" or column.keeps_missing else none
    if use == "vector" and column.vectors is None:
        lists = cells.vector_lists(name, column, kind, where)
        sizes = lists.list.len()
        gaps = lists.list.eval(cells.finite(pl.element()).is_null()).list.any()
        return lists.is_not_null() & ((sizes != sizes.drop_nulls().first()) | gaps)
    if use == "vector" and column.vectors is not None:
        VectorTable.load(column.vectors)
    cells.tokens(name, column, kind, where) if use != "vector" else cells.text(pl.col(name), kind, name, where)
    return pl.lit(False)


def _counts(place: int, name: str, kind: DataType, bad: pl.Expr) -> list[pl.Expr]:
    every = bad & (pl.col(ROW) >= 0)  # also a constant as one value a row
    asked = [
        every.sum().alias(f"bad {place}"),
        pl.col(ROW).filter(every).min().alias(f"row {place}"),
        cells.is_empty(name, kind).sum().alias(f"missing {place}"),
    ]
    if not isinstance(kind, LISTS):
        asked.append(pl.col(name).drop_nulls().n_unique().alias(f"distinct {place}"))
    return asked


def _fault(name: str, kind: str, its: Mapping[str, Any], cell: str, where: Where) -> str:
    expected = {
        "label": "0 or 1, so mend such rows or name another label",
        "weight": "a number of 0 or more",
        "time": cells.MOMENT,
        "dense": "a finite number, so mend such rows, set missing: own for empty ones, or make the column sparse",
        "sparse": "a number, as the column has buckets",
        "vector": "as many finite numbers in every row",
    }[kind]
    more = f" ({its['bad']:,} such rows)" if its["bad"] > 1 else ""
    return f"{kind} column {name!r} of {where} holds {cell[:80]} in row {its['row'] + 1}{more}; expected {expected}"


def _no_weight(name: str, kind: DataType, table: pl.LazyFrame, where: Where) -> list[str]:
    with reading(where):
        high = table.select(cells.number(name, kind, where).max()).collect(engine="streaming").item()
    if high > 0:
        return []
    return [f"weight column {name!r} of {where} is 0 in every row; expected some above 0, or leave the role out"]


def _one_class(name: str, kind: DataType, table: pl.LazyFrame, rows: int, where: Where) -> list[str]:
    numbers = cells.truth(name, kind, where)
    with reading(where):
        low, high = table.select(numbers.min().alias("low"), numbers.max().alias("high")).collect().row(0)
    if low != high:
        return []
    return [f"label column {name!r} of {where} is {low:g} in every one of {rows:,} rows; expected both 0 and 1"]
