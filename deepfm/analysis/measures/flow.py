"""How the loss's gradient flows back: which parameters it reaches, how large it is there, and what cuts it."""

from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.autograd.graph import Node

from deepfm.analysis.batch import tensors
from deepfm.analysis.measures.tracing import Event, LossCall, ModuleCall, Tracer, leaves
from deepfm.analysis.reasons import reason_of
from deepfm.analysis.subject import Subject
from deepfm.errors import AnalysisError

ENOUGH_BATCHES = 3  # where everything has spoken by then
SILENT = 0.5  # share of dead or saturated units from which on further batches are looked at
MOST_NODES = 200_000


@dataclass(frozen=True)
class LayerFlow:
    """A module with parameters of its own, in the order of execution.

    Args:
        gradient, weight: norms over its parameters, the gradient's a mean over batches.
        zero_share: of its gradient's numbers that were exactly 0 in every batch.
        output_rms: root mean square of what it gave.
        output_gradient: norm of the loss's gradient there; None where none came.
    """

    name: str
    type: str
    gradient: float
    weight: float
    zero_share: float
    output_rms: float | None
    output_gradient: float | None


@dataclass(frozen=True)
class UnitShare:
    """An activation: the share of dead units (of a ReLU) or of saturated outputs, over the batches."""

    place: str
    kind: str
    share: float


@dataclass(frozen=True)
class Flow:
    """All of it.

    Args:
        batches: how many were looked at: the first three, or all where something has not spoken in them.
        loss: the mean over them, in training mode.
        order: modules in the order of execution, those without children or with parameters of their own.
        layers: those with parameters.
        unreached: trainable parameters that no batch's loss reaches.
        trainable: how many parameters are to be trained.
        frozen: parameters without a gradient on purpose.
        zero: parameters that are reached and whose gradient was exactly 0 in every batch.
        not_finite: parameters whose gradient was not finite.
        unregistered: tensors that are trained by nobody: the loss reaches them and `parameters()` does not list them.
        written: parameters that a forward pass changed.
        events, units, loss_calls: see `deepfm.analysis.measures.tracing`.
        global_norm: of the whole gradient, by batch.
        first: the first module in the order of execution that has parameters.
        shortest, longest: operations between the loss and that module's parameters; a skip path makes them differ.
        output_finite: whether all outputs were.
    """

    SOURCES: ClassVar[dict[str, str]] = {
        "layers": "measured: one backward pass a batch in training mode",
        "units": "measured: outputs of activations over the batches",
        "unreached": "measured: no batch's loss gave them a gradient",
        "shortest": "measured: the graph of one batch",
    }
    batches: int
    loss: float
    order: tuple[str, ...]
    layers: tuple[LayerFlow, ...]
    unreached: tuple[str, ...]
    trainable: int
    frozen: tuple[str, ...]
    zero: tuple[str, ...]
    not_finite: tuple[str, ...]
    unregistered: tuple[str, ...]
    written: tuple[str, ...]
    events: tuple[Event, ...]
    units: tuple[UnitShare, ...]
    loss_calls: tuple[LossCall, ...]
    calls: tuple[ModuleCall, ...] = field(repr=False)
    global_norm: tuple[float, ...]
    first: str | None
    shortest: int | None
    longest: int | None
    output_finite: bool
    output_deviation: float | None


def measure_flow(subject: Subject) -> Flow:
    """Run forward and backward on a copy in training mode, batch by batch.

    Raises:
        AnalysisError: the model fails in training mode, or in its backward pass.
    """
    batches = subject.training_batches
    with subject.scratch(train=True) as model:
        tracer = Tracer(model)
        sums: dict[str, float] = {}
        zeros: dict[str, Tensor] = {}
        broken: set[str] = set()
        losses, norms = [], []
        finite, deviations = True, []
        written: set[str] = set()
        calls: list[ModuleCall] = []
        unregistered: set[str] = set()
        paths: tuple[int | None, int | None] = (None, None)
        first: str | None = None
        trainable = {name: part for name, part in model.named_parameters() if part.requires_grad}
        for number, batch in enumerate(batches):
            if number >= ENOUGH_BATCHES and _all_spoke(trainable, zeros, tracer):
                break
            before = {name: part.detach().clone() for name, part in model.named_parameters()}
            model.zero_grad(set_to_none=True)
            with tracer:
                try:
                    output = subject.call(model, batch)
                    tracer.phase = "loss"
                    loss = subject.loss(output, batch.target)
                except Exception as error:  # whatever a foreign forward raises
                    raise AnalysisError(f"{subject.name} fails in training mode: {reason_of(error)}") from error
            written |= {name for name, part in model.named_parameters() if not torch.equal(part, before[name])}
            outputs = _floats(output)
            finite = finite and all(bool(torch.isfinite(part).all()) for part in outputs)
            if outputs and outputs[0].ndim > subject.batch_dim and outputs[0].shape[subject.batch_dim] > 1:
                deviations.append(float(outputs[0].detach().float().std(dim=subject.batch_dim).mean()))
            losses.append(float(loss.detach()))
            if loss.requires_grad:
                if not number:
                    unregistered = _unregistered(model, loss)
                    first = next((call.name for call in tracer.calls if call.has_parameters), None)
                    paths = _paths(model if first is None else model.get_submodule(first), loss)
                try:
                    loss.backward()
                except Exception as error:  # whatever a foreign backward raises
                    raise AnalysisError(f"{subject.name} fails in its backward pass: {reason_of(error)}") from error
            norms.append(_gather(model, sums, zeros, broken))
            calls = list(tracer.calls)
        reached = {name for name in trainable if name in zeros}
        layers = _layers(model, calls, sums, zeros, len(losses))
        return Flow(
            batches=len(losses),
            loss=sum(losses) / len(losses),
            order=tuple(dict.fromkeys(call.name for call in calls if call.leaf or call.has_parameters)),
            layers=layers,
            unreached=tuple(name for name in trainable if name not in reached),
            trainable=len(trainable),
            frozen=tuple(name for name, part in model.named_parameters() if not part.requires_grad),
            zero=tuple(
                name for name in trainable if name in reached and bool(zeros[name].all()) and name not in broken
            ),
            not_finite=tuple(name for name in trainable if name in broken),
            unregistered=tuple(sorted(unregistered)),
            written=tuple(sorted(written)),
            events=tuple(tracer.events.values()),
            units=tuple(_shares(tracer)),
            loss_calls=tuple(dict.fromkeys(tracer.loss_calls)),
            calls=tuple(calls),
            global_norm=tuple(norms),
            first=first,
            shortest=paths[0],
            longest=paths[1],
            output_finite=finite,
            output_deviation=max(deviations, default=None),
        )


