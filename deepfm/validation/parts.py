"""A look into a network: what its named parts give for a batch, and which of them a gradient reaches."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from deepfm.data.batches import Features
from deepfm.models import BaseCTRModel
from deepfm.training import objectives
from deepfm.validation.report import Part
from deepfm.validation.sources import OwnModule

CONTAINERS = (nn.ModuleDict, nn.ModuleList)  # are never called themselves


@contextmanager
def traced_parts(model: BaseCTRModel, rows: int, parts: list[Part]) -> Iterator[None]:
    """Note what each part gives in a forward pass within, the first time that it is called.

    Args:
        rows: of the batch that will be passed; a first axis of so many stands as B.
        parts: gets the parts in the order of the pass, as far as it comes.
    """
    handles = [part.register_forward_hook(_notes(name, rows, parts)) for name, part in named_parts(model).items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@torch.no_grad()
def sequence_parts(model: BaseCTRModel, features: Features, parts: list[Part]) -> None:
    """Put the tokens of behaviour sequences, which are looked up beside the three views, behind the embedding."""
    if model.reads_behaviour and [part.name for part in parts[:1]] == ["embedding"]:
        rows = len(next(iter(features.values())))
        for name, (tokens, _) in reversed(model.embedding.sequences(features).items()):
            parts.insert(1, Part(f"{name} tokens", shape_text(tokens, rows)))


def named_parts(model: BaseCTRModel) -> dict[str, nn.Module]:
    """The direct children by name; those of a dictionary or a list of modules stand for it."""
    parts: dict[str, nn.Module] = {}
    for name, child in _network(model).named_children():
        inner = child.named_children() if isinstance(child, CONTAINERS) else ()
        parts |= {f"{name}.{key}": part for key, part in inner} or {name: child}
    return parts


def parts_without_gradient(model: BaseCTRModel, features: Features, labels: Tensor) -> list[str] | None:
    """The names of the parts that have weights and none that the loss of a batch depends on.

    Returns:
        None where the loss depends on no weight at all.
    """
    loss = objectives.bce(model(features).squeeze(1).float(), labels)
    if not loss.requires_grad:
        return None
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    gradients = torch.autograd.grad(loss, weights, allow_unused=True)
    reached = {id(weight) for weight, gradient in zip(weights, gradients, strict=True) if gradient is not None}
    known = {id(weight) for weight in weights}
    cut_off = []
    for name, part in named_parts(model).items():
        own = {id(weight) for weight in part.parameters()} & known
        if own and not own & reached:
            cut_off.append(name)
    return cut_off if reached else None


def _network(model: BaseCTRModel) -> nn.Module:
    return model.module if isinstance(model, OwnModule) else model


def _notes(name: str, rows: int, parts: list[Part]) -> Callable[[nn.Module, Any, Any], None]:
    def note(_module: nn.Module, _inputs: Any, output: Any) -> None:
        if all(part.name != name for part in parts):
            parts.append(Part(name, shape_text(output, rows)))

    return note


def shape_text(output: Any, rows: int) -> str:
    """The shape of a tensor, or of each tensor of several, with B for the rows of the batch."""
    if torch.is_tensor(output):
        sizes = ["B" if axis == 0 and size == rows else str(size) for axis, size in enumerate(output.shape)]
        return f"({', '.join(sizes)}{',' * (len(sizes) == 1)})"
    if isinstance(output, dict):
        return ", ".join(f"{key} {shape_text(value, rows)}" for key, value in output.items())
    if isinstance(output, tuple | list):
        return " + ".join(shape_text(value, rows) for value in output)
    return type(output).__name__
