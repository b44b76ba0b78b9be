"""How the cost grows with the length of a sequence, and which share of it is quadratic, as attention's is."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from deepfm.analysis.batch import Batch, rows_of, tensors
from deepfm.analysis.measures.flops import measure_flops
from deepfm.analysis.measures.memory import saved_activations
from deepfm.analysis.subject import Subject

SHORTEST = 4  # a dimension of fewer places is no sequence
MEMORY_ROWS = 4  # rows enough to weigh activations


@dataclass(frozen=True)
class Growth:
    """One length that inputs share, and cost(L) = constant + linear · L + quadratic · L².

    Attributes:
        length: the longest that was given.
        dimension: of the inputs.
        flops_share, bytes_share: of the quadratic part in a step's FLOPs and in the activations at that length.
        doubled_flops, doubled_bytes: the factor that twice the length would bring.
    """

    length: int
    dimension: int
    flops_share: float
    bytes_share: float | None
    doubled_flops: float
    doubled_bytes: float | None


@dataclass(frozen=True)
class Lengths:
    """The lengths that may be varied; none, and why, where there is none."""

    SOURCES: ClassVar[dict[str, str]] = {
        "flops_share": "derived: the square through FLOPs counted at three lengths",
        "bytes_share": "derived: the square through activations measured at three lengths",
        "doubled_flops": "derived: the square at twice the length",
        "doubled_bytes": "derived: the square at twice the length",
    }
    growths: tuple[Growth, ...]
    skipped: str | None = None


def measure_lengths(subject: Subject) -> Lengths:
    """Shorten every length that inputs have next to their rows, where the model lets it, and fit a square."""
    batch = max(subject.training_batches, key=lambda one: sum(leaf.numel() for leaf in tensors(one.args, one.kwargs)))
    dimension = 1 - subject.batch_dim if subject.batch_dim in (0, 1) else 1
    lengths = {leaf.shape[dimension] for leaf in tensors(batch.args, batch.kwargs)
               if leaf.ndim > max(dimension, subject.batch_dim) and leaf.shape[dimension] >= SHORTEST}  # fmt: skip
    found = [growth for length in sorted(lengths) if (growth := _growth(subject, batch, length, dimension))]
    if found:
        return Lengths(tuple(found))
    return Lengths((), "no input has a length that the model lets vary")


def square(lengths: tuple[int, int, int], costs: tuple[float, float, float]) -> tuple[float, float, float]:
    """Constant, linear and quadratic part of the parabola through three points."""
    (a, b, c), (f, g, h) = lengths, costs
    quadratic = ((h - f) / (c - a) - (g - f) / (b - a)) / (c - b)
    linear = (g - f) / (b - a) - quadratic * (a + b)
    return f - linear * a - quadratic * a * a, linear, quadratic


def _growth(subject: Subject, batch: Batch, length: int, dimension: int) -> Growth | None:
    """None where the model does not run at another length, or costs the same, as with a feature's dimension."""
    lengths = (length, length // 2, max(1, length // 4))
    if len(set(lengths)) < 3:
        return None
    try:
        flops = [_step_flops(subject, _cut(batch, length, each, dimension)) for each in lengths]
    except Exception:
        return None
    constant, linear, quadratic = square(lengths, (flops[0], flops[1], flops[2]))
    if flops[0] == flops[1]:
        return None
    held: list[int] = []
    try:
        for each in lengths:
            few = subject.sized(_cut(batch, length, each, dimension), min(MEMORY_ROWS, rows_of(batch, 0)))
            with subject.scratch() as model:
                held.append(saved_activations(subject, model, few, MEMORY_ROWS).bytes)
    except Exception:
        held = []
    bytes_share = doubled_bytes = None
    if held and held[0]:
        start, slope, bend = square(lengths, (held[0], held[1], held[2]))
        bytes_share = max(0.0, bend) * length**2 / held[0]
        doubled_bytes = (start + slope * 2 * length + bend * 4 * length**2) / held[0]
    return Growth(
        length=length,
        dimension=dimension,
        flops_share=max(0.0, quadratic) * length**2 / flops[0] if flops[0] else 0.0,
        bytes_share=bytes_share,
        doubled_flops=(constant + linear * 2 * length + quadratic * 4 * length**2) / flops[0] if flops[0] else 1.0,
        doubled_bytes=doubled_bytes,
    )


def _step_flops(subject: Subject, batch: Batch) -> int:
    one = Subject(subject.name, subject.model, (batch,), subject.loss, None, subject.batch_dim)
    flops = measure_flops(one)
    if flops.step is None:
        raise RuntimeError(flops.skipped)
    return flops.step


def _cut(batch: Batch, length: int, to: int, dimension: int) -> Batch:
    """Every tensor that has the length, there or in a later dimension (as masks of pairs have), at its first places."""

    def cut(leaf: Tensor) -> Tensor:
        if leaf.ndim <= dimension or leaf.shape[dimension] != length:
            return leaf
        short = leaf.narrow(dimension, 0, to)
        if leaf.dtype == torch.bool and leaf.ndim == 3 and leaf.shape[-1] == length:
            short = short.narrow(2, 0, to)
        return short.contiguous()

    return batch.map(cut)
