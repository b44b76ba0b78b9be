"""The parts of MaskNet."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deepfm.engine.acceleration import Recomputable
from deepfm.models.layers.dnn import ACTIVATIONS


class FieldNorm(nn.Module):
    """LayerNorm of each field's embedding, with a scale and a shift of its own (Wang et al., 2021, MaskNet).

    Args:
        num_fields: F.
        embed_dim: D.
    """

    def __init__(self, num_fields: int, embed_dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(num_fields, embed_dim))
        self.bias = nn.Parameter(torch.zeros(num_fields, embed_dim))

    def forward(self, x: Tensor) -> Tensor:
        """`(B, F, D)` → `(B, F, D)`."""
        return F.layer_norm(x, x.shape[2:]) * self.weight + self.bias


class MaskBlock(Recomputable):
    """activation(LayerNorm(W·(mask ∘ hidden))), mask = V·relu(U·embeddings) (Wang et al., 2021, MaskNet).

    U and V have a bias each.

    Args:
        embeddings_dim: width of the embeddings that the mask is made of.
        mask_dim: width of the mask's hidden layer.
        hidden_dim: width of what is masked.
        output_dim: width out.
        activation: a name of `dnn.ACTIVATIONS`.

    Example:
        >>> MaskBlock(12, 24, 8, 4)(torch.zeros(2, 12), torch.zeros(2, 8)).shape
        torch.Size([2, 4])
    """

    def __init__(
        self, embeddings_dim: int, mask_dim: int, hidden_dim: int, output_dim: int, activation: str = "relu"
    ) -> None:
        super().__init__()
        self.mask = nn.Sequential(nn.Linear(embeddings_dim, mask_dim), nn.ReLU(), nn.Linear(mask_dim, hidden_dim))
        self.linear = nn.Linear(hidden_dim, output_dim, bias=False)
        self.norm = nn.LayerNorm(output_dim)
        self.activation = ACTIVATIONS[activation]()

    def forward(self, embeddings: Tensor, hidden: Tensor) -> Tensor:
        """`(B, embeddings_dim)` and `(B, hidden_dim)` → `(B, output_dim)`."""
        output: Tensor = self.activation(self.norm(self.linear(self.mask(embeddings) * hidden)))
        return output
