"""The models of DeepCTR-Torch that are here, and this package's BST and SIN, in the same style.

Their constructors are longer than the house's five arguments, because calls written for the other library must fit.
"""

from deepfm.interop.deepctr.models.autoint import AutoInt
from deepfm.interop.deepctr.models.basemodel import BaseModel
from deepfm.interop.deepctr.models.bst import BST
from deepfm.interop.deepctr.models.dcn import DCN
from deepfm.interop.deepctr.models.deepfm import DeepFM
from deepfm.interop.deepctr.models.din import DIN
from deepfm.interop.deepctr.models.sin import SIN
from deepfm.interop.deepctr.models.wdl import WDL
from deepfm.interop.deepctr.models.xdeepfm import xDeepFM

__all__ = ["BST", "DCN", "DIN", "SIN", "WDL", "AutoInt", "BaseModel", "DeepFM", "xDeepFM"]
