"""What this machine can do, measured; what others can, by their makers; and what a model's step takes on each."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from math import ceil
from time import perf_counter
from typing import Any, ClassVar

import torch
from torch import nn

from deepfm.analysis.batch import tensors
from deepfm.analysis.measures.counts import Counts, bytes_of
from deepfm.analysis.measures.flops import Flops
from deepfm.analysis.measures.memory import Memory
from deepfm.analysis.measures.tables import table_parameters
from deepfm.analysis.subject import Subject

TRIAD_VALUES = 1 << 24  # 64 MiB an array, which no cache of a core holds
MATMUL_SIDE = {"cpu": 1024, "cuda": 8192}
SECONDS = 0.25  # for each of the two measurements


@dataclass(frozen=True)
class Machine:
    """A machine's roofline.

    Attributes:
        bandwidth: bytes per second between memory and processor.
        fp32: FLOP per second of products of matrices in float32.
        half: the same in bfloat16 with float32 sums; None where its maker gives no figure.
        source: measured, or the maker's data sheet.
    """

    name: str
    bandwidth: float
    fp32: float
    half: float | None
    source: str


ACCELERATORS = (
    Machine("V100", 900e9, 15.7e12, None, "assumed: NVIDIA V100 data sheet, 2020 (SXM2; tensor cores: FP16 only)"),
    Machine("A100", 2039e9, 19.5e12, 312e12, "assumed: NVIDIA A100 data sheet, 2022 (80 GB SXM, dense, without TF32)"),
    Machine("H200", 4800e9, 67e12, 989.5e12, "assumed: NVIDIA H200 data sheet, 2024 (SXM; half of the sparse figure)"),
    Machine("M2", 100e9, 3.6e12, None, "assumed: Apple newsroom, 6 June 2022 (GPU of ten cores)"),
)


@dataclass(frozen=True)
class MachineTime:
    """The least time that a machine needs, by its roofline: nothing waits, nothing is launched.

    Attributes:
        forward, step: seconds of a batch in float32.
        step_half: seconds of a step under bfloat16 autocast, where the machine has it.
        bound: what limits the step, "memory" or "compute".
        epoch: seconds of an epoch in float32.
        source: where the machine's figures come from; the times are derived from them.
    """

    name: str
    forward: float
    step: float | None
    step_half: float | None
    bound: str
    epoch: float | None
    source: str


@dataclass(frozen=True)
class Roofline:
    """A model's operations against the bytes that it moves, on this machine and on others.

    Attributes:
        machine: this one.
        forward_bytes, step_bytes: moved between memory and processor by a batch.
        forward_intensity, step_intensity: FLOPs per byte.
        ridge: FLOPs per byte from which this machine computes rather than waits.
        bound: what limits the step (the forward pass where there is none) on this machine.
        times: this machine first, then the named accelerators.
        measured_step: seconds of a step at these rows, as timed, where that was given.
        achieved: the roofline's time over the measured one; far below 1 the time goes to overhead.
        epoch: seconds of an epoch on this machine, from the measured step where there is one.
    """

    SOURCES: ClassVar[dict[str, str]] = {
        "machine": "measured: a triad over three arrays of 64 MiB, and products of square float32 matrices",
        "forward_bytes": "derived: weights once, activations written and read once",
        "step_bytes": "derived: weights read in both passes; activations written and read, saved ones and their "
        "gradients read and written again; gradients, weights and Adam's two moments read and written",
        "forward_intensity": "derived: FLOPs over bytes",
        "step_intensity": "derived: FLOPs over bytes",
        "ridge": "derived: peak over bandwidth of this machine",
        "bound": "derived: intensity against ridge",
        "times": "derived: the larger of FLOPs over peak and bytes over bandwidth; named accelerators' figures are "
        "assumed from data sheets",
        "measured_step": "measured: see latency",
        "achieved": "derived: roofline over measured",
        "epoch": "derived: steps of an epoch times the measured step, or times the roofline's",
    }
    rows: int
    machine: Machine
    forward_bytes: float
    step_bytes: float
    forward_intensity: float
    step_intensity: float | None
    ridge: float
    bound: str
    times: tuple[MachineTime, ...]
    measured_step: float | None
    achieved: float | None
    epoch: float | None
    steps_per_epoch: int | None


def measure_machine(device: str = "cpu") -> Machine:
    """This machine's bandwidth and peak, once per process and number of threads; a second or less."""
    return _measured(device, torch.get_num_threads())