def _all_spoke(trainable: dict[str, nn.Parameter], zeros: dict[str, Tensor], tracer: Tracer) -> bool:
    """Whether every parameter had a gradient and no activation is mostly dead, so that more batches tell nothing."""
    reached = all(name in zeros and not bool(zeros[name].all()) for name in trainable)
    return reached and all(units.share <= SILENT for units in tracer.units.values())


def _gather(model: nn.Module, sums: dict[str, float], zeros: dict[str, Tensor], broken: set[str]) -> float:
    total = 0.0
    for name, part in model.named_parameters():
        if part.grad is None:
            continue
        gradient = part.grad.coalesce().values() if part.grad.is_sparse else part.grad
        if not bool(torch.isfinite(gradient).all()):
            broken.add(name)
        norm = float(gradient.float().norm())
        total += norm**2
        sums[name] = sums.get(name, 0.0) + norm
        zero = part.grad.to_dense() == 0 if part.grad.is_sparse else part.grad == 0
        zeros[name] = zero if name not in zeros else zeros[name] & zero
    return total**0.5


def _layers(
    model: nn.Module, calls: list[ModuleCall], sums: dict[str, float], zeros: dict[str, Tensor], batches: int
) -> tuple[LayerFlow, ...]:
    names = {id(part): name for name, part in model.named_parameters()}
    first: dict[str, ModuleCall] = {}
    for call in calls:
        first.setdefault(call.name, call)
    found = []
    for name, call in first.items():
        own = dict(model.get_submodule(name).named_parameters(recurse=False)) if call.has_parameters else {}
        mine = [names[id(part)] for part in own.values() if id(part) in names]
        if not mine:
            continue
        seen = [zeros[each] for each in mine if each in zeros]
        held = sum(zero.numel() for zero in seen)
        found.append(
            LayerFlow(
                name,
                call.type,
                sum((sums.get(each, 0.0) / batches) ** 2 for each in mine) ** 0.5,
                sum(float(part.detach().float().norm()) ** 2 for part in own.values()) ** 0.5,
                sum(float(zero.sum()) for zero in seen) / held if held else 1.0,
                call.rms,
                call.gradient,
            )
        )
    return tuple(found)


def _shares(tracer: Tracer) -> list[UnitShare]:
    worst: dict[tuple[str, str], float] = {}
    for (place, kind, _), units in tracer.units.items():
        worst[place, kind] = max(worst.get((place, kind), 0.0), units.share)
    return [UnitShare(place, kind, share) for (place, kind), share in worst.items()]


def _unregistered(model: nn.Module, loss: Tensor) -> set[str]:
    """Where leaves are kept that the loss reaches and that are no parameters of the model."""
    known = {id(part) for part in model.parameters()}
    strangers = {id(leaf) for leaf in leaves(loss)} - known
    return {place for place in (_keeper(model, stranger) for stranger in strangers) if place is not None}


def _keeper(model: nn.Module, wanted: int) -> str | None:
    for prefix, module in model.named_modules():
        for name, value in vars(module).items():
            if not name.startswith("_") and any(id(part) == wanted for part in _held(value)):
                return f"{prefix}.{name}".lstrip(".")
    return None


def _held(value: Any) -> list[Tensor]:
    if isinstance(value, nn.Module):
        return list(value.parameters())
    if isinstance(value, Tensor):
        return [value]
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return [found for part in parts for found in _held(part)]


def _paths(first: nn.Module, loss: Tensor) -> tuple[int | None, int | None]:
    """The fewest and the most operations between the loss and any parameter that is the module's own."""
    ends = {id(part) for part in first.parameters(recurse=False)}
    if not ends or loss.grad_fn is None:
        return None, None
    order, state = [], dict[Node, bool]()
    waiting: list[tuple[Node, bool]] = [(loss.grad_fn, False)]
    while waiting:
        node, done = waiting.pop()
        if done:
            order.append(node)
            continue
        if node in state:
            continue
        if len(state) > MOST_NODES:
            return None, None
        state[node] = True
        waiting.append((node, True))
        waiting.extend((before, False) for before, _ in node.next_functions if before is not None)
    near, far = {loss.grad_fn: 0}, {loss.grad_fn: 0}
    shortest: int | None = None
    longest: int | None = None
    for node in reversed(order):
        if node not in near:
            continue
        if id(getattr(node, "variable", None)) in ends:
            shortest = near[node] if shortest is None else min(shortest, near[node])
            longest = far[node] if longest is None else max(longest, far[node])
        for before, _ in node.next_functions:
            if before is not None:
                near[before] = min(near.get(before, near[node] + 1), near[node] + 1)
                far[before] = max(far.get(before, 0), far[node] + 1)
    return shortest, longest


def _floats(output: Any) -> list[Tensor]:
    return [part for part in tensors(output) if part.is_floating_point()]
