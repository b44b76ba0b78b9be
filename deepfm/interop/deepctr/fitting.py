"""A Keras-like fit on this package's engine: its batches, its loss, its optimizer and its callbacks."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from deepfm.data.dataset import Rows, take_rows
from deepfm.engine.checkpoint import FitState
from deepfm.engine.loop import Observer
from deepfm.engine.memory import feed, fits
from deepfm.engine.optim import GivenOptimizer, build_optimizer
from deepfm.engine.optimizer import CombinedOptimizer
from deepfm.engine.settings import nearest
from deepfm.engine.task import ParameterGroup, Progress, Task, no_progress
from deepfm.errors import ConfigError
from deepfm.interop.deepctr.callbacks import CallbackList
from deepfm.interop.deepctr.metrics import Loss, Metric, as_floats, total_loss
from deepfm.interop.deepctr.rows import EncodedRows
from deepfm.training.task import SPARSE_ROWS
from deepfm.utils.logging import get_logger
from deepfm.utils.seeding import random_stream

if TYPE_CHECKING:
    from deepfm.interop.deepctr.models.basemodel import BaseModel

log = get_logger(__name__)
RATES = {"sgd": 0.01, "adam": 0.001, "adagrad": 0.01, "rmsprop": 0.01}  # DeepCTR-Torch's, which are torch's
Batch = tuple[Tensor, Tensor, Tensor]  # encoded ids, numbers, labels


def make_optimizer(optimizer: Any, groups: Sequence[ParameterGroup], device: torch.device) -> CombinedOptimizer:
    """An optimizer by name, or one of `torch.optim` with the groups' penalties added to its gradients.

    Args:
        optimizer: sgd, adam, adagrad, rmsprop, or an instance made from the model's parameters.
        groups: all parameters of the model.
        device: where they live.

    Raises:
        ConfigError: it is neither, or has none of the model's parameters.
    """
    if isinstance(optimizer, str):
        if optimizer not in RATES:
            raise ConfigError(f"optimizer = {optimizer!r} is unknown; {nearest(optimizer, list(RATES))}")
        return build_optimizer(optimizer, RATES[optimizer], groups, device)
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise ConfigError(
            f"optimizer = {optimizer!r} is a {type(optimizer).__name__}; expected one of {', '.join(RATES)}, or a "
            "torch.optim optimizer"
        )
    return CombinedOptimizer([GivenOptimizer(optimizer, groups)])


@dataclass(frozen=True)
class Penalty:
    """λ·Σw² over some parameters.

    Args:
        parameters: the weights.
        l2: λ.
    """

    parameters: list[nn.Parameter]
    l2: float

    @torch.no_grad()
    def value(self) -> Tensor:
        """The penalty, a scalar without a gradient."""
        weights: list[Tensor] = list(self.parameters)
        return self.l2 * torch.stack(list(torch._foreach_norm(weights))).square().sum()


def parameter_groups(model: nn.Module, penalties: Sequence[Penalty]) -> list[ParameterGroup]:
    """All parameters that are trained, those with the same penalty together."""
    factors = dict.fromkeys((parameter for parameter in model.parameters() if parameter.requires_grad), 0.0)
    for penalty in penalties:
        for parameter in penalty.parameters:
            if parameter in factors:
                factors[parameter] += penalty.l2
    groups: dict[float, list[nn.Parameter]] = {}
    for parameter, l2 in factors.items():
        groups.setdefault(l2, []).append(parameter)
    return [ParameterGroup(parameters, l2=l2) for l2, parameters in groups.items()]


@dataclass(frozen=True)
class Labelled:
    """Rows with labels `(N,)`."""

    rows: EncodedRows
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def part(self, places: Rows) -> "Labelled":
        """Some of them, by number `(B,)` or slice."""
        return Labelled(self.rows.take(places), take_rows(self.labels, places))

    def settled(self, device: torch.device) -> "Labelled":
        """On the device where they fit."""
        size = self.rows.nbytes + self.labels.nbytes
        return Labelled(self.rows.to(device), self.labels.to(device)) if fits(size, device) else self


@dataclass
class Plan:
    """What `compile` and `fit` were told.

    Args:
        loss: of predictions and labels, summed over rows.
        metrics: name → metric.
        batch_size: rows a step.
        shuffle: whether an epoch has an order of its own.
        orders: what that order is a pure function of, beside the epoch.
    """

    loss: Loss
    metrics: Mapping[str, Metric]
    batch_size: int = 256
    shuffle: bool = True
    orders: tuple[int, ...] = field(default=(0,))


class ColumnTask(Task):
    """A model of columns, trained on the sum of a loss over a batch's rows and the model's penalties.

    Args:
        model: gives logits.
        plan: how it is trained.
        train: the training rows.
        validation: rows to measure after each epoch; None for none.

    Raises:
        ConfigError: batch normalisation meets batches of one row.
    """

    metric = None

    def __init__(self, model: "BaseModel", plan: Plan, train: Labelled, validation: Labelled | None) -> None:
        self.model: BaseModel = model
        self.plan, self.device = plan, model.torch_device
        self.train, self.validation = train.settled(self.device), validation
        self._seen: list[tuple[Tensor, Tensor]] = []
        self._penalties = [penalty for penalty in model.penalties if penalty.l2]
        self._normalises = any(isinstance(part, nn.BatchNorm1d) for part in model.modules())
        if self._normalises and min(plan.batch_size, len(train)) < 2:
            raise ConfigError(
                f"batch normalisation needs two rows a batch; batch_size = {plan.batch_size} and {len(train)} training "
                "rows give one, so set dnn_use_bn=False or a larger batch"
            )

    def num_batches(self) -> int:
        """Batches an epoch; under batch normalisation a single last row joins the batch before it."""
        full, rest = divmod(len(self.train), self.plan.batch_size)
        return full + (rest > self._normalises)

    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Batches of rows, a pure function of the plan's orders and the epoch."""
        size, count, rows = self.plan.batch_size, self.num_batches(), len(self.train)
        places: list[Tensor] | list[slice]
        bounds = list(pairwise([*range(0, count * size, size), rows]))
        if self.plan.shuffle:
            order = torch.from_numpy(random_stream("row order", *self.plan.orders, epoch).permutation(rows))
            order = order.to(self.train.labels.device)
            places = [order[start:end] for start, end in bounds]
        else:
            places = [slice(start, end) for start, end in bounds]
        self._seen.clear()
        parts = (self.train.part(some) for some in places[start:])
        return feed(((part.rows.ids, part.rows.dense, part.labels) for part in parts), self.device)

    def loss(self, batch: Batch) -> tuple[Tensor, int]:
        """The mean over the rows of loss and penalties, with the gradient of the sum of the loss, and the rows.

        The optimizer adds the gradient of the penalties.
        """
        ids, dense, labels = batch
        logits = self.model.logits(EncodedRows(ids, dense)).squeeze(1)
        predictions = self.model.predictions(logits)
        total = total_loss(self.plan.loss, logits, predictions, labels)
        if self.plan.metrics:
            self._seen.append((predictions.detach(), labels))
        known = total.detach()
        mean = torch.stack([known, *(penalty.value() for penalty in self._penalties)]).sum() / len(labels)
        return total - known + mean, len(labels)  # total - known is 0 and has the gradient

    def evaluate(self, on_progress: Progress = no_progress) -> dict[str, float]:
        """The metrics of the epoch's own predictions, and `val_loss` and `val_…` of the validation rows."""
        results = {}
        if self._seen:
            predictions, labels = (as_floats(torch.cat(parts)) for parts in zip(*self._seen, strict=True))
            results = {name: metric(labels, predictions) for name, metric in self.plan.metrics.items()}
        if self.validation is not None:
            loss, metrics = measure(self.model, self.plan, self.validation, on_progress)
            results["val_loss"] = loss
            results |= {f"val_{name}": value for name, value in metrics.items()}
        return results

    def parameter_groups(self) -> list[ParameterGroup]:
        """All parameters with their penalties."""
        return parameter_groups(self.model, self.model.penalties)

    @contextmanager
    def training(self) -> Iterator[None]:
        """Large tables have sparse gradients for a while."""
        embeddings = self.model.columns.embeddings
        large = self.device.type == "cpu" and sum(table.num_rows for table in embeddings) >= SPARSE_ROWS
        for embedding in embeddings:
            embedding.sparse_gradients = large
        try:
            yield
        finally:
            for embedding in embeddings:
                embedding.sparse_gradients = False


