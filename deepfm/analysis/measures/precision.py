"""What bfloat16 and float16 autocast do to outputs and gradients, and which modules want float32."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from deepfm.analysis.batch import tensors
from deepfm.analysis.reasons import reason_of
from deepfm.analysis.subject import Subject

DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16}
SCALES = (1, 1024)
MODULE_ERROR = 0.02  # five times bfloat16's rounding of one number (2^-8)


@dataclass(frozen=True)
class ModuleError:
    """A module whose own output, given float32 inputs, goes wrong under autocast."""

    name: str
    error: float | None
    overflows: bool


@dataclass(frozen=True)
class Precision:
    """Autocast to one type on the model's device.

    Attributes:
        output_error: ‖autocast - float32‖ / ‖float32‖ of the outputs in evaluation mode; None where it overflows.
        loss_difference: relative, in evaluation mode.
        underflow: by loss scale, the share of gradient values that are not 0 in float32 and are 0 under autocast.
        overflow: by loss scale, the share that is not finite under autocast alone.
        needs_fp32: modules without children whose error is above 2 %, the worst first.
        skipped: why there is no figure.
    """

    SOURCES: ClassVar[dict[str, str]] = {
        "output_error": "measured: torch.autocast against float32 on the first batch, evaluation mode",
        "loss_difference": "measured: as output_error",
        "underflow": "measured: gradients of one backward pass of the scaled loss, without dropout",
        "overflow": "measured: as underflow",
        "needs_fp32": "measured: each module alone on the float32 pass's inputs; the threshold is assumed",
    }
    dtype: str
    output_error: float | None
    loss_difference: float | None
    underflow: dict[int, float]
    overflow: dict[int, float]
    needs_fp32: tuple[ModuleError, ...]
    skipped: str | None = None


def measure_precision(subject: Subject) -> tuple[Precision, ...]:
    """Compare autocast with float32, for bfloat16 and for float16."""
    return tuple(_measured(subject, name, dtype) for name, dtype in DTYPES.items())


def relative_error(given: Any, reference: Any) -> float | None:
    """‖given - reference‖ / ‖reference‖ over all floating-point tensors; None where something is not finite."""
    pairs = [(one.double(), other.double()) for one, other in zip(tensors(given), tensors(reference), strict=True)
             if other.is_floating_point()]  # fmt: skip
    apart = sum(((one - other) ** 2).sum().item() for one, other in pairs)
    size = sum((other**2).sum().item() for _, other in pairs)
    error = (apart / size) ** 0.5 if size else float(apart > 0)
    return error if error == error and error != float("inf") else None


def _measured(subject: Subject, name: str, dtype: torch.dtype) -> Precision:
    batch, device = subject.training_batches[0], subject.device.type
    try:
        with subject.scratch(train=False) as model, torch.no_grad():
            errors = _module_errors(subject, model, dtype)
            output = subject.call(model, batch)
            loss = subject.loss(output, batch.target)
            with torch.autocast(device, dtype):
                low = subject.call(model, batch)
                low_loss = subject.loss(low, batch.target)
        plain = _gradients(subject, None, 1)
        underflow, overflow = {}, {}
        for scale in SCALES:
            under, over = _lost(_gradients(subject, dtype, scale), plain)
            underflow[scale], overflow[scale] = under, over
    except Exception as error:
        reason = reason_of(error)
        return Precision(name, None, None, {}, {}, (), reason)
    return Precision(name, relative_error(low, output), relative_error(low_loss, loss), underflow, overflow, errors)


def _gradients(subject: Subject, dtype: torch.dtype | None, scale: int) -> dict[str, Tensor]:
    """Gradients of the loss times a scale, without dropout, so that the two passes do the same."""
    batch = subject.training_batches[0]
    with subject.scratch() as model, _without_dropout(model):
        with torch.autocast(subject.device.type, dtype or torch.bfloat16, enabled=dtype is not None):
            loss = subject.loss_of(model, batch)
        (loss.float() * scale).backward()
        return {
            name: (parameter.grad.to_dense() if parameter.grad.is_sparse else parameter.grad).detach()
            for name, parameter in model.named_parameters()
            if parameter.grad is not None
        }


@contextmanager
def _without_dropout(model: nn.Module) -> Iterator[None]:
    shares = [(module, module.p) for module in model.modules() if isinstance(module, nn.modules.dropout._DropoutNd)]
    try:
        for module, _ in shares:
            module.p = 0.0
        yield
    finally:
        for module, share in shares:
            module.p = share


def _lost(low: dict[str, Tensor], plain: dict[str, Tensor]) -> tuple[float, float]:
    """Shares of the float32 gradient's values other than 0 that are 0, and that are not finite."""
    under = over = whole = 0
    for name, gradient in plain.items():
        given = low.get(name)
        wanted = (gradient != 0) & gradient.isfinite()
        whole += int(wanted.sum())
        if given is not None:
            under += int(((given == 0) & wanted).sum())
            over += int((~given.isfinite() & wanted).sum())
    return (under / whole, over / whole) if whole else (0.0, 0.0)


def _module_errors(subject: Subject, model: nn.Module, dtype: torch.dtype) -> tuple[ModuleError, ...]:
    worst: dict[str, ModuleError] = {}
    handles = []

    def watch(name: str) -> Any:
        def hook(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
            with torch.autocast(subject.device.type, dtype):
                error = relative_error(module.forward(*args, **kwargs), output)
            known = worst.get(name)
            if error is None or known is None or (known.error is not None and error > known.error):
                worst[name] = ModuleError(name, error, error is None)

        return hook

    for name, module in model.named_modules():
        if not any(True for _ in module.children()) and not isinstance(module, torch.jit.ScriptModule):
            handles.append(module.register_forward_hook(watch(name), with_kwargs=True))
    try:
        subject.call(model, subject.batches[0])
    finally:
        for handle in handles:
            handle.remove()
    found = [error for error in worst.values() if error.error is None or error.error > MODULE_ERROR]
    return tuple(sorted(found, key=lambda each: -(each.error if each.error is not None else float("inf"))))
