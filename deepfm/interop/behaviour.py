"""A history and its candidate: what SIN joins to its CIN, and BST to its tower, on any library's embeddings."""

import torch
from torch import Tensor, nn

from deepfm.models.layers import EncoderLayer, GatedFusion, TargetAttention, TransformerEncoder
from deepfm.models.layers.transformer import Positions, ages


class HistoryEncoder(nn.Module):
    """Events with learned positions through Transformer encoder layers (Vaswani et al., 2017).

    Args:
        width: E.
        max_length: L.
        num_layers: how many; none leaves the events as they are.
        num_heads: heads, which share E.
        dropout: of the layers.

    Raises:
        ConfigError: the heads do not divide E.
    """

    def __init__(self, width: int, max_length: int, num_layers: int, num_heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.positions = Positions(max_length + 1, width)
        self.encoder = TransformerEncoder(EncoderLayer(width, num_heads, 4 * width, dropout), num_layers)

    def forward(self, events: Tensor, mask: Tensor) -> Tensor:
        """Events `(B, L, E)` under a mask `(B, L)` → `(B, L, E)`."""
        encoded: Tensor = self.encoder(events + self.positions(ages(mask) + 1), mask)
        return encoded

    def last(self, events: Tensor, mask: Tensor, candidate: Tensor) -> Tensor:
        """What the place of a candidate `(B, 1, E)` behind the events gives: `(B, 1, E)` (Chen et al., 2019)."""
        tokens = events + self.positions(ages(mask) + 1)
        return self.encoder.last(tokens, mask, candidate + self.positions.weight[0])


class GatedHistory(nn.Module):
    """SIN's fused vector: gate ∘ cin + (1 - gate) ∘ transformer.

    The transformer's side is what a candidate finds in the encoded history, beside its product with the candidate.

    Args:
        history: the encoder, of width E.
        attention: from the candidate to the encoded history.
        cin_dim: width of the CIN's output.
        fusion_dim: G.
    """

    def __init__(self, history: HistoryEncoder, attention: TargetAttention, cin_dim: int, fusion_dim: int) -> None:
        super().__init__()
        width = history.positions.weight.shape[1]
        self.history, self.attention = history, attention
        self.match = nn.Linear(width, width, bias=False)
        nn.init.xavier_uniform_(self.match.weight)
        self.cin_output = nn.Linear(cin_dim, fusion_dim)
        self.transformer_output = nn.Linear(2 * width, fusion_dim)
        self.fusion = GatedFusion(fusion_dim)

    def forward(self, cin: Tensor, candidate: Tensor, events: Tensor, mask: Tensor) -> Tensor:
        """CIN's output `(B, C)`, a candidate `(B, 1, E)`, events `(B, L, E)` under a mask `(B, L)` → `(B, G)`."""
        found = self.attention(candidate, self.history(events, mask), mask)  # (B, 1, E)
        seen = torch.cat([found, found * self.match(candidate)], dim=2).squeeze(1)  # (B, 2·E)
        fused: Tensor = self.fusion(self.cin_output(cin), self.transformer_output(seen))
        return fused
