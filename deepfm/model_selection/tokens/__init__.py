"""Dataset tokens: what a labelled data set looks like, as a set of vectors of any length."""

from deepfm.model_selection.tokens.analytic import AnalyticEncoder
from deepfm.model_selection.tokens.clip import ClipEncoder
from deepfm.model_selection.tokens.dataset_tokens import DatasetTokens, class_tokens, image_tokens
from deepfm.model_selection.tokens.encoder import FeatureEncoder, TokenEncoder
from deepfm.model_selection.tokens.padding import pad
from deepfm.model_selection.tokens.similarity import task_embedding, task_similarity

__all__ = [
    "AnalyticEncoder",
    "ClipEncoder",
    "DatasetTokens",
    "FeatureEncoder",
    "TokenEncoder",
    "class_tokens",
    "image_tokens",
    "pad",
    "task_embedding",
    "task_similarity",
]
