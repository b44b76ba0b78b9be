"""The configuration of an experiment: frozen dataclasses with defaults, loaded strictly.

A default here is the contract's; a YAML may leave out any key, and `--override a.b=c` beats the YAML.
"""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from deepfm.engine.loop_settings import LoopSettings
from deepfm.engine.settings import load_settings, setting
from deepfm.errors import ConfigError

DATA_DIR_VARIABLE = "DEEPFM_DATA_DIR"
METRIC_NAMES = ("auc", "logloss", "hr@K", "ndcg@K")


@dataclass(frozen=True)
class DataConfig:
    """Which data, how it is split, and how negatives and candidates are drawn."""

    dataset_name: str = setting("movielens", choices=("movielens",))
    data_dir: str = "data/ml-100k"
    source: str = setting("auto", choices=("auto", "files", "download", "sample"))
    split_strategy: str = setting("leave_one_out", choices=("leave_one_out", "temporal", "random"))
    min_interactions: int = setting(3, at_least=3)
    label_threshold: float = 4.0
    num_neg_train: int = setting(4, at_least=1)
    train_negatives: str = setting("unrated", choices=("unrated", "unseen"))
    num_neg_eval: int = setting(999, at_least=1)
    candidate_seed: int = setting(42, at_least=0)
    history_ties: str = setting("file_order", choices=("file_order", "strictly_earlier"))


@dataclass(frozen=True)
class FeatureConfig:
    """Embeddings: the common interaction width D, each field's own width, and their L2 penalty.

    `embedding_dim` replaces every field's own width where it is given, and `id_embedding_dim` that of the user and the
    item field and of what shares their tables. `projection` maps a field's own
    width to D: `always`, only where the widths differ (`if_needed`), or never (`none`).
    `embedding_l2_reg` is λ in loss + λ·Σw² over the embedding tables. `max_history` is the longest behaviour
    history, of which the latest events are kept; models without behaviour sequences do not load any.
    """

    fm_embed_dim: int = setting(16, at_least=1)
    embedding_dim: int | None = setting(None, at_least=1)
    id_embedding_dim: int | None = setting(None, at_least=1)
    embedding_l2_reg: float = setting(1e-5, at_least=0, also=("embedding_regularizer", "l2_reg_embedding", "l2_reg"))
    projection: str = setting("always", choices=("always", "if_needed", "none"))
    max_history: int = setting(50, at_least=1, also=("max_len", "max_seq_len"))


@dataclass(frozen=True)
class FMConfig:
    """The two terms of the factorisation machine."""

    use_first_order: bool = True
    use_second_order: bool = True


@dataclass(frozen=True)
class DNNConfig:
    """The deep tower."""

    hidden_units: tuple[int, ...] = setting((256, 128, 64), at_least=1, not_empty=True, also=("dnn_hidden_units",))
    activation: str = setting("relu", choices=("relu", "gelu", "silu", "leaky_relu", "tanh", "sigmoid"))
    dropout: float = setting(0.1, at_least=0, below=1, also=("net_dropout", "dnn_dropout"))
    use_batch_norm: bool = setting(True, also=("batch_norm", "dnn_use_bn"))


@dataclass(frozen=True)
class CINConfig:
    """The compressed interaction network of xDeepFM."""

    layer_sizes: tuple[int, ...] = setting(
        (128, 128), at_least=1, not_empty=True, also=("cin_layer_size", "cin_hidden_units")
    )
    split_half: bool = True
    activation: str = setting("relu", choices=("relu", "linear"))

    def __post_init__(self) -> None:
        """Refuse halves that are none."""
        if self.split_half and any(isinstance(size, int) and size % 2 for size in self.layer_sizes[:-1]):
            raise ConfigError(
                f"cin.layer_sizes = {list(self.layer_sizes)} is split in halves; expected an even number in every "
                "layer but the last, or cin.split_half=false"
            )


@dataclass(frozen=True)
class AttentionConfig:
    """Self-attention over the fields (AttentionDeepFM)."""

    num_heads: int = setting(4, at_least=1)
    attention_dim: int = setting(64, at_least=1)
    num_layers: int = setting(1, at_least=1)
    use_residual: bool = True

    def __post_init__(self) -> None:
        """Refuse heads that do not share the width evenly."""
        if self.num_heads > 0 and self.attention_dim % self.num_heads:
            raise ConfigError(
                f"attention.attention_dim = {self.attention_dim} is not a multiple of attention.num_heads = "
                f"{self.num_heads}; choose sizes that divide"
            )


@dataclass(frozen=True)
class BSTConfig:
    """The Transformer of BST: `pooling` takes the candidate's own place, the mean of all, or all side by side.

    `second_order` adds the pairs of a factorisation machine over fields and what the Transformer gives; not in the
    paper.
    """

    num_heads: int = setting(4, at_least=1)
    num_layers: int = setting(1, at_least=1)
    feedforward_dim: int = setting(64, at_least=1)
    dropout: float = setting(0.1, at_least=0, below=1)
    norm_first: bool = False
    pooling: str = setting("target", choices=("target", "mean", "all"))
    second_order: bool = False


@dataclass(frozen=True)
class DINConfig:
    """DIN's activation unit.

    `recency` adds a learned weight by age, and `second_order` the pairs of a factorisation machine over fields and
    interest; the paper has neither.
    """

    hidden_units: tuple[int, ...] = setting((64, 16), at_least=1, not_empty=True, also=("att_hidden_units",))
    normalize: bool = setting(False, also=("att_weight_normalization",))
    recency: bool = False
    second_order: bool = False


