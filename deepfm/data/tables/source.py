"""Where a table's rows come from: one table that is split, or three files that are the split."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from deepfm.config import DataConfig
from deepfm.data.tables.csv_files import ReadOptions
from deepfm.data.tables.files import find_table, scan_table, table_paths
from deepfm.errors import DataError
from deepfm.utils.io import table_name

PARTS = {"train": "training", "valid": "validation", "test": "test"}  # a file's stem → what it holds


@dataclass(frozen=True, eq=False)
class TableSource:
    """Tables that are not read yet, and which data they are.

    Args:
        tables: `{"": table}` of one table, or one for each of `PARTS`.
        where: what errors call each.
        name: what results call the data.
        hash: of everything that the tables hold, wherever they lie.
    """

    tables: Mapping[str, pl.LazyFrame]
    where: Mapping[str, str]
    name: str
    hash: str

    @property
    def is_split(self) -> bool:
        """Whether the files are the split."""
        return "" not in self.tables


def read_options(config: DataConfig) -> ReadOptions:
    """How the configuration says that CSV files are to be read."""
    return ReadOptions(config.columns, config.separator, config.encoding, config.on_bad_row)


def open_source(data: Any, config: DataConfig) -> TableSource:
    """The tables that a configuration names, or a frame as one table.

    Args:
        data: a folder of three files; or a pandas, polars or pyarrow frame, or a dict of arrays; or tables that are
            open already.

    Raises:
        DataError: nothing is there, or it cannot be read.
    """
    if isinstance(data, TableSource):
        return data
    options = read_options(config)
    if not isinstance(data, str | Path):
        frame = scan_table(data).collect()
        content = hashlib.sha256(json.dumps([[name, str(kind)] for name, kind in frame.schema.items()]).encode())
        content.update(frame.hash_rows(1).to_numpy().tobytes())
        return TableSource({"": frame.lazy()}, {"": "the table"}, "table", content.hexdigest())
    if config.table is not None:
        paths = table_paths(config.table)
        tables, where = {"": scan_table(config.table, options)}, {"": str(config.table)}
        return TableSource(tables, where, table_name(config.table), digest({"": paths}))
    names = {"train": config.train_file, "valid": config.valid_file, "test": config.test_file}
    files = {stem: find_table(data, stem, names[stem]) for stem in PARTS}
    folder = files["train"].resolve().parent
    return TableSource(
        {stem: scan_table(path, options) for stem, path in files.items()},
        {stem: str(path) for stem, path in files.items()},
        folder.name or str(folder),
        digest({stem: [path] for stem, path in files.items()}),
    )


def digest(files: Mapping[str, list[Path]]) -> str:
    """A hash of what files hold, wherever they lie.

    Raises:
        DataError: one cannot be read.
    """
    whole = hashlib.sha256()
    for stem, paths in files.items():
        for path in paths:
            try:
                with open(path, "rb") as file:
                    whole.update(f"{stem} {hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
            except OSError as error:
                raise DataError(f"{path} cannot be read: {error.strerror}; name another file") from error
    return whole.hexdigest()