def measure(
    model: "BaseModel", plan: Plan, data: Labelled, on_progress: Progress = no_progress
) -> tuple[float, dict[str, float]]:
    """The mean loss of rows, penalties apart, and the plan's metrics."""
    logits = model.score(data.rows, plan.batch_size, on_progress)
    predictions, labels = model.predictions(logits), data.labels.to(logits.device)
    loss = float(total_loss(plan.loss, logits, predictions, labels)) / len(labels)
    truth, values = as_floats(labels), as_floats(predictions)
    return loss, {name: metric(truth, values) for name, metric in plan.metrics.items()}


class EpochReport(Observer):
    """Tells the callbacks, and the reader, of each epoch.

    Args:
        model: whose `stop_training` ends the fit.
        callbacks: told of epochs that count from `first`.
        first: the number of the first epoch.
        last: the number of all epochs.
        verbose: whether a line an epoch is told.
    """

    def __init__(self, model: "BaseModel", callbacks: CallbackList, first: int, last: int, verbose: int) -> None:
        self.model, self.callbacks = model, callbacks
        self.first, self.last, self.verbose = first, last, verbose

    def fit_started(self, first_epoch: int, num_epochs: int, num_batches: int) -> None:
        """The callbacks begin; one may stop the fit already."""
        self.callbacks.on_train_begin()
        self.stop_requested = self.model.stop_training

    def epoch_started(self, epoch: int) -> None:
        """An epoch begins."""
        self.callbacks.on_epoch_begin(self.first + epoch - 1)

    def epoch_finished(self, state: FitState, improved: bool) -> None:
        """An epoch is done."""
        record, number = state.history[-1], self.first + state.epoch - 1
        logs = {name: record[name] for name in record if name not in ("epoch", "lr", "seconds", "rows_per_second")}
        if self.verbose:
            names = [name for name in logs if name != "val_loss"]
            log.info("Epoch %d/%d", number + 1, self.last)
            log.info("%ds - %s", record["seconds"], " - ".join(f"{name}: {logs[name]: .4f}" for name in names))
        self.callbacks.on_epoch_end(number, logs)
        self.stop_requested = self.model.stop_training
