"""Criteo's display advertising challenge: a click label, 13 counts I1-I13 and 26 hashed categories C1-C26.

The preprocessing is that of the BARS benchmark (https://github.com/reczoo/BARS, `docs/CTR/leaderboard/criteo_x1.md` and
`criteo_x4.md`) as FuxiCTR runs it:

- Criteo_x1 (after AFN): counts are numbers that the files hold scaled already, every category is known, width 10.
- Criteo_x4_001: an empty count is 0, a count above 2 becomes floor(ln(x)²) and others stay (as the winners of the
  challenge did), all 39 columns are categories, of which those in fewer than 10 training rows are one learned unknown
  category, as are empty ones; width 16.
- Criteo_x4_002: the same with 2 training rows and width 40.

Kaggle's `train.txt` is preprocessed as Criteo_x4_001 and split at random 8:1:1; BARS' files are its own such split.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl

from deepfm.config import DataConfig
from deepfm.data.adapters.tables import folder_of, open_published, split_by_rows
from deepfm.data.tables.adapter import TableAdapter
from deepfm.data.tables.files import find_table
from deepfm.data.tables.schema import TableColumn, TableSchema
from deepfm.engine.run import RunFolder

COUNTS = tuple(f"I{number}" for number in range(1, 14))
CATEGORIES = tuple(f"C{number}" for number in range(1, 27))
COLUMNS = ("label", *COUNTS, *CATEGORIES)  # of Kaggle's file, which has no header


def criteo_x1_schema() -> TableSchema:
    """Criteo_x1: counts as numbers, categories as they are."""
    counts = dict.fromkeys(COUNTS, TableColumn("dense", scale="none", embedding_dim=10))
    return TableSchema("label", counts | dict.fromkeys(CATEGORIES, TableColumn(embedding_dim=10)))


def criteo_x4_schema(min_count: int = 10, embedding_dim: int = 16) -> TableSchema:
    """Criteo_x4: everything a category, the counts by floor(ln(x)²).

    Args:
        min_count: training rows that make a value known; 10 is Criteo_x4_001's, 2 Criteo_x4_002's.
        embedding_dim: 16 and 40.
    """
    category = TableColumn(min_count=min_count, oov="learned", embedding_dim=embedding_dim)
    counts = dict.fromkeys(COUNTS, replace(category, buckets="log"))
    return TableSchema("label", counts | dict.fromkeys(CATEGORIES, category))


def open_kaggle(config: DataConfig, *, run: RunFolder | None = None, **_: Any) -> TableAdapter:
    """`criteo_kaggle`: `train.txt` (or `data.table`), tab-separated without a header."""
    config = split_by_rows(config)
    if config.table is None:
        folder = folder_of(config)
        packed = not (Path(folder) / "train.txt").is_file() and (Path(folder) / "train.txt.gz").is_file()
        name = config.train_file or ("train.txt.gz" if packed else "train.txt")
        config = replace(config, table=str(find_table(folder, "train", name)))
    config = replace(config, columns=config.columns or COLUMNS, separator=config.separator or "\t")
    return open_published(config, run, criteo_x4_schema(), prepare=fill_counts)


def open_x1(config: DataConfig, *, run: RunFolder | None = None, **_: Any) -> TableAdapter:
    """`criteo_x1`: BARS' train.csv, valid.csv and test.csv."""
    return open_published(config, run, criteo_x1_schema(), prepare=name_label)


def open_x4(config: DataConfig, *, run: RunFolder | None = None, **_: Any) -> TableAdapter:
    """`criteo_x4`: BARS' train.csv, valid.csv and test.csv under the settings of Criteo_x4_001."""
    return open_published(config, run, criteo_x4_schema(), prepare=fill_counts)


def open_x4_002(config: DataConfig, *, run: RunFolder | None = None, **_: Any) -> TableAdapter:
    """`criteo_x4_002`: the same files under the settings of Criteo_x4_002."""
    return open_published(config, run, criteo_x4_schema(2, 40), prepare=fill_counts)


def name_label(table: pl.LazyFrame, where: str = "the table", first_row: int = 0) -> pl.LazyFrame:  # noqa: ARG001
    """The label under one name, which in some of the files begins with a capital."""
    names = table.collect_schema().names()
    return table.rename({"Label": "label"}) if "Label" in names and "label" not in names else table


def fill_counts(table: pl.LazyFrame, where: str = "the table", first_row: int = 0) -> pl.LazyFrame:
    """0 for an empty count."""
    named = name_label(table, where, first_row)
    counts = [name for name in named.collect_schema().names() if name in COUNTS]
    return named.with_columns(pl.col(counts).cast(pl.String).fill_null("0"))
