"""The parts of FinalMLP: what a stream selects, and how two streams meet."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from deepfm.errors import ConfigError
from deepfm.models.layers.dnn import DNN


class FeatureGate(nn.Module):
    """2·σ(MLP(context)): one weight, 1 on average, for each feature (Mao et al., 2023, FinalMLP).

    Args:
        context_dim: width of the context.
        hidden_units: of the MLP, at least one.
        output_dim: number of features.

    Example:
        >>> FeatureGate(4, [8], 12)(torch.zeros(2, 4)).shape
        torch.Size([2, 12])
    """

    def __init__(self, context_dim: int, hidden_units: Sequence[int], output_dim: int) -> None:
        super().__init__()
        self.dnn = DNN(context_dim, hidden_units)
        self.output = nn.Linear(self.dnn.output_dim, output_dim)

    def forward(self, context: Tensor) -> Tensor:
        """`(B, context_dim)` → `(B, output_dim)`, between 0 and 2."""
        return 2.0 * torch.sigmoid(self.output(self.dnn(context)))


class BilinearFusion(nn.Module):
    """b + w1·x + w2·y + Σ x_h·W_h·y_h over heads, which share both widths (Mao et al., 2023, FinalMLP).

    Args:
        left_dim, right_dim: widths of x and y.
        num_heads: heads.

    Raises:
        ConfigError: a width is not a multiple of `num_heads`.

    Example:
        >>> BilinearFusion(8, 4, 2)(torch.zeros(3, 8), torch.zeros(3, 4)).shape
        torch.Size([3, 1])
    """

    def __init__(self, left_dim: int, right_dim: int, num_heads: int = 1) -> None:
        super().__init__()
        for width in (left_dim, right_dim):
            if width % num_heads:
                raise ConfigError(
                    f"a tower that ends in {width} is not a multiple of final_mlp.num_heads = {num_heads}; choose "
                    "sizes that divide"
                )
        self.num_heads = num_heads
        self.left, self.right = nn.Linear(left_dim, 1), nn.Linear(right_dim, 1)  # two biases, as published
        self.weight = nn.Parameter(torch.empty(num_heads, left_dim // num_heads, right_dim // num_heads))
        nn.init.normal_(self.weight, std=math.sqrt(2.0 / (self.weight.numel() + 1)))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """`(B, left_dim)` and `(B, right_dim)` → `(B, 1)`."""
        heads = torch.einsum("bhi,hij->bhj", x.unflatten(1, (self.num_heads, -1)), self.weight)
        crossed = (heads.flatten(1) * y).sum(dim=1, keepdim=True)
        met: Tensor = self.left(x) + self.right(y) + crossed
        return met
