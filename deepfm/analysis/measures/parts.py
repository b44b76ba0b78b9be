"""Facts that stand in a model's parameters and modules, before anything is run."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from deepfm.analysis.subject import Subject

LEAST_UNITS = 4  # of a weight's rows, below which equal ones may be chance


@dataclass(frozen=True)
class NormFacts:
    """A batch normalisation that is in training mode, and the rows that it sees."""

    place: str
    rows: int


@dataclass(frozen=True)
class Parts:
    """What was found.

    Args:
        identical: weight → the share of its rows that equal another one.
        copies: pairs of weights of an embedding and another module that are equal and not the same tensor.
        frozen_training: normalisations and dropouts in training mode whose part of the model is frozen.
        norms: batch normalisations in training mode.
        missed: trainable parameters that the optimizer does not hold.
        held_frozen: frozen parameters that it holds.
        foreign: how many tensors of the optimizer are none of this model's.
        double: parameters and buffers in float64.
    """

    SOURCES: ClassVar[dict[str, str]] = {"identical": "measured: the weights as they are"}
    identical: dict[str, float]
    copies: tuple[tuple[str, str], ...]
    frozen_training: tuple[str, ...]
    norms: tuple[NormFacts, ...]
    missed: tuple[str, ...]
    held_frozen: tuple[str, ...]
    foreign: int
    double: tuple[str, ...]


def measure_parts(subject: Subject) -> Parts:
    """Look at the model and its optimizer."""
    model = subject.model
    missed, held, foreign = _optimizer(subject)
    return Parts(
        identical=_identical(model),
        copies=_copies(model),
        frozen_training=_frozen_training(model),
        norms=tuple(
            NormFacts(name, subject.rows)
            for name, part in model.named_modules()
            if isinstance(part, nn.BatchNorm1d) and part.training and model.training
        ),
        missed=missed,
        held_frozen=held,
        foreign=foreign,
        double=tuple(
            name for name, part in (*model.named_parameters(), *model.named_buffers()) if part.dtype == torch.float64
        ),
    )


def _identical(model: nn.Module) -> dict[str, float]:
    found = {}
    for name, part in model.named_parameters():
        if part.ndim < 2 or len(part) < LEAST_UNITS or part[0].numel() < 2 or not part.requires_grad:
            continue
        rows = part.detach().reshape(len(part), -1)
        if bool((rows == 1).all()) or (part.ndim == 2 and name.endswith("bias")):  # as normalisations begin with
            continue
        share = 1.0 - len(torch.unique(rows, dim=0)) / len(rows)
        if share:
            found[name] = share
    return found


def _copies(model: nn.Module) -> tuple[tuple[str, str], ...]:
    """An embedding's weight that another module has a copy of: it was meant to be the same tensor."""
    tables = [(name, part.weight) for name, part in model.named_modules() if isinstance(part, nn.Embedding)]
    others = [
        (f"{name}.{own}".lstrip("."), weight)
        for name, part in model.named_modules()
        if not isinstance(part, nn.Embedding)
        for own, weight in part.named_parameters(recurse=False)
    ]
    found = []
    for table, weight in tables:
        for other, twin in others:
            same = weight.shape == twin.shape and weight.data_ptr() != twin.data_ptr()
            if same and float(weight.detach().std()) > 0 and torch.equal(weight.detach(), twin.detach()):
                found.append((f"{table}.weight", other))
    return tuple(found)


def _frozen_training(model: nn.Module) -> tuple[str, ...]:
    if not model.training or not any(part.requires_grad for part in model.parameters()):
        return ()
    found = []
    for name, part in model.named_modules():
        random = isinstance(part, nn.modules.batchnorm._BatchNorm | nn.modules.dropout._DropoutNd)
        if not random or not part.training:
            continue
        parent = model.get_submodule(name.rpartition(".")[0]) if name else model
        around = [*part.parameters()] or [*parent.parameters()]
        if around and not any(weight.requires_grad for weight in around):
            found.append(name)
    return tuple(found)


def _optimizer(subject: Subject) -> tuple[tuple[str, ...], tuple[str, ...], int]:
    if subject.optimizer is None:
        return (), (), 0
    held = {id(part) for group in subject.optimizer.param_groups for part in group["params"]}
    named = dict(subject.model.named_parameters())
    missed = tuple(name for name, part in named.items() if part.requires_grad and id(part) not in held)
    frozen = tuple(name for name, part in named.items() if not part.requires_grad and id(part) in held)
    return missed, frozen, len(held - {id(part) for part in named.values()})
