"""The configuration of an experiment: frozen dataclasses with defaults, loaded strictly.

A default here is the contract's; a YAML may leave out any key, and `--override a.b=c` beats the YAML.
"""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deepfm.engine.loop_settings import LoopSettings
from deepfm.engine.settings import build_settings, read_settings, setting
from deepfm.errors import ConfigError
from deepfm.model_settings import (
    AFMConfig,
    AttentionConfig,
    AutoIntConfig,
    BSTConfig,
    CINConfig,
    DCNConfig,
    DCNv2Config,
    DINConfig,
    DNNConfig,
    FinalMLPConfig,
    FMConfig,
    MaskNetConfig,
    NFMConfig,
    SINConfig,
)

__all__ = [
    "DATA_DIR_VARIABLE",
    "METRIC_NAMES",
    "AFMConfig",
    "AttentionConfig",
    "AutoIntConfig",
    "BSTConfig",
    "CINConfig",
    "DCNConfig",
    "DCNv2Config",
    "DINConfig",
    "DNNConfig",
    "DataConfig",
    "ExperimentConfig",
    "FMConfig",
    "FeatureConfig",
    "FinalMLPConfig",
    "MaskNetConfig",
    "NFMConfig",
    "SINConfig",
    "TrainingConfig",
    "load_config",
    "load_search_section",
]

DATA_DIR_VARIABLE = "DEEPFM_DATA_DIR"
SEARCH_SECTION = "tune"  # of a YAML: what `deepfm tune` varies, which no run is decided by
METRIC_NAMES = ("auc", "logloss", "hr@K", "ndcg@K")


@dataclass(frozen=True)
class DataConfig:
    """Which data, how it is split, and how negatives and candidates are drawn.

    `dataset_name` is a name of `deepfm.data.adapters`, or `module:callable` of your own.

    `table` is any table: either one (`table`: a file, a folder or a glob of files), split by `split_strategy`
    (`random`, `temporal` or `leave_one_out`), or three files in `data_dir`, whose split it is, which `train_file`,
    `valid_file` and `test_file` name where they are not `train`, `valid` and `test` with a suffix. `table_schema` is
    the YAML file that describes its columns, `schema.yaml` beside three files where it is left out; one table without
    a description has it inferred, with `label`, `user`, `item` and `time` for the columns that it cannot tell.
    `columns` names those of files without a header. `streaming` reads batches from encoded files in `cache_dir`
    instead of holding all rows: `auto` where they would not fit. The settings after those are of MovieLens.
    """

    dataset_name: str = "movielens"
    data_dir: str = "data/ml-100k"
    table: str | None = None
    table_schema: str | None = None
    label: str | None = setting(None, also=("label_col", "target"))
    user: str | None = None
    item: str | None = None
    time: str | None = None
    columns: tuple[str, ...] | None = None
    separator: str | None = None
    encoding: str = "utf-8"
    on_bad_row: str = setting("fail", choices=("fail", "skip"))
    streaming: str | bool = setting("auto", choices=("auto", True, False))
    cache_dir: str | None = None
    buffer_rows: int = setting(524_288, at_least=1)
    train_file: str | None = setting(None, also=("train_data",))
    valid_file: str | None = setting(None, also=("valid_data",))
    test_file: str | None = setting(None, also=("test_data",))
    source: str = setting("auto", choices=("auto", "files", "download", "sample"))
    split_strategy: str = setting("leave_one_out", choices=("leave_one_out", "temporal", "random"))
    min_interactions: int = setting(3, at_least=3)
    label_threshold: float = 4.0
    num_neg_train: int = setting(4, at_least=1)
    train_negatives: str = setting("unrated", choices=("unrated", "unseen"))
    num_neg_eval: int = setting(999, at_least=1)
    candidate_seed: int = setting(42, at_least=0)
    history_ties: str = setting("file_order", choices=("file_order", "strictly_earlier"))

    def __post_init__(self) -> None:
        """Refuse a table's settings without a table."""
        for key in ("table", "table_schema", "label", "columns", "train_file", "valid_file", "test_file"):
            if self.dataset_name.startswith("movielens") and getattr(self, key) is not None:
                raise ConfigError(
                    f"data.{key} = {getattr(self, key)!r} is of a table, and data.dataset_name is "
                    f"{self.dataset_name!r}; set data.dataset_name=table, or leave it out"
                )


