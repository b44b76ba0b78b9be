"""What an import gives, and the steps that every published table shares."""

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from deepfm.model_selection.catalogue import Catalogue
from deepfm.model_selection.outcomes import Outcomes
from deepfm.model_selection.probe_scores import COLUMNS as PROBE_COLUMNS
from deepfm.model_selection.probe_scores import ProbeScores


@dataclass(frozen=True, eq=False)
class ImportedTable:
    """A published table in this package's terms; `notes` say what was changed or left out."""

    catalogue: Catalogue
    outcomes: Outcomes
    probe_scores: ProbeScores
    notes: tuple[str, ...] = ()


def published(rows: pl.DataFrame, metric: str, split: str | None = None, recipe: str | None = None) -> pl.DataFrame:
    """Rows with model, dataset and value as outcomes; a recipe names what the publication says of its fine-tunes."""
    return rows.select(
        "model",
        "dataset",
        pl.lit(metric).alias("metric"),
        pl.lit(split, pl.String).alias("split"),
        pl.lit(None, pl.Int64).alias("seed"),
        pl.lit(recipe, pl.String).alias("recipe"),
        pl.col("value").cast(pl.Float64),
        pl.lit("published").alias("origin"),
    )


def probe_rows(rows: pl.DataFrame, probes: Sequence[str]) -> ProbeScores:
    """Columns of probe scores beside model and dataset as a long table; empty cells give no row."""
    long = rows.unpivot(probes, index=["model", "dataset"], variable_name="probe", value_name="value")
    return ProbeScores(long.drop_nulls("value").select(*PROBE_COLUMNS))


def no_probes() -> ProbeScores:
    """The table of a publication without probe scores."""
    return ProbeScores(pl.DataFrame(schema=dict(PROBE_COLUMNS)))
