"""The tables of Model Spider (Zhang et al., NeurIPS 2023): ten ImageNet models, and 66 models of 22 sources."""

from pathlib import Path

import polars as pl

from deepfm.errors import DataError
from deepfm.model_selection.catalogue import Catalogue
from deepfm.model_selection.imports.imported import ImportedTable, no_probes, probe_rows, published
from deepfm.model_selection.outcomes import Outcomes

SINGLE_SOURCE = frozenset({"dataset", "model", "finetune_metric"})
MULTI_SOURCE = frozenset({"dataset", "model", "finetune_acc"})
PREFIX = "FTD_"  # of every multi-source model: FTD_<architecture>_<source>


def single_source(rows: pl.DataFrame, folder: Path) -> ImportedTable:
    """Ten ImageNet models on eight data sets with nine probe scores, and on two regression tasks without.

    The two Aircraft cells of LogME and LEEP differ from the published .540 and .244: the CSV holds another value of
    inception_v3 (its inputs have 299 pixels) than the one they were computed from.
    """
    probes = [name for name in rows.columns if name not in SINGLE_SOURCE]
    accuracy = _accuracies(rows.filter(pl.col("finetune_metric") > 0), "finetune_metric")
    losses = rows.filter(pl.col("finetune_metric") <= 0).with_columns(pl.col("finetune_metric").alias("value"))
    names = rows["model"].unique(maintain_order=True)
    catalogue = pl.DataFrame({"model": names, "family": ["ImageNet"] * len(names), "architecture": names})
    regression = ", ".join(losses["dataset"].unique(maintain_order=True))
    notes = ["accuracies in percent became shares of 1"]
    if regression:
        notes.append(f"{regression}: values below zero are negative losses, kept under the metric 'negative loss'")
    return ImportedTable(
        Catalogue(catalogue, folder),
        Outcomes(pl.concat([published(accuracy, "accuracy"), published(losses, "negative loss")])),
        probe_rows(rows, probes),
        tuple(notes),
    )


def multi_source(rows: pl.DataFrame, folder: Path) -> ImportedTable:
    """66 models, three architectures fine-tuned on each of 22 sources (the family), on seven data sets."""
    names = rows["model"].unique(maintain_order=True)
    parts = [name.removeprefix(PREFIX).rpartition("_") for name in names]
    catalogue = pl.DataFrame(
        {"model": names, "family": [source for *_, source in parts], "architecture": [first for first, *_ in parts]}
    )
    outcomes = Outcomes(published(_accuracies(rows, "finetune_acc"), "accuracy"))
    return ImportedTable(
        Catalogue(catalogue, folder), outcomes, no_probes(), ("accuracies in percent became shares of 1",)
    )


def _accuracies(rows: pl.DataFrame, column: str) -> pl.DataFrame:
    high = rows.filter(pl.col(column) > 100)
    if len(high):
        raise DataError(
            f"the accuracy of model {high['model'][0]!r} on {high['dataset'][0]!r} is {high[column][0]}; "
            "expected percent, at most 100"
        )
    return rows.with_columns((pl.col(column) / 100).alias("value"))
