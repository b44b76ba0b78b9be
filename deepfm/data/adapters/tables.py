"""The adapter of any table, opened by name."""

from typing import Any

from deepfm.config import DataConfig
from deepfm.data.table import TableAdapter
from deepfm.data.table_schema import TableSchema
from deepfm.engine.run import RunFolder


def open_table(config: DataConfig, *, run: RunFolder | None = None, **_: Any) -> TableAdapter:
    """`table`: the tables that the configuration names, under the schema of a run where one is given.

    Args:
        config: names the tables.
        run: whose schema is used.
    """
    return TableAdapter(config.data_dir, config, schema=None if run is None else TableSchema.load(run.table_schema))
