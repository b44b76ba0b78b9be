"""Floating-point operations of a forward pass and of a training step, by module and by operation.

As `torch.utils.flop_counter` counts: a multiplication and an addition are two, and only products of matrices,
convolutions and attention count, which are nearly all of it. Attention is taken apart into its products, as the
fused kernels of evaluation have no formula; recurrent networks likewise.
"""

import re
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from deepfm.analysis.batch import Batch, rows_of
from deepfm.analysis.measures.formulas import FORMULAS
from deepfm.analysis.measures.meta import meta_batch, meta_copy
from deepfm.analysis.measures.places import Places
from deepfm.analysis.reasons import reason_of
from deepfm.analysis.subject import Subject
from deepfm.errors import AnalysisError

HEAVY = re.compile(
    r"mm$|mv$|matmul|linear|conv|rnn|lstm|gru|attention|encoder_layer|multi_head|trilinear|cdist|fft|solve|svd|linalg_eig|qr$"
    r"|cholesky|inv_ex|_lu|grid_sampler|(^|_)v?dot$|kron|householder"
)
LIGHT = re.compile(
    r"linear1d|bilinear2d|trilinear3d|smooth|convert|fft_.*freq|_rnn_cell_backward|fused_(lstm|gru)_cell"
)


@dataclass(frozen=True)
class ModuleFlops:
    """FLOPs within a module and its children, over all its calls; `forward` in a training step's forward pass."""

    forward: int
    step: int


@dataclass(frozen=True)
class OperationFlops:
    """What one kind of operation takes in a training step, and its share."""

    name: str
    calls: int
    flops: int
    share: float


@dataclass(frozen=True)
class Flops:
    """FLOPs of one batch.

    Attributes:
        rows: of the batch.
        forward: in evaluation mode, without gradients.
        forward_training: in training mode, without the loss; differs only where the model itself does.
        step: forward, loss and backward in training mode; None, with `skipped`, where that fails.
        backend: `meta` (no values, any batch size), `real`, or `extrapolated` from two smaller batches.
        modules: by name, "" is the whole model.
        operations: of the step (of the forward pass where there is no step), the largest first.
        uncounted: operations that multiply matrices but have no formula, with their calls.
        uncounted_share: their share of the calls of all such operations.
    """

    SOURCES: ClassVar[dict[str, str]] = {
        "forward": "derived: formulas of torch.utils.flop_counter on the shapes of every product of matrices and every "
        "convolution that was run; element-wise work and sums are not counted",
        "forward_training": "derived: as forward",
        "step": "derived: as forward, over forward, loss and backward",
        "modules": "derived: as step, by the module that was at work",
        "operations": "derived: as step, by operation",
        "uncounted": "measured: operations seen that have no formula",
        "uncounted_share": "measured: calls without a formula over calls of all heavy operations",
    }
    rows: int
    forward: int
    forward_training: int
    step: int | None
    backend: str
    modules: dict[str, ModuleFlops]
    operations: tuple[OperationFlops, ...]
    uncounted: dict[str, int]
    uncounted_share: float
    skipped: str | None = None

    @property
    def lower_bound(self) -> bool:
        """Whether some operation was left out."""
        return bool(self.uncounted)

    @property
    def forward_per_row(self) -> float:
        """FLOPs of one row's forward pass."""
        return self.forward / self.rows

    @property
    def step_per_row(self) -> float | None:
        """FLOPs of one row's share of a step."""
        return None if self.step is None else self.step / self.rows


def measure_flops(subject: Subject, rows: int | None = None) -> Flops:
    """Count the FLOPs of one batch.

    Args:
        rows: as if the batch had so many; None for those it has. Takes no memory where the model runs on the meta
            device; elsewhere more than twice the batch's rows are extrapolated from one and two batches.

    Raises:
        AnalysisError: rows is not positive, or the model cannot be run at all.
    """
    if rows is not None and rows < 1:
        raise AnalysisError(f"rows is {rows}; expected 1 or more")
    batch = subject.training_batches[0]
    own = rows_of(batch, subject.batch_dim)
    have = own if rows is None else rows
    try:
        model = meta_copy(subject.model)
        passes = _passes(subject, model, subject.sized(meta_batch(batch), have))
        if passes.failed is None:
            return passes.result(have, "meta")
    except Exception:
        pass  # whatever needs values, or is not implemented for the meta device, runs for real
    if have <= 2 * own:
        return _real(subject, batch, have)
    return _extrapolated(_real(subject, batch, own), _real(subject, batch, 2 * own), have)


@contextmanager
def counted_apart() -> Iterator[None]:
    """Attention by its products and recurrence by its steps, while inside; all settings are put back."""
    with without_fast_path(), sdpa_kernel(SDPBackend.MATH):
        yield


@contextmanager
def without_fast_path() -> Iterator[None]:
    """PyTorch's Transformers by their parts, not by the one kernel of evaluation."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


@contextmanager
def _steps_of_recurrence() -> Iterator[None]:
    """Recurrent networks by their steps' products: neither library's kernel for a whole one has a formula."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of TF32, which stays as it is
        with torch.backends.mkldnn.flags(enabled=False), torch.backends.cudnn.flags(enabled=False):
            yield


