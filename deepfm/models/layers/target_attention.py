"""Candidates that attend to a history: one weighted sum of its tokens per candidate."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deepfm.models.layers.transformer import HIDDEN, ages, check_heads, split_heads

CHUNK_VALUES = 1 << 19  # hidden values of an activation unit that are formed at once on CPU: they stay in the cache
STEEPEST = 0.3  # the first head's initial loss of attention per event; each further head starts at half of the last


class RecencyBias(nn.Module):
    """A learned attention bias by age: how many events came after a token.

    It starts as straight lines of another slope per head (as in Press et al., 2022, ALiBi), so that the first head
    looks at the last few events and the last one at nearly all.

    Args:
        num_heads: heads.
        max_length: L; older tokens have the bias of the oldest known.
    """

    def __init__(self, num_heads: int, max_length: int) -> None:
        super().__init__()
        slopes = STEEPEST * 0.5 ** torch.arange(num_heads)
        self.bias = nn.Parameter(-slopes.unsqueeze(1) * torch.arange(max_length))  # (heads, L)

    def forward(self, mask: Tensor) -> Tensor:
        """The bias `(U, heads, L)` of each token under a mask `(U, L)`."""
        age = ages(mask).clamp(max=self.bias.shape[1] - 1)  # (U, L)
        return F.embedding(age, self.bias.t()).transpose(1, 2)


class TargetAttention(nn.Module):
    """Multi-head attention from candidates to a history, with a recency bias.

    Args:
        embed_dim: E.
        num_heads: heads, which share E.
        max_length: L.
        by_content: whether queries and keys decide beside recency; otherwise a head is a learned weighting by age,
            the same for all candidates.

    Raises:
        ConfigError: E is not a multiple of the heads.
    """

    def __init__(self, embed_dim: int, num_heads: int, max_length: int, by_content: bool = True) -> None:
        super().__init__()
        check_heads(embed_dim, num_heads)
        self.num_heads = num_heads
        self.query = nn.Linear(embed_dim, embed_dim, bias=False) if by_content else None
        self.key = nn.Linear(embed_dim, embed_dim, bias=False) if by_content else None
        self.value = nn.Linear(embed_dim, embed_dim, bias=False)
        for part in (self.query, self.key, self.value):
            if part is not None:
                nn.init.xavier_uniform_(part.weight)
        self.recency = RecencyBias(num_heads, max_length)

    def forward(self, candidates: Tensor, history: Tensor, mask: Tensor) -> Tensor:
        """Candidates `(U, W, E)`, history `(U, L, E)` under a mask `(U, L)` → `(U, W, E)`; zeros for no history."""
        (value,) = split_heads(self.value(history), 1, self.num_heads)  # (U, h, L, d)
        scores = self.recency(mask).unsqueeze(2)  # (U, h, 1, L)
        if self.query is not None and self.key is not None:
            (query,), (key,) = (split_heads(x, 1, self.num_heads) for x in (self.query(candidates), self.key(history)))
            scores = scores + query @ key.transpose(-2, -1) / math.sqrt(query.shape[-1])  # (U, h, W, L)
        scores = scores.masked_fill(~mask[:, None, None], HIDDEN)
        seen = mask.any(dim=1)[:, None, None, None]
        shares = scores.softmax(dim=-1) * seen
        pooled = (shares @ value).transpose(1, 2).flatten(2)  # (U, W or 1, E)
        return pooled.expand(-1, candidates.shape[1], -1)


class ActivationUnit(nn.Module):
    """DIN's weights of a history's tokens for a candidate (Zhou et al., 2018, section 4.3).

    A small network on [candidate, token, candidate - token, candidate ∘ token] gives one weight a token. Its first
    layer is linear in the first three, so they are formed once a candidate and once a token; only the product is formed
    once a pair.

    Args:
        embed_dim: E.
        hidden_units: widths of the network.
        normalize: whether a softmax makes the weights add up to one; the paper leaves their sum as it is.

    Example:
        >>> unit = ActivationUnit(8, [16])
        >>> unit(torch.zeros(2, 3, 8), torch.zeros(2, 5, 8), torch.ones(2, 5, dtype=torch.bool)).shape
        torch.Size([2, 3, 8])
    """

    def __init__(self, embed_dim: int, hidden_units: Sequence[int], normalize: bool = False) -> None:
        super().__init__()
        self.normalize = normalize
        widths = [4 * embed_dim, *hidden_units]
        self.hidden = nn.ModuleList(nn.Linear(wide, narrow) for wide, narrow in zip(widths, hidden_units, strict=False))
        self.weight = nn.Linear(widths[-1], 1)

    def forward(self, candidates: Tensor, history: Tensor, mask: Tensor, bias: Tensor | None = None) -> Tensor:
        """Candidates `(U, W, E)` and a history `(U, L, E)` under a mask `(U, L)` → `(U, W, E)`; zeros for no history.

        Args:
            bias: `(U, L)`, added to every candidate's weights.
        """
        weights = self.weights(candidates, history)  # (U, W, L)
        if bias is not None:
            weights = weights + bias.unsqueeze(1)
        if self.normalize:
            weights = weights.masked_fill(~mask.unsqueeze(1), HIDDEN).softmax(dim=-1)
        return (weights * mask.unsqueeze(1)) @ history

    def weights(self, candidates: Tensor, history: Tensor) -> Tensor:
        """The weight `(U, W, L)` of each token for each candidate, before masking."""
        first = self.hidden[0]
        assert isinstance(first, nn.Linear)
        wide = max(
            1, CHUNK_VALUES // max(1, history.shape[1] * first.out_features)
        )  # candidates of one history at once
        size = max(1, wide // max(1, candidates.shape[1]))  # histories at once
        if candidates.device.type != "cpu" or (size >= len(history) and wide >= candidates.shape[1]):
            return self._weights(candidates, history)
        rows = []
        for own, tokens in zip(candidates.split(size), history.split(size), strict=True):
            rows.append(torch.cat([self._weights(part, tokens) for part in own.split(wide, dim=1)], dim=1))
        return torch.cat(rows)

    def _weights(self, candidates: Tensor, history: Tensor) -> Tensor:
        first = self.hidden[0]
        assert isinstance(first, nn.Linear)
        of_candidate, of_token, of_difference, of_product = first.weight.chunk(4, dim=1)  # each (H, E)
        x = (history.unsqueeze(1) * candidates.unsqueeze(2)) @ of_product.t()  # (U, W, L, H)
        x += F.linear(candidates, of_candidate + of_difference, first.bias).unsqueeze(2)
        x += F.linear(history, of_token - of_difference).unsqueeze(1)
        x = torch.relu_(x)
        for layer in list(self.hidden)[1:]:
            x = torch.relu_(layer(x))
        weight: Tensor = self.weight(x).squeeze(-1)
        return weight
