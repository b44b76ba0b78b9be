"""The sections of the configuration that belong to one model or to one part of models.

Another library's name of a setting stands in `also`, so that the error of an unknown key leads to ours.
"""

from dataclasses import dataclass

from deepfm.engine.settings import setting
from deepfm.errors import ConfigError


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
    """The compressed interaction network of xDeepFM; `output_bias` gives its output layer a bias beside the tower's."""

    layer_sizes: tuple[int, ...] = setting(
        (128, 128), at_least=1, not_empty=True, also=("cin_layer_size", "cin_hidden_units")
    )
    split_half: bool = True
    activation: str = setting("relu", choices=("relu", "linear"))
    output_bias: bool = False

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
class DCNConfig:
    """The cross network of DCN."""

    num_layers: int = setting(3, at_least=1, also=("cross_num", "crossing_layers"))


@dataclass(frozen=True)
class DCNv2Config:
    """The cross network of DCN V2.

    `structure` puts the deep tower beside the cross network or behind it. `low_rank` is the rank r of each layer's
    matrix, W = U·Vᵀ; none: a full matrix. More than one expert is a mixture of such layers under a softmax gate, each
    with two nonlinearities between Vᵀ and U.
    """

    num_layers: int = setting(3, at_least=1, also=("num_cross_layers",))
    structure: str = setting("parallel", choices=("parallel", "stacked"), also=("model_structure",))
    low_rank: int | None = setting(None, at_least=1)
    num_experts: int = setting(1, at_least=1)

    def __post_init__(self) -> None:
        """Refuse experts without a rank."""
        if self.num_experts > 1 and self.low_rank is None:
            raise ConfigError(
                f"dcn_v2.num_experts = {self.num_experts} mixes layers of low rank and dcn_v2.low_rank is none; "
                "expected a rank, such as dcn_v2.low_rank=32, or dcn_v2.num_experts=1"
            )


@dataclass(frozen=True)
class AutoIntConfig:
    """The interacting layers of AutoInt, and the deep tower beside them that makes it AutoInt+.

    `attention_dim` is the width of all heads together and that of a layer's output. `scale` divides by the root of a
    head's width, `dropout` is on the attention's weights, and `layer_norm` normalises before the ReLU; the paper has
    none of them. `residual_projection` gives every layer's residual its matrix, as the paper does, or only where the
    widths differ.
    """

    num_layers: int = setting(3, at_least=1, also=("attention_layers", "att_layer_num"))
    num_heads: int = setting(2, at_least=1, also=("att_head_num",))
    attention_dim: int = setting(32, at_least=1)
    use_residual: bool = setting(True, also=("att_res",))
    residual_projection: str = setting("always", choices=("always", "if_needed"))
    layer_norm: bool = False
    scale: bool = setting(False, also=("use_scale",))
    dropout: float = setting(0.0, at_least=0, below=1)
    use_dnn: bool = True

    def __post_init__(self) -> None:
        """Refuse heads that do not share the width evenly."""
        if self.num_heads > 0 and self.attention_dim % self.num_heads:
            raise ConfigError(
                f"autoint.attention_dim = {self.attention_dim} is not a multiple of autoint.num_heads = "
                f"{self.num_heads}; choose sizes that divide"
            )


@dataclass(frozen=True)
class AFMConfig:
    """The attention over pairs of AFM; `dropout` is on the weighted sum of the pairs."""

    attention_dim: int = setting(16, at_least=1, also=("attention_factor",))
    dropout: float = setting(0.0, at_least=0, below=1, also=("afm_dropout", "attention_dropout"))


@dataclass(frozen=True)
class NFMConfig:
    """NFM: `dropout` is on the bi-interaction vector."""

    dropout: float = setting(0.0, at_least=0, below=1, also=("bi_dropout",))


@dataclass(frozen=True)
class FinalMLPConfig:
    """The two towers of FinalMLP, what selects their features, and the heads in which they meet.

    `context_1` and `context_2` name the fields that a tower's selection depends on, such as those of the user and those
    of the item; empty: a learned vector, the same for all rows.
    """

    hidden_units_1: tuple[int, ...] = setting((256, 128, 64), at_least=1, not_empty=True, also=("mlp1_hidden_units",))
    hidden_units_2: tuple[int, ...] = setting((256, 128, 64), at_least=1, not_empty=True, also=("mlp2_hidden_units",))
    dropout_1: float = setting(0.1, at_least=0, below=1, also=("mlp1_dropout",))
    dropout_2: float = setting(0.1, at_least=0, below=1, also=("mlp2_dropout",))
    use_batch_norm_1: bool = setting(True, also=("mlp1_batch_norm",))
    use_batch_norm_2: bool = setting(True, also=("mlp2_batch_norm",))
    num_heads: int = setting(1, at_least=1)
    use_feature_selection: bool = setting(True, also=("use_fs",))
    selection_hidden_units: tuple[int, ...] = setting((256,), at_least=1, not_empty=True, also=("fs_hidden_units",))
    context_1: tuple[str, ...] = setting((), also=("fs1_context",))
    context_2: tuple[str, ...] = setting((), also=("fs2_context",))

    def __post_init__(self) -> None:
        """Refuse heads that do not share both towers' outputs evenly, and a context named twice."""
        for key in ("hidden_units_1", "hidden_units_2"):
            last = getattr(self, key)[-1:]
            if self.num_heads > 0 and any(width % self.num_heads for width in last):
                raise ConfigError(
                    f"final_mlp.{key} ends in {last[0]}, which is not a multiple of final_mlp.num_heads = "
                    f"{self.num_heads}; choose sizes that divide"
                )
        for key in ("context_1", "context_2"):
            names = getattr(self, key)
            if len(set(names)) < len(names):
                raise ConfigError(f"final_mlp.{key} = {list(names)} names a field twice; expected each once")


@dataclass(frozen=True)
class MaskNetConfig:
    """The mask blocks of MaskNet, side by side under the deep tower or one behind the other.

    `block_dim` is a block's width out. `reduction_ratio` is the width of a mask's hidden layer relative to what it
    masks: the embeddings, or in a block behind another that block's output. `embedding_norm` normalises every field
    before the first mask.
    """

    structure: str = setting("parallel", choices=("parallel", "serial"), also=("model_type",))
    num_blocks: int = setting(3, at_least=1, also=("parallel_num_blocks",))
    block_dim: int = setting(64, at_least=1, also=("parallel_block_dim",))
    reduction_ratio: float = setting(1.0, above=0)
    embedding_norm: bool = setting(True, also=("emb_layernorm",))
