"""What the units of an activation gave over all batches: which never spoke, how many were at an end of their range."""

from dataclasses import dataclass

import torch
from torch import Tensor

FULL = 0.97  # of a sigmoid, a tanh's size or a softmax's largest weight, from which on it is saturated
MASKED = -1e4  # a softmax's input from which on downwards it is masked


@dataclass
class Units:
    """What an activation's outputs were over all batches.

    Args:
        kind: `relu`, `sigmoid`, `tanh` or `softmax`.
        alive: of a ReLU, by the dimension that may count units: whether each was above zero at all.
        full, seen: of the others, how many outputs were saturated, and how many there were.
    """

    kind: str
    alive: dict[int, Tensor]
    full: float = 0.0
    seen: float = 0.0

    @property
    def share(self) -> float:
        """The share of units that are dead, or of outputs that are saturated."""
        if self.kind == "relu":
            return max((1.0 - float(alive.float().mean()) for alive in self.alive.values()), default=0.0)
        return self.full / self.seen if self.seen else 0.0

    def add(self, output: Tensor, given: Tensor, dim: int = -1) -> None:
        """Gather what one call gave for `given`; `dim` is a softmax's."""
        if self.kind == "relu":
            dims = {2: (1,), 3: (1, 2)}.get(output.ndim, (1, output.ndim - 1))
            for place in dims if output.ndim > 1 else ():
                rest = [other for other in range(output.ndim) if other != place]
                alive = (output > 0).any(dim=rest[0]) if len(rest) == 1 else (output > 0).amax(dim=rest)
                before = self.alive.get(place)
                self.alive[place] = alive | before if before is not None and before.shape == alive.shape else alive
        elif self.kind == "softmax":
            several = (given > MASKED).sum(dim=dim) > 1
            self.full += float(((output.amax(dim=dim) > FULL) & several).sum())
            self.seen += float(several.sum())
        else:
            size = output.abs() if self.kind == "tanh" else torch.maximum(output, 1 - output)
            self.full += float((size > FULL).sum())
            self.seen += output.numel()
