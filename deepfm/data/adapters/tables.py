"""The adapters of tables: any table, and what the published ones share."""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import polars as pl

from deepfm.config import DataConfig
from deepfm.data.tables.adapter import TableAdapter
from deepfm.data.tables.schema import TableSchema
from deepfm.data.tables.source import open_source
from deepfm.engine.run import RunFolder

Prepare = Callable[[pl.LazyFrame, str, int], pl.LazyFrame]
"""From the raw rows, what errors call them and how many came before, to the rows that the schema describes."""


def open_table(config: DataConfig, *, run: RunFolder | None = None, **_: Any) -> TableAdapter:
    """`table`: the tables that the configuration names, under the schema of a run where one is given.

    Args:
        config: names the tables.
        run: whose schema is used.
    """
    return TableAdapter(config.data_dir, config, schema=None if run is None else TableSchema.load(run.table_schema))


def open_published(
    config: DataConfig,
    run: RunFolder | None,
    schema: TableSchema,
    *,
    prepare: Prepare | None = None,
) -> TableAdapter:
    """The adapter of a published data set: a table whose schema is known, prepared first where it is not yet.

    Args:
        config: `table` names one table; without it, `data_dir` holds three files. `table_schema` replaces the schema.
        run: a run whose schema is used.
        schema: the published description.
        prepare: what is done to the rows; part of the data's hash.

    Raises:
        DataError: a file or a column is missing, or a cell is not what the preparation expects.
    """
    if run is not None:
        schema = TableSchema.load(run.table_schema)
    elif config.table_schema is not None:
        schema = TableSchema.load(config.table_schema)
    source = open_source(folder_of(config), config)
    if prepare is not None:
        tables = {stem: prepare(table, source.where[stem], 0) for stem, table in source.tables.items()}
        content = hashlib.sha256(f"{source.hash} {prepare.__module__}.{prepare.__qualname__}".encode()).hexdigest()
        source = replace(source, tables=tables, hash=content)
    return TableAdapter(source, config, schema=schema)


def folder_of(config: DataConfig) -> str:
    """`data.data_dir`, or `data/` and the data set's name where it is left at its default."""
    return config.data_dir if config.data_dir != DataConfig.data_dir else f"data/{config.dataset_name}"


def split_by_rows(config: DataConfig) -> DataConfig:
    """The same with a random split where none was asked for: `leave_one_out` is the default, and needs a user."""
    return replace(config, split_strategy="random") if config.split_strategy == "leave_one_out" else config
