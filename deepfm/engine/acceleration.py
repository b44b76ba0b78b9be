"""The switches of speed and memory: mixed precision, compilation, activation checkpointing."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from deepfm.utils.logging import get_logger

log = get_logger(__name__)


def autocast(precision: str, device: torch.device) -> AbstractContextManager[Any]:
    """Where forward passes run: `fp32` changes nothing, `bf16` lets torch multiply in bfloat16; weights stay fp32."""
    return torch.autocast(device.type, dtype=torch.bfloat16) if precision == "bf16" else nullcontext()


def compile_model(model: nn.Module, device: torch.device) -> bool:
    """Compile a model in place, for batches of any size.

    Args:
        model: parts whose attribute `sparse_gradients` is true are left as they are.
        device: where it will run.

    Returns:
        False, with a warning, where this machine cannot compile.
    """
    try:
        torch.compile(_probe)(torch.ones(8, device=device))
    except Exception as error:  # whatever the toolchain lacks, training goes on without it
        reason = " ".join(str(error).split())[:160]
        log.warning("training.compile is off: compiling for %s fails here (%s); install a C++ compiler", device, reason)
        return False
    for kind in {type(part) for part in model.modules() if getattr(part, "sparse_gradients", False)}:
        # The compiler cannot make sparse gradients. Kinds, not instances, so that copies of a model stay copies.
        if not getattr(kind.forward, "_torchdynamo_disable", False):
            kind.forward = torch.compiler.disable(kind.forward)
    model.compile(dynamic=True)
    return True


def _probe(x: Tensor) -> Tensor:
    return x.sin() + 1.0


@contextmanager
def accelerated(model: nn.Module, device: torch.device, compiled: bool, recompute: bool) -> Iterator[None]:
    """A model is compiled, or recomputes its activations, for a while.

    Args:
        model: changed in place, and changed back.
        device: where it runs.
        compiled: whether to compile it, where the machine can.
        recompute: whether its `Recomputable` parts recompute.
    """
    parts = [part for part in model.modules() if isinstance(part, Recomputable)]
    before = [part.recompute for part in parts], model._compiled_call_impl
    if recompute:
        checkpoint_activations(model)
    if compiled:
        compile_model(model, device)
    try:
        yield
    finally:
        for part, recomputed in zip(parts, before[0], strict=True):
            part.recompute = recomputed
        model._compiled_call_impl = before[1]


class Recomputable(nn.Module):
    """A part of a model that can form its activations again in the backward pass instead of keeping them.

    Outcomes are the same: random numbers are drawn again alike, and batch normalisation counts a batch once.

    Attributes:
        recompute: whether it does; `checkpoint_activations` sets it.
    """

    recompute = False

    def __call__(self, *args: Any) -> Any:
        """The forward pass and its hooks."""
        if self.recompute and self.training and torch.is_grad_enabled():
            return checkpoint(super().__call__, *args, use_reentrant=False, context_fn=self._contexts)
        return super().__call__(*args)

    def _contexts(self) -> tuple[AbstractContextManager[Any], AbstractContextManager[Any]]:
        return nullcontext(), _statistics_kept(self)


def checkpoint_activations(model: nn.Module) -> int:
    """Make all `Recomputable` parts of a model recompute; gives how many there are."""
    parts = [part for part in model.modules() if isinstance(part, Recomputable)]
    for part in parts:
        part.recompute = True
    return len(parts)


@contextmanager
def _statistics_kept(part: nn.Module) -> Iterator[None]:
    """The second forward pass of a batch leaves running statistics as the first made them."""
    saved = [buffer.clone() for buffer in part.buffers()]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, before in zip(part.buffers(), saved, strict=True):
                buffer.copy_(before)
