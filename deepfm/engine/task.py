"""What the loop needs to know of a problem, and nothing else."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

Progress = Callable[[int, int], None]  # called with what is done and what there is in all


def no_progress(done: int, total: int) -> None:
    """Nobody watches."""


@dataclass(frozen=True)
class ParameterGroup:
    """Parameters that share their penalties.

    Args:
        parameters: the parameters.
        l2: λ of a penalty λ·Σw² in the loss, which the optimizer applies for free.
        weight_decay: the optimizer's own decay (decoupled under AdamW).
        row_optimizer: `sparse_adam` or `rowwise_adagrad`, which move only the rows that a sparse gradient holds;
            None for the fit's optimizer.
        lazy_l2: whether `l2` acts on the rows of a sparse gradient alone; row optimizers have no other way.
        lr: a base learning rate of their own, which the schedule scales like that of the others.
    """

    parameters: list[nn.Parameter]
    l2: float = 0.0
    weight_decay: float = 0.0
    row_optimizer: str | None = None
    lazy_l2: bool = False
    lr: float | None = None


class Task(ABC):
    """A problem to train: its model, its batches, its loss and its validation metrics.

    `fit` calls `loss` in training mode and `evaluate` in evaluation mode without gradients. `batches` must be a pure
    function of the epoch, so that a resumed run sees what an uninterrupted one would have; `fit` gives `start` only
    where a run goes on inside an epoch.

    Attributes:
        model: what is trained.
        metric: the key of `evaluate`'s result that decides what is best; None where nothing does.
        maximize: whether more of it is better.
    """

    model: nn.Module
    metric: str | None
    maximize: bool = True

    @abstractmethod
    def batches(self, epoch: int, start: int = 0) -> Iterable[Any]:
        """The training batches of an epoch (from 1), on the device, without the first `start` of them."""

    @abstractmethod
    def num_batches(self) -> int:
        """How many batches an epoch has."""

    @abstractmethod
    def loss(self, batch: Any) -> tuple[Tensor, int]:
        """The mean loss of a batch (a scalar with a gradient), and how many rows it is the mean of."""

    @abstractmethod
    def evaluate(self, on_progress: Progress = no_progress) -> dict[str, float]:
        """The validation metrics, `metric` among them if there is one; a long evaluation says how far it has come."""

    def parameter_groups(self) -> list[ParameterGroup]:
        """What is optimised; by default every parameter, without penalties."""
        return [ParameterGroup(list(self.model.parameters()))]

    def training(self) -> AbstractContextManager[None]:
        """Around all epochs of a fit: what the model needs only while it is trained."""
        return nullcontext()

    def fingerprint(self) -> dict[str, str]:
        """What a checkpoint must agree on to be continued, such as `{"schema": hash}`."""
        return {}
