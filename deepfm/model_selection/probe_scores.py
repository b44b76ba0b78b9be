"""What probes said of models on data sets: one long table, measured here or published."""

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
    "probe": pl.String(),  # such as LogME
    "value": pl.Float64(),  # higher is better
}


@dataclass(frozen=True, eq=False)
class ProbeScores:
    """A long table of probe scores, the columns of `COLUMNS`; no row where a probe was not run.

    Raises:
        DataError: a column is missing or of another type, a value is not finite, or a score stands twice.
    """

    rows: pl.DataFrame

    def __post_init__(self) -> None:
        rows = in_columns(self.rows, COLUMNS, list(COLUMNS), "table of probe scores")
        bad = rows.filter(~pl.col("value").is_finite())
        if len(bad):
            raise DataError(
                f"probe {bad['probe'][0]!r} of model {bad['model'][0]!r} on {bad['dataset'][0]!r} is "
                f"{bad['value'][0]}; expected a finite number; leave the row out where it was not run"
            )
        twice = rows.filter(pl.struct("model", "dataset", "probe").is_duplicated())
        if len(twice):
            raise DataError(
                f"probe {twice['probe'][0]!r} of model {twice['model'][0]!r} on {twice['dataset'][0]!r} stands twice; "
                "drop one of them"
            )
        object.__setattr__(self, "rows", rows)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def probes(self) -> list[str]:
        """The probes' names, in the table's order."""
        return self.rows["probe"].unique(maintain_order=True).to_list()

    def matrices(self, models: Sequence[str], tasks: Sequence[str]) -> dict[str, NDArray[np.float64]]:
        """The scores of each probe, `(M, T)`, NaN where it was not run."""
        row, column = ({name: i for i, name in enumerate(names)} for names in (models, tasks))
        kept = self.rows.filter(pl.col("model").is_in(row) & pl.col("dataset").is_in(column))
        found = {probe: np.full((len(models), len(tasks)), np.nan) for probe in self.probes}
        for model, task, probe, value in kept.select(*COLUMNS).iter_rows():
            found[probe][row[model], column[task]] = value
        return found

    def joined(self, further: "ProbeScores") -> "ProbeScores":
        """Both tables' rows.

        Raises:
            DataError: a score stands in both.
        """
        return ProbeScores(pl.concat([self.rows, further.rows], how="diagonal_relaxed"))

    def save(self, path: Path) -> None:
        """Write the rows as Parquet, whole or not at all."""
        write_table(self.rows, path)

    @classmethod
    def load(cls, path: Path) -> "ProbeScores":
        """Read Parquet or CSV.

        Raises:
            DataError: it cannot be read, or holds no probe scores.
        """
        return cls(read_table(path, "table of probe scores"))
