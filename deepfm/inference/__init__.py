"""Using a finished run: probabilities of raw rows, and the best items for a user."""

from deepfm.inference.predictor import Predictor
from deepfm.inference.recommender import Recommender

__all__ = ["Predictor", "Recommender"]
