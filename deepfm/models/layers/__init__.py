"""The named parts that models are made of, each testable alone."""

from deepfm.models.layers.attention import MultiHeadSelfAttention
from deepfm.models.layers.cin import CIN
from deepfm.models.layers.dnn import DNN
from deepfm.models.layers.embedding import FeatureEmbedding
from deepfm.models.layers.fm import FMInteraction
from deepfm.models.layers.gated_fusion import GatedFusion
from deepfm.models.layers.target_attention import ActivationUnit, RecencyBias, TargetAttention
from deepfm.models.layers.transformer import EncoderLayer, TransformerEncoder

__all__ = [
    "CIN",
    "DNN",
    "ActivationUnit",
    "EncoderLayer",
    "FMInteraction",
    "FeatureEmbedding",
    "GatedFusion",
    "MultiHeadSelfAttention",
    "RecencyBias",
    "TargetAttention",
    "TransformerEncoder",
]
