"""The models, and the registry that makes one by name."""

from deepfm.config import ExperimentConfig
from deepfm.data.schema import DatasetSchema
from deepfm.engine.settings import nearest
from deepfm.errors import ConfigError
from deepfm.models.afm import AFM
from deepfm.models.attention_deepfm import AttentionDeepFM
from deepfm.models.autoint import AutoInt
from deepfm.models.base import BaseCTRModel, evaluation_mode
from deepfm.models.bst import BST
from deepfm.models.dcn import DCN
from deepfm.models.dcn_v2 import DCNv2
from deepfm.models.deepfm import DeepFM
from deepfm.models.din import DIN
from deepfm.models.final_mlp import FinalMLP
from deepfm.models.fm import FM
from deepfm.models.lr import LR
from deepfm.models.mask_net import MaskNet
from deepfm.models.nfm import NFM
from deepfm.models.sequence import Behaviour, Origins, SequenceModel
from deepfm.models.sin import SIN
from deepfm.models.wide_deep import WideDeep
from deepfm.models.xdeepfm import xDeepFM

MODELS: dict[str, type[BaseCTRModel]] = {
    "deepfm": DeepFM,
    "xdeepfm": xDeepFM,
    "attention_deepfm": AttentionDeepFM,
    "bst": BST,
    "din": DIN,
    "sin": SIN,
    "lr": LR,
    "fm": FM,
    "wide_deep": WideDeep,
    "dcn": DCN,
    "dcn_v2": DCNv2,
    "autoint": AutoInt,
    "afm": AFM,
    "nfm": NFM,
    "final_mlp": FinalMLP,
    "mask_net": MaskNet,
}

__all__ = [
    "AFM",
    "BST",
    "DCN",
    "DIN",
    "FM",
    "LR",
    "MODELS",
    "NFM",
    "SIN",
    "AttentionDeepFM",
    "AutoInt",
    "BaseCTRModel",
    "Behaviour",
    "DCNv2",
    "DeepFM",
    "FinalMLP",
    "MaskNet",
    "Origins",
    "SequenceModel",
    "WideDeep",
    "create_model",
    "evaluation_mode",
    "model_class",
    "schema_for",
    "xDeepFM",
]


def model_class(name: str) -> type[BaseCTRModel]:
    """The model registered under `name`.

    Raises:
        ConfigError: there is none; the nearest name is given.
    """
    if name not in MODELS:
        raise ConfigError(f"model_name = {name!r} is no known model; {nearest(name, list(MODELS))}")
    return MODELS[name]


def create_model(name: str, schema: DatasetSchema, config: ExperimentConfig) -> BaseCTRModel:
    """Make the model `name` for a schema.

    `feature.embedding_dim`, where given, replaces every field's own width, and then `feature.id_embedding_dim` that of
    the user and the item field.

    Raises:
        ConfigError: the name is unknown, or sizes that do not fit together.
    """
    return model_class(name)(schema_for(schema, config), config)


def schema_for(schema: DatasetSchema, config: ExperimentConfig) -> DatasetSchema:
    """A schema with the embedding widths that a configuration gives."""
    if config.feature.embedding_dim is not None:
        schema = schema.with_embedding_dim(config.feature.embedding_dim)
    if config.feature.id_embedding_dim is not None:
        schema = schema.with_id_embedding_dim(config.feature.id_embedding_dim)
    return schema
