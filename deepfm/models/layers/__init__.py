"""The named parts that models are made of, each testable alone."""

from deepfm.models.layers.attention import MultiHeadSelfAttention
from deepfm.models.layers.cin import CIN
from deepfm.models.layers.dnn import DNN
from deepfm.models.layers.embedding import FeatureEmbedding
from deepfm.models.layers.fm import FMInteraction

__all__ = ["CIN", "DNN", "FMInteraction", "FeatureEmbedding", "MultiHeadSelfAttention"]
