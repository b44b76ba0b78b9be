"""Figures that are gathered batch by batch, and ways to watch a model's parts meanwhile."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

Hook = Callable[[Any, Tensor], None]  # what a part was given, as a tuple, and what it gave


class Moments:
    """Mean, mean absolute value and standard deviation over rows of values `(B, …)`, in float64."""

    def __init__(self) -> None:
        self.rows = 0
        self._sums: Tensor | None = None  # (3, …) of values, of their absolute values and of their squares

    def add(self, values: Tensor) -> None:
        """Count rows in."""
        exact = values.detach().cpu().double()
        sums = torch.stack([exact.sum(dim=0), exact.abs().sum(dim=0), exact.square().sum(dim=0)])
        self._sums = sums if self._sums is None else self._sums + sums
        self.rows += len(exact)

    @property
    def mean(self) -> Tensor:
        """`(…)`."""
        return self._means()[0]

    @property
    def mean_abs(self) -> Tensor:
        """`(…)`."""
        return self._means()[1]

    @property
    def deviation(self) -> Tensor:
        """`(…)`."""
        mean, _, square = self._means()
        return (square - mean.square()).clamp(min=0.0).sqrt()

    def _means(self) -> Tensor:
        assert self._sums is not None
        return self._sums / self.rows


@contextmanager
def watched(hooks: Iterable[tuple[nn.Module, Hook]]) -> Iterator[None]:
    """Call each hook after its part of a model, for a while."""
    handles = [part.register_forward_hook(_call(hook)) for part, hook in hooks]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _call(hook: Hook) -> Callable[[nn.Module, Any, Tensor], None]:
    return lambda _part, inputs, output: hook(inputs, output)
