"""Cheap scores of a model's features on a labelled data set, each `(n, D), (n,) -> float`, higher is better."""

from deepfm.model_selection.probes.h_score import h_score
from deepfm.model_selection.probes.leep import leep
from deepfm.model_selection.probes.logme import logme, logme_of_targets
from deepfm.model_selection.probes.nce import nce
from deepfm.model_selection.probes.neighbours import neighbour_accuracy
from deepfm.model_selection.probes.ridge import ridge_accuracy, ridge_explained
from deepfm.model_selection.probes.run import PROBES, ProbeResults, run_probes
from deepfm.model_selection.probes.standardise import standardised

__all__ = [
    "PROBES",
    "ProbeResults",
    "h_score",
    "leep",
    "logme",
    "logme_of_targets",
    "nce",
    "neighbour_accuracy",
    "ridge_accuracy",
    "ridge_explained",
    "run_probes",
    "standardised",
]
