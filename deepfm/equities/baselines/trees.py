"""Gradient-boosted trees on the features' ranks."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepfm.engine.settings import check_settings, setting
from deepfm.equities.baselines.base import Baseline, RankedFeatures, Scores, Sessions
from deepfm.errors import DataError, ExtraError


@dataclass(frozen=True)
class TreeSettings:
    """How the trees are grown.

    Args:
        num_trees, num_leaves, learning_rate: LightGBM's.
        every: of the training sessions one in so many is used, the first one first.
        seed: of everything that LightGBM draws.
        num_threads: how many cores to use; 0 is all.
    """

    num_trees: int = setting(120, at_least=1)
    num_leaves: int = setting(31, at_least=2)
    learning_rate: float = setting(0.05, above=0)
    every: int = setting(5, at_least=1)
    seed: int = setting(0, at_least=0)
    num_threads: int = setting(0, at_least=0)

    def __post_init__(self) -> None:
        """Hold every value to its limits."""
        check_settings(self, "trees.")


class Trees(Baseline):
    """LightGBM's regression trees, one model a horizon (Ke et al., 2017).

    Raises:
        ExtraError: LightGBM is not installed.
    """

    def __init__(self, settings: TreeSettings | None = None) -> None:
        self.settings = settings or TreeSettings()
        self.lightgbm = import_lightgbm()
        self.models: list[Any] = []

    def __repr__(self) -> str:
        return f"Trees({self.settings})"

    def _learn(self, features: RankedFeatures, targets: NDArray[np.float32], sessions: Sessions) -> None:
        used = sessions[:: self.settings.every]
        values, wanted = features.values[used], targets[used]
        known = np.isfinite(values).any(axis=2)
        rows, goals = values[known], wanted[known]
        self.models = []
        for at in range(goals.shape[1]):
            there = np.isfinite(goals[:, at])
            if not there.any():
                raise DataError("trees found no stock with a feature and a target in their sessions; give others")
            data = self.lightgbm.Dataset(rows[there], goals[there, at], free_raw_data=True)
            self.models.append(self.lightgbm.train(self._parameters(), data, self.settings.num_trees))

    def _parameters(self) -> dict[str, Any]:
        return {
            "objective": "regression",
            "num_leaves": self.settings.num_leaves,
            "learning_rate": self.settings.learning_rate,
            "seed": self.settings.seed,
            "num_threads": self.settings.num_threads,
            "deterministic": True,
            "force_col_wise": True,
            "verbosity": -1,
        }

    def _score(self, features: RankedFeatures, num_horizons: int) -> Scores:
        known = np.isfinite(features.values).any(axis=2)
        scores = np.full((*known.shape, num_horizons), np.nan, dtype=np.float32)
        if known.any():
            rows = features.values[known]
            threads = self.settings.num_threads
            scores[known] = np.stack([model.predict(rows, num_threads=threads) for model in self.models], axis=1)
        return scores


def import_lightgbm() -> Any:
    """LightGBM, loaded when it is used.

    Raises:
        ExtraError: it is not installed, with the extra that installs it.
    """
    try:
        import lightgbm
    except ImportError as error:
        raise ExtraError("the LightGBM baseline needs LightGBM; pip install 'deepfm[equities]'") from error
    return lightgbm
