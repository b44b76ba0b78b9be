"""What a network's weights look like, layer by layer, whatever the network."""

from deepfm.model_selection.weights.layers import KINDS, Layer, State, layers_of
from deepfm.model_selection.weights.standardisation import Standardisation
from deepfm.model_selection.weights.statistics import FEATURES
from deepfm.model_selection.weights.tokens import WeightTokens, pad_weight_tokens, weight_tokens

__all__ = [
    "FEATURES",
    "KINDS",
    "Layer",
    "Standardisation",
    "State",
    "WeightTokens",
    "layers_of",
    "pad_weight_tokens",
    "weight_tokens",
]
