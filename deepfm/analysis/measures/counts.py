"""How many parameters a model has, of which kinds, and the memory that they, their gradients and an optimizer take."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from deepfm.analysis.batch import tensors
from deepfm.analysis.reasons import reason_of
from deepfm.analysis.subject import Subject

OPTIMIZERS: dict[str, Callable[[list[nn.Parameter]], torch.optim.Optimizer]] = {
    "sgd": lambda parameters: torch.optim.SGD(parameters, lr=1e-6),
    "momentum": lambda parameters: torch.optim.SGD(parameters, lr=1e-6, momentum=0.9),
    "adam": lambda parameters: torch.optim.Adam(parameters, lr=1e-6),
    "adamw": lambda parameters: torch.optim.AdamW(parameters, lr=1e-6),
    "adagrad": lambda parameters: torch.optim.Adagrad(parameters, lr=1e-6),
}


@dataclass(frozen=True)
class ModuleCount:
    """A module's own parameters, without its children's; tied ones stand in their first place.

    Attributes:
        name: "" is the model itself.
        kind: its class.
        parameters: values.
        share: of all parameters.
        dtypes: of its parameters, as "float32".
        trainable: how many of the values are trained.
    """

    name: str
    kind: str
    parameters: int
    share: float
    dtypes: tuple[str, ...]
    trainable: int


@dataclass(frozen=True)
class Counts:
    """Numbers of values, and bytes.

    Attributes:
        tied: names that share one storage, a group each.
        tied_values: values that would be added if nothing were shared.
        fp32_bytes: of the parameters, 4 each.
        parameter_bytes, gradient_bytes: by dtype; a parameter that the loss does not reach has no gradient.
        optimizer_bytes: state after one real step, by optimizer; an optimizer that fails is in `skipped` instead.
        optimizer_skipped: why.
    """

    SOURCES: ClassVar[dict[str, str]] = {
        "total": "measured: distinct parameters",
        "trainable": "measured: those with requires_grad",
        "frozen": "measured: those without",
        "tied": "measured: names whose values share a storage",
        "tied_values": "measured: values of the names beyond the first",
        "buffers": "measured: distinct buffers' values",
        "buffer_bytes": "measured: distinct buffers",
        "fp32_bytes": "derived: 4 bytes times total",
        "parameter_bytes": "measured: bytes of distinct parameters",
        "gradient_bytes": "measured: gradients after one backward pass (of zeros where that fails)",
        "optimizer_bytes": "measured: one real step of torch.optim, tensors of its state",
        "modules": "measured: per module, tied parameters in the first place",
    }
    total: int
    trainable: int
    frozen: int
    tied: tuple[tuple[str, ...], ...]
    tied_values: int
    buffers: int
    buffer_bytes: int
    fp32_bytes: int
    parameter_bytes: dict[str, int]
    gradient_bytes: dict[str, int]
    optimizer_bytes: dict[str, int]
    optimizer_skipped: dict[str, str]
    modules: tuple[ModuleCount, ...]


def measure_counts(subject: Subject) -> Counts:
    """Count parameters and buffers, and take one step with each of torch's usual optimizers."""
    model = subject.model
    groups = _shared(model)
    first = {name: parameter for (name, parameter), *_ in groups}
    values = sum(parameter.numel() for parameter in first.values())
    trained = sum(parameter.numel() for parameter in first.values() if parameter.requires_grad)
    buffers = {buffer.data_ptr() or id(buffer): buffer for buffer in model.buffers()}.values()
    gradients, states, skipped = _step(subject)
    return Counts(
        total=values,
        trainable=trained,
        frozen=values - trained,
        tied=tuple(tuple(name for name, _ in group) for group in groups if len(group) > 1),
        tied_values=sum(parameter.numel() for _, *others in groups for _, parameter in others),
        buffers=sum(buffer.numel() for buffer in buffers),
        buffer_bytes=sum(bytes_of(buffer) for buffer in buffers),
        fp32_bytes=4 * values,
        parameter_bytes=_by_dtype(first.values()),
        gradient_bytes=gradients,
        optimizer_bytes=states,
        optimizer_skipped=skipped,
        modules=tuple(_per_module(model, first, values)),
    )


def bytes_of(tensor: Tensor) -> int:
    """Bytes of a tensor's values; of a sparse one, of its indices too."""
    if tensor.layout == torch.sparse_coo:
        return bytes_of(tensor._indices()) + bytes_of(tensor._values())
    return tensor.numel() * tensor.element_size()


def state_bytes(optimizer: torch.optim.Optimizer) -> int:
    """Bytes of all tensors in an optimizer's state, steps included."""
    return sum(bytes_of(leaf) for state in optimizer.state.values() for leaf in tensors(dict(state)))


def usual_optimizer(model: nn.Module) -> torch.optim.Optimizer | None:
    """Adam over what is trained, or SGD where a table's gradients are sparse; None where nothing is trained."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not parameters:
        return None
    sparse = any(getattr(module, "sparse", False) is True for module in model.modules())
    return OPTIMIZERS["sgd" if sparse else "adam"](parameters)


def _shared(model: nn.Module) -> list[list[tuple[str, nn.Parameter]]]:
    """Parameters by the storage they lie in: the same one under two names, or two that cover the same values."""
    groups: dict[Any, list[tuple[str, nn.Parameter]]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        key = (parameter.data_ptr(), parameter.numel()) if parameter.numel() else id(parameter)
        groups.setdefault(key, []).append((name, parameter))
    return list(groups.values())


def _by_dtype(parts: Any) -> dict[str, int]:
    found: dict[str, int] = {}
    for part in parts:
        name = str(part.dtype).removeprefix("torch.")
        found[name] = found.get(name, 0) + bytes_of(part)
    return found


def _per_module(model: nn.Module, first: dict[str, nn.Parameter], total: int) -> list[ModuleCount]:
    own: dict[str, list[nn.Parameter]] = {}
    for name, parameter in first.items():
        own.setdefault(name.rpartition(".")[0], []).append(parameter)
    return [
        ModuleCount(
            name=name,
            kind=type(module).__name__,
            parameters=sum(parameter.numel() for parameter in own.get(name, [])),
            share=sum(parameter.numel() for parameter in own.get(name, [])) / total if total else 0.0,
            dtypes=tuple(sorted({str(parameter.dtype).removeprefix("torch.") for parameter in own.get(name, [])})),
            trainable=sum(parameter.numel() for parameter in own.get(name, []) if parameter.requires_grad),
        )
        for name, module in model.named_modules()
    ]


def _step(subject: Subject) -> tuple[dict[str, int], dict[str, int], dict[str, str]]:
    """Bytes of gradients by dtype and of the optimizers' states, each after one real step."""
    states: dict[str, int] = {}
    skipped: dict[str, str] = {}
    with subject.scratch() as model:
        parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        try:
            subject.loss_of(model, subject.training_batches[0]).backward()
        except Exception:
            for parameter in parameters:
                parameter.grad = torch.zeros_like(parameter)
        given = [parameter.grad for parameter in parameters if parameter.grad is not None]
        gradients = _by_dtype(given)
        for name, make in OPTIMIZERS.items():
            if not parameters:
                states[name] = 0
                continue
            try:
                optimizer = make(parameters)
                optimizer.step()
                states[name] = state_bytes(optimizer)
            except (RuntimeError, TypeError, ValueError) as error:
                skipped[name] = reason_of(error)
    return gradients, states, skipped
