"""What an adaptive normalisation makes of the input sequences."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

VARIANCE_FLOOR = 1e-4  # features have a deviation of .3 to 1, and rounding noise stays far below .01


@dataclass(frozen=True, eq=False)
class Normalized:
    """Sequences without what was taken out of them, and its forecast.

    Args:
        sequences: `(R, L, F)`.
        outlook: the forecast of what was taken out, C numbers for each feature, `(R, C, F)`; C may be 0.
        auxiliary: how well the same forecast, made from earlier sessions, meets the latest ones; a scalar.
    """

    sequences: Tensor
    outlook: Tensor
    auxiliary: Tensor


def nothing_taken(kept: Tensor) -> Normalized:
    """The result of a normalisation that keeps everything, and so has nothing to forecast."""
    return Normalized(kept, kept[:, :0], kept.new_zeros(()))


class NoNormalization(nn.Module):
    """Passes the sequences as they are."""

    num_outlooks = 0

    def forward(self, sequences: Tensor) -> Normalized:
        """`(R, L, F)` → the same."""
        return nothing_taken(sequences)


class Forecaster(nn.Module):
    """A small network from a feature's past to its future, shared by all stocks and features.

    `V p + W2 ReLU(W1 [p ; x] + b1) + b2`, where the linear part starts as a given guess, and W2 near 0.

    Args:
        guess: the linear part's start, `(outputs, inputs)`.
        extra_size: how many numbers x has beside the past p.
        inner_size: of the hidden layer.
    """

    def __init__(self, guess: Tensor, extra_size: int, inner_size: int) -> None:
        super().__init__()
        outputs, inputs = guess.shape
        self.linear = nn.Parameter(guess.clone())
        self.inner = nn.Linear(inputs + extra_size, inner_size)
        self.outer = nn.Linear(inner_size, outputs)
        nn.init.normal_(self.outer.weight, std=0.01)
        nn.init.zeros_(self.outer.bias)

    def forward(self, past: Tensor, extra: Tensor | None = None) -> Tensor:
        """`(inputs, X)` and `(extra_size, X)`, for X series → `(outputs, X)`."""
        known = past if extra is None else torch.cat([past, extra])
        inner = F.relu(self.inner.weight @ known + self.inner.bias.unsqueeze(1))
        return self.linear @ past + self.outer.weight @ inner + self.outer.bias.unsqueeze(1)


def time_first(sequences: Tensor) -> Tensor:
    """`(R, L, F)` → `(L, R · F)`: every series a column, so that what is done over time is one matrix product."""
    return sequences.transpose(0, 1).flatten(1)


def rows_first(series: Tensor, num_rows: int) -> Tensor:
    """`(L, R · F)` → `(R, L, F)`."""
    return series.unflatten(1, (num_rows, -1)).transpose(0, 1).contiguous()
