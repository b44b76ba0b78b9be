"""Frappe (Baltrunas et al., 2015): which app a user ran, and in which of ten contexts.

`frappe_x1` reads BARS' three files (https://github.com/reczoo/BARS, `docs/CTR/leaderboard/frappe_x1.md`), the split of
AFN: every category is known, width 10. `frappe` reads the original log, `frappe.csv`, all of whose rows are positive:
as in neural factorization machines (He and Chua, 2017), each is followed by two rows of the same context with apps that
the user never ran, and `cnt` is dropped. Those draws are our own, so that its metrics are not those of `frappe_x1`.
"""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from deepfm.config import DataConfig
from deepfm.data.adapters.tables import folder_of, open_published, split_by_rows
from deepfm.data.negatives import NegativeSampler
from deepfm.data.tables.adapter import TableAdapter
from deepfm.data.tables.csv_files import ReadOptions
from deepfm.data.tables.files import reading, require_columns, scan_table
from deepfm.data.tables.schema import TableColumn, TableSchema
from deepfm.data.tables.source import TableSource, digest
from deepfm.engine.run import RunFolder
from deepfm.errors import DataError
from deepfm.utils.seeding import random_stream

CONTEXTS = ("daytime", "weekday", "isweekend", "homework", "cost", "weather", "country", "city")
NEGATIVES = 2


def frappe_schema() -> TableSchema:
    """Frappe_x1: ten categories, all known."""
    return TableSchema(
        "label",
        dict.fromkeys(("user", "item", *CONTEXTS), TableColumn(embedding_dim=10)),
        user="user",
        item="item",
    )


def open_x1(config: DataConfig, *, run: RunFolder | None = None, **_: Any) -> TableAdapter:
    """`frappe_x1`: BARS' train.csv, valid.csv and test.csv."""
    return open_published(config, run, frappe_schema())


def open_log(config: DataConfig, *, run: RunFolder | None = None, **_: Any) -> TableAdapter:
    """`frappe`: the original `frappe.csv` (or `data.table`), tab-separated; negatives are drawn by `candidate_seed`.

    Raises:
        DataError: the file or a column is missing, or an app or a user is.
    """
    config = split_by_rows(config)
    path = config.table or str(Path(folder_of(config)) / "frappe.csv")
    if not Path(path).is_file():
        raise DataError(f"{path} does not exist; set data.data_dir to the folder of frappe.csv, or data.table to it")
    table = scan_table(path, ReadOptions(separator=config.separator or "\t"))
    columns = ("user", "item", *CONTEXTS)
    require_columns(table, columns, path)
    with reading(path):
        positives = table.select(columns).collect()
    for name in ("user", "item"):
        empty = positives[name].is_null().arg_true()
        if len(empty):
            raise DataError(f"column {name!r} of {path} holds nothing in row {empty[0] + 1}; expected an id")
    rows = with_negatives(positives, config.candidate_seed)
    content = hashlib.sha256(f"{digest({'': [Path(path)]})} {NEGATIVES} {config.candidate_seed}".encode()).hexdigest()
    schema = frappe_schema()
    if run is not None:
        schema = TableSchema.load(run.table_schema)
    elif config.table_schema is not None:
        schema = TableSchema.load(config.table_schema)
    source = TableSource({"": rows.lazy()}, {"": path}, "frappe", content)
    return TableAdapter(source, config, schema=schema)


def with_negatives(positives: pl.DataFrame, seed: int) -> pl.DataFrame:
    """Each row with label 1, then two copies with other items and label 0.

    Args:
        positives: with the columns user and item.
        seed: all that the draws depend on.

    Raises:
        DataError: a user ran every app.
    """
    users = positives["user"].rank("dense").to_numpy().astype(np.int64) - 1
    items = positives["item"].rank("dense").to_numpy().astype(np.int64) - 1
    names = positives["item"].unique().sort()
    sampler = NegativeSampler(users, items, int(users.max(initial=-1)) + 1, len(names))
    drawn = sampler.sample(users, NEGATIVES, random_stream("frappe negatives", seed))
    chosen = np.concatenate([items[:, None], drawn], axis=1).reshape(-1)
    labels = np.zeros((len(items), 1 + NEGATIVES), dtype=np.int8)
    labels[:, 0] = 1
    repeated = positives[np.repeat(np.arange(len(items)), 1 + NEGATIVES)]
    return repeated.with_columns(names[chosen].alias("item"), pl.Series("label", labels.reshape(-1)))
