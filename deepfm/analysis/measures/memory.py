"""The memory of training: what autograd saves for the backward pass, how it grows with the rows, and the peak."""

import logging
import warnings
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from deepfm.analysis.batch import Batch, rows_of, tensors
from deepfm.analysis.measures.counts import bytes_of, state_bytes, usual_optimizer
from deepfm.analysis.measures.places import Place, Places
from deepfm.analysis.reasons import reason_of
from deepfm.analysis.subject import Subject
from deepfm.engine.memory import free_memory

LINEAR_WITHIN = 0.02  # of the measured bytes, for the fit to be called linear
GIVEN_ROWS = 8  # batches of so many rows are fitted on their own parts, smaller ones on their multiples
FREE_SHARE = 0.5  # of the free memory that a measurement may take


@dataclass(frozen=True)
class Peak:
    """Bytes at the moment of a training step when most are held, by what holds them.

    Attributes:
        temporary: results that are not saved, and gradients of activations; None where they were not tracked.
        device_bytes: the most that the CUDA allocator had given out; None elsewhere.
        source: `MemTracker`, or `hooks` (the sum of the parts, without temporaries).
    """

    parameters: int
    buffers: int
    gradients: int
    optimizer: int
    activations: int
    temporary: int | None
    inputs: int
    total: int
    device_bytes: int | None
    source: str


@dataclass(frozen=True)
class Activations:
    """What autograd holds between the forward and the backward pass of one batch.

    Attributes:
        bytes: of distinct storages, without parameters, buffers and the batch's own.
        storages: how many.
        input_bytes: of inputs and targets that autograd holds too.
        modules: bytes first saved within a module and its children, "" being the model.
        outside: bytes saved outside of the model, by the loss.
    """

    rows: int
    bytes: int
    storages: int
    input_bytes: int
    input_storages: int
    modules: dict[str, int]
    outside: int


@dataclass(frozen=True)
class Memory:
    """Activations of the first batch, their growth, and the peak of a step.

    Attributes:
        fixed, per_row: the line bytes = fixed + per_row · rows through `sizes`; None where those are fewer
            than two.
        sizes: (rows, bytes) measured.
        error: the largest distance from the line, as a share of the bytes.
        linear: whether that is below 2 %.
        peak: with Adam (SGD where gradients are sparse); None, with `skipped`, where the step fails.
    """

    SOURCES: ClassVar[dict[str, str]] = {
        "activations": "measured: distinct storages seen by torch's saved-tensor hooks and alive after the loss",
        "fixed": "derived: least squares over sizes",
        "per_row": "derived: least squares over sizes",
        "sizes": "measured: as activations, for each number of rows",
        "error": "derived: sizes against the line",
        "linear": "derived: error below 2 %",
        "peak": "measured: torch's MemTracker over a whole step (`source` says hooks: sum of measured parts)",
        "peak.device_bytes": "measured: torch.cuda.max_memory_allocated",
    }
    activations: Activations | None
    fixed: float | None
    per_row: float | None
    sizes: tuple[tuple[int, int], ...]
    error: float | None
    linear: bool | None
    peak: Peak | None
    skipped: str | None = None

    def at(self, rows: int) -> float | None:
        """Bytes of activations for so many rows, by the line."""
        return None if self.fixed is None or self.per_row is None else max(0.0, self.fixed + self.per_row * rows)


class _Held:
    """A saved tensor, alive as long as the graph wants it."""

    __slots__ = ("__weakref__", "place", "tensor")

    def __init__(self, tensor: Tensor, place: Place) -> None:
        self.tensor, self.place = tensor, place


def measure_memory(subject: Subject) -> Memory:
    """Run forward and backward at three sizes at least, and a step for the peak."""
    own = subject.training_batches[0]
    rows = rows_of(own, subject.batch_dim)
    try:
        with subject.scratch() as model:
            first = saved_activations(subject, model, own, rows)
    except Exception as error:
        return Memory(None, None, None, (), None, None, None, reason_of(error))
    skipped = None
    sizes = {rows: first.bytes}
    for size in _sizes(rows):
        try:
            if size > rows and first.bytes * size / rows > FREE_SHARE * free_memory(subject.device):
                continue
            with subject.scratch() as model:
                sizes[size] = saved_activations(subject, model, subject.sized(own, size), size).bytes
        except Exception as error:
            skipped = f"with {size} rows: {reason_of(error)}"
    fixed, per_row, distance = fit(sorted(sizes.items()))
    try:
        peak = measure_peak(subject, own, first)
    except Exception as error:
        peak, skipped = None, reason_of(error)
    linear = None if distance is None else distance <= LINEAR_WITHIN
    return Memory(first, fixed, per_row, tuple(sorted(sizes.items())), distance, linear, peak, skipped)


