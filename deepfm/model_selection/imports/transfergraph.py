"""The vision table of TransferGraph (Li et al., ICDE 2024): 180 models of the Hugging Face hub on 12 data sets."""

from pathlib import Path

import polars as pl

from deepfm.model_selection.catalogue import Catalogue
from deepfm.model_selection.imports.imported import ImportedTable, probe_rows, published
from deepfm.model_selection.outcomes import Outcomes

FINE_TUNES = frozenset({"model", "dataset", "eval_accuracy", "test_accuracy", "LOG_ME", "REG_H_SCORE"})
MODELS = ("model", "pretrain_dataset", "model_type", "number_of_parameters")
PROBES = {"LOG_ME": "LogME", "REG_H_SCORE": "H-score"}
BROKEN = "food101"
RECIPE = "30 epochs"  # at a rate of .01; the batch, 8 to 64, was what fitted the memory, so it is no recipe of its own


def fine_tunes(rows: pl.DataFrame, folder: Path, models: pl.DataFrame | None = None) -> ImportedTable:
    """Accuracies on two splits ("eval", which the publication judges by, and "test"), LogME and regularised H-score.

    The two splits differ on cifar100 alone.
    """
    kept = rows.filter(pl.col("dataset") != BROKEN)
    notes = ["the split 'eval' is the published one; name a split to compare within it"]
    if len(kept) < len(rows):
        notes.append(f"{BROKEN} was left out: its median accuracy of .01 says that the runs failed")
    splits = [
        published(
            kept.with_columns(pl.col(f"{split}_accuracy").alias("value")).drop_nulls("value"), "accuracy", split, RECIPE
        )
        for split in ("eval", "test")
    ]
    catalogue = Catalogue(_catalogue(kept["model"].unique(maintain_order=True), models), folder)
    if models is None:
        notes.append("without the table of models, families, architectures and sizes are not known")
    probes = probe_rows(kept.rename(PROBES), list(PROBES.values()))
    return ImportedTable(catalogue, Outcomes(pl.concat(splits)), probes, tuple(notes))


def _catalogue(names: pl.Series, models: pl.DataFrame | None) -> pl.DataFrame:
    alone = pl.DataFrame({"model": names})
    known = pl.DataFrame(schema=dict.fromkeys(MODELS, pl.String)) if models is None else models.select(MODELS)
    return alone.join(known, on="model", how="left", maintain_order="left").select(
        "model",
        pl.col("pretrain_dataset").fill_null("unknown").alias("family"),
        pl.col("model_type").fill_null("unknown").alias("architecture"),
        pl.col("number_of_parameters").cast(pl.Int64).alias("parameters"),
    )