@dataclass(frozen=True)
class FeatureConfig:
    """Embeddings: the common interaction width D, each field's own width, and their L2 penalty.

    `embedding_dim` replaces every field's own width where it is given, and `id_embedding_dim` that of the user and the
    item field and of what shares their tables. `projection` maps a field's own
    width to D: `always`, only where the widths differ (`if_needed`), or never (`none`).
    `embedding_l2_reg` is λ in loss + λ·Σw² over the embedding tables. `init_std` draws the rows of ids from a normal
    distribution of that deviation instead of Xavier's uniform one. `max_history` is the longest behaviour
    history, of which the latest events are kept; models without behaviour sequences do not load any.
    """

    fm_embed_dim: int = setting(16, at_least=1)
    embedding_dim: int | None = setting(None, at_least=1)
    id_embedding_dim: int | None = setting(None, at_least=1)
    embedding_l2_reg: float = setting(1e-5, at_least=0, also=("embedding_regularizer", "l2_reg_embedding", "l2_reg"))
    projection: str = setting("always", choices=("always", "if_needed", "none"))
    init_std: float | None = setting(None, above=0, also=("embedding_initializer",))
    max_history: int = setting(50, at_least=1, also=("max_len", "max_seq_len"))


@dataclass(frozen=True)
class TrainingConfig(LoopSettings):
    """The knobs of `engine.loop_settings.LoopSettings`, batches, the tables' own optimizer, and what is monitored.

    `linear_init` is torch's default for the weights of linear layers, or Xavier's normal distribution with biases of
    zero, which the vectors of dense fields then have too. `weight_decay` is the optimizer's own, on everything but the
    embedding tables (those have `feature.embedding_l2_reg`). `embedding_optimizer` changes the mathematics of the
    tables: `sparse_adam` and `rowwise_adagrad` move only the rows that a batch holds, at `embedding_lr` (None: `lr`).
    `lazy_embedding_l2` lets the penalty act on those rows alone.

    `positive_weight` multiplies the loss of rows of label 1.

    `loss` is `bce` on likes and negatives, or a ranking loss over each like and its negatives: `bpr`, `softmax`, or
    `full_softmax` against the whole catalogue. Under `softmax` and `bpr` the items of `in_batch_negatives` other likes
    stand as further negatives; `log_q_correction` takes the logarithm of an item's chance to be drawn from its logit.
    `calibration` makes probabilities of a ranking loss's logits on the validation set: `auto` is `platt` after a
    ranking loss and `none` after `bce`.
    """

    batch_size: int = setting(4096, at_least=1)
    positive_weight: float = setting(1.0, above=0, also=("pos_weight", "class_weight", "scale_pos_weight"))
    loss: str = setting("bce", choices=("bce", "bpr", "softmax", "full_softmax"))
    in_batch_negatives: int = setting(0, at_least=0)
    log_q_correction: bool = False
    calibration: str = setting("auto", choices=("auto", "none", "platt", "isotonic"))
    linear_init: str = setting("default", choices=("default", "xavier_normal"))
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
    dcn: DCNConfig = field(default_factory=DCNConfig)
    dcn_v2: DCNv2Config = field(default_factory=DCNv2Config)
    autoint: AutoIntConfig = field(default_factory=AutoIntConfig)
    afm: AFMConfig = field(default_factory=AFMConfig)
    nfm: NFMConfig = field(default_factory=NFMConfig)
    final_mlp: FinalMLPConfig = field(default_factory=FinalMLPConfig)
    mask_net: MaskNetConfig = field(default_factory=MaskNetConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)


def load_config(path: str | Path | None = None, overrides: Sequence[str] = ()) -> ExperimentConfig:
    """Load an experiment: defaults, then the environment's data folder, then the YAML, then the overrides.

    A `tune` section is passed over; `load_search_section` reads it.

    Args:
        path: a YAML file (see `configs/`); None for the defaults alone.
        overrides: texts such as `"training.lr=0.01"` or `"dnn.hidden_units=[256,128]"`.

    Raises:
        ConfigError: an unknown key, a wrong type or a value out of range, by its full dotted name.
    """
    folder = os.environ.get(DATA_DIR_VARIABLE)
    tree = read_settings(path, overrides, {"data.data_dir": folder} if folder else None)
    tree.pop(SEARCH_SECTION, None)
    return build_settings(ExperimentConfig, tree)


def load_search_section(path: str | Path | None = None, overrides: Sequence[str] = ()) -> Any:
    """The `tune` section of a YAML and its overrides as it is written, unchecked; None where there is none.

    Raises:
        ConfigError: the file cannot be read, or an override is none.
    """
    return read_settings(path, overrides).get(SEARCH_SECTION)
