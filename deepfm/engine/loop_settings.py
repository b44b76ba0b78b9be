"""The knobs of the training loop; without torch, so that configurations load fast."""

from dataclasses import dataclass

from deepfm.engine.settings import setting
from deepfm.errors import ConfigError


@dataclass(frozen=True)
class LoopKnobs:
    """The knobs of the loop that every task calls alike.

    `plateau_patience` epochs in a row without improvement are let pass, as in torch's `ReduceLROnPlateau`; the next
    one cuts the learning rate by `plateau_factor`, to no less than `min_lr`, and goes back to the best weights
    (`plateau_restore`). `early_stopping_patience` such epochs end the run. An improvement is more than `min_delta`.
    `precision: bf16` multiplies in bfloat16 and keeps weights and the loss in fp32; `compile` needs a C++ compiler;
    `activation_checkpointing` trades time for memory. `checkpoint_batches` writes a checkpoint inside epochs too, after
    so many batches and the rest of their optimizer step; None for after epochs only.
    """

    optimizer: str = setting("adam", choices=("adam", "adamw", "sgd"))
    scheduler: str = setting("reduce_on_plateau", choices=("reduce_on_plateau", "cosine", "none"))
    plateau_factor: float = setting(0.1, above=0, below=1)
    plateau_patience: int = setting(1, at_least=0)
    plateau_restore: bool = True
    min_lr: float = setting(0.0, at_least=0)
    min_delta: float = setting(0.0, at_least=0)
    warmup_steps: int = setting(0, at_least=0)
    accumulation_steps: int = setting(1, at_least=1)
    early_stopping_patience: int = setting(5, at_least=1, also=("early_stop_patience", "patience"))
    gradient_clip_norm: float | None = setting(1.0, above=0)
    precision: str = setting("fp32", choices=("fp32", "bf16"))
    compile: bool = False
    activation_checkpointing: bool = False
    checkpoint_batches: int | None = setting(None, at_least=1)

    def __post_init__(self) -> None:
        """Refuse what torch cannot do together."""
        if self.compile and self.activation_checkpointing:
            raise ConfigError(
                "training.compile and training.activation_checkpointing are both true; expected at most one, as "
                "compiled code plans its own memory"
            )


@dataclass(frozen=True)
class LoopSettings(LoopKnobs):
    """The knobs of the loop, for any task: `lr` and `num_epochs`, which a task may call otherwise, and `LoopKnobs`."""

    num_epochs: int = setting(50, at_least=1, also=("epochs", "max_epochs"))
    lr: float = setting(1e-3, above=0, also=("learning_rate",))
