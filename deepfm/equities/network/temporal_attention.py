"""Interpretable multi-head attention over the look-back."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class TemporalAttention(nn.Module):
    """Heads that share their values, with a causal mask (Lim et al., 2021, equations 13 to 16).

    The mean of the heads' weights says what share a session had. Keys and values are never formed for all sessions:
    `q · (W_K x) = (W_Kᵀ q) · x`, and the weighted sum of values is the value of the weighted sum, so that few
    queries cost little. A bias of keys would not change a softmax, and there is none.

    Args:
        hidden_size: H.
        num_heads: divides H; values are H / heads wide.
        dropout: of the weights.
    """

    def __init__(self, hidden_size: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        size = hidden_size // num_heads
        self.num_heads = num_heads
        self.query = nn.Linear(hidden_size, hidden_size)
        bound = 1.0 / math.sqrt(hidden_size)
        self.key = nn.Parameter(torch.empty(num_heads, size, hidden_size).uniform_(-bound, bound))
        self.value = nn.Linear(hidden_size, size)
        self.output = nn.Linear(size, hidden_size)
        self.dropout = nn.Dropout(dropout)

    def forward(self, asked: Tensor, sessions: Tensor) -> Tensor:
        """The last Q sessions' questions `(R, Q, H)`, all sessions `(R, L, H)` → `(R, Q, H)`."""
        share = self.dropout(self.weights(asked, sessions).mean(1)).to(sessions.dtype)  # (R, Q, L)
        attended: Tensor = self.output(self.value(share @ sessions))
        return attended

    def weights(self, asked: Tensor, sessions: Tensor) -> Tensor:
        """How much of each session the last Q take, head by head, `(R, heads, Q, L)`; nothing of later ones."""
        query = self.query(asked).unflatten(-1, (self.num_heads, -1))  # (R, Q, heads, d)
        looked_for = torch.einsum("rqhd,hdx->rhqx", query, self.key.to(query.dtype))
        logits = (looked_for.flatten(1, 2) @ sessions.to(query.dtype).transpose(1, 2)).unflatten(
            1, (self.num_heads, -1)
        )
        logits = logits / math.sqrt(query.shape[-1])
        asking, length = asked.shape[1], sessions.shape[1]
        if asking > 1:
            later = torch.ones(asking, length, dtype=torch.bool, device=asked.device).triu(length - asking + 1)
            logits = logits.masked_fill(later, float("-inf"))
        return F.softmax(logits, dim=-1)
