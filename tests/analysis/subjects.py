"""What the models of these tests learn from: small batches with something to find in them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

ROWS = 64


@dataclass(frozen=True, eq=False)
class Case:
    """A model with batches `(inputs, target)`, its loss and, where it matters, the optimizer that trains it."""

    model: nn.Module
    batches: list[Any]
    loss: str | Callable[..., Tensor] | None
    optimizer: torch.optim.Optimizer | None = None


def seeded(seed: int = 0) -> torch.Generator:
    """Where a case's numbers come from; the global stream decides the weights alone."""
    return torch.Generator().manual_seed(seed)


def clicks(features: int = 16, rows: int = ROWS, batches: int = 3) -> list[tuple[Tensor, Tensor]]:
    """Rows (B, features) and labels (B,) that a linear model nearly tells, as many of each class."""
    source = seeded()
    found = []
    for _ in range(batches):
        x = torch.randn(rows, features, generator=source)
        signal = x[:, 0] + 0.5 * x[:, 1] + 0.3 * torch.randn(rows, generator=source)
        found.append((x, (signal > 0).float()))
    return found


def classes(features: int = 16, kinds: int = 5, batches: int = 3) -> list[tuple[Tensor, Tensor]]:
    """Rows (B, features) and the number of their class (B,)."""
    source = seeded()
    centres = 2 * torch.randn(kinds, features, generator=source)
    found = []
    for _ in range(batches):
        y = torch.randint(kinds, (ROWS,), generator=source)
        found.append((centres[y] + torch.randn(ROWS, features, generator=source), y))
    return found


def amounts(features: int = 16, rows: int = ROWS, column: bool = True) -> list[tuple[Tensor, Tensor]]:
    """Rows (B, features) and a number each, (B, 1) or (B,)."""
    source = seeded()
    found = []
    for _ in range(3):
        x = torch.randn(rows, features, generator=source)
        y = x[:, :1] - x[:, 1:2] * x[:, 2:3] + 0.1 * torch.randn(rows, 1, generator=source)
        found.append((x, y if column else y.squeeze(1)))
    return found


def sequences(length: int = 10, width: int = 8) -> list[tuple[tuple[Tensor, Tensor], Tensor]]:
    """Events (B, L, width), which of them are padding (B, L; true at the end), and a label of the first event (B,)."""
    source = seeded()
    found = []
    for _ in range(3):
        x = torch.randn(ROWS, length, width, generator=source)
        lengths = torch.randint(3, length + 1, (ROWS, 1), generator=source)
        padding = torch.arange(length)[None] >= lengths
        found.append(((x, padding), (x[:, 0, 0] > 0).float()))
    return found


def texts(words: int = 50, length: int = 12) -> list[tuple[Tensor, Tensor]]:
    """Words (B, L) and the words that follow each (B, L), mostly the next number."""
    source = seeded()
    found = []
    for _ in range(3):
        start = torch.randint(words, (ROWS, 1), generator=source)
        line = (start + torch.arange(length + 1)[None]) % words
        noise = torch.rand(line.shape, generator=source) < 0.05
        line = torch.where(noise, torch.randint(words, line.shape, generator=source), line)
        found.append((line[:, :-1], line[:, 1:]))
    return found


def images(kinds: int = 4, size: int = 12) -> list[tuple[Tensor, Tensor]]:
    """Pictures (B, 3, size, size) with a bright corner, and which corner it is (B,)."""
    source = seeded()
    found = []
    for _ in range(3):
        x = 0.5 * torch.randn(ROWS, 3, size, size, generator=source)
        y = torch.randint(kinds, (ROWS,), generator=source)
        half = size // 2
        for row, corner in enumerate(y.tolist()):
            top, left = corner // 2 * half, corner % 2 * half
            x[row, :, top : top + half, left : left + half] += 1.0
        found.append((x, y))
    return found
