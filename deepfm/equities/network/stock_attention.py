"""The stock attention network: all stocks of a day look at each other."""

import torch
from torch import Tensor, nn

from deepfm.engine.acceleration import Recomputable
from deepfm.equities.days.layout import DayLayout
from deepfm.equities.network.gates import GatedSkip, SequenceDropout
from deepfm.equities.network.set_attention import SetAttention


class StockAttention(Recomputable):
    """Attention across the stocks of one day, without positions: another order of stocks gives the same states.

    Memory grows with the square of a day's stocks at most; days are padded to the longest, and never see each other.

    Args:
        hidden_size: H.
        num_heads: divides H.
        dropout: everywhere.
    """

    def __init__(self, hidden_size: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(hidden_size)
        self.attention = SetAttention(hidden_size, num_heads)
        self.join = GatedSkip(hidden_size, dropout)
        self.comparison = nn.Sequential(
            nn.Linear(2 * hidden_size, 4 * hidden_size),
            nn.GELU(),
            SequenceDropout(dropout),
            nn.Linear(4 * hidden_size, hidden_size),
        )
        self.output = nn.LayerNorm(hidden_size)

    def forward(self, state: Tensor, layout: DayLayout) -> Tensor:
        """`(R, H)` → `(R, H)`: what a stock saw of its day, added through a gate and set against its own state."""
        table = layout.pad(self.norm(state))
        seen = layout.rows(self.attention(table, None if layout.is_full else layout.mask))
        joined = self.join(seen, state)
        after: Tensor = self.output(joined + self.comparison(torch.cat([joined, seen], dim=-1)))
        return after

    def weights(self, state: Tensor, layout: DayLayout) -> Tensor:
        """How much of each stock (last axis) each stock takes, `(D, heads, N, N)`, in the layout's places."""
        return self.attention.weights(layout.pad(self.norm(state)), layout.mask)
