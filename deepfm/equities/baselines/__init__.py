"""Rankings to beat, on the same features, folds and harness: reversal, momentum, ridge, LightGBM, chance."""

from deepfm.equities.baselines.base import Baseline, RankedFeatures, rank_features
from deepfm.equities.baselines.ridge import Ridge
from deepfm.equities.baselines.rules import RandomScores, Rule
from deepfm.equities.baselines.trees import Trees, TreeSettings
from deepfm.equities.baselines.walk_forward import BASELINES, walk_forward_scores

__all__ = [
    "BASELINES",
    "Baseline",
    "RandomScores",
    "RankedFeatures",
    "Ridge",
    "Rule",
    "TreeSettings",
    "Trees",
    "rank_features",
    "walk_forward_scores",
]