def saved_activations(subject: Subject, model: nn.Module, batch: Batch, rows: int) -> Activations:
    """What the forward pass and the loss leave for the backward pass, which then runs too, as a check.

    Bytes are counted per storage, as a saved view keeps the whole of it; what a function of the model's own keeps
    on its context by other ways than `save_for_backward` is not seen.
    """
    order: list[weakref.ref[_Held]] = []
    excluded = {_key(part) for part in (*model.parameters(), *model.buffers())}
    given = {_key(leaf) for leaf in tensors(batch.args, batch.kwargs, batch.target)}
    with Places(model) as places:

        def pack(tensor: Tensor) -> _Held:
            kept = _Held(tensor.detach(), places.current)  # a result that knew its node would never be freed
            order.append(weakref.ref(kept))
            return kept

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda kept: kept.tensor):
            loss = subject.loss_of(model, batch)
    found: dict[int, tuple[int, Place]] = {}
    for kept in (reference() for reference in order):
        if kept is not None and kept.tensor.numel():
            found.setdefault(_key(kept.tensor), (_size(kept.tensor), kept.place))
    if loss.requires_grad:
        loss.backward()
    mine = {key: entry for key, entry in found.items() if key not in excluded and key not in given}
    inputs = [size for key, (size, _) in found.items() if key in given and key not in excluded]
    modules: dict[str, int] = {}
    for size, place in mine.values():
        for name in set(place):
            modules[name] = modules.get(name, 0) + size
    return Activations(
        rows=rows,
        bytes=sum(size for size, _ in mine.values()),
        storages=len(mine),
        input_bytes=sum(inputs),
        input_storages=len(inputs),
        modules=modules,
        outside=sum(size for size, place in mine.values() if not place),
    )


def fit(sizes: Sequence[tuple[int, int]]) -> tuple[float | None, float | None, float | None]:
    """The line through (rows, bytes): bytes of no row, bytes per row, and the largest distance as a share."""
    if len(sizes) < 2:
        return None, None, None
    count = Fraction(len(sizes))
    mean = sum(rows for rows, _ in sizes) / count
    middle = sum(held for _, held in sizes) / count
    spread = sum(((rows - mean) ** 2 for rows, _ in sizes), Fraction())
    slope = sum(((rows - mean) * (held - middle) for rows, held in sizes), Fraction()) / spread
    start = middle - slope * mean
    distance = max(abs(start + slope * rows - held) / max(held, 1) for rows, held in sizes)
    return float(start), float(slope), float(distance)


def measure_peak(subject: Subject, batch: Batch, activations: Activations) -> Peak:
    """The peak of a step with Adam, by what holds the memory; without torch's tracker, the sum of the parts."""
    with subject.scratch() as model:
        optimizer = usual_optimizer(model)

        def step() -> None:
            subject.loss_of(model, batch).backward()
            if optimizer is not None:
                optimizer.step()
                optimizer.zero_grad()

        step()
        device_bytes = None
        if subject.device.type == "cuda":
            torch.cuda.synchronize(subject.device)
            torch.cuda.reset_peak_memory_stats(subject.device)
            step()
            torch.cuda.synchronize(subject.device)
            device_bytes = int(torch.cuda.max_memory_allocated(subject.device))
        inputs = sum({_key(leaf): _size(leaf) for leaf in tensors(batch.args, batch.kwargs, batch.target)}.values())
        state = 0 if optimizer is None else state_bytes(optimizer)
        tracked = _tracked(model, optimizer, step, subject.device)
        if tracked is not None:
            return Peak(**tracked, inputs=inputs, device_bytes=device_bytes, source="MemTracker")
        held = sum(bytes_of(part) for part in model.parameters())
        buffers = sum(bytes_of(part) for part in model.buffers())
        gradients = sum(bytes_of(part) for part in model.parameters() if part.requires_grad)
    total = held + buffers + gradients + state + activations.bytes + inputs
    return Peak(held, buffers, gradients, state, activations.bytes, None, inputs, total, device_bytes, "hooks")


def _tracked(
    model: nn.Module, optimizer: torch.optim.Optimizer | None, step: Any, device: torch.device
) -> dict[str, int] | None:
    """Torch's own tracker, which is private: whatever goes wrong with it, there is another way."""
    before = logging.root.manager.disable
    try:
        logging.disable(logging.WARNING)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from torch.distributed._tools.mem_tracker import MemTracker  # heavy, and only needed here

            tracker = MemTracker()
            tracker.track_external(*([model] if optimizer is None else [model, optimizer]))
            with tracker:
                step()
            peak = tracker.get_tracker_snapshot("peak")
            found = {getattr(kind, "value", kind): int(size) for kind, size in peak[device].items()}
    except Exception:
        return None
    finally:
        logging.disable(before)
    return {
        "parameters": found["Parameter"],
        "buffers": found["Buffer"],
        "gradients": found["Gradient"],
        "optimizer": found["Optstate"],
        "activations": found["Activation"],
        "temporary": found["Temp"] + found.get("Other", 0),
        "total": found["Total"],
    }


def _sizes(rows: int) -> tuple[int, ...]:
    return (rows // 4, rows // 2) if rows >= GIVEN_ROWS else (2 * rows, 4 * rows)


def _key(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def _size(tensor: Tensor) -> int:
    return tensor.untyped_storage().nbytes()
