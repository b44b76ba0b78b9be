"""What is known of a stock at the close of a session: a registry of causal operations, and their values."""

from deepfm.equities.features.history import History
from deepfm.equities.features.own import feature_registry
from deepfm.equities.features.price_volume import DEFAULT_FEATURES
from deepfm.equities.features.registry import GROUPS, Feature, FeatureRegistry, feature
from deepfm.equities.features.table import FeatureTable, compute_features

__all__ = [
    "DEFAULT_FEATURES",
    "GROUPS",
    "Feature",
    "FeatureRegistry",
    "FeatureTable",
    "History",
    "compute_features",
    "feature",
    "feature_registry",
]
