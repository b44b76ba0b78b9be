"""Training a copy of a subject: its batches as a task of the engine, and single steps at a rate of one's own."""

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from deepfm.analysis.batch import Batch, rows_of
from deepfm.analysis.subject import Subject
from deepfm.engine.optim import build_optimizer
from deepfm.engine.sparse import clip_gradients, gradient_values
from deepfm.engine.task import ParameterGroup, Progress, Task, no_progress
from deepfm.errors import AnalysisError
from deepfm.utils.seeding import random_stream


def trainable(model: nn.Module) -> list[nn.Parameter]:
    """The parameters that want a gradient.

    Raises:
        AnalysisError: there are none.
    """
    found = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not found:
        raise AnalysisError("the model has no parameter that wants a gradient")
    return found


def refuse_probe(subject: Subject) -> None:
    """Raise where lowering the loss means nothing.

    Raises:
        AnalysisError: the loss is a random projection.
    """
    if not subject.loss.trains:
        raise AnalysisError("the loss is a probe, a random projection of the output, which nothing can learn")


def without_dropout(model: nn.Module) -> None:
    """Set every share of dropped values in a copy to zero."""
    for part in model.modules():
        if isinstance(part, nn.modules.dropout._DropoutNd):
            part.p = 0.0
        elif isinstance(part, nn.MultiheadAttention | nn.RNNBase):
            part.dropout = 0.0


def take_rows(subject: Subject, batch: Batch, rows: Tensor) -> Batch:
    """The batch with the rows of these numbers, in inputs and target."""
    have, dim = rows_of(batch, subject.batch_dim), subject.batch_dim

    def taken(leaf: Tensor) -> Tensor:
        if leaf.ndim <= dim or leaf.shape[dim] != have:
            return leaf
        return leaf.index_select(dim, rows.to(leaf.device))

    return batch.map(taken)


def split_rows(subject: Subject, batch: Batch, size: int) -> list[Batch]:
    """The batch in parts of `size` rows; what is left over is dropped, unless it is all there is."""
    have = rows_of(batch, subject.batch_dim)
    if size >= have:
        return [batch]
    return [take_rows(subject, batch, torch.arange(at, at + size)) for at in range(0, have - size + 1, size)]


class BatchesTask(Task):
    """Given batches, again and again in an order of the seed's, and the mean loss of others as what is best.

    Parts that a person keeps in evaluation mode while the model trains stay so.

    Args:
        subject: says how a batch becomes a loss.
        model: a copy of the subject's.
        batches: what it trains on.
        steps: batches an epoch.
        held_out: what is evaluated; none for the training batches.
        seed: of the order.
        weight_decay: the optimizer's own, on all parameters.

    Attributes:
        found: the held-out losses, in order; a fit that diverges leaves no other record.
    """

    metric = "held_out"
    maximize = False

    def __init__(
        self,
        subject: Subject,
        model: nn.Module,
        batches: Sequence[Batch],
        steps: int,
        *,
        held_out: Sequence[Batch] = (),
        seed: int = 0,
        weight_decay: float = 0.0,
    ) -> None:
        self.subject, self.model, self.given = subject, model, tuple(batches)
        self.steps, self.held_out, self.seed, self.weight_decay = (
            steps,
            tuple(held_out) or self.given,
            seed,
            weight_decay,
        )
        self.found: list[float] = []
        self.kept = [part for part in model.modules() if model.training and not part.training]

    def num_batches(self) -> int:
        """Batches an epoch."""
        return self.steps

    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches in an order that seed and epoch decide."""
        for part in self.kept:
            part.training = False
        yield from (self.given[at] for at in batch_order(len(self.given), self.steps, self.seed, epoch)[start:])

    def loss(self, batch: Batch) -> tuple[Tensor, int]:
        """The subject's loss."""
        return self.subject.loss_of(self.model, batch), rows_of(batch, self.subject.batch_dim)

    def evaluate(self, on_progress: Progress = no_progress) -> dict[str, float]:
        """The mean loss of the held-out batches; infinite where it is not a number."""
        self.found.append(mean_loss(self.subject, self.model, self.held_out))
        return {"held_out": self.found[-1]}

    def parameter_groups(self) -> list[ParameterGroup]:
        """All parameters that want a gradient."""
        return [ParameterGroup(trainable(self.model), weight_decay=self.weight_decay)]


def batch_order(count: int, steps: int, seed: int, epoch: int = 0) -> list[int]:
    """So many numbers of batches: each once before any comes again."""
    draw = random_stream("analysis order", seed, epoch)
    rounds = [draw.permutation(count) for _ in range(math.ceil(steps / count))]
    return [int(at) for one in rounds for at in one][:steps]


@torch.no_grad()
def mean_loss(subject: Subject, model: nn.Module, batches: Sequence[Batch]) -> float:
    """The mean loss over rows of the batches; infinite where it is not a number."""
    sizes = [rows_of(batch, subject.batch_dim) for batch in batches]
    losses = [float(subject.loss_of(model, batch)) for batch in batches]
    mean = sum(loss * size for loss, size in zip(losses, sizes, strict=True)) / sum(sizes)
    return mean if math.isfinite(mean) else math.inf


class Stepper:
    """Optimizer steps of a copy, each at its own learning rate.

    Args:
        subject: says how a batch becomes a loss.
        model: a copy of the subject's, in the mode that it shall have.
        optimizer: a name that the engine knows.
        clip_norm: the largest joint norm of the gradients; None for none.

    Attributes:
        parameters: those that want a gradient.
        norms: of the last gradient, parameter by parameter; None for one that the loss does not reach.

    Raises:
        AnalysisError: no parameter wants a gradient.
    """

    def __init__(self, subject: Subject, model: nn.Module, optimizer: str, *, clip_norm: float | None = None) -> None:
        self.subject, self.model, self.clip_norm = subject, model, clip_norm
        self.parameters = trainable(model)
        self.norms: list[float | None] = []
        self.optimizer = build_optimizer(optimizer, 1.0, [ParameterGroup(self.parameters)], subject.device)

    def gradient(self, batch: Batch) -> tuple[float, float]:
        """The loss of a batch and the joint norm of the gradients that it leaves in the parameters.

        Raises:
            AnalysisError: no parameter that wants a gradient is reached.
        """
        self.optimizer.zero_grad()
        loss = self.subject.loss_of(self.model, batch)
        if not loss.requires_grad:
            raise AnalysisError("the loss has no gradient with respect to any parameter")
        loss.backward()
        values = iter(gradient_values(self.parameters))
        self.norms = [
            None if part.grad is None else float(torch.linalg.vector_norm(next(values).double()))
            for part in self.parameters
        ]
        return float(loss.detach()), math.hypot(*(norm for norm in self.norms if norm is not None))

    def step(self, batch: Batch, lr: float) -> tuple[float, float]:
        """One step; the loss and the gradients' norm from before it, which is not taken where they are not finite."""
        loss, norm = self.gradient(batch)
        if not (math.isfinite(loss) and math.isfinite(norm)):
            return loss, norm
        if self.clip_norm is not None:
            clip_gradients(self.parameters, self.clip_norm)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.optimizer.step()
        return loss, norm
