"""What can be wrong with an experiment, found before a price is read."""

import torch

from deepfm.equities.baselines import BASELINES
from deepfm.equities.baselines.rules import Rule
from deepfm.equities.features import FeatureRegistry, feature_registry
from deepfm.equities.network.atft import build_normalization
from deepfm.equities.settings import DataSettings, EquitiesSettings
from deepfm.errors import ConfigError


def known_features(data: DataSettings, registry: FeatureRegistry | None = None) -> FeatureRegistry:
    """The registry that `data.features` are looked up in: by default the package's and that of `data.feature_modules`.

    Raises:
        ConfigError: a module cannot be used, or a feature is unknown.
    """
    found = feature_registry(data.feature_modules) if registry is None else registry
    found.select(data.features)
    return found


def refuse_unready(settings: EquitiesSettings) -> None:
    """Refuse settings that the training or the measuring of an experiment would refuse after hours.

    Raises:
        ConfigError: no validation session, an unknown feature, one that a baseline needs and the experiment has not, or
            an adaptive normalisation that does not fit the look-back.
        ExtraError: a baseline needs a package that is not there.
    """
    if not settings.split.validation_sessions:
        raise ConfigError(
            "split.validation_sessions = 0; expected at least 1, as the best epoch is chosen by a validation session"
        )
    known = known_features(settings.data)
    names = settings.data.features or known.names
    for name in settings.evaluation.baselines:
        baseline = BASELINES[name](settings.seed)
        if isinstance(baseline, Rule) and baseline.feature not in names:
            raise ConfigError(
                f"evaluation.baselines names {name!r}, which needs the feature {baseline.feature!r}; add it to "
                "data.features, or leave the baseline out"
            )
    with torch.random.fork_rng(devices=[]):
        build_normalization(settings.model, 1, settings.data.sequence_length)
