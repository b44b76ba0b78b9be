"""Baselines that draw no negatives: closed forms and counts on the training likes."""

from deepfm.baselines.base import NO_ITEM, Baseline, Moments
from deepfm.baselines.experiment import moments_in, run_baseline
from deepfm.baselines.item_models import EASE, ItemKNN, Popularity
from deepfm.baselines.transitions import Transitions

__all__ = [
    "EASE",
    "NO_ITEM",
    "Baseline",
    "ItemKNN",
    "Moments",
    "Popularity",
    "Transitions",
    "moments_in",
    "run_baseline",
]
