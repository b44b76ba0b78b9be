"""Pre-norm residual blocks: attention of one set to another or to itself, and a feed-forward layer."""

from torch import Tensor, nn


class Attention(nn.Module):
    """`x + attention(norm(x), keys)`; without positions, so the order of a set does not matter.

    Args:
        hidden_size: H.
        num_heads: divides H.
        dropout: of attention weights.
    """

    def __init__(self, hidden_size: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(hidden_size)
        self.attention = nn.MultiheadAttention(hidden_size, num_heads, dropout, batch_first=True)

    def forward(self, state: Tensor, keys: Tensor | None = None, hidden: Tensor | None = None) -> Tensor:
        """`(B, N, H)` after a look at keys `(B, C, H)`, or at itself where there are none.

        Args:
            hidden: `(B, C)`, True for keys that nobody sees; at least one a row must be seen.
        """
        asked = self.norm(state)
        seen = asked if keys is None else keys
        after: Tensor = state + self.attention(asked, seen, seen, key_padding_mask=hidden, need_weights=False)[0]
        return after


class FeedForward(nn.Module):
    """`x + linear(GELU(linear(norm(x))))`.

    Args:
        hidden_size: H.
        inner_size: of the layer in between.
        dropout: of that layer.
    """

    def __init__(self, hidden_size: int, inner_size: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.LayerNorm(hidden_size),
            nn.Linear(hidden_size, inner_size),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(inner_size, hidden_size),
        )

    def forward(self, state: Tensor) -> Tensor:
        """`(..., H)` to the same."""
        after: Tensor = state + self.layers(state)
        return after


def refuse_heads(hidden_size: int, num_heads: int, what: str) -> str | None:
    """What is wrong with the number of heads of `what`, in a sentence; None where nothing is."""
    if hidden_size % num_heads:
        return f"hidden_size = {hidden_size} of {what} is no multiple of num_heads = {num_heads}; expected one"
    return None
