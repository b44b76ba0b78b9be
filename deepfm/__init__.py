"""deepfm: click prediction and ranking on PyTorch.

The names below are loaded when they are first used, so that importing the package stays light.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_NAMES = {
    "ExperimentConfig": "deepfm.config",
    "load_config": "deepfm.config",
    "DatasetSchema": "deepfm.data.schema",
    "FeatureType": "deepfm.data.schema",
    "FieldSchema": "deepfm.data.schema",
    "TabularDataset": "deepfm.data.dataset",
    "MovieLensAdapter": "deepfm.data.movielens",
    "TableAdapter": "deepfm.data.tables.adapter",
    "TableSchema": "deepfm.data.tables.schema",
    "create_model": "deepfm.models",
    "DeepFM": "deepfm.models",
    "xDeepFM": "deepfm.models",
    "AttentionDeepFM": "deepfm.models",
    "BST": "deepfm.models",
    "DIN": "deepfm.models",
    "SIN": "deepfm.models",
    "analyze": "deepfm.analysis.analyse",
    "ModelReport": "deepfm.analysis.report",
    "Predictor": "deepfm.inference",
    "Recommender": "deepfm.inference",
    "RankingEvaluator": "deepfm.training.metrics",
    "Trainer": "deepfm.training.trainer",
}

__all__ = [*_NAMES, "__version__"]


def __getattr__(name: str) -> Any:
    if name not in _NAMES:
        raise AttributeError(f"module 'deepfm' has no attribute {name!r}")
    return getattr(import_module(_NAMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