@lru_cache(maxsize=8)
def _measured(device: str, threads: int) -> Machine:
    place = torch.device(device)
    plural = "s" if threads > 1 else ""
    cuda = place.type == "cuda"
    name = torch.cuda.get_device_name(place) if cuda else f"this machine ({device}, {threads} thread{plural})"
    a, b, c = (torch.ones(TRIAD_VALUES, device=place) for _ in range(3))
    triad = _best(lambda: torch.add(b, c, alpha=3.0, out=a), place)
    side = MATMUL_SIDE.get(place.type, 1024)
    x, y = (torch.ones(side, side, device=place) for _ in range(2))
    out = torch.empty(side, side, device=place)
    product = _best(lambda: torch.mm(x, y, out=out), place)
    return Machine(name, 3 * bytes_of(a) / triad, 2 * side**3 / product, None, "measured")


def measure_roofline(
    subject: Subject,
    counts: Counts,
    flops: Flops,
    memory: Memory,
    *,
    machine: Machine | None = None,
    measured_step: float | None = None,
    dataset_rows: int | None = None,
) -> Roofline:
    """Set FLOPs against bytes for a batch of `flops.rows`.

    Args:
        machine: this one; None to measure it.
        measured_step: seconds of a step at these rows.
        dataset_rows: rows of an epoch.
    """
    here = measure_machine(str(subject.device)) if machine is None else machine
    activations = memory.at(flops.rows) or 0.0
    given = sum(bytes_of(leaf) for leaf in tensors(subject.batches[0].args, subject.batches[0].kwargs))
    inputs = given * flops.rows / subject.rows
    weights = sum(counts.parameter_bytes.values())
    forward_bytes = weights - table_bytes(subject.model) + inputs + 2 * activations
    gradients, state = sum(counts.gradient_bytes.values()), counts.optimizer_bytes.get("adam", 0)
    passes = 2 * (weights - table_bytes(subject.model)) + inputs + 4 * activations
    step_bytes = passes + 2 * gradients + 2 * gradients + 2 * state  # gradients, then weights and moments, both ways
    half_bytes = step_bytes - 2 * activations
    steps = None if dataset_rows is None else ceil(dataset_rows / flops.rows)
    times = []
    for each in (here, *ACCELERATORS):
        forward = roofline(flops.forward, forward_bytes, each.fp32, each.bandwidth)
        step = None if flops.step is None else roofline(flops.step, step_bytes, each.fp32, each.bandwidth)
        has_half = each.half is not None and flops.step is not None
        half = roofline(flops.step or 0, half_bytes, each.half or 1.0, each.bandwidth) if has_half else None
        bound = _bound(flops, forward_bytes, step_bytes, each)
        epoch = None if steps is None or step is None else steps * step
        times.append(MachineTime(each.name, forward, step, half, bound, epoch, each.source))
    own = times[0]
    usable = measured_step is not None and measured_step > 0 and own.step is not None
    per_step = measured_step if measured_step is not None else own.step
    return Roofline(
        rows=flops.rows,
        machine=here,
        forward_bytes=forward_bytes,
        step_bytes=step_bytes,
        forward_intensity=flops.forward / forward_bytes if forward_bytes else 0.0,
        step_intensity=None if flops.step is None or not step_bytes else flops.step / step_bytes,
        ridge=here.fp32 / here.bandwidth,
        bound=own.bound,
        times=tuple(times),
        measured_step=measured_step,
        achieved=(own.step or 0.0) / measured_step if usable and measured_step else None,
        epoch=None if steps is None or per_step is None else steps * per_step,
        steps_per_epoch=steps,
    )


def roofline(flops: float, moved: float, peak: float, bandwidth: float) -> float:
    """Seconds: the longer of computing and of moving (Williams, Waterman and Patterson, 2009)."""
    return max(flops / peak, moved / bandwidth)


def table_bytes(model: nn.Module) -> int:
    """Bytes of embedding tables, of which a pass reads but some rows."""
    return sum(bytes_of(table) for table in table_parameters(model).values())


def _bound(flops: Flops, forward_bytes: float, step_bytes: float, machine: Machine) -> str:
    work, moved = (flops.forward, forward_bytes) if flops.step is None else (flops.step, step_bytes)
    return "compute" if work / machine.fp32 > moved / machine.bandwidth else "memory"


def _best(run: Callable[[], Any], device: torch.device) -> float:
    """Seconds of the quickest run: whatever disturbs a machine only makes it slower."""

    def wait() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    run()
    wait()
    best, end = float("inf"), perf_counter() + SECONDS
    while perf_counter() < end:
        start = perf_counter()
        run()
        wait()
        best = min(best, perf_counter() - start)
    return best
