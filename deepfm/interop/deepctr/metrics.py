"""Losses and metrics by the names that Keras gave them."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from deepfm.engine.settings import nearest
from deepfm.errors import ConfigError
from deepfm.training.metrics import compute_auc, compute_logloss
from deepfm.utils.logging import get_logger

log = get_logger(__name__)
Floats = NDArray[np.float64]
Metric = Callable[[Floats, Floats], float]
Loss = Callable[..., Tensor]
CLIP = 1e-7  # of probabilities, before their logarithm is taken
LOSSES: dict[str, Loss] = {
    "binary_crossentropy": F.binary_cross_entropy,
    "mse": F.mse_loss,
    "mae": F.l1_loss,
}


def auc(labels: Floats, predictions: Floats) -> float:
    """The area under the ROC curve of `(N,)`; NaN, with a warning, where all labels are alike."""
    if labels.min() == labels.max():
        log.warning("AUC is NaN, as all %d labels are %g; expected both classes", len(labels), labels[0])
        return float("nan")
    return compute_auc(labels, predictions)


def logloss(labels: Floats, predictions: Floats) -> float:
    """The mean negative log likelihood of `(N,)`, of probabilities clipped at 1e-7."""
    return compute_logloss(labels, predictions.clip(CLIP, 1 - CLIP))


def mse(labels: Floats, predictions: Floats) -> float:
    """The mean squared error of `(N,)`."""
    return float(np.square(labels - predictions).mean())


def accuracy(labels: Floats, predictions: Floats) -> float:
    """The share of `(N,)` on the right side of one half."""
    return float(((predictions > 0.5) == labels).mean())


METRICS: dict[str, Metric] = {
    "auc": auc,
    "binary_crossentropy": logloss,
    "logloss": logloss,
    "mse": mse,
    "accuracy": accuracy,
    "acc": accuracy,
}


def metrics_named(names: Sequence[str] | None, task: str) -> dict[str, Metric]:
    """Metrics by name.

    Args:
        task: `binary` or `regression`, of which the squared error is the only one here.

    Raises:
        ConfigError: a name is unknown, or measures classes and the task has none.
    """
    if isinstance(names, str):
        raise ConfigError(f"metrics = {names!r} is a text; expected a list, such as [{names!r}]")
    for name in names or ():
        if name not in METRICS:
            raise ConfigError(f"metric {name!r} is unknown; {nearest(str(name), list(METRICS))}")
        if task == "regression" and name != "mse":
            raise ConfigError(f"metric {name!r} measures classes, and task is 'regression'; use mse")
    return {name: METRICS[name] for name in names or ()}


def loss_named(loss: Any, task: str) -> Loss:
    """A loss by name, or as given: a function of predictions `(B,)`, labels `(B,)` and `reduction="sum"`.

    Args:
        loss: None for the task's own, cross-entropy or the squared error.
        task: `binary` or `regression`.

    Raises:
        ConfigError: a name is unknown or does not go with the task, or it is a list.
    """
    loss = loss or ("binary_crossentropy" if task == "binary" else "mse")
    if callable(loss):
        given: Loss = loss
        return given
    if not isinstance(loss, str) or loss not in LOSSES:
        known = ", ".join(LOSSES)
        raise ConfigError(f"loss = {loss!r} is unknown; expected one of {known}, or a function")
    if loss == "binary_crossentropy" and task != "binary":
        raise ConfigError(
            f"loss = {loss!r} needs probabilities, and task is {task!r}; use mse or mae, or task='binary'"
        )
    return LOSSES[loss]


def total_loss(loss: Loss, logits: Tensor, predictions: Tensor, labels: Tensor) -> Tensor:
    """The sum of a loss over rows, all `(B,)`; cross-entropy is taken from the logits, which lose nothing."""
    if loss is F.binary_cross_entropy:
        return F.binary_cross_entropy_with_logits(logits, labels, reduction="sum")
    total = loss(predictions, labels, reduction="sum")
    if not isinstance(total, Tensor) or total.dim():
        shape = tuple(total.shape) if isinstance(total, Tensor) else type(total).__name__
        raise ConfigError(f"the loss gave {shape}; expected one number, the sum over rows, as reduction='sum' asks for")
    return total


def as_floats(values: Tensor) -> Floats:
    """`(N,)` float64 on the CPU."""
    return values.detach().to("cpu", torch.float64).numpy()
