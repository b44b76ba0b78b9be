"""How long a forward pass and a training step take, by torch's own timer, and when no figure can be trusted."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn

from deepfm.analysis.measures.counts import usual_optimizer
from deepfm.analysis.measures.memory import Memory
from deepfm.analysis.reasons import reason_of
from deepfm.analysis.subject import Subject
from deepfm.engine.memory import free_memory

ROWS = (1, 32, 1024)
UNSTABLE = 0.3  # of the median, that the quartiles may lie apart
FEWEST = 4  # runs without which quartiles mean nothing
FREE_SHARE = 0.5  # of the free memory that a measurement may take
INFERENCE_SHARE = 0.5  # of the activations of training that a forward pass without gradients holds at most, about

Clock = Callable[[Callable[[], Any], float, int], Sequence[float]]
"""Of what to run, seconds to spend and threads: seconds of each run (or of each block of runs, per run)."""


@dataclass(frozen=True)
class Timing:
    """Seconds of one call; None in all of them, and why, where there is no figure.

    Attributes:
        runs: blocks that were timed.
        spread: quartiles' distance over the median.
    """

    rows: int
    median: float | None
    lower: float | None
    upper: float | None
    rows_per_second: float | None
    spread: float | None
    runs: int
    skipped: str | None = None


@dataclass(frozen=True)
class Latency:
    """Timings at several numbers of rows, on this machine.

    Attributes:
        forward: in evaluation mode, without gradients.
        step: forward, loss, backward and a step of Adam (SGD where gradients are sparse), in training mode.
        threads: that torch uses.
    """

    SOURCES: ClassVar[dict[str, str]] = {
        "forward": "measured: torch.utils.benchmark, median and quartiles of blocks of runs on this machine",
        "step": "measured: as forward",
        "rows_per_second": "derived: rows over the median",
        "threads": "measured: torch.get_num_threads",
    }
    forward: tuple[Timing, ...]
    step: tuple[Timing, ...]
    threads: int
    device: str

    def step_at(self, rows: int) -> float | None:
        """Seconds of a step at exactly so many rows."""
        return next((timing.median for timing in self.step if timing.rows == rows), None)


def torch_clock(run: Callable[[], Any], seconds: float, threads: int) -> Sequence[float]:
    """Blocks of runs until the median is steady or the time is used up."""
    from torch.utils.benchmark import Timer  # it starts no compiler here, but imports the tools for one

    timer = Timer("run()", globals={"run": run}, num_threads=threads)
    return timer.adaptive_autorange(threshold=0.1, min_run_time=min(0.01, seconds), max_run_time=seconds).times


def measure_latency(
    subject: Subject,
    memory: Memory | None = None,
    *,
    rows: Sequence[int] | None = None,
    budget: float = 7.0,
    clock: Clock = torch_clock,
    free: int | None = None,
) -> Latency:
    """Time forward passes and training steps.

    Args:
        memory: its fit says which sizes would not fit; without it they are tried.
        rows: numbers of rows; None for 1, 32 and 1,024, and first of all the batch's own.
        budget: seconds for all of it.
        clock: how runs are timed.
        free: bytes of memory to count on; None for half of those that are free now.
    """
    threads = torch.get_num_threads()
    end = perf_counter() + budget
    room = int(FREE_SHARE * free_memory(subject.device)) if free is None else free
    found: dict[bool, list[Timing]] = {False: [], True: []}
    known: dict[bool, list[tuple[int, float]]] = {False: [], True: []}  # rows and seconds of one call
    sizes = dict.fromkeys((subject.rows, *ROWS)) if rows is None else sorted(set(rows))
    tasks = [(size, train) for size in sizes for train in (False, True)]
    for at, (size, train) in enumerate(tasks):
        left = end - perf_counter()
        refused = _too_large(memory, size, room, train) or _too_long(known[train], size, left)
        if refused is None:
            share = left / (len(tasks) - at)
            timing, once = _timed(subject, size, train, share, left, clock, threads)
            if once is not None:
                known[train].append((size, once))
        else:
            timing = _none(size, refused)
        found[train].append(timing)
    forward, step = (tuple(sorted(found[train], key=lambda timing: timing.rows)) for train in (False, True))
    return Latency(forward, step, threads, str(subject.device))


def timing_of(rows: int, times: Sequence[float]) -> Timing:
    """Median and quartiles of seconds; no figure where they are too few or lie too far apart."""
    if len(times) < FEWEST:
        return _none(rows, f"only {len(times)} runs within the budget", len(times))
    lower, median, upper = (float(at) for at in np.quantile(np.asarray(times, dtype=np.float64), (0.25, 0.5, 0.75)))
    spread = (upper - lower) / median if median > 0 else float("inf")
    if spread > UNSTABLE:
        return _none(rows, f"unstable machine: quartiles lie {spread:.0%} of the median apart", len(times))
    return Timing(rows, median, lower, upper, rows / median, spread, len(times))


def training_step(subject: Subject, model: nn.Module, rows: int) -> Callable[[], None]:
    """A step of Adam on the first batch in so many rows, to be called again and again."""
    batch = subject.sized(subject.batches[0], rows)
    optimizer = usual_optimizer(model)

    def run() -> None:
        subject.loss_of(model, batch).backward()
        if optimizer is not None:
            optimizer.step()
            optimizer.zero_grad()

    return _finished(run, subject.device)


def forward_pass(subject: Subject, model: nn.Module, rows: int) -> Callable[[], None]:
    """A forward pass without gradients of the first batch in so many rows."""
    batch = subject.sized(subject.batches[0], rows)

    def run() -> None:
        with torch.no_grad():
            subject.call(model, batch)

    return _finished(run, subject.device)


def _timed(
    subject: Subject, rows: int, train: bool, share: float, left: float, clock: Clock, threads: int
) -> tuple[Timing, float | None]:
    """A timing, and the seconds of one warm call."""
    with subject.scratch(train=train) as model:
        try:
            run = training_step(subject, model, rows) if train else forward_pass(subject, model, rows)
            run()
            start = perf_counter()
            run()
            once = perf_counter() - start
        except Exception as error:
            return _none(rows, reason_of(error)), None
        if (FEWEST + 1) * once > left:
            return _none(rows, f"the budget is used up: one call takes {once:.2g} s of {left:.2g} s left"), once
        return timing_of(rows, clock(run, share, threads)), once


def _too_large(memory: Memory | None, rows: int, room: int, train: bool) -> str | None:
    needed = None if memory is None else memory.at(rows)
    if needed is None:
        return None
    needed *= 1.0 if train else INFERENCE_SHARE
    if needed <= room:
        return None
    return f"needs about {needed / 2**30:.2g} GiB of activations and {room / 2**30:.2g} GiB may be used"


def _too_long(known: Sequence[tuple[int, float]], rows: int, left: float) -> str | None:
    """Whether the line through the two largest calls so far says that enough runs will not fit."""
    if left <= 0:
        return "the budget is used up"
    if len(known) < 2:
        return None
    (few, quick), (many, slow) = sorted(known)[-2:]
    expected = slow + max(0.0, slow - quick) * (rows - many) / (many - few)
    return f"the budget is used up: one call may take {expected:.2g} s" if (FEWEST + 2) * expected > left else None


def _finished(run: Callable[[], None], device: torch.device) -> Callable[[], None]:
    if device.type != "cuda":
        return run

    def waited() -> None:
        run()
        torch.cuda.synchronize(device)

    return waited


def _none(rows: int, reason: str, runs: int = 0) -> Timing:
    return Timing(rows, None, None, None, None, None, runs, reason)
