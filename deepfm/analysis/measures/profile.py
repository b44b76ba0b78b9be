"""Where the time of a training step goes: waiting for data, forward, backward, optimizer; and on which device."""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch.profiler import ProfilerActivity, profile, record_function

from deepfm.analysis.batch import Batch
from deepfm.analysis.measures.counts import usual_optimizer
from deepfm.analysis.reasons import reason_of
from deepfm.analysis.subject import Subject

PHASES = ("data", "forward", "backward", "optimizer")


@dataclass(frozen=True)
class Hot:
    """An operation: calls, and seconds of its own, over all profiled steps."""

    name: str
    calls: int
    seconds: float


@dataclass(frozen=True)
class Profile:
    """Some steps of training under torch's profiler.

    Attributes:
        steps: that were profiled, after one to warm up.
        seconds: of all of them; the profiler's own cost is in it.
        shares: of the time, by phase: data (where batches come from a loader), forward (and the loss), backward,
            optimizer, other.
        device_use: share of the time in which the GPU was at work; None on the CPU.
        operations: that take the most time of their own, on the device where it is a GPU.
        skipped: why there is no figure.
    """

    SOURCES: ClassVar[dict[str, str]] = {
        "seconds": "measured: torch.profiler",
        "shares": "measured: ranges of torch.profiler; on a GPU each phase is waited for",
        "device_use": "measured: seconds of kernels over seconds of the steps",
        "operations": "measured: torch.profiler",
    }
    steps: int
    seconds: float | None
    shares: dict[str, float]
    device_use: float | None
    operations: tuple[Hot, ...]
    skipped: str | None = None


def measure_profile(subject: Subject, batches: Iterable[Batch] | None = None, *, steps: int = 4) -> Profile:
    """Train a copy for some steps.

    Args:
        batches: where batches come from, a loader say; None for the subject's own, which are there already.
        steps: to profile.
    """
    cuda = subject.device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if cuda else [])]
    source = _again(subject.training_batches if batches is None else batches)
    try:
        with subject.scratch() as model:
            optimizer = usual_optimizer(model)

            def step() -> None:
                with record_function("phase:data"):
                    batch = next(source)
                with record_function("phase:forward"):
                    loss = subject.loss_of(model, batch)
                    _wait(cuda)
                with record_function("phase:backward"):
                    loss.backward()
                    _wait(cuda)
                with record_function("phase:optimizer"):
                    if optimizer is not None:
                        optimizer.step()
                        optimizer.zero_grad()
                    _wait(cuda)

            step()
            with _silent(), profile(activities=activities, acc_events=True) as profiler:
                for _ in range(steps):
                    with record_function("phase:step"):
                        step()
    except Exception as error:
        return Profile(0, None, {}, None, (), reason_of(error))
    return _summary(profiler.key_averages(), steps, cuda, PHASES if batches is not None else PHASES[1:])


@contextmanager
def _silent() -> Iterator[None]:
    """Kineto writes to the terminal when it starts and stops, unless it was told otherwise."""
    told = os.environ.get("KINETO_LOG_LEVEL")
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")
    try:
        yield
    finally:
        if told is None:
            del os.environ["KINETO_LOG_LEVEL"]


def _summary(events: Any, steps: int, cuda: bool, phases: tuple[str, ...]) -> Profile:
    named = {event.key: event for event in events}
    whole = named["phase:step"].cpu_time_total / 1e6
    taken = {phase: named[f"phase:{phase}"].cpu_time_total / 1e6 for phase in phases}
    shares = {phase: seconds / whole for phase, seconds in taken.items()}
    shares["other"] = max(0.0, 1.0 - sum(shares.values()))
    kind = "self_device_time_total" if cuda else "self_cpu_time_total"
    operations = [event for event in events if event.key.startswith("aten::")]
    operations.sort(key=lambda event: -getattr(event, kind))
    hot = tuple(Hot(event.key.removeprefix("aten::"), event.count, getattr(event, kind) / 1e6)
                for event in operations[:8])  # fmt: skip
    busy = sum(event.self_device_time_total for event in operations) / 1e6 if cuda else None
    return Profile(steps, whole, shares, None if busy is None else min(1.0, busy / whole), hot)


def _again(batches: Iterable[Batch]) -> Iterator[Batch]:
    while True:
        count = 0
        for batch in batches:
            count += 1
            yield batch
        if not count:
            raise RuntimeError("there is no batch to train on")


def _wait(cuda: bool) -> None:
    if cuda:
        torch.cuda.synchronize()
