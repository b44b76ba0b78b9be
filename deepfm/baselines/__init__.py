"""Baselines that draw no negatives: closed forms and counts on the training likes."""

from deepfm.baselines.experiment import run_baseline
from deepfm.baselines.item_models import EASE, Baseline, ItemKNN, Popularity

__all__ = ["EASE", "Baseline", "ItemKNN", "Popularity", "run_baseline"]
