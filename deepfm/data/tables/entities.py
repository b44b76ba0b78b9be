"""Users, items and seen pairs of a table, as its training rows last showed them."""

from collections.abc import Mapping

import polars as pl

from deepfm.data.categories import id_text
from deepfm.data.entities import Entities
from deepfm.data.tables import columns as cells
from deepfm.data.tables.columns import Where
from deepfm.data.tables.files import reading, require_columns
from deepfm.data.tables.schema import TableSchema

KEY, MOMENT = "key of the rows", "moment of the rows"  # nobody's column has these names


def item_columns(schema: TableSchema) -> list[str]:
    """The columns that describe the item, the item itself first."""
    assert schema.item is not None
    described = [name for name in schema.columns if schema.group(name) == "item" and name != schema.item]
    return [schema.item, *described]


def user_columns(schema: TableSchema) -> list[str]:
    """The columns that do not describe the item: the user first, what describes the user, and the context of a row."""
    assert schema.user is not None
    items = item_columns(schema)
    return [schema.user, *(name for name in schema.columns if name != schema.user and name not in items)]


def table_entities(
    schema: TableSchema, training: tuple[pl.LazyFrame, Where], tables: Mapping[str, pl.LazyFrame]
) -> Entities:
    """What a run keeps of a table that has a user and an item column.

    Of each user and each item the last training row stands (the latest, where the schema has a time). Seen are the
    pairs of all rows with a label above 0.

    Args:
        training: the training rows, and what errors call them.
        tables: every row of the data, by what errors call them.

    Raises:
        DataError: rows cannot be read.
    """
    table, where = training
    items = item_columns(schema)
    if schema.title is not None and schema.title not in items and schema.title in table.collect_schema():
        items.append(schema.title)
    return Entities(
        _last_rows(table, user_columns(schema), schema.time, where),
        _last_rows(table, items, schema.time, where),
        _seen(schema, tables),
    )


def _last_rows(table: pl.LazyFrame, columns: list[str], time: str | None, where: Where) -> pl.DataFrame:
    """The last row of each value of the first column, in the order of its text."""
    types = require_columns(table, [*columns, *([time] if time else [])], where)
    key = id_text(pl.col(columns[0]), types[columns[0]]).alias(KEY)
    if time is None:
        last = [pl.col(name).last() for name in columns]
        rows = table.select(key, *columns)
    else:
        last = [pl.col(name).sort_by(MOMENT, maintain_order=True).last() for name in columns]
        rows = table.select(key, cells.seconds(time, types[time], where).alias(MOMENT), *columns)
    known = rows.filter(pl.col(KEY).is_not_null() & (pl.col(KEY) != ""))
    with reading(where):
        return known.group_by(KEY).agg(*last).sort(KEY).drop(KEY).collect(engine="streaming")


def _seen(schema: TableSchema, tables: Mapping[str, pl.LazyFrame]) -> pl.DataFrame:
    assert schema.user is not None
    assert schema.item is not None
    parts = []
    for where, table in tables.items():
        types = require_columns(table, [schema.user, schema.item, schema.label], where)
        pair = [
            id_text(pl.col(name), types[name]).alias(role)
            for role, name in (("user", schema.user), ("item", schema.item))
        ]
        liked = table.filter(cells.number(schema.label, types[schema.label], where) > 0)
        with reading(where):
            parts.append(liked.select(pair).drop_nulls().unique().collect(engine="streaming"))
    return pl.concat(parts).unique().sort("user", "item")
