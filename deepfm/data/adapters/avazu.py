"""Avazu's click-through challenge: a click label, the hour, and 21 categories; the sample's `id` is dropped.

The preprocessing is that of the BARS benchmark (https://github.com/reczoo/BARS, `datasets.md` and
`docs/CTR/leaderboard/avazu_x4.md`): `hour` (YYMMDDHH in UTC) becomes the three categories hour, weekday and is_weekend;
under Avazu_x4_001 a category in fewer than 2 training rows is one learned unknown category (width 16), under
Avazu_x4_002 all are known (width 40).

Kaggle's `train` is split at random 8:1:1, or by time with `data.split_strategy=temporal`; BARS' files are its own
random split.
"""

from dataclasses import replace
from typing import Any

import polars as pl

from deepfm.config import DataConfig
from deepfm.data.adapters.tables import folder_of, open_published, split_by_rows
from deepfm.data.tables.adapter import TableAdapter
from deepfm.data.tables.files import find_table, reading, require_columns
from deepfm.data.tables.schema import TableColumn, TableSchema
from deepfm.engine.run import RunFolder
from deepfm.errors import DataError

CATEGORIES = (
    *("C1", "banner_pos", "site_id", "site_domain", "site_category", "app_id", "app_domain", "app_category"),
    *("device_id", "device_ip", "device_model", "device_type", "device_conn_type"),
    *(f"C{number}" for number in range(14, 22)),
)
TIMES = ("hour", "weekday", "is_weekend")
MOMENT = "moment"  # the hour as a time, which a split goes by


def avazu_schema(min_count: int = 2, embedding_dim: int = 16) -> TableSchema:
    """Avazu_x4: 24 categories.

    Args:
        min_count: training rows that make a value known; 2 is Avazu_x4_001's, 1 Avazu_x4_002's.
        embedding_dim: 16 and 40.
    """
    oov = "learned" if min_count > 1 else "padding"  # where every training value is known, nothing learns such a row
    column = TableColumn(min_count=min_count, oov=oov, embedding_dim=embedding_dim)
    return TableSchema("click", dict.fromkeys((*CATEGORIES, *TIMES), column), time=MOMENT)


def open_kaggle(config: DataConfig, *, run: RunFolder | None = None, **_: Any) -> TableAdapter:
    """`avazu`: Kaggle's `train.csv` or `train.csv.gz` (or `data.table`)."""
    config = split_by_rows(config)
    if config.table is None:
        config = replace(config, table=str(find_table(folder_of(config), "train", config.train_file)))
    return open_published(config, run, avazu_schema(), prepare=expand_hour)


def open_x4(config: DataConfig, *, run: RunFolder | None = None, **_: Any) -> TableAdapter:
    """`avazu_x4`: BARS' train.csv, valid.csv and test.csv under the settings of Avazu_x4_001."""
    return open_published(config, run, avazu_schema(), prepare=expand_hour)


def open_x4_002(config: DataConfig, *, run: RunFolder | None = None, **_: Any) -> TableAdapter:
    """`avazu_x4_002`: the same files under the settings of Avazu_x4_002."""
    return open_published(config, run, avazu_schema(1, 40), prepare=expand_hour)


def expand_hour(table: pl.LazyFrame, where: str = "the table", first_row: int = 0) -> pl.LazyFrame:
    """The hour of the day, the weekday (1 Monday), whether it is Saturday or Sunday, and the moment, for YYMMDDHH.

    Raises:
        DataError: the column is missing, or a cell is no such hour.
    """
    require_columns(table, ["hour"], where)
    text = pl.col("hour").cast(pl.String).str.strip_chars()
    digits = pl.when(text.str.contains("^[0-9]{8}$")).then(text)
    day = digits.str.head(6).str.to_date("%y%m%d", strict=False)
    hour = digits.str.tail(2).cast(pl.Int32, strict=False)
    moment = pl.when(hour < 24).then(day.cast(pl.Datetime("us")) + pl.duration(hours=hour))
    with reading(where):
        numbered = table.select("hour", moment.alias(MOMENT)).with_row_index("row")
        bad = numbered.filter(pl.col(MOMENT).is_null()).head(1).collect(engine="streaming")
    if len(bad):
        row = first_row + bad["row"][0] + 1
        raise DataError(
            f"column 'hour' of {where} holds {bad['hour'][0]!r} in row {row}; expected YYMMDDHH, such as 14102123 for "
            "23:00 on 21 October 2014"
        )
    weekday = moment.dt.weekday()
    return table.with_columns(
        moment.alias(MOMENT),
        hour.alias("hour"),
        weekday.alias("weekday"),
        (weekday >= 6).cast(pl.Int32).alias("is_weekend"),
    )
