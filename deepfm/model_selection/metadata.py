"""Metadata of models as numbers: architecture, family, parameters and multiply-adds, for baselines."""

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from deepfm.errors import DataError
from deepfm.model_selection.catalogue import Catalogue

COSTS = ("parameters", "macs")
KINDS = ("architecture", "family")

Float = NDArray[np.float64]


@dataclass(frozen=True)
class MetadataEncoder:
    """What a catalogue says of a model, with scales and categories of the training models.

    One column a known architecture and family, 1 where a model is of it, so that an unseen one has none; and for each
    cost the log, standardised, and whether it is missing. There is no column for a model by itself.

    Args:
        categories: of each of `KINDS` the values seen in fitting, sorted.
        means: of each of `COSTS`' logs.
        spreads: of each of `COSTS`' logs; 1 where they did not vary.
    """

    categories: dict[str, tuple[str, ...]]
    means: dict[str, float]
    spreads: dict[str, float]

    @classmethod
    def fit(cls, catalogue: Catalogue) -> "MetadataEncoder":
        """Learn categories and scales from training models.

        Raises:
            DataError: the catalogue is empty.
        """
        if not len(catalogue):
            raise DataError("the catalogue has no models to learn metadata from; expected one or more")
        categories = {kind: tuple(sorted(set(catalogue.rows[kind]))) for kind in KINDS}
        logs = {cost: _logs(catalogue.rows, cost) for cost in COSTS}
        known = {cost: each[np.isfinite(each)] for cost, each in logs.items()}
        means = {cost: float(each.mean()) if len(each) else 0.0 for cost, each in known.items()}
        spreads = {cost: float(each.std()) if len(each) else 0.0 for cost, each in known.items()}
        return cls(categories, means, {cost: each if each > 1e-9 else 1.0 for cost, each in spreads.items()})

    @property
    def names(self) -> tuple[str, ...]:
        """What each column is."""
        kinds = [f"{kind}={value}" for kind in KINDS for value in self.categories[kind]]
        return (*kinds, *(name for cost in COSTS for name in (f"log {cost}", f"{cost} missing")))

    def transform(self, catalogue: Catalogue) -> Float:
        """The metadata of any models, `(M, K)`, in the catalogue's order; a missing cost is 0, the mean."""
        columns = []
        for kind in KINDS:
            have = catalogue.rows[kind].to_list()
            columns += [np.array([value == each for each in have], np.float64) for value in self.categories[kind]]
        for cost in COSTS:
            logs = (_logs(catalogue.rows, cost) - self.means[cost]) / self.spreads[cost]
            columns += [np.nan_to_num(logs, nan=0.0), np.isnan(logs).astype(np.float64)]
        return np.stack(columns, axis=1)


def _logs(rows: pl.DataFrame, cost: str) -> Float:
    """log(1 + cost), NaN where it is not known."""
    return np.log1p(rows[cost].cast(pl.Float64).fill_null(np.nan).to_numpy())
