"""Self-attention over the fields of a row."""

import math
from abc import abstractmethod

import torch.nn.functional as F
from torch import Tensor, nn

from deepfm.engine.acceleration import Recomputable
from deepfm.errors import ConfigError


class MultiHeadSelfAttention(nn.Module):
    """Stacked scaled dot-product attention, each with a residual and LayerNorm (after Song et al., 2019, AutoInt).

    Args:
        embed_dim: D.
        num_heads: heads, which share `attention_dim`.
        attention_dim: width of queries, keys and values together.
        num_layers: how many are stacked.
        use_residual: whether a layer's input is added to its output.

    Raises:
        ConfigError: `attention_dim` is not a multiple of `num_heads`.

    Example:
        >>> MultiHeadSelfAttention(16, 4, 64, 2)(torch.zeros(2, 7, 16)).shape
        torch.Size([2, 7, 16])
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        attention_dim: int,
        num_layers: int = 1,
        use_residual: bool = True,
    ) -> None:
        super().__init__()
        if attention_dim % num_heads:
            raise ConfigError(
                f"attention.attention_dim = {attention_dim} is not a multiple of attention.num_heads = {num_heads}; "
                "choose sizes that divide"
            )
        self.layers = nn.ModuleList(
            _AttentionLayer(embed_dim, num_heads, attention_dim, use_residual) for _ in range(num_layers)
        )

    def forward(self, x: Tensor) -> Tensor:
        """`(B, F, D)` → `(B, F, D)`."""
        for layer in self.layers:
            x = layer(x)
        return x


class FieldAttention(Recomputable):
    """A layer in which every field attends to all fields."""

    @abstractmethod
    def weights(self, x: Tensor) -> Tensor:
        """How much of each field (last axis) each field takes, head by head: `(B, F, D)` → `(B, heads, F, F)`."""


class _AttentionLayer(FieldAttention):
    """One layer: project, attend, project back, add, normalise."""

    def __init__(self, embed_dim: int, num_heads: int, attention_dim: int, use_residual: bool) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.use_residual = use_residual
        self.query_key_value = nn.Linear(embed_dim, 3 * attention_dim, bias=False)
        self.output = nn.Linear(attention_dim, embed_dim, bias=False)
        self.norm = nn.LayerNorm(embed_dim)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, F, D)` → `(B, F, D)`."""
        mixed = self.output(attend(self.query_key_value(x), self.num_heads))  # (B, F, D)
        normed: Tensor = self.norm(x + mixed if self.use_residual else mixed)
        return normed

    def weights(self, x: Tensor) -> Tensor:
        """`(B, F, D)` → `(B, heads, F, F)`."""
        return attention_weights(self.query_key_value(x), self.num_heads)


def attend(projected: Tensor, num_heads: int, scale: float | None = None, dropout: float = 0.0) -> Tensor:
    """Dot-product attention of every field to every field, head by head.

    Args:
        projected: queries, keys and values of all heads side by side, `(B, F, 3·A)`.
        num_heads: heads, which share A.
        scale: what dot products are multiplied by; None for 1 / √(a head's width).
        dropout: share of the weights that are dropped.

    Returns:
        the heads side by side, `(B, F, A)`.
    """
    split = projected.unflatten(-1, (3, num_heads, -1))  # (B, F, 3, heads, d)
    query, key, value = split.permute(2, 0, 3, 1, 4).unbind(0)  # each (B, heads, F, d)
    attended = F.scaled_dot_product_attention(query, key, value, dropout_p=dropout, scale=scale)
    return attended.transpose(1, 2).flatten(2)


def attention_weights(projected: Tensor, num_heads: int, scale: float | None = None) -> Tensor:
    """The weights `(B, heads, F, F)` with which `attend` adds up the values; arguments as there."""
    split = projected.unflatten(-1, (3, num_heads, -1))  # (B, F, 3, heads, d)
    query, key, _ = split.permute(2, 0, 3, 1, 4).unbind(0)  # each (B, heads, F, d)
    scale = 1.0 / math.sqrt(query.shape[-1]) if scale is None else scale
    return (query @ key.transpose(-2, -1) * scale).softmax(dim=-1)
