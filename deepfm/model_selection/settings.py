"""The configuration of the wing: a section for each stage, so that each can be run again by itself; without torch."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from deepfm.engine.settings import load_settings, setting, settings_to_dict
from deepfm.errors import ConfigError
from deepfm.model_selection.network_settings import AutoEncoderSettings, RankerSettings
from deepfm.model_selection.stacker import StackerSettings
from deepfm.model_selection.zoo.settings import PRESETS as BUILDS
from deepfm.model_selection.zoo.settings import BuildSettings

EMBEDDINGS = ("autoencoder", "fingerprint", "both")


@dataclass(frozen=True)
class EmbedSettings:
    """How data sets become tokens, and models fingerprints.

    `tokens` are one a class (mean and spread of its rows) or one an image. `clip_weights` is a file, or a tag whose
    weights are on this machine. A fingerprint is taken on `probe_inputs` fixed images.
    """

    encoder: str = setting("analytic", choices=("analytic", "clip"))
    tokens: str = setting("class", choices=("class", "image"))
    clip_architecture: str = "ViT-B-32"
    clip_weights: str | None = None
    probe_inputs: int = setting(80, at_least=2)
    fingerprint_size: int = setting(24, at_least=1)


@dataclass(frozen=True)
class JoinSettings:
    """What the ranker reads of a model, and whether the stack hears the ranker.

    With `stack_ranker` the stack is trained on what rankers said that saw neither task of each pair, which takes one
    more ranker for every pair of tasks.
    """

    embedding: str = setting("both", choices=EMBEDDINGS)
    stack_ranker: bool = False


@dataclass(frozen=True)
class ModelSelectionSettings:
    """All stages, in their order.

    Before a network is trained, the analyser looks at it for about `analysis_seconds`; a critical risk stops.
    """

    seed: int = setting(0, at_least=0)
    device: str = "cpu"
    analysis_seconds: float = setting(8.0, above=0)
    build: BuildSettings = field(default_factory=BuildSettings)
    embed: EmbedSettings = field(default_factory=EmbedSettings)
    autoencoder: AutoEncoderSettings = field(default_factory=AutoEncoderSettings)
    ranker: RankerSettings = field(default_factory=RankerSettings)
    join: JoinSettings = field(default_factory=JoinSettings)
    stacker: StackerSettings = field(default_factory=StackerSettings)


PRESETS = {
    "full": ModelSelectionSettings(),
    "ci": ModelSelectionSettings(
        analysis_seconds=2.0,
        build=BUILDS["ci"],
        autoencoder=AutoEncoderSettings(num_epochs=20),
        ranker=RankerSettings(num_epochs=60),
    ),
}


def load_wing_settings(
    config: str | Path | None = None, overrides: Sequence[str] = (), preset: str = "full"
) -> ModelSelectionSettings:
    """A preset, with a YAML file and overrides above it.

    Raises:
        ConfigError: an unknown preset or setting, a wrong type or a value out of range.
    """
    if preset not in PRESETS:
        raise ConfigError(f"preset {preset!r} is unknown; expected {' or '.join(PRESETS)}")
    return above(PRESETS[preset], config, overrides)


def above(
    settings: ModelSelectionSettings, config: str | Path | None = None, overrides: Sequence[str] = ()
) -> ModelSelectionSettings:
    """The settings with a YAML file and overrides above them.

    Raises:
        ConfigError: an unknown setting, a wrong type or a value out of range.
    """
    return load_settings(ModelSelectionSettings, config, overrides, settings_to_dict(settings))


def stage_dict(settings: ModelSelectionSettings, sections: Sequence[str]) -> dict[str, object]:
    """Some sections, and the seed, as plain data."""
    plain = settings_to_dict(settings)
    names = [item.name for item in dataclasses.fields(settings) if item.name in ("seed", *sections)]
    return {name: plain[name] for name in names}
