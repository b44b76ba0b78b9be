"""Activation checkpointing of a model's repeated parts: what it saves and what it costs, tried on a copy."""

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import nn
from torch.utils.checkpoint import checkpoint

from deepfm.analysis.batch import rows_of
from deepfm.analysis.measures.flops import Flops
from deepfm.analysis.measures.memory import saved_activations
from deepfm.analysis.reasons import reason_of
from deepfm.analysis.subject import Subject


@dataclass(frozen=True)
class Checkpointing:
    """Activations with and without checkpoints around the repeated parts.

    Attributes:
        modules: the parts, those of one class that stand side by side.
        bytes_before, bytes_after: of activations for `rows` rows.
        saved_share: of bytes_before.
        extra_flops: that the second forward pass of the parts takes in each step.
        extra_share: of a step's FLOPs.
        skipped: why nothing was tried.
    """

    SOURCES: ClassVar[dict[str, str]] = {
        "bytes_before": "measured: saved-tensor hooks, training mode",
        "bytes_after": "measured: the same, with torch.utils.checkpoint around each part",
        "saved_share": "derived: from the two",
        "extra_flops": "derived: forward FLOPs of the parts",
        "extra_share": "derived: over the FLOPs of a step",
    }
    modules: tuple[str, ...]
    rows: int
    bytes_before: int | None
    bytes_after: int | None
    saved_share: float | None
    extra_flops: int | None
    extra_share: float | None
    skipped: str | None = None


def measure_checkpointing(subject: Subject, flops: Flops | None = None) -> Checkpointing:
    """Wrap the repeated parts of a copy and count what autograd holds.

    Args:
        flops: of a step, for what the recomputation costs.
    """
    batch = subject.training_batches[0]
    rows = rows_of(batch, subject.batch_dim)
    names = repeated_parts(subject.model)
    if not names:
        return Checkpointing((), rows, None, None, None, None, None, "no part of the model is repeated")
    try:
        with subject.scratch() as model:
            before = saved_activations(subject, model, batch, rows).bytes
        with subject.scratch() as model:
            if model is subject.model:
                return Checkpointing(names, rows, before, None, None, None, None, "the model cannot be copied")
            for name in names:
                _wrap(model.get_submodule(name))
            after = saved_activations(subject, model, batch, rows).bytes
    except Exception as error:
        reason = reason_of(error)
        return Checkpointing(names, rows, None, None, None, None, None, reason)
    extra = share = None
    if flops is not None:
        extra = sum(flops.modules[name].forward for name in names if name in flops.modules) * rows // flops.rows
        share = extra / (flops.step * rows / flops.rows) if flops.step else None
    return Checkpointing(names, rows, before, after, 1 - after / before if before else 0.0, extra, share)


def repeated_parts(model: nn.Module) -> tuple[str, ...]:
    """Children of one class that stand side by side, two or more, with parts of their own; the outermost only."""
    found: list[str] = []

    def look(prefix: str, module: nn.Module) -> None:
        children = list(module.named_children())
        kinds = [type(child) for _, child in children]
        for name, child in children:
            full = f"{prefix}{name}"
            container = isinstance(child, nn.ModuleList | nn.ModuleDict)  # has no forward pass to wrap
            if kinds.count(type(child)) > 1 and not container and any(True for _ in child.children()):
                found.append(full)
            else:
                look(f"{full}.", child)

    look("", model)
    return tuple(found)


def _wrap(module: nn.Module) -> None:
    inner = module.forward

    def forward(*args: Any, **kwargs: Any) -> Any:
        return checkpoint(inner, *args, use_reentrant=False, **kwargs)

    object.__setattr__(module, "forward", forward)
