"""Gates and gated residual networks (Lim et al., 2021)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class SequenceDropout(nn.Module):
    """Dropout with one mask for all entries of a sequence (Gal and Ghahramani, 2016), which also costs less to draw.

    Args:
        share: of the numbers that are dropped in training.
    """

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, x: Tensor) -> Tensor:
        """`(..., L, H)` → the same shape; a mask for each row of all but the last two dimensions, or of `(R, H)`."""
        if not self.training or not self.share:
            return x
        kept = x.new_ones(*x.shape[:-2], 1, x.shape[-1]) if x.ndim > 2 else torch.ones_like(x)
        return x * F.dropout(kept, self.share)


class GatedSkip(nn.Module):
    """`LayerNorm(skip + GLU(W x + b))` (Lim et al., 2021, equations 2 and 5): a branch that can close itself.

    Args:
        hidden_size: H.
        dropout: of the branch's input.
        input_size: of the branch's input; None for H.
    """

    def __init__(self, hidden_size: int, dropout: float, input_size: int | None = None) -> None:
        super().__init__()
        self.dropout = SequenceDropout(dropout)
        self.gate = nn.Linear(input_size or hidden_size, 2 * hidden_size)
        self.norm = nn.LayerNorm(hidden_size)

    def forward(self, branch: Tensor, skip: Tensor) -> Tensor:
        """Branch `(..., input_size)` and skip `(..., H)` → `(..., H)`."""
        gated: Tensor = self.norm(skip + F.glu(self.gate(self.dropout(branch))))
        return gated


class GatedResidual(nn.Module):
    """`LayerNorm(x + GLU(W1 ELU(W2 x + W3 c)))` (Lim et al., 2021, equations 2 to 4).

    The paper's two linear maps in a row, W1 and the GLU's, are one here, as nothing stands between them.

    Args:
        hidden_size: H.
        dropout: of the inner layer.
        context: whether there is a context.
    """

    def __init__(self, hidden_size: int, dropout: float, context: bool = False) -> None:
        super().__init__()
        self.inner = nn.Linear(hidden_size, hidden_size)
        self.context = nn.Linear(hidden_size, hidden_size, bias=False) if context else None
        self.skip = GatedSkip(hidden_size, dropout)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """`(..., H)` and a context of the same shape, or that broadcasts → `(..., H)`; a context of 0 adds nothing."""
        inner = self.inner(x)
        if self.context is not None and context is not None:
            inner = inner + self.context(context)
        gated: Tensor = self.skip(F.elu(inner), x)
        return gated
