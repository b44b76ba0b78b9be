"""What models reached on data sets: one long table, and the matrix that predictors learn from."""

from collections.abc import Iterable, Mapping, Sequence
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
FEEDBACK = "feedback"  # the recipe of what users told, which is of no split
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
class SeedValues:
    """What each model reached on each task with each seed.

    Args:
        models: M names.
        tasks: T names.
        values: `(M, T, S)`, float64; NaN where a cell has fewer seeds than another, or none.
    """

    models: tuple[str, ...]
    tasks: tuple[str, ...]
    values: NDArray[np.float64]


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
                f"outcome of model {bad['model'][0]!r} on {bad['dataset'][0]!r} is {bad['value'][0]}; "
                "expected a finite number; leave the row out where nothing was measured"
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

    def truth(self, metric: str = "accuracy", split: str | None = None, recipe: str | None = None) -> pl.DataFrame:
        """The rows that may be learned from or judged by, of one split and one recipe where they are named.

        Raises:
            DataError: one of them is derived from other values, or there is none.
        """
        chosen = self.rows.filter(pl.col("metric") == metric)
        if not len(chosen):
            raise DataError(f"no outcome has the metric {metric!r}; the table has {_listed(self.rows['metric'])}")
        for column, wanted in (("split", split), ("recipe", recipe)):
            if wanted is not None:
                has = _listed(chosen[column])
                told = pl.col("recipe").fill_null("") == FEEDBACK if column == "split" else pl.lit(False)
                chosen = chosen.filter((pl.col(column) == wanted) | told)
                if not len(chosen):
                    raise DataError(f"no outcome of {metric} has the {column} {wanted!r}; the table has {has}")
        derived = chosen.filter(pl.col("origin") == "derived")
        if len(derived):
            raise DataError(
                f"the {metric} of model {derived['model'][0]!r} on {derived['dataset'][0]!r} is derived, not measured; "
                "a guess is no truth to train on or judge by; leave derived rows out"
            )
        return chosen

    def matrix(
        self,
        models: Sequence[str] | None = None,
        tasks: Sequence[str] | None = None,
        metric: str = "accuracy",
        split: str | None = None,
        recipe: str | None = None,
    ) -> OutcomeMatrix:
        """The mean over seeds for each model and task, in the given or the sorted order.

        Models are compared within a task, so all values of one task must be of one split and one recipe; tasks may
        differ, for ranks and z-scores are taken within each.

        Raises:
            DataError: nothing in the table is of `metric`, a row of it is derived, a name stands twice, or a task has
                values of unlike splits or recipes and none was named.
        """
        values = self.by_seed(models, tasks, metric, split, recipe)
        seeds = (~np.isnan(values.values)).sum(axis=2)
        known = np.where(seeds > 0, seeds, 1)
        means = np.where(seeds > 0, np.nansum(values.values, axis=2) / known, np.nan)
        squares = np.nansum((values.values - means[:, :, None]) ** 2, axis=2)
        deviations = np.where(seeds > 1, np.sqrt(squares / np.maximum(seeds - 1, 1)), np.nan)
        return OutcomeMatrix(values.models, values.tasks, means, deviations, seeds)

    def by_seed(
        self,
        models: Sequence[str] | None = None,
        tasks: Sequence[str] | None = None,
        metric: str = "accuracy",
        split: str | None = None,
        recipe: str | None = None,
    ) -> "SeedValues":
        """As `matrix`, with every seed's value apart, so that seed noise can be told from the rest.

        Raises:
            DataError: as `matrix` does.
        """
        truth = self.truth(metric, split, recipe)
        models = tuple(sorted(set(truth["model"])) if models is None else models)
        tasks = tuple(sorted(set(truth["dataset"])) if tasks is None else tasks)
        for what, names in (("model", models), ("task", tasks)):
            if len(set(names)) < len(names):
                raise DataError(f"a {what} was asked for twice; expected each name once")
        kept = truth.filter(pl.col("model").is_in(models) & pl.col("dataset").is_in(tasks))
        for column in ("split", "recipe"):
            mixed = (
                kept.group_by("dataset").agg(pl.col(column).unique().alias("has")).filter(pl.col("has").list.len() > 1)
            )
            if len(mixed):
                first = mixed.sort("dataset").row(0, named=True)
                raise DataError(
                    f"the {metric} values on {first['dataset']!r} are of unlike {column}s "
                    f"({_listed(first['has'])}), which cannot be compared; name one {column}, or leave the others out"
                )
        places = kept.with_columns(pl.int_range(pl.len()).over("model", "dataset").alias("place"))
        values = np.full((len(models), len(tasks), 1 + int(places["place"].max() or 0)), np.nan)  # type: ignore[arg-type]
        row, column_of = ({name: i for i, name in enumerate(names)} for names in (models, tasks))
        at = ([row[name] for name in places["model"]], [column_of[name] for name in places["dataset"]])
        values[(*at, places["place"].to_list())] = places["value"]
        return SeedValues(models, tasks, values)

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


def _listed(names: Iterable[str | None]) -> str:
    """The names of a column for a sentence."""
    return ", ".join(sorted({"none" if name is None else repr(name) for name in names})) or "no rows"
