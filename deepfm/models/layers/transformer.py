"""Transformer encoder layers over behaviour sequences, with a cheap way to put many candidates behind one history."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deepfm.engine.acceleration import Recomputable
from deepfm.errors import ConfigError
from deepfm.models.layers.dnn import ACTIVATIONS, Dropout

HIDDEN = -1e9  # the attention logit of padding: its weight is 0 beside any token, and finite where there is none


def ages(mask: Tensor) -> Tensor:
    """How many tokens follow each place `(U, L)` of a mask `(U, L)`: 0 at the latest token, wherever padding stands."""
    return (mask.flip(1).cumsum(1).flip(1) - mask.long()).long()


class Positions(nn.Module):
    """Learned embeddings of ages: 0 is the latest place.

    Args:
        num_positions: ages from 0; older ones have the oldest's.
        embed_dim: E.
    """

    def __init__(self, num_positions: int, embed_dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(num_positions, embed_dim))
        nn.init.normal_(self.weight, std=0.02)

    def forward(self, age: Tensor) -> Tensor:
        """`(U, L)` → `(U, L, E)`."""
        return F.embedding(age.clamp(max=len(self.weight) - 1), self.weight)


class TransformerEncoder(nn.Module):
    """Encoder layers one after another (Vaswani et al., 2017).

    Args:
        layer: the first; the others are made like it, each with weights of its own.
        num_layers: how many there are; none changes nothing.

    Example:
        >>> encoder = TransformerEncoder(EncoderLayer(16, 2, 32), 1)
        >>> encoder(torch.zeros(3, 5, 16), torch.ones(3, 5, dtype=torch.bool)).shape
        torch.Size([3, 5, 16])
    """

    def __init__(self, layer: "EncoderLayer", num_layers: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList([layer, *(layer.another() for _ in range(num_layers - 1))][:num_layers])

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """`(U, L, E)` → `(U, L, E)`; places where the mask `(U, L)` is false are not attended to."""
        for layer in self.layers:
            x = layer(x, x, mask)
        return x

    def last(self, history: Tensor, mask: Tensor, candidates: Tensor) -> Tensor:
        """What each candidate's own place gives where the candidate is the last token behind a history.

        A history enters once for all of its candidates as long as nothing before the last layer sees them, so that
        with one layer nothing is repeated; the outcome is that of W sequences of L + 1 tokens.

        Args:
            history: `(U, L, E)`.
            mask: `(U, L)`, true at tokens.
            candidates: `(U, W, E)`.

        Returns:
            `(U, W, E)`.
        """
        shape = candidates.shape
        if len(self.layers) > 1:
            copies = shape[1]
            history, mask = history.repeat_interleave(copies, dim=0), mask.repeat_interleave(copies, dim=0)
            candidates = candidates.reshape(-1, 1, shape[2])  # (U·W, 1, E)
            for layer in list(self.layers)[:-1]:
                x, seen = torch.cat([history, candidates], dim=1), F.pad(mask, (0, 1), value=True)
                history, candidates = layer(x, x, seen).split([history.shape[1], 1], dim=1)
        if len(self.layers):
            candidates = self.layers[-1](candidates, history, mask, True)
        return candidates.reshape(shape)


class EncoderLayer(Recomputable):
    """Attention and a feed-forward part, with the mathematics of torch's `nn.TransformerEncoderLayer`.

    Args:
        embed_dim: E.
        num_heads: heads, which share E.
        feedforward_dim: width of the feed-forward part.
        dropout: share of either part's output that training drops; attention weights are not dropped.
        norm_first: whether to normalise before each part instead of after it, which keeps the tokens' own scale; a
            layer then starts as the identity.

    Raises:
        ConfigError: E is not a multiple of the heads.
    """

    def __init__(
        self, embed_dim: int, num_heads: int, feedforward_dim: int, dropout: float = 0.0, norm_first: bool = False
    ) -> None:
        super().__init__()
        check_heads(embed_dim, num_heads)
        self._sizes = embed_dim, num_heads, feedforward_dim, dropout, norm_first
        self.norm_first = norm_first
        self.num_heads = num_heads
        self.query_key_value = nn.Linear(embed_dim, 3 * embed_dim)
        self.output = nn.Linear(embed_dim, embed_dim)
        self.norm1, self.norm2 = nn.LayerNorm(embed_dim), nn.LayerNorm(embed_dim)
        self.linear1, self.linear2 = nn.Linear(embed_dim, feedforward_dim), nn.Linear(feedforward_dim, embed_dim)
        self.activation = ACTIVATIONS["relu"]()
        self.dropout = Dropout(dropout)
        nn.init.xavier_uniform_(self.query_key_value.weight)
        nn.init.zeros_(self.query_key_value.bias)
        nn.init.zeros_(self.output.bias)
        if norm_first:  # both parts start at nothing
            for last in (self.output, self.linear2):
                nn.init.zeros_(last.weight)
                nn.init.zeros_(last.bias)

    def another(self) -> "EncoderLayer":
        """A layer of the same sizes with weights of its own."""
        return EncoderLayer(*self._sizes)

    def forward(self, queries: Tensor, tokens: Tensor, mask: Tensor, also_self: bool = False) -> Tensor:
        """Tokens `(U, L, E)` attend to each other, or queries `(U, Q, E)` each to the tokens and to itself.

        Args:
            queries: the tokens; under `also_self`, what stands behind them.
            tokens: what is attended to.
            mask: `(U, L)`, true where there is a token.
            also_self: whether queries are no tokens.

        Returns:
            of the queries' shape.
        """
        if self.norm_first:
            normed = self.norm1(queries)
            tokens = normed if queries is tokens else self.norm1(tokens)
            x = queries + self.dropout(self._attend(normed, tokens, mask, also_self))
            fed: Tensor = x + self._feed(self.norm2(x))
            return fed
        x = self.norm1(queries + self.dropout(self._attend(queries, tokens, mask, also_self)))
        fed = self.norm2(x + self._feed(x))
        return fed

    def shares(self, queries: Tensor, tokens: Tensor, mask: Tensor, also_self: bool = False) -> Tensor:
        """How much of each token, and under `also_self` last of itself, a query takes, head by head.

        Args:
            queries: `(U, Q, E)`, as for `forward`, or some of the tokens.
            tokens, mask, also_self: as for `forward`.

        Returns:
            `(U, heads, Q, L)`, or `(U, heads, Q, L + 1)`.
        """
        if self.norm_first:
            queries, tokens = self.norm1(queries), self.norm1(tokens)
        if also_self:
            return self._beside(queries, tokens, mask)[0]
        query = split_heads(self.query_key_value(queries), 3, self.num_heads)[0]
        key = split_heads(self.query_key_value(tokens), 3, self.num_heads)[1]
        return (query @ key.transpose(-2, -1) / math.sqrt(query.shape[-1]) + _bias(mask, query.dtype)).softmax(dim=-1)

    def _feed(self, x: Tensor) -> Tensor:
        fed: Tensor = self.dropout(self.linear2(self.dropout(self.activation(self.linear1(x)))))
        return fed

    def _attend(self, queries: Tensor, tokens: Tensor, mask: Tensor, also_self: bool) -> Tensor:
        if not also_self:
            query, key, value = split_heads(self.query_key_value(tokens), 3, self.num_heads)
            attended = F.scaled_dot_product_attention(query, key, value, attn_mask=_bias(mask, query.dtype))
        else:
            shares, value, own_value = self._beside(queries, tokens, mask)
            attended = shares[..., :-1] @ value + shares[..., -1:] * own_value
        mixed: Tensor = self.output(attended.transpose(1, 2).flatten(2))
        return mixed

    def _beside(self, queries: Tensor, tokens: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Of queries that stand behind the tokens: shares `(U, h, Q, L + 1)`, the tokens' values and their own."""
        weights, biases, width = self.query_key_value.weight, self.query_key_value.bias, queries.shape[2]
        key, value = split_heads(F.linear(tokens, weights[width:], biases[width:]), 2, self.num_heads)
        query, own_key, own_value = split_heads(self.query_key_value(queries), 3, self.num_heads)
        query = query / math.sqrt(query.shape[-1])
        scores = query @ key.transpose(-2, -1) + _bias(mask, queries.dtype)  # (U, h, Q, L)
        own_score = (query * own_key).sum(dim=-1, keepdim=True)
        return torch.cat([scores, own_score], dim=-1).softmax(dim=-1), value, own_value


def _bias(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """What is added to attention logits `(U, 1, 1, L)`: nothing at tokens, so much at padding that none is seen."""
    return torch.zeros_like(mask, dtype=dtype).masked_fill_(~mask, HIDDEN)[:, None, None]


def split_heads(x: Tensor, parts: int, num_heads: int) -> tuple[Tensor, ...]:
    """`(U, L, parts·E)` → `parts` tensors `(U, heads, L, E / heads)`."""
    return x.unflatten(-1, (parts, num_heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)


def check_heads(embed_dim: int, num_heads: int) -> None:
    """Refuse heads that do not share the width evenly.

    Raises:
        ConfigError: they do not.
    """
    if embed_dim % num_heads:
        raise ConfigError(
            f"{num_heads} attention heads do not divide a width of {embed_dim}; choose a number of heads that divides "
            "the width in which they attend: that of the behaviour sequence, or sin.encoder_dim"
        )
