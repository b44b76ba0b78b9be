"""Candidates that attend to a history: one weighted sum of its tokens per candidate."""

import math
from collections.abc import Sequence
from itertools import repeat

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
        pooled = (self.shares(candidates, history, mask) @ value).transpose(1, 2).flatten(2)  # (U, W or 1, E)
        return pooled.expand(-1, candidates.shape[1], -1)

    def shares(self, candidates: Tensor, history: Tensor, mask: Tensor) -> Tensor:
        """How much of each token a candidate takes, head by head; arguments as for `forward`.

        Returns:
            `(U, heads, W, L)`, or `(U, heads, 1, L)` where all candidates take alike; zeros for no history.
        """
        scores = self.recency(mask).unsqueeze(2)  # (U, h, 1, L)
        if self.query is not None and self.key is not None:
            (query,), (key,) = (split_heads(x, 1, self.num_heads) for x in (self.query(candidates), self.key(history)))
            scores = scores + query @ key.transpose(-2, -1) / math.sqrt(query.shape[-1])  # (U, h, W, L)
        scores = scores.masked_fill(~mask[:, None, None], HIDDEN)
        seen = mask.any(dim=1)[:, None, None, None]
        return scores.softmax(dim=-1) * seen


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
        wide = self._candidates_at_once(history.shape[1])
        size = max(1, wide // max(1, candidates.shape[1]))  # histories at once
        at_once = torch.compiler.is_compiling() or candidates.device.type != "cpu"
        if at_once or (size >= len(history) and wide >= candidates.shape[1]):
            return self.combine(self.weights(candidates, history), history, mask, bias)
        order = mask.sum(dim=1).argsort()  # histories of like length together, so that little padding is worked on
        parts = [x if x is None else x.index_select(0, order).split(size) for x in (candidates, history, mask, bias)]
        rows = []
        for own, tokens, seen, extra in zip(*(part or repeat(None) for part in parts), strict=False):
            places = seen.any(dim=0).nonzero()
            span = slice(int(places[0]), int(places[-1]) + 1) if len(places) else slice(0, 1)
            near = tokens[:, span], seen[:, span], None if extra is None else extra[:, span]
            attended = [self.combine(self.weights(few, near[0]), *near) for few in own.split(wide, dim=1)]
            rows.append(attended[0] if len(attended) == 1 else torch.cat(attended, dim=1))
        return torch.cat(rows).index_select(0, order.argsort())

    def combine(self, weights: Tensor, history: Tensor, mask: Tensor, bias: Tensor | None = None) -> Tensor:
        """The sum `(U, W, E)` of a history's tokens under weights `(U, W, L)`; the rest as for `forward`."""
        return self.shares(weights, mask, bias) @ history

    def shares(self, weights: Tensor, mask: Tensor, bias: Tensor | None = None) -> Tensor:
        """What `combine` multiplies tokens by: `(U, W, L)`, 0 at padding; arguments as there."""
        if bias is not None:
            weights = weights + bias.unsqueeze(1)
        if self.normalize:
            weights = weights.masked_fill(~mask.unsqueeze(1), HIDDEN).softmax(dim=-1)
        return weights * mask.unsqueeze(1)

    def table(self, candidates: Tensor, tokens: Tensor) -> Tensor:
        """The weight `(V, N)` of each of V tokens `(V, E)` for each of N candidates `(N, E)`, before masking."""
        parts = candidates.unsqueeze(0).split(self._candidates_at_once(len(tokens)), dim=1)
        return torch.cat([self.weights(few, tokens.unsqueeze(0)) for few in parts], dim=1).squeeze(0).t().contiguous()

    def _candidates_at_once(self, length: int) -> int:
        """How many candidates of one history of a length have hidden values that stay in the cache."""
        first = self.hidden[0]
        assert isinstance(first, nn.Linear)
        return max(1, CHUNK_VALUES // max(1, length * first.out_features))

    def weights(self, candidates: Tensor, history: Tensor) -> Tensor:
        """The weight `(U, W, L)` of each token for each candidate, before masking."""
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
