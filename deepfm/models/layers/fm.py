"""The second-order term of a factorisation machine."""

from torch import Tensor, nn

from deepfm.models.layers.kernels import pair_products


class FMInteraction(nn.Module):
    """Σ over pairs of fields of their inner product, in O(F·D) (Rendle, 2010, lemma 3.1).

    Example:
        >>> FMInteraction()(torch.tensor([[[1.0, 2.0], [3.0, 4.0]]]))
        tensor([[11.]])
    """

    def forward(self, field_embeddings: Tensor) -> Tensor:
        """Half of (square of the sum - sum of the squares): `(B, F, D)` → `(B, 1)`."""
        return pair_products(field_embeddings)
