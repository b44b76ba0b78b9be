"""One table's rows as training, validation and test, by a number a row."""

from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from deepfm.data.split import TRAIN_SHARE, VALIDATION_SHARE
from deepfm.data.tables.columns import MOMENT, Where, seconds, text
from deepfm.data.tables.files import reading, require_columns
from deepfm.data.tables.rows import cell_text
from deepfm.data.tables.schema import TableSchema
from deepfm.errors import ConfigError, DataError
from deepfm.utils.seeding import random_stream

PART_NAMES = ("training", "validation", "test")
STRATEGIES = ("random", "temporal", "leave_one_out")


def split_table(
    table: pl.LazyFrame, schema: TableSchema, strategy: str, seed: int, min_interactions: int, where: Where
) -> NDArray[np.int8]:
    """The part of each row `(N,)` in the file's order: 0 training, 1 validation, 2 test.

    Args:
        strategy: `random` (80/10/10), `temporal` (80/10/10 by quantile of the time column; rows of one time stay
            together) or `leave_one_out` (a user's last row is test, the one before it validation; of rows of one time
            the later in the file is the later).
        seed: of `random`, under which a row's part depends on its place alone.
        min_interactions: under `leave_one_out` a user with fewer rows is training only.

    Raises:
        ConfigError: the strategy needs a role that the schema has not.
        DataError: no rows, a time that is none, or a part without rows.
    """
    needed = {"random": (), "temporal": ("time",), "leave_one_out": ("user", "time")}[strategy]
    names = {}
    for role in needed:
        name = getattr(schema, role)
        if name is None:
            raise ConfigError(
                f"data.split_strategy = {strategy!r} needs to know the {role} column; name it in the table schema or "
                f"with data.{role} (--{role} of a command), or use data.split_strategy=random"
            )
        names[role] = name
    types = require_columns(table, names.values(), where)
    if strategy == "random":
        with reading(where):
            rows = int(table.select(pl.len()).collect(engine="streaming").item())
        edges = [TRAIN_SHARE, TRAIN_SHARE + VALIDATION_SHARE]
        draws = random_stream("random split of a table", seed).random(rows)
        parts = np.searchsorted(edges, draws, side="right").astype(np.int8)
    else:
        parts = _by_time(table, names, types, strategy, min_interactions, where)
    if not len(parts):
        raise DataError(f"{where} holds a header and no rows; expected at least one row")
    for part, name in enumerate(PART_NAMES):
        if not (parts == part).any():
            raise DataError(
                f"the {strategy} split of {len(parts):,} rows of {where} leaves no {name} rows; give more rows, or "
                "another data.split_strategy"
            )
    return parts


def _by_time(
    table: pl.LazyFrame, names: dict[str, str], types: Any, strategy: str, min_interactions: int, where: Where
) -> NDArray[np.int8]:
    time = names["time"]
    columns = [seconds(time, types[time], where).alias("moment")]
    if strategy == "leave_one_out":
        columns.append(text(pl.col(names["user"]), types[names["user"]], names["user"], where).alias("user of the row"))
    with reading(where):
        found = table.select(columns).collect(engine="streaming")
    bad = found["moment"].is_null().arg_true()
    if len(bad):
        cell = cell_text(table, time, bad[0])
        raise DataError(
            f"time column {time!r} of {where} holds {cell} in row {bad[0] + 1} ({len(bad):,} such rows); expected "
            f"{MOMENT}, as the split goes by it"
        )
    moments = found["moment"].to_numpy()
    parts = np.zeros(len(moments), dtype=np.int8)
    if not len(moments):
        return parts
    if strategy == "temporal":
        edges = np.quantile(moments, [TRAIN_SHARE, TRAIN_SHARE + VALIDATION_SHARE], method="lower")
        return np.searchsorted(edges, moments, side="left").astype(np.int8)
    users = found["user of the row"].fill_null("").rank("dense").to_numpy()
    order = np.lexsort((moments, users))
    ends = np.flatnonzero(np.append(np.diff(users[order]) != 0, True)) + 1
    enough = np.diff(ends, prepend=0) >= min_interactions
    parts[order[ends[enough] - 2]] = 1
    parts[order[ends[enough] - 1]] = 2
    return parts
