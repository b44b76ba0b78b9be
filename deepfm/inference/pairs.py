"""Raw rows of one user with many items, from what a run kept of both."""

import polars as pl

from deepfm.data.entities import Entities
from deepfm.data.grouplens.rows import MovieLensRows
from deepfm.data.tables import columns as cells
from deepfm.data.tables.encoder import TableEncoder
from deepfm.data.tables.entities import item_columns, user_columns
from deepfm.data.tables.schema import TableSchema

KEY = "key of the rows"  # nobody's column has this name


def pair_rows(encoder: TableEncoder | MovieLensRows, user: str, items: list[str], entities: Entities) -> pl.DataFrame:
    """One user with some items, the context of a table being that of the user's last training row.

    An unknown user or item has nothing in a table's other columns, and the mean of those known in columns of numbers
    that must not be empty.
    """
    if isinstance(encoder, MovieLensRows):
        return encoder.pairs(user, items)
    mine = _rows_of(encoder.schema, entities.users.select(user_columns(encoder.schema)), [user])
    return _rows_of(encoder.schema, entities.items.select(item_columns(encoder.schema)), items).join(mine, how="cross")


def keys_of(frame: pl.DataFrame, name: str) -> pl.Series:
    """Ids as text, alike whatever type holds them."""
    return frame.select(cells.text(pl.col(name), frame.schema[name], name, "the table")).to_series()


def _rows_of(schema: TableSchema, known: pl.DataFrame, keys: list[str]) -> pl.DataFrame:
    """The rows with these keys as text, in that order."""
    name = known.columns[0]
    keyed = known.with_columns(keys_of(known, name).alias(KEY))
    rows = pl.DataFrame({KEY: keys}, schema={KEY: pl.String}).join(keyed, on=KEY, how="left", maintain_order="left")
    for other in known.columns[1:]:
        column = schema.columns[other]
        if column.type == "dense" and not column.keeps_missing:
            numbers = cells.number(other, known.schema[other], "the run's table")
            mean = known.select(cells.finite(numbers).mean()).item()
            rows = rows.with_columns(rows.select(numbers.fill_null(0.0 if mean is None else mean)).to_series())
    return rows.with_columns(pl.col(KEY).alias(name)).drop(KEY)
