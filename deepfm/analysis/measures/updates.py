"""How far a step moves each parameter, and how large gradients are, step by step."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch

from deepfm.analysis.measures.steps import Stepper, batch_order
from deepfm.analysis.reasons import reason_of
from deepfm.analysis.subject import Subject

ORIENTATION = 1e-3  # |Δw|/|w| of a step that is neither slow nor wild; a habit of the field, no law
STEPS = 30


@dataclass(frozen=True)
class ParameterUpdate:
    """One parameter in the first step and in the last.

    Args:
        ratio: |Δw|/|w| of the first step; None for weights of zero or a parameter without a gradient.
        later: the same of the last step.
    """

    name: str
    weight_norm: float
    gradient_norm: float | None
    update_norm: float
    ratio: float | None
    later: float | None


@dataclass(frozen=True)
class Updates:
    """What a few steps of training did.

    Args:
        ratio: |Δw|/|w| of all parameters together in the first step, `ratio_later` in the last.
        norms: the gradients' joint norm before each step, without clipping.
        first_norm, norm_min, norm_median, norm_p90, norm_max: of those.
        spread: norm_max / norm_median.
    """

    optimizer: str
    lr: float
    parameters: tuple[ParameterUpdate, ...] = ()
    ratio: float | None = None
    ratio_later: float | None = None
    norms: tuple[float, ...] = ()
    first_norm: float | None = None
    norm_min: float | None = None
    norm_median: float | None = None
    norm_p90: float | None = None
    norm_max: float | None = None
    spread: float | None = None
    orientation: float = ORIENTATION
    skipped: str | None = None

    SOURCES: ClassVar[dict[str, str]] = {
        "lr": "assumed: given",
        "parameters": "measured: norms around the first and the last of the steps, on a copy",
        "ratio": "measured: the same over all parameters",
        "ratio_later": "measured: the same over all parameters, in the last step",
        "norms": "measured: before each step, over the given batches in turn",
        "first_norm": "measured: the first of norms",
        "norm_min": "derived: of norms",
        "norm_median": "derived: of norms",
        "norm_p90": "derived: of norms",
        "norm_max": "derived: of norms",
        "spread": "derived: norm_max / norm_median",
        "orientation": "assumed: a habit of the field",
    }


def measure_updates(
    subject: Subject, *, lr: float = 1e-3, optimizer: str = "adam", steps: int = STEPS, seed: int = 0
) -> Updates:
    """Some steps of training on a copy, watched at the first and the last.

    Args:
        lr: of every step.
        steps: at least one.
    """
    batches = subject.training_batches
    norms: list[float] = []
    try:
        with subject.scratch(train=True, seed=seed) as model:
            stepper = Stepper(subject, model, optimizer)
            names = [name for name, part in model.named_parameters() if part.requires_grad]
            first: list[_Moved] = []
            later: list[_Moved] = []
            for number, at in enumerate(batch_order(len(batches), steps, seed)):
                watched = number in (0, steps - 1)
                before = [part.detach().clone() for part in stepper.parameters] if watched else []
                _, norm = stepper.step(batches[at], lr)
                if not math.isfinite(norm):
                    raise ArithmeticError(f"the gradients' norm is {norm} in step {number + 1}")
                norms.append(norm)
                if watched:
                    later = list(map(_moved, stepper.parameters, before, stepper.norms))
                    first = first or later
    except Exception as error:
        return Updates(optimizer, lr, norms=tuple(norms), skipped=reason_of(error))
    tenths = statistics.quantiles(norms, n=10, method="inclusive") if len(norms) > 1 else norms * 9
    median = statistics.median(norms)
    return Updates(
        optimizer,
        lr,
        tuple(
            ParameterUpdate(name, one.weight, one.gradient, one.update, one.ratio, other.ratio)
            for name, one, other in zip(names, first, later, strict=True)
        ),
        _together(first),
        _together(later),
        tuple(norms),
        norms[0],
        min(norms),
        median,
        tenths[8],
        max(norms),
        max(norms) / median if median > 0 else None,
    )


@dataclass(frozen=True)
class _Moved:
    weight: float
    update: float
    gradient: float | None

    @property
    def ratio(self) -> float | None:
        return self.update / self.weight if self.weight > 0 and self.gradient is not None else None


def _moved(parameter: torch.nn.Parameter, before: torch.Tensor, gradient: float | None) -> _Moved:
    weight = torch.linalg.vector_norm(before.double())
    return _Moved(float(weight), float(torch.linalg.vector_norm((parameter.detach() - before).double())), gradient)


def _together(moved: Sequence[_Moved]) -> float | None:
    weight = math.hypot(*(one.weight for one in moved))
    return math.hypot(*(one.update for one in moved)) / weight if weight > 0 else None
