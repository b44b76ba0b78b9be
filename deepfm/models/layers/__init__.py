"""The named parts that models are made of, each testable alone."""

from deepfm.models.layers.attention import MultiHeadSelfAttention
from deepfm.models.layers.cin import CIN
from deepfm.models.layers.crossnet import CrossNet, CrossNetV2
from deepfm.models.layers.dnn import DNN
from deepfm.models.layers.embedding import FeatureEmbedding
from deepfm.models.layers.fm import FMInteraction
from deepfm.models.layers.gated_fusion import GatedFusion
from deepfm.models.layers.mask_block import FieldNorm, MaskBlock
from deepfm.models.layers.pairs import BiInteraction, PairAttention
from deepfm.models.layers.target_attention import ActivationUnit, RecencyBias, TargetAttention
from deepfm.models.layers.transformer import EncoderLayer, TransformerEncoder
from deepfm.models.layers.two_streams import BilinearFusion, FeatureGate

__all__ = [
    "CIN",
    "DNN",
    "ActivationUnit",
    "BiInteraction",
    "BilinearFusion",
    "CrossNet",
    "CrossNetV2",
    "EncoderLayer",
    "FMInteraction",
    "FeatureEmbedding",
    "FeatureGate",
    "FieldNorm",
    "GatedFusion",
    "MaskBlock",
    "MultiHeadSelfAttention",
    "PairAttention",
    "RecencyBias",
    "TargetAttention",
    "TransformerEncoder",
]
