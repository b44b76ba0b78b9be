"""What happens inside a model while it is evaluated: the values that pass through the parts it wants watched."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from deepfm.models import BaseCTRModel

BINS = 20


class Monitor:
    """The distribution of values `(…, G)` between 0 and 1, such as a gate's, dimension by dimension."""

    def __init__(self) -> None:
        self._count = 0
        self._totals: Tensor | None = None  # (2, G) of values and of their squares
        self._histogram: Tensor | None = None  # (BINS,)

    def add(self, values: Tensor) -> None:
        """Count values `(…, G)` in; nothing waits for the device."""
        flat = values.detach().float().reshape(-1, values.shape[-1])
        totals = torch.stack([flat.sum(dim=0), flat.square().sum(dim=0)])
        histogram = torch.histc(flat, bins=BINS, min=0.0, max=1.0)
        self._totals = totals if self._totals is None else self._totals + totals
        self._histogram = histogram if self._histogram is None else self._histogram + histogram
        self._count += len(flat)

    def summary(self) -> dict[str, float]:
        """`mean` and `spread` (the standard deviation) over all values; none before any were seen."""
        if self._totals is None:
            return {}
        mean, square = (self._totals.cpu().double().mean(dim=1) / self._count).tolist()
        return {"mean": mean, "spread": max(0.0, square - mean**2) ** 0.5}

    def to_dict(self) -> dict[str, Any]:
        """Everything: the summary, mean and spread per dimension, and a histogram of 20 equal bins from 0 to 1."""
        if self._totals is None or self._histogram is None:
            return {}
        means, squares = self._totals.cpu().double() / self._count
        spreads = (squares - means.square()).clamp(min=0.0).sqrt()
        shares = self._histogram.cpu().double() / self._histogram.sum().cpu().clamp(min=1)
        by_dimension = {"mean": means.tolist(), "spread": spreads.tolist()}
        return {**self.summary(), "rows": self._count, "by_dimension": by_dimension, "histogram": shares.tolist()}


@contextmanager
def monitored(model: BaseCTRModel) -> Iterator[Mapping[str, Monitor]]:
    """Watch what passes through the parts that `model.monitors()` names, for a while."""
    monitors: dict[str, Monitor] = {}
    handles = []
    for name, part in model.monitors().items():
        monitors[name] = Monitor()
        handles.append(part.register_forward_hook(_adds_to(monitors[name])))
    try:
        yield monitors
    finally:
        for handle in handles:
            handle.remove()


def _adds_to(monitor: Monitor) -> Callable[[nn.Module, Any, Tensor], None]:
    return lambda _part, _inputs, output: monitor.add(output)
