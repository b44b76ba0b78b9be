"""What models reached on data sets: one long table, and the matrix that predictors learn from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from deepfm.errors import DataError
from deepfm.model_selection.tables import in_columns, read_table, write_table

COLUMNS: Mapping[str, pl.DataType] = {
    "model": pl.String(),
    "dataset": pl.String(),
    "metric": pl.String(),  # such as accuracy
    "split": pl.String(),  # such as test
    "seed": pl.Int64(),  # of the fine-tune; empty where a publication does not say
    "recipe": pl.String(),  # a hash or name of how it was fine-tuned: unlike recipes are unlike metrics
    "value": pl.Float64(),
    "origin": pl.String(),  # measured here, published elsewhere, or derived from other values
}
NEEDED = ("model", "dataset", "metric", "value", "origin")
ORIGINS = ("measured", "published", "derived")
KEY = ("model", "dataset", "metric", "split", "seed", "recipe")


@dataclass(frozen=True, eq=False)
class OutcomeMatrix:
    """What each model reached on each task, the mean over seeds; NaN where nobody measured.

    Args:
        models: M names.
        tasks: T names.
        values: `(M, T)`, float64.
        deviations: `(M, T)`, the standard deviation over seeds; NaN with fewer than two.
        seeds: `(M, T)`, how many values each mean is of.
    """

    models: tuple[str, ...]
    tasks: tuple[str, ...]
    values: NDArray[np.float64]
    deviations: NDArray[np.float64]
    seeds: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Outcomes:
    """A long table of outcomes.

    Args:
        rows: the columns of `COLUMNS`; absent ones may be left out but for `NEEDED`.

    Raises:
        DataError: a column is missing or of another type, a value is not finite, an origin is unknown, or the same
            outcome stands twice.
    """

    rows: pl.DataFrame

    def __post_init__(self) -> None:
        rows = in_columns(self.rows, COLUMNS, NEEDED, "table of outcomes")
        object.__setattr__(self, "rows", rows)
        bad = rows.filter(~pl.col("value").is_finite())
        if len(bad):
            raise DataError(
                f"outcome of model {bad['model'][0]!r} on {bad['dataset'][0]!r} is {bad['value'][0]}; expected a finite "
                "number; leave the row out where nothing was measured"
            )
        strange = rows.filter(~pl.col("origin").is_in(ORIGINS))
        if len(strange):
            raise DataError(f"origin {strange['origin'][0]!r} of an outcome is unknown; expected {', '.join(ORIGINS)}")
        twice = rows.filter(pl.struct(KEY).is_duplicated())
        if len(twice):
            raise DataError(
                f"the outcome of model {twice['model'][0]!r} on {twice['dataset'][0]!r} stands twice with the same "
                f"{', '.join(KEY[2:])}; drop one of them"
            )

    def __len__(self) -> int:
        return len(self.rows)

    def truth(self, metric: str = "accuracy") -> pl.DataFrame:
        """The rows that may be learned from or judged by.

        Raises:
            DataError: one of them is derived from other values, or there is none.
        """
        chosen = self.rows.filter(pl.col("metric") == metric)
        derived = chosen.filter(pl.col("origin") == "derived")
        if len(derived):
            raise DataError(
                f"the {metric} of model {derived['model'][0]!r} on {derived['dataset'][0]!r} is derived, not measured; "
                "a guess is no truth to train on or judge by; leave derived rows out"
            )
        if not len(chosen):
            has = sorted(set(self.rows["metric"]))
            raise DataError(f"no outcome has the metric {metric!r}; the table has {', '.join(has) or 'no rows'}")
        return chosen

    def matrix(
        self, models: Sequence[str] | None = None, tasks: Sequence[str] | None = None, metric: str = "accuracy"
    ) -> OutcomeMatrix:
        """The mean over splits, seeds and recipes for each model and task, in the given or the sorted order.

        Raises:
            DataError: nothing in the table is of `metric`, or a row of it is derived.
        """
        truth = self.truth(metric)
        models = tuple(sorted(set(truth["model"])) if models is None else models)
        tasks = tuple(sorted(set(truth["dataset"])) if tasks is None else tasks)
        grouped = truth.group_by("model", "dataset").agg(
            pl.col("value").mean().alias("mean"),
            pl.col("value").std().fill_null(np.nan).alias("deviation"),
            pl.len().alias("seeds"),
        )
        row, column = ({name: i for i, name in enumerate(names)} for names in (models, tasks))
        kept = grouped.filter(pl.col("model").is_in(models) & pl.col("dataset").is_in(tasks))
        at = ([row[name] for name in kept["model"]], [column[name] for name in kept["dataset"]])
        values, deviations = (np.full((len(models), len(tasks)), np.nan) for _ in range(2))
        seeds = np.zeros((len(models), len(tasks)), np.int64)
        values[at], deviations[at], seeds[at] = kept["mean"], kept["deviation"], kept["seeds"]
        return OutcomeMatrix(models, tasks, values, deviations, seeds)

    def joined(self, further: "Outcomes") -> "Outcomes":
        """Both tables' rows.

        Raises:
            DataError: an outcome stands in both.
        """
        return Outcomes(pl.concat([self.rows, further.rows], how="diagonal_relaxed"))

    def save(self, path: Path) -> None:
        """Write the rows as Parquet, whole or not at all."""
        write_table(self.rows, path)

    @classmethod
    def load(cls, path: Path) -> "Outcomes":
        """Read Parquet or CSV.

        Raises:
            DataError: it cannot be read, or holds no outcomes.
        """
        return cls(read_table(path, "table of outcomes"))
