"""What happens in a forward pass and its loss: calls of modules, operations that cut the graph, dead and full units."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import Node
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from deepfm.analysis.batch import tensors
from deepfm.analysis.measures.code_lines import code_line
from deepfm.analysis.measures.units import Units

SYNCS = ("item", "tolist", "numpy", "__bool__", "__float__", "__int__", "__index__")
STEPS = ("round", "floor", "ceil", "trunc", "fix", "sign", "sgn", "heaviside", "floor_divide", "__floordiv__")
LOSSES = ("binary_cross_entropy_with_logits", "cross_entropy", "binary_cross_entropy", "nll_loss", "mse_loss")
RESHAPES = (
    "View",
    "Squeeze",
    "Unsqueeze",
    "Reshape",
    "Transpose",
    "Permute",
    "T",
    "Select",
    "ToCopy",
    "Clone",
    "Alias",
)
MOST_EVENTS = 60


@dataclass(frozen=True)
class Event:
    """Something that a line of code did.

    Args:
        kind: `cut` (a tensor with a gradient went in and none came out), `step` (a function whose derivative is 0),
            `sync` (a value went to Python), `float64`, or `broadcast` (in the loss).
        what: the function.
        place: `file:line`.
        module: in which it happened; "" for the model itself, `loss` for the loss.
        upstream: the parameters that reach what went in.
    """

    kind: str
    what: str
    place: str
    module: str
    upstream: frozenset[str] = frozenset()


@dataclass(frozen=True)
class LossCall:
    """A loss function, and what made its first argument: `Sigmoid`, `Softmax`, `LogSoftmax` or something else."""

    function: str
    producer: str
    module: str


@dataclass
class ModuleCall:
    """One call of a module: shapes in and out, and how its output and the gradient there looked."""

    name: str
    type: str
    inputs: tuple[tuple[int, ...], ...]
    outputs: tuple[tuple[int, ...], ...]
    leaf: bool
    has_parameters: bool
    rms: float | None = None
    gradient: float | None = None  # norm of the loss's gradient at the output


class Tracer:
    """Watches a model while it runs; `calls` are of the last run, all else is gathered over runs.

    Example:
        >>> tracer = Tracer(nn.Sequential(nn.Linear(2, 3), nn.ReLU()))
        >>> with tracer:
        ...     _ = tracer.model(torch.ones(1, 2))
        >>> [call.name for call in tracer.calls]
        ['0', '1', '']
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.calls: list[ModuleCall] = []
        self.events: dict[tuple[str, str], Event] = {}
        self.loss_calls: list[LossCall] = []
        self.units: dict[tuple[str, str, int], Units] = {}
        self.phase = ""
        self.double = any(part.dtype == torch.float64 for part in model.parameters())
        self._stack: list[str] = []
        self._counts: dict[tuple[str, str], int] = {}
        self._names = {id(part): name for name, part in model.named_parameters(remove_duplicate=True)}
        self._makers: dict[int, tuple[Any, str]] = {}
        self._modes: list[Any] = []
        self._handles: list[Any] = []

    def __enter__(self) -> "Tracer":
        self.calls.clear()
        self.loss_calls.clear()
        self._counts.clear()
        self._stack, self.phase = [], ""
        for name, module in self.model.named_modules():
            self._handles.append(module.register_forward_pre_hook(self._entering(name)))
            self._handles.append(module.register_forward_hook(self._leaving(name, module), with_kwargs=True))
        self._modes = [_Functions(self), _Operations(self)]
        for mode in self._modes:
            mode.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        for mode in reversed(self._modes):
            mode.__exit__(*error)
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    @property
    def module(self) -> str:
        """Where the run is."""
        return self.phase or (self._stack[-1] if self._stack else "")

    def note(
        self, kind: str, what: str, inputs: Iterable[Tensor] = (), upstream: bool = False, place: str | None = None
    ) -> None:
        """Keep an event of the line that is being run, the first of each place."""
        place = place or code_line(__file__)
        if place is None or (kind, place) in self.events or len(self.events) >= MOST_EVENTS:
            return
        reached = frozenset[str]()
        if upstream:
            reached = frozenset(self._names.get(id(leaf), "") for part in inputs for leaf in leaves(part)) - {""}
            if not reached:
                return
        self.events[kind, place] = Event(kind, what, place, self.module, reached)

    def maker(self, tensor: Tensor) -> tuple[str, str]:
        """Which operation made a tensor, reshaping apart, and in which module."""
        node = tensor.grad_fn
        while node is not None:
            name = node.name().removesuffix("Backward0").removesuffix("Backward1")
            if not name.startswith(RESHAPES) or not node.next_functions:
                kept = self._makers.get(id(node))
                return name, "" if kept is None else kept[1]
            kept = self._makers.get(id(node))
            node = node.next_functions[0][0]
        return "", ""

    def watch(self, kind: str, output: Tensor, given: Tensor, dim: int = -1) -> None:
        """Gather what an activation gave."""
        where = self.module
        at = self._counts[where, kind] = self._counts.get((where, kind), -1) + 1
        self.units.setdefault((where, kind, at), Units(kind, {})).add(output, given, dim)

    def _entering(self, name: str) -> Any:
        def hook(*_: Any) -> None:
            self._stack.append(name)

        return hook

    def _leaving(self, name: str, module: nn.Module) -> Any:
        leaf, own = not any(True for _ in module.children()), any(True for _ in module.parameters(recurse=False))

        def hook(_: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
            if self._stack:
                self._stack.pop()
            found = tensors(output)
            shapes = tuple(tuple(part.shape) for part in found)
            given = tuple(tuple(part.shape) for part in tensors(args, kwargs))
            call = ModuleCall(name, type(module).__name__, given, shapes, leaf, own)
            self.calls.append(call)
            first = next((part for part in found if part.is_floating_point()), None)
            if first is None:
                return
            call.rms = float(first.detach().float().square().mean().sqrt()) if first.numel() else None
            if first.requires_grad:
                if first.grad_fn is not None:
                    self._makers.setdefault(id(first.grad_fn), (first.grad_fn, name))
                first.register_hook(_norm_into(call))

        return hook


class _Functions(TorchFunctionMode):
    """Sees calls as a person writes them, with gradients still attached."""

    def __init__(self, tracer: Tracer) -> None:
        super().__init__()
        self.tracer = tracer

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        tracer, name = self.tracer, getattr(func, "__name__", "")
        if name in SYNCS:
            tracer.note("sync", name)
            return result
        given = tensors(args, kwargs)
        made = tensors(result)
        if not made or not given:
            return result
        wanted = [part for part in given if part.requires_grad]
        if wanted and torch.is_grad_enabled() and not any(part.requires_grad for part in made):
            what = f".{func.__self__.__name__}" if name == "__get__" else name  # a property, such as .data
            tracer.note("cut", what, wanted, upstream=True)
        elif wanted and name in STEPS:
            tracer.note("step", name, wanted, upstream=True)
        if not tracer.double and made[0].dtype == torch.float64 and any(part.dtype != torch.float64 for part in given):
            tracer.note("float64", name)
        if name in LOSSES and isinstance(args[0] if args else None, Tensor):
            tracer.loss_calls.append(LossCall(name, *tracer.maker(args[0])))
        if tracer.phase == "loss" and len(given) > 1 and _broadcasts(given[0], given[1]):
            tracer.note("broadcast", f"{name} of {tuple(given[0].shape)} and {tuple(given[1].shape)}", place="loss")
        return result


class _Operations(TorchDispatchMode):
    """Sees what is computed, also inside PyTorch's own layers."""

    WATCHED = {  # noqa: RUF012  a constant
        **{"relu": "relu", "relu_": "relu", "sigmoid": "sigmoid", "sigmoid_": "sigmoid"},
        **{"tanh": "tanh", "tanh_": "tanh", "_softmax": "softmax"},
    }

    def __init__(self, tracer: Tracer) -> None:
        super().__init__()
        self.tracer = tracer

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """No: to skip it, PyTorch would import its whole compiler first, for seconds."""
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        kind = self.WATCHED.get(func.overloadpacket.__name__)
        if kind is not None and self.tracer.phase != "loss" and isinstance(result, Tensor) and not result.is_meta:
            self.tracer.watch(kind, result, args[0], args[1] if kind == "softmax" else -1)
        return result


def leaves(tensor: Tensor) -> list[Tensor]:
    """The leaf tensors that a gradient of this one would reach."""
    if tensor.is_leaf:
        return [tensor] if tensor.requires_grad else []
    found, seen, waiting = [], set[Node](), [tensor.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            found.append(node.variable)
        waiting.extend(before for before, _ in node.next_functions)
    return found


def _norm_into(call: ModuleCall) -> Any:
    def hook(gradient: Tensor) -> None:
        norm = float(gradient.detach().float().norm())
        call.gradient = norm if call.gradient is None else (call.gradient**2 + norm**2) ** 0.5

    return hook


def _broadcasts(one: Tensor, other: Tensor) -> bool:
    """Whether outputs `(B, 1)` meet targets `(B,)`, which PyTorch makes `(B, B)` of.

    Outputs that meet themselves are compared on purpose, as pairwise losses do, and so are targets.
    """
    if one.requires_grad == other.requires_grad:
        return False
    small, large = sorted((one, other), key=lambda part: part.ndim)
    return small.ndim == 1 and large.ndim == 2 and len(small) > 1 and tuple(large.shape) == (len(small), 1)
