"""The layers that DeepCTR-Torch has for the models here, by its names, arguments and state-dict shapes.

Their constructors are longer than the house's five arguments, because calls written for the other library must fit.
"""

from deepfm.interop.deepctr.layers.activation import Dice, activation_layer
from deepfm.interop.deepctr.layers.core import DNN, LocalActivationUnit, PredictionLayer
from deepfm.interop.deepctr.layers.interaction import CIN, FM, CrossNet, InteractingLayer
from deepfm.interop.deepctr.layers.sequence import AttentionSequencePoolingLayer, SequencePoolingLayer
from deepfm.interop.deepctr.layers.utils import concat_fun, slice_arrays

__all__ = [
    "CIN",
    "DNN",
    "FM",
    "AttentionSequencePoolingLayer",
    "CrossNet",
    "Dice",
    "InteractingLayer",
    "LocalActivationUnit",
    "PredictionLayer",
    "SequencePoolingLayer",
    "activation_layer",
    "concat_fun",
    "slice_arrays",
]
