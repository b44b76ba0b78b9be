"""Pairs of fields as vectors: pooled, or weighted by attention."""

import torch
from torch import Tensor, nn

from deepfm.engine.acceleration import Recomputable
from deepfm.models.layers.transformer import HIDDEN


class BiInteraction(nn.Module):
    """Σ over pairs of fields of their element-wise product, in O(F·D) (He and Chua, 2017, equation 4).

    Example:
        >>> BiInteraction()(torch.tensor([[[1.0, 2.0], [3.0, 4.0]]]))
        tensor([[3., 8.]])
    """

    def forward(self, field_embeddings: Tensor) -> Tensor:
        """Half of (square of the sum - sum of the squares): `(B, F, D)` → `(B, D)`."""
        return 0.5 * (field_embeddings.sum(dim=1).square() - field_embeddings.square().sum(dim=1))


class PairAttention(Recomputable):
    """Σ weight·(x_i ∘ x_j) over pairs of fields, weight = softmax(h·relu(W·(x_i ∘ x_j) + b)) (Xiao et al., 2017, AFM).

    Pairs are those of fields that are there, the paper's non-zero features: a field of zeros, such as padding, counts
    as absent and takes no weight from the others. A row without a pair gives zeros.

    Args:
        num_fields: F.
        embed_dim: D.
        attention_dim: width of the hidden layer.

    Example:
        >>> PairAttention(7, 16, 8)(torch.zeros(2, 7, 16)).shape
        torch.Size([2, 16])
    """

    left: Tensor
    right: Tensor

    def __init__(self, num_fields: int, embed_dim: int, attention_dim: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(embed_dim, attention_dim)
        self.score = nn.Linear(attention_dim, 1, bias=False)
        left, right = torch.triu_indices(num_fields, num_fields, 1)
        self.register_buffer("left", left, persistent=False)
        self.register_buffer("right", right, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, F, D)` → `(B, D)`."""
        products = self.products(x)
        return (self._weights(x, products) * products).sum(dim=1)

    def products(self, x: Tensor) -> Tensor:
        """Every pair's x_i ∘ x_j: `(B, F, D)` → `(B, P, D)`."""
        return x.index_select(1, self.left) * x.index_select(1, self.right)

    def weights(self, x: Tensor) -> Tensor:
        """The weights of all pairs, which add up to one: `(B, F, D)` → `(B, P)`; equal in a row without a pair."""
        return self._weights(x, self.products(x)).squeeze(2)

    def _weights(self, x: Tensor, products: Tensor) -> Tensor:
        there = (x != 0).any(dim=2)  # (B, F)
        seen = (there.index_select(1, self.left) & there.index_select(1, self.right)).unsqueeze(2)  # (B, P, 1)
        scores = self.score(torch.relu(self.hidden(products)))  # (B, P, 1)
        return scores.masked_fill(~seen, HIDDEN).softmax(dim=1)  # zero products make a row without a pair zero
