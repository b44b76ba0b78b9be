"""People's own features: those that a configuration's modules define, beside the package's."""

import hashlib
import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path

from deepfm.equities.features.price_volume import DEFAULT_FEATURES
from deepfm.equities.features.registry import Feature, FeatureRegistry
from deepfm.errors import ConfigError
from deepfm.utils.modules import import_source


def feature_registry(modules: Sequence[str] = (), base: FeatureRegistry = DEFAULT_FEATURES) -> FeatureRegistry:
    """A registry with the features that modules define, after those of `base`, in the order of the modules.

    Args:
        modules: Python files (`my_features.py`) or modules that Python finds (`research.features`); every `Feature` at
            their top, as the decorator `feature` makes it, and every one of a `FeatureRegistry` there counts.
        base: what they join.

    Raises:
        ConfigError: a module cannot be imported or defines no feature, or a name stands twice.
    """
    registry = base
    for source in modules:
        own = _defined(source, base)
        if not own:
            raise ConfigError(
                f"{source} of data.feature_modules defines no feature; expected a function with the decorator "
                "deepfm.equities.features.feature"
            )
        for each in own:
            if each.name in registry.names:
                raise ConfigError(
                    f"{source} of data.feature_modules defines a feature {each.name!r}, and there is one already; "
                    "give it another name"
                )
            registry = registry.with_feature(each)
    return registry


def module_hashes(modules: Sequence[str]) -> dict[str, str]:
    """The hash of each module's file, so that what was trained with it knows whether it has changed.

    Raises:
        ConfigError: there is no such file or module.
    """
    return {source: hashlib.sha256(_file(source).read_bytes()).hexdigest() for source in modules}


def refuse_changed(trained: Mapping[str, str], modules: Sequence[str]) -> None:
    """Make sure that modules are as they were in a training.

    Args:
        trained: the hashes that `module_hashes` gave then.
        modules: those of the configuration.

    Raises:
        ConfigError: one is gone or another.
    """
    for source, digest in module_hashes(modules).items():
        if trained.get(source, digest) != digest:
            raise ConfigError(
                f"{source} of data.feature_modules has changed since the training, so that its features may mean "
                "something else; bring the earlier file back, or train again"
            )


def _defined(source: str, base: FeatureRegistry) -> list[Feature]:
    found: list[Feature] = []
    for value in vars(import_source(source, ConfigError)).values():
        some = value.features if isinstance(value, FeatureRegistry) else (value,)
        found += [each for each in some if isinstance(each, Feature)]
    inherited = {id(each) for each in base.features}
    return [each for each in {id(each): each for each in found}.values() if id(each) not in inherited]


def _file(source: str) -> Path:
    if source.endswith(".py"):
        place = Path(source)
    else:
        try:
            spec = importlib.util.find_spec(source)
        except (ImportError, ValueError):
            spec = None
        place = Path(spec.origin) if spec is not None and spec.origin is not None else Path()
    if not place.is_file():
        raise ConfigError(
            f"{source} of data.feature_modules is not there; expected a Python file, by its path from where the "
            "command is run, or a module that Python finds"
        )
    return place
