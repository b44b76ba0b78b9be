"""The cross networks of DCN and DCN V2."""

import torch
from torch import Tensor, nn

from deepfm.engine.acceleration import Recomputable


class CrossNet(Recomputable):
    """Crossings of bounded degree by a vector a layer: x' = x0·(w·x) + b + x (Wang et al., 2017, equation 3).

    Args:
        width: T.
        num_layers: L; the degree is L + 1.

    Example:
        >>> CrossNet(8, 3)(torch.zeros(2, 8)).shape
        torch.Size([2, 8])
    """

    def __init__(self, width: int, num_layers: int) -> None:
        super().__init__()
        self.weights = nn.ModuleList(nn.Linear(width, 1, bias=False) for _ in range(num_layers))
        self.biases = nn.Parameter(torch.zeros(num_layers, width))

    def forward(self, start: Tensor) -> Tensor:
        """`(B, T)` → `(B, T)`."""
        x = start
        for weight, bias in zip(self.weights, self.biases, strict=True):
            x = torch.addcmul(x + bias, start, weight(x))
        return x


class CrossNetV2(Recomputable):
    """Crossings of bounded degree by a matrix a layer: x' = x0 ∘ (W·x + b) + x (Wang et al., 2021, equations 1 to 4).

    With `low_rank`, W = U·Vᵀ. With several experts, W·x is Σ share(x)·U·tanh(C·tanh(Vᵀ·x)) over the experts, whose
    shares are a softmax; what gives the shares serves all layers.

    Args:
        width: T.
        num_layers: L; without experts, the degree is L + 1.
        low_rank: r; None for full matrices.
        num_experts: more than one needs `low_rank`.

    Example:
        >>> CrossNetV2(8, 3, low_rank=2, num_experts=4)(torch.zeros(2, 8)).shape
        torch.Size([2, 8])
    """

    def __init__(self, width: int, num_layers: int, low_rank: int | None = None, num_experts: int = 1) -> None:
        super().__init__()
        self.gate = nn.Linear(width, num_experts, bias=False) if num_experts > 1 else None
        self.layers = nn.ModuleList()
        for _ in range(num_layers):
            if low_rank is None:
                self.layers.append(nn.Linear(width, width))
            elif self.gate is None:
                self.layers.append(nn.Sequential(nn.Linear(width, low_rank, bias=False), nn.Linear(low_rank, width)))
            else:
                self.layers.append(_Experts(width, low_rank, num_experts))

    def forward(self, start: Tensor) -> Tensor:
        """`(B, T)` → `(B, T)`."""
        x = start
        for layer in self.layers:
            crossed = layer(x) if self.gate is None else layer(x, self.gate(x).softmax(dim=1))
            x = torch.addcmul(x, start, crossed)
        return x


class _Experts(nn.Module):
    """The matrices of K experts in one layer; they share its bias."""

    def __init__(self, width: int, low_rank: int, num_experts: int) -> None:
        super().__init__()
        self.down = nn.Linear(width, num_experts * low_rank, bias=False)
        self.core = nn.Parameter(torch.empty(num_experts, low_rank, low_rank))
        self.up = nn.Linear(num_experts * low_rank, width)
        for expert in self.core:
            nn.init.xavier_uniform_(expert)

    def forward(self, x: Tensor, shares: Tensor) -> Tensor:
        """`(B, T)` and shares `(B, K)` → `(B, T)`."""
        small = torch.tanh(self.down(x)).unflatten(1, self.core.shape[:2])  # (B, K, r)
        small = torch.tanh(torch.einsum("bkr,ksr->bks", small, self.core))
        mixed: Tensor = self.up((small * shares.unsqueeze(2)).flatten(1))
        return mixed
