"""The settings of the two networks and of their training; without torch, so that commands load fast."""

from dataclasses import dataclass

from deepfm.engine.loop_settings import LoopSettings
from deepfm.engine.settings import setting
from deepfm.errors import ConfigError

LOSSES = ("hinge", "logistic", "listmle")
TIES = ("excluded", "pulled")


@dataclass(frozen=True)
class NetworkSettings(LoopSettings):
    """The loop's knobs as both networks take them: AdamW, warm-up, a cosine to zero, gradients clipped at 1.

    `batch_size` counts models for the auto-encoder and tasks for the ranker.
    """

    num_epochs: int = setting(60, at_least=1, also=("epochs", "max_epochs"))
    lr: float = setting(1e-3, above=0, also=("learning_rate",))
    optimizer: str = setting("adamw", choices=("adam", "adamw", "sgd"))
    scheduler: str = setting("cosine", choices=("reduce_on_plateau", "cosine", "none"))
    warmup_steps: int = setting(20, at_least=0)
    weight_decay: float = setting(1e-2, at_least=0)
    batch_size: int = setting(64, at_least=1)
    hidden_size: int = setting(64, at_least=1)
    num_heads: int = setting(4, at_least=1)
    num_layers: int = setting(2, at_least=1)
    dropout: float = setting(0.1, at_least=0, below=1)

    def __post_init__(self) -> None:
        """Refuse heads that do not divide the width."""
        super().__post_init__()
        if self.hidden_size % self.num_heads:
            raise ConfigError(
                f"hidden_size = {self.hidden_size} is no multiple of num_heads = {self.num_heads}; expected one"
            )


@dataclass(frozen=True)
class AutoEncoderSettings(NetworkSettings):
    """The auto-encoder of weights: codes of `code_size`, read out by `num_queries` learned queries."""

    num_epochs: int = setting(40, at_least=1, also=("epochs", "max_epochs"))
    hidden_size: int = setting(32, at_least=1)
    num_layers: int = setting(1, at_least=1)
    dropout: float = setting(0.0, at_least=0, below=1)
    code_size: int = setting(512, at_least=1)
    num_queries: int = setting(8, at_least=1)


@dataclass(frozen=True)
class RankerSettings(NetworkSettings):
    """The ranker, its loss, and what each step sees of a task.

    Each step takes `model_share` of a task's models, at most `max_models`, and keeps `token_share` of its tokens.
    `ranking_margin` is in deviations of a task's outcomes.

    The epochs are fixed, as a catalogue has few tasks and one that only stops the training is one less to learn from.
    They and the sizes were chosen on a zoo of another seed than figures are to be read from.
    """

    num_epochs: int = setting(80, at_least=1, also=("epochs", "max_epochs"))
    lr: float = setting(3e-3, above=0, also=("learning_rate",))
    hidden_size: int = setting(32, at_least=1)
    num_layers: int = setting(1, at_least=1)
    input_dropout: float = setting(0.1, at_least=0, below=1)
    attend_to_models: bool = False
    loss: str = setting("hinge", choices=LOSSES)
    ranking_margin: float = setting(0.1, at_least=0)
    weigh_by_difference: bool = False
    ties: str = setting("excluded", choices=TIES)
    model_share: float = setting(0.4, above=0, at_most=1)
    token_share: float = setting(0.7, above=0, at_most=1)
    max_models: int = setting(256, at_least=2)