class FlopCounter(FlopCounterMode):
    """Torch's counter with more formulas, its own attribution to modules, and a note of what has no formula."""

    def __init__(self, places: Places) -> None:
        super().__init__(display=False, custom_mapping=FORMULAS)
        self.mod_tracker: Any = nullcontext()
        self.places = places
        self.modules: dict[str, int] = defaultdict(int)
        self.operations: Counter[str] = Counter()
        self.calls: Counter[str] = Counter()
        self.uncounted: Counter[str] = Counter()

    @property
    def total(self) -> int:
        """All FLOPs so far."""
        return sum(self.operations.values())

    def _count_flops(self, func_packet: Any, out: Any, args: Any, kwargs: Any) -> Any:
        name = getattr(func_packet, "__name__", str(func_packet))
        if func_packet in self.flop_registry:
            flops = int(self.flop_registry[func_packet](*args, **kwargs, out_val=out))
            self.operations[name] += flops
            self.calls[name] += 1
            for place in set(self.places.current):
                self.modules[place] += flops
        elif HEAVY.search(name) and not LIGHT.search(name):
            self.uncounted[name] += 1
        return out


@dataclass
class _Passes:
    evaluation: FlopCounter
    forward: FlopCounter
    rest: FlopCounter
    failed: str | None

    def result(self, rows: int, backend: str) -> Flops:
        forward, rest = self.forward, self.rest
        operations, calls = forward.operations + rest.operations, forward.calls + rest.calls
        total = sum(operations.values())
        uncounted = forward.uncounted + rest.uncounted
        heavy = sum(calls.values()) + sum(uncounted.values())
        names = sorted({*forward.modules, *rest.modules})
        return Flops(
            rows=rows,
            forward=self.evaluation.total,
            forward_training=forward.total,
            step=None if self.failed else total,
            backend=backend,
            modules={name: ModuleFlops(forward.modules[name], forward.modules[name] + rest.modules[name])
                     for name in names},
            operations=tuple(
                OperationFlops(name, calls[name], flops, flops / total if total else 0.0)
                for name, flops in sorted(operations.items(), key=lambda item: -item[1])
            ),
            uncounted=dict(uncounted),
            uncounted_share=sum(uncounted.values()) / heavy if heavy else 0.0,
            skipped=self.failed,
        )  # fmt: skip


def _passes(subject: Subject, model: nn.Module, batch: Batch) -> _Passes:
    """Run in evaluation and in training mode; the model is a copy to do anything with."""
    with ExitStack() as stack:
        stack.enter_context(counted_apart())
        if any(isinstance(module, nn.RNNBase) for module in model.modules()):
            stack.enter_context(_steps_of_recurrence())
        places = stack.enter_context(Places(model))
        model.eval()
        with torch.no_grad(), FlopCounter(places) as evaluation:
            subject.call(model, batch)
        model.train()
        forward, rest, failed = FlopCounter(places), FlopCounter(places), None
        try:
            with forward:
                output = subject.call(model, batch)
            with rest:
                loss = subject.loss(output, batch.target)
                if loss.requires_grad:
                    loss.backward()
                else:
                    failed = "the loss has no gradient"
        except Exception as error:
            failed = f"the training step fails: {reason_of(error)}"
        return _Passes(evaluation, forward, rest, failed)


def _real(subject: Subject, batch: Batch, rows: int) -> Flops:
    with subject.scratch() as model:
        try:
            passes = _passes(subject, model, subject.sized(batch, rows))
        except Exception as error:
            reason = reason_of(error)
            raise AnalysisError(f"the model fails on {rows} rows, so that no FLOPs can be counted: {reason}") from error
    return passes.result(rows, "real")


def _extrapolated(one: Flops, two: Flops, rows: int) -> Flops:
    def at(low: int, high: int) -> int:
        return round(low + (high - low) * (rows - one.rows) / (two.rows - one.rows))

    later = {operation.name: operation for operation in two.operations}
    operations = [(old.name, old.calls, at(old.flops, later[old.name].flops)) for old in one.operations
                  if old.name in later]  # fmt: skip
    total = sum(flops for _, _, flops in operations)
    return Flops(
        rows=rows,
        forward=at(one.forward, two.forward),
        forward_training=at(one.forward_training, two.forward_training),
        step=None if one.step is None or two.step is None else at(one.step, two.step),
        backend="extrapolated",
        modules={
            name: ModuleFlops(at(old.forward, two.modules[name].forward), at(old.step, two.modules[name].step))
            for name, old in one.modules.items()
            if name in two.modules
        },
        operations=tuple(
            OperationFlops(name, calls, flops, flops / total if total else 0.0) for name, calls, flops in operations
        ),
        uncounted=two.uncounted,
        uncounted_share=two.uncounted_share,
        skipped=one.skipped or two.skipped,
    )
