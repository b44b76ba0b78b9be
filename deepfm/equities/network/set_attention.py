"""Multi-head attention within sets, without positions: the order of a set does not matter."""

import math

from torch import Tensor, nn
from torch.nn import functional as F


class SetAttention(nn.Module):
    """Scaled dot-product attention of every entry of a set to all its entries (Vaswani et al., 2017, section 3.2).

    The weights have no dropout, so that all N² of them need not be kept.

    Args:
        hidden_size: H.
        num_heads: divides H.
    """

    def __init__(self, hidden_size: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.projection = nn.Linear(hidden_size, 3 * hidden_size)
        self.output = nn.Linear(hidden_size, hidden_size)

    def forward(self, entries: Tensor, mask: Tensor | None = None) -> Tensor:
        """Entries `(B, N, H)`, and where there is one, `(B, N)`, or None for everywhere → `(B, N, H)`."""
        query, key, value = self._heads(entries)
        seen = None if mask is None else _seen(mask)
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=seen)
        output: Tensor = self.output(attended.transpose(1, 2).flatten(2))
        return output

    def weights(self, entries: Tensor, mask: Tensor | None = None) -> Tensor:
        """How much of each entry (last axis) each entry takes, head by head, `(B, heads, N, N)`."""
        query, key, _ = self._heads(entries)
        logits = query @ key.transpose(-2, -1) / math.sqrt(query.shape[-1])
        if mask is not None:
            logits = logits.masked_fill(~_seen(mask), float("-inf"))
        return logits.softmax(-1)

    def _heads(self, entries: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, each `(B, heads, N, d)`."""
        split = self.projection(entries).unflatten(-1, (3, self.num_heads, -1))
        query, key, value = split.permute(2, 0, 3, 1, 4).unbind(0)
        return query, key, value


def _seen(mask: Tensor) -> Tensor:
    """`(B, 1, 1, N)`; an empty set sees everything, as a softmax over nothing is NaN."""
    return (mask | ~mask.any(1, keepdim=True))[:, None, None, :]
