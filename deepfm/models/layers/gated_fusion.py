"""Two vectors joined by a learned gate."""

from typing import Literal, overload

import torch
from torch import Tensor, nn


class GatedFusion(nn.Module):
    """gate = σ(W [a ; b] + c), output = gate ∘ a + (1 - gate) ∘ b, for each of G dimensions.

    The bias c starts at 0, so the gate starts near one half.

    Args:
        width: G.

    Example:
        >>> GatedFusion(8)(torch.zeros(2, 8), torch.ones(2, 8)).shape
        torch.Size([2, 8])
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gate = nn.Linear(2 * width, width)
        nn.init.zeros_(self.gate.bias)
        self.values = nn.Identity()  # the gate's values pass through, for whoever hooks on

    @overload
    def forward(self, cin_output: Tensor, transformer_output: Tensor) -> Tensor: ...
    @overload
    def forward(
        self, cin_output: Tensor, transformer_output: Tensor, return_gate: Literal[True]
    ) -> tuple[Tensor, Tensor]: ...

    def forward(
        self, cin_output: Tensor, transformer_output: Tensor, return_gate: bool = False
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Two `(B, G)` → `(B, G)`, and under `return_gate` the gate `(B, G)` too: the share of `cin_output`."""
        gate = self.values(torch.sigmoid(self.gate(torch.cat([cin_output, transformer_output], dim=-1))))
        fused = gate * cin_output + (1.0 - gate) * transformer_output
        return (fused, gate) if return_gate else fused
