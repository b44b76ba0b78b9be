"""Using a finished run: probabilities of raw rows."""

from deepfm.inference.predictor import Predictor

__all__ = ["Predictor"]
