"""What a zoo is built of: the sections of its stages, and two presets; without torch, so that commands load fast."""

from dataclasses import dataclass, field

from deepfm.engine.settings import setting
from deepfm.errors import ConfigError

RANDOM = "random"  # the source of models that were never trained
SOURCES = (
    "digits_plain", "digits_permuted", "digits_inverted", "digits_parity", "digits_rotation",
    "patches_photograph", "patches_rotation", "patches_noise", "patches_blur",
    "gratings_orientation", "blobs_count", RANDOM,
)  # fmt: skip
TASKS = (
    "digits_plain", "digits_permuted", "digits_inverted", "digits_rotation", "digits_mirrored", "digits_reshuffled",
    "digits_permuted_parity", "digits_textured", "digits_noisy", "digits_loops",
    "patches_photograph", "patches_noise", "patches_blur", "patches_grain",
    "gratings_orientation", "gratings_frequency", "blobs_size", "shapes_kind",
)  # fmt: skip
ARCHITECTURES = ("mlp64x1", "mlp48x2", "cnn12x2", "cnn16x2n", "cnn12x3n")


@dataclass(frozen=True)
class ModelSettings:
    """How models are pre-trained.

    Each source trains each architecture once for the zoo and, for whoever learns from weights, `state_seeds` times
    more, of which `checkpoints` evenly spaced states are kept. A source has `rows` images (one of digits the 897 that
    there are), a fifth of them held out.
    """

    sources: tuple[str, ...] = setting(SOURCES, choices=SOURCES, not_empty=True)
    architectures: tuple[str, ...] = setting(ARCHITECTURES, choices=ARCHITECTURES, not_empty=True)
    rows: int = setting(2000, at_least=100)
    steps: int = setting(400, at_least=1)
    batch_size: int = setting(64, at_least=1)
    lr: float = setting(5e-3, above=0)
    weight_decay: float = setting(1e-2, at_least=0)
    state_seeds: int = setting(2, at_least=1)
    checkpoints: int = setting(3, at_least=1)

    def __post_init__(self) -> None:
        """Refuse what cannot be cut."""
        _no_doubles("models.sources", self.sources)
        _no_doubles("models.architectures", self.architectures)
        if self.checkpoints > self.steps:
            raise ConfigError(f"models.checkpoints = {self.checkpoints}; expected at most models.steps = {self.steps}")


@dataclass(frozen=True)
class TaskSettings:
    """What models are fine-tuned on: `shots` stratified rows of `pool_rows`, tested on `test_rows` others."""

    names: tuple[str, ...] = setting(TASKS, choices=TASKS, not_empty=True)
    pool_rows: int = setting(300, at_least=20, at_most=350)
    test_rows: int = setting(500, at_least=20, at_most=500)
    shots: int = setting(100, at_least=10)
    seeds: int = setting(3, at_least=1)

    def __post_init__(self) -> None:
        """Refuse what cannot be drawn."""
        _no_doubles("tasks.names", self.names)
        if self.shots > self.pool_rows:
            raise ConfigError(f"tasks.shots = {self.shots}; expected at most tasks.pool_rows = {self.pool_rows}")


@dataclass(frozen=True)
class FineTuneSettings:
    """How a model is fine-tuned: all weights, full batches, AdamW, a cosine to zero.

    `body_lr` is the rate of what was pre-trained, as a share of the new head's `lr`.
    """

    steps: int = setting(60, at_least=1)
    lr: float = setting(1e-2, above=0)
    body_lr: float = setting(0.1, at_least=0)
    weight_decay: float = setting(1e-2, at_least=0)


@dataclass(frozen=True)
class BuildSettings:
    """The stages of a build, one section each."""

    models: ModelSettings = field(default_factory=ModelSettings)
    tasks: TaskSettings = field(default_factory=TaskSettings)
    finetune: FineTuneSettings = field(default_factory=FineTuneSettings)


def _no_doubles(name: str, values: tuple[str, ...]) -> None:
    for value in values:
        if values.count(value) > 1:
            raise ConfigError(f"{name} has {value!r} more than once; expected each at most once")


PRESETS = {
    "full": BuildSettings(),
    "ci": BuildSettings(
        ModelSettings(
            sources=tuple(name for name in SOURCES if name not in ("digits_parity", "patches_rotation")),
            architectures=("mlp64x1", "mlp48x2"),
            steps=200,
            state_seeds=2,
        ),
        TaskSettings(
            names=(
                "digits_permuted", "digits_inverted", "digits_mirrored", "digits_textured", "patches_photograph",
                "gratings_orientation", "blobs_size", "shapes_kind",
            ),
            seeds=2,
        ),
    ),
}  # fmt: skip