@dataclass(frozen=True)
class SINConfig:
    """SIN: how the CIN and the Transformer are joined, and how the candidate meets the history.

    `fusion` is the gate or one of its ablations. `candidate` attends to the encoded history, is encoded inside it as
    in BST, or multiplies a weighting by age of it (`product`; with `fusion=transformer` and `use_dnn=false` the logit
    is then an inner product, which `training.loss=full_softmax` needs). `encoder_dim` is the encoder's width, to
    which events are projected and from which what it finds is projected back and added; none: the events' own.
    """

    fusion: str = setting("gate", choices=("gate", "sum", "cin", "transformer"))
    candidate: str = setting("attends", choices=("attends", "encoded", "product"))
    fusion_dim: int = setting(32, at_least=1)
    encoder_dim: int | None = setting(None, at_least=1)
    num_heads: int = setting(4, at_least=1)
    num_layers: int = setting(1, at_least=0)
    feedforward_dim: int = setting(64, at_least=1)
    dropout: float = setting(0.1, at_least=0, below=1)
    norm_first: bool = True
    use_dnn: bool = True

    def __post_init__(self) -> None:
        """Refuse a candidate inside a sequence that nothing encodes."""
        if self.candidate == "encoded" and self.num_layers == 0:
            raise ConfigError(
                "sin.candidate = 'encoded' puts the candidate into a sequence that sin.num_layers = 0 does not encode, "
                "so the history would not count; use sin.num_layers=1 or sin.candidate=attends"
            )


@dataclass(frozen=True)
class TrainingConfig(LoopSettings):
    """The knobs of `engine.loop_settings.LoopSettings`, batches, the tables' own optimizer, and what is monitored.

    `weight_decay` is the optimizer's own, on everything but the embedding tables (those have
    `feature.embedding_l2_reg`). `embedding_optimizer` changes the mathematics of the tables: `sparse_adam` and
    `rowwise_adagrad` move only the rows that a batch holds, at `embedding_lr` (None: `lr`). `lazy_embedding_l2` lets
    the penalty act on those rows alone.

    `loss` is `bce` on likes and negatives, or a ranking loss over each like and its negatives: `bpr`, `softmax`, or
    `full_softmax` against the whole catalogue. Under `softmax` and `bpr` the items of `in_batch_negatives` other likes
    stand as further negatives; `log_q_correction` takes the logarithm of an item's chance to be drawn from its logit.
    `calibration` makes probabilities of a ranking loss's logits on the validation set: `auto` is `platt` after a
    ranking loss and `none` after `bce`.
    """

    batch_size: int = setting(4096, at_least=1)
    loss: str = setting("bce", choices=("bce", "bpr", "softmax", "full_softmax"))
    in_batch_negatives: int = setting(0, at_least=0)
    log_q_correction: bool = False
    calibration: str = setting("auto", choices=("auto", "none", "platt", "isotonic"))
    weight_decay: float = setting(0.0, at_least=0)
    embedding_optimizer: str = setting("same", choices=("same", "sparse_adam", "rowwise_adagrad"))
    embedding_lr: float | None = setting(None, above=0)
    lazy_embedding_l2: bool = False
    metric: str = setting("ndcg@10", also=("monitor",))
    ranking_ks: tuple[int, ...] = setting((5, 10, 20), at_least=1, not_empty=True)

    def __post_init__(self) -> None:
        """Hold the monitored metric to what is measured."""
        super().__post_init__()
        match = re.fullmatch(r"(hr|ndcg)@([1-9][0-9]*)", self.metric)
        if match is None and self.metric not in ("auc", "logloss"):
            raise ConfigError(
                f"training.metric = {self.metric!r} is not a metric; expected auc, logloss, hr@K or ndcg@K"
            )
        if match is not None and self.ranking_ks and int(match[2]) not in self.ranking_ks:
            raise ConfigError(
                f"training.metric = {self.metric!r} is not measured; expected a K of training.ranking_ks = "
                f"{list(self.ranking_ks)}"
            )


@dataclass(frozen=True)
class ExperimentConfig:
    """Everything that decides a run, section by section."""

    model_name: str = "deepfm"
    seed: int = setting(42, at_least=0, at_most=2**32 - 1)
    device: str = "auto"
    output_dir: str | None = None
    data: DataConfig = field(default_factory=DataConfig)
    feature: FeatureConfig = field(default_factory=FeatureConfig)
    fm: FMConfig = field(default_factory=FMConfig)
    dnn: DNNConfig = field(default_factory=DNNConfig)
    cin: CINConfig = field(default_factory=CINConfig)
    attention: AttentionConfig = field(default_factory=AttentionConfig)
    bst: BSTConfig = field(default_factory=BSTConfig)
    din: DINConfig = field(default_factory=DINConfig)
    sin: SINConfig = field(default_factory=SINConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)


def load_config(path: str | Path | None = None, overrides: Sequence[str] = ()) -> ExperimentConfig:
    """Load an experiment: defaults, then the environment's data folder, then the YAML, then the overrides.

    Args:
        path: a YAML file (see `configs/`); None for the defaults alone.
        overrides: texts such as `"training.lr=0.01"` or `"dnn.hidden_units=[256,128]"`.

    Raises:
        ConfigError: an unknown key, a wrong type or a value out of range, by its full dotted name.
    """
    folder = os.environ.get(DATA_DIR_VARIABLE)
    return load_settings(ExperimentConfig, path, overrides, {"data.data_dir": folder} if folder else None)
