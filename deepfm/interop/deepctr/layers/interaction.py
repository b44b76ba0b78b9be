"""Layers over the fields of a row."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deepfm.errors import ConfigError
from deepfm.models import layers


class FM(layers.FMInteraction):
    """Σ over pairs of fields of their inner product: `(B, F, D)` → `(B, 1)` (Rendle, 2010, lemma 3.1)."""


class CIN(layers.CIN):
    """The compressed interaction network (Lian et al., 2018), `(B, F, D)` → `(B, maps that go out)`.

    Args:
        field_size: F.
        layer_size: maps of each layer.
        activation: `relu` or `linear`.
        split_half: whether half of a hidden layer's maps go out and half go on.
        l2_reg: of no effect; the model that holds the layer penalises it.
        seed: of no effect.
        device: where it lives.

    Raises:
        ConfigError: no layer, another activation, or an odd hidden size to be split.
    """

    def __init__(
        self,
        field_size: int,
        layer_size: Sequence[int] = (128, 128),
        activation: str = "relu",
        split_half: bool = True,
        l2_reg: float = 1e-5,
        seed: int = 1024,
        device: str | torch.device = "cpu",
    ) -> None:
        if activation not in ("relu", "linear"):
            raise ConfigError(f"the CIN's activation = {activation!r} is not supported; expected relu or linear")
        if not len(layer_size) or (split_half and any(size % 2 for size in layer_size[:-1])):
            raise ConfigError(
                f"the CIN's layer_size = {list(layer_size)}; expected at least one layer and, with split_half, an even "
                "number in every layer but the last"
            )
        # The width D matters to nothing but the chunks of the input, which has it.
        super().__init__(field_size, 1, layer_size, split_half, activation)
        self.to(device)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, F, D)` → `(B, output_dim)`, summed over D."""
        self.embed_dim = x.shape[2]
        return super().forward(x)

    @property
    def weights(self) -> list[nn.Parameter]:
        """The weights of the compressions, biases apart."""
        return [parameter for name, parameter in self.named_parameters() if name.endswith("weight")]


class InteractingLayer(nn.Module):
    """Multi-head self-attention over fields, ReLU(heads + x·W_Res), without LayerNorm (Song et al., 2019, AutoInt).

    Args:
        embedding_size: D.
        head_num: heads, which share D.
        use_res: whether the projected input is added.
        scaling: whether inner products are divided by the root of a head's width.
        seed: of no effect.
        device: where it lives.

    Raises:
        ConfigError: the heads do not divide D.
    """

    def __init__(
        self,
        embedding_size: int,
        head_num: int = 2,
        use_res: bool = True,
        scaling: bool = False,
        seed: int = 1024,
        device: str | torch.device = "cpu",
    ) -> None:
        super().__init__()
        if head_num < 1 or embedding_size % head_num:
            raise ConfigError(
                f"att_head_num = {head_num} heads do not divide an embedding_dim of {embedding_size}; choose a number "
                "that does"
            )
        self.head_num, self.scaling = head_num, scaling
        self.W_Query = nn.Parameter(torch.empty(embedding_size, embedding_size))
        self.W_key = nn.Parameter(torch.empty(embedding_size, embedding_size))
        self.W_Value = nn.Parameter(torch.empty(embedding_size, embedding_size))
        self.W_Res = nn.Parameter(torch.empty(embedding_size, embedding_size)) if use_res else None
        for weight in self.parameters():
            nn.init.normal_(weight, std=0.05)
        self.to(device)

    def forward(self, inputs: Tensor) -> Tensor:
        """`(B, F, D)` → `(B, F, D)`."""
        query, key, value = (
            (inputs @ weight).unflatten(2, (self.head_num, -1)).transpose(1, 2)  # (B, heads, F, d)
            for weight in (self.W_Query, self.W_key, self.W_Value)
        )
        attended = F.scaled_dot_product_attention(query, key, value, scale=None if self.scaling else 1.0)
        mixed = attended.transpose(1, 2).flatten(2)
        return torch.relu(mixed if self.W_Res is None else mixed + inputs @ self.W_Res)


class CrossNet(nn.Module):
    """Cross layers: x' = x₀·(x·w) + b + x, or with matrices x' = x₀ ∘ (W x + b) + x.

    Wang et al., 2017, equation 3, and Wang et al., 2021, equation 1.

    Args:
        in_features: U.
        layer_num: how many.
        parameterization: `vector` or `matrix`.
        seed: of no effect.
        device: where it lives.

    Raises:
        ConfigError: another parameterisation.
    """

    def __init__(
        self,
        in_features: int,
        layer_num: int = 2,
        parameterization: str = "vector",
        seed: int = 1024,
        device: str | torch.device = "cpu",
    ) -> None:
        super().__init__()
        if parameterization not in ("vector", "matrix"):
            raise ConfigError(f"cross_parameterization = {parameterization!r}; expected vector or matrix")
        self.by_matrix = parameterization == "matrix"
        self.kernels = nn.Parameter(torch.empty(layer_num, in_features, in_features if self.by_matrix else 1))
        self.bias = nn.Parameter(torch.zeros(layer_num, in_features, 1))
        for kernel in self.kernels:
            nn.init.xavier_normal_(kernel)
        self.to(device)

    def forward(self, inputs: Tensor) -> Tensor:
        """`(B, U)` → `(B, U)`."""
        x = inputs
        for kernel, bias in zip(self.kernels, self.bias.squeeze(2), strict=True):
            x = (
                inputs * F.linear(x, kernel, bias) + x
                if self.by_matrix
                else torch.addcmul(x + bias, inputs, x @ kernel)
            )
        return x
