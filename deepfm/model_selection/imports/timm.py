"""The results of timm: ImageNet models with what they cost, and their accuracy on six variants of ImageNet."""

from pathlib import Path

import polars as pl

from deepfm.model_selection.catalogue import Catalogue
from deepfm.model_selection.imports.imported import ImportedTable, no_probes, published
from deepfm.model_selection.outcomes import Outcomes

MODELS = frozenset({"model", "arch", "param_count", "gmacs", "val_top1"})
TOP1 = "_top1"


def models(rows: pl.DataFrame, folder: Path) -> ImportedTable:
    """Every model with parameters, multiply-adds and the latency that its CPU throughput of batches implies.

    All targets are variants of ImageNet, alike enough that average rank orders them almost perfectly: a catalogue to
    choose from under a budget, no evidence that a recommendation has skill.
    """
    speed = pl.col("cpu_i7_fp32_img_s") if "cpu_i7_fp32_img_s" in rows.columns else pl.lit(None, pl.Float64)
    catalogue = rows.select(
        "model",
        (pl.col("tag").fill_null("none") if "tag" in rows.columns else pl.lit("none")).alias("family"),
        pl.col("arch").alias("architecture"),
        (pl.col("param_count") * 1e6).round().cast(pl.Int64).alias("parameters"),
        (pl.col("gmacs") * 1e9).alias("macs"),
        (1000 / speed).alias("latency_ms"),
        pl.lit("apache-2.0").alias("licence"),
    )
    variants = [name for name in rows.columns if name.endswith(TOP1)]
    long = rows.unpivot(variants, index="model", variable_name="dataset", value_name="value").drop_nulls("value")
    values = long.filter(pl.col("value").is_finite()).with_columns(
        ("imagenet-" + pl.col("dataset").str.strip_suffix(TOP1)).alias("dataset"), pl.col("value") / 100
    )
    notes = (
        "accuracies in percent became shares of 1; latency is one second over the images a second of an i7 CPU",
        "licence is that of timm's code; some weights carry another",
    )
    return ImportedTable(Catalogue(catalogue, folder), Outcomes(published(values, "accuracy")), no_probes(), notes)
