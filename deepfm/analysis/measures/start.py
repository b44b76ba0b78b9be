"""Where training starts: the first loss against what it should be, and whether a few rows can be learned by heart."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils._pytree import tree_map

from deepfm.analysis import losses
from deepfm.analysis.batch import tensors
from deepfm.analysis.measures.steps import mean_loss
from deepfm.analysis.reasons import reason_of
from deepfm.analysis.subject import Outputs, Subject

KINDS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"bce": losses.bce, "ce": F.cross_entropy, "mse": losses.mse}


@dataclass(frozen=True)
class Start:
    """The untrained model's loss and outputs.

    Args:
        kind: `bce`, `ce` or `mse` where the loss computes the same numbers as that one; None for any other.
        loss_train, loss_eval: the mean over the batches, in training and in evaluation mode; None where not finite.
        zero_loss: the loss of outputs that are all zero: ln 2 for bce, ln C for ce of C classes.
        label_entropy: of the labels' shares, in nats: what a constant output can reach at best; for mse the targets'
            variance.
        expected: what an untrained model should lose, `zero_loss` where there is one, else None.
        ratio: loss_eval / expected; near 1 for outputs near zero.
        output_mean, output_deviation, output_max: of the floating-point outputs; the last in absolute value.
        batches: looked at.
    """

    kind: str | None = None
    loss_train: float | None = None
    loss_eval: float | None = None
    zero_loss: float | None = None
    label_entropy: float | None = None
    expected: float | None = None
    ratio: float | None = None
    output_mean: float | None = None
    output_deviation: float | None = None
    output_max: float | None = None
    batches: int = 0
    skipped: str | None = None

    SOURCES: ClassVar[dict[str, str]] = {
        "kind": "measured: the loss gives the same numbers as the named one on this model's outputs",
        "loss_train": "measured: before any step, dropout on",
        "loss_eval": "measured: before any step",
        "zero_loss": "measured: the loss function on zeros of the output's shape",
        "label_entropy": "derived: from the targets of all batches",
        "expected": "derived: the zero loss",
        "ratio": "derived: loss_eval / expected",
        "output_mean": "measured: over all batches, evaluation mode",
        "output_deviation": "measured: over all batches, evaluation mode",
        "output_max": "measured: over all batches, evaluation mode",
        "batches": "measured: counted",
    }


def measure_start(subject: Subject, *, seed: int = 0) -> Start:
    """Losses at step 0, the losses to hold them against, and the spread of the outputs."""
    batches = subject.batches
    try:
        with subject.scratch(train=True, seed=seed) as model:
            loss_train = mean_loss(subject, model, subject.training_batches)
    except Exception:
        loss_train = math.inf
    try:
        with subject.scratch(train=False, seed=seed) as model, torch.no_grad():
            loss_eval = mean_loss(subject, model, batches)
            outputs = [subject.call(model, batch) for batch in batches]
    except Exception as error:
        return Start(skipped=reason_of(error))
    values = [leaf.double().reshape(-1) for leaf in tensors(outputs) if leaf.is_floating_point()]
    together = torch.cat(values) if values else torch.zeros(0)
    kind = loss_kind(subject, outputs[0])
    zero = _zero_loss(subject, outputs)
    targets = [batch.target for batch in batches]
    return Start(
        kind,
        _finite(loss_train),
        _finite(loss_eval),
        zero,
        constant_loss(kind, targets),
        zero,
        loss_eval / zero if zero and zero > 0 and math.isfinite(loss_eval) else None,
        _finite(float(together.mean())) if len(together) else None,
        _finite(float(together.std(correction=0))) if len(together) else None,
        _finite(float(together.abs().max())) if len(together) else None,
        len(batches),
    )


def loss_kind(subject: Subject, output: Outputs) -> str | None:
    """Which common loss the subject's is, told by its numbers on an output of the first batch and on its half."""
    target = subject.batches[0].target
    if not isinstance(output, Tensor) or not isinstance(target, Tensor) or not subject.loss.takes_target:
        return None
    for name, reference in KINDS.items():
        if name == "bce" and not bool(((target == 0) | (target == 1)).all()):
            continue
        try:
            pairs = [
                (float(subject.loss(part, target)), float(reference(part, target))) for part in (output, output / 2 + 1)
            ]
        except (RuntimeError, ValueError, TypeError, IndexError):
            continue
        if all(abs(own - named) <= 1e-5 * max(1.0, abs(named)) for own, named in pairs):
            return name
    return None


def constant_loss(kind: str | None, targets: list[Any]) -> float | None:
    """What the best constant output loses: the labels' entropy in nats, or the targets' variance; None if unknown."""
    if kind is None:
        return None
    together = torch.cat([target.detach().double().reshape(-1).cpu() for target in targets])
    if kind == "mse":
        return float(together.var(correction=0))
    if kind == "ce" and targets[0].is_floating_point():
        return None  # shares of classes, not their numbers
    if kind == "ce":
        together = together[together >= 0]  # -100 is a position without a label
    shares = together.unique(return_counts=True)[1].double() / len(together)
    return float(-(shares * shares.log()).sum())


@torch.no_grad()
def _zero_loss(subject: Subject, outputs: list[Any]) -> float | None:
    if not subject.loss.takes_target:
        return None
    try:
        found = []
        for output, batch in zip(outputs, subject.batches, strict=True):
            zeros = tree_map(lambda leaf: torch.zeros_like(leaf) if isinstance(leaf, Tensor) else leaf, output)
            found.append(float(subject.loss(zeros, batch.target)))
    except Exception:
        return None
    return _finite(sum(found) / len(found))


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
