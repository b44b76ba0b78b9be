"""How fast a model can learn: the learning-rate range test (Smith, 2017), run on copies and read with caution."""

import math
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from deepfm.analysis.measures.steps import Stepper, batch_order, refuse_probe
from deepfm.analysis.reasons import reason_of
from deepfm.analysis.subject import Subject

LOWEST, HIGHEST, STEPS, SEEDS = 1e-7, 10.0, 115, 3
SMOOTHING = 0.8  # of the moving average, which lags by β/(1−β) = 4 steps
LAG = round(SMOOTHING / (1 - SMOOTHING))
FLAT_SHARE = 0.25  # of the steps, at rates that move nothing yet: their mean is the start, their deviation the noise
MEANINGFUL_FALL = 0.05  # of the start
NOISE_DEVIATIONS = 2.0
DIVERGED = 4.0  # times the best
FEWEST_STEPS = 40


@dataclass(frozen=True)
class RateCurve:
    """One run over rising rates.

    Args:
        rates, losses, smoothed: step by step, up to where the loss diverged.
        start: the mean loss of the flat first quarter, and `noise` its standard deviation.
        fall: the share of the start by which the smoothed loss falls.
        last_stable: the rate at which the smoothed loss is lowest, moved back by the average's lag.
        steepest: the rate at which it falls most within four steps, moved back too.
        diverged: whether the loss rose to four times its best, or was no longer finite.
    """

    seed: int
    rates: tuple[float, ...]
    losses: tuple[float, ...]
    smoothed: tuple[float, ...]
    start: float
    noise: float
    fall: float
    last_stable: float | None
    steepest: float | None
    diverged: bool


@dataclass(frozen=True)
class LearningRates:
    """What the range test found.

    Args:
        suggestion: min(steepest, last stable / 10), the median over seeds with the lowest and the highest; None where
            the loss found no minimum.
        reason: how the suggestion came about, or why there is none.
        skipped: why nothing could be measured.
    """

    optimizer: str
    curves: tuple[RateCurve, ...] = ()
    batches: int = 0
    last_stable: float | None = None
    last_stable_low: float | None = None
    last_stable_high: float | None = None
    steepest: float | None = None
    suggestion: float | None = None
    suggestion_low: float | None = None
    suggestion_high: float | None = None
    reason: str = ""
    skipped: str | None = None

    SOURCES: ClassVar[dict[str, str]] = {
        "curves": "measured: losses of training steps at rates that rise geometrically, on copies of the model",
        "last_stable": "derived: the median over seeds of the rate at the lowest smoothed loss",
        "last_stable_low": "derived: the lowest of the seeds",
        "last_stable_high": "derived: the highest of the seeds",
        "steepest": "derived: the median over seeds of the rate at the steepest fall of the smoothed loss",
        "suggestion": "derived: the median over seeds of min(steepest, last stable / 10)",
        "suggestion_low": "derived: the lowest of the seeds",
        "suggestion_high": "derived: the highest of the seeds",
        "batches": "measured: the batches given, over which the steps cycle",
    }


def measure_learning_rates(
    subject: Subject,
    optimizer: str = "adam",
    *,
    steps: int = STEPS,
    seeds: int = SEEDS,
    lowest: float = LOWEST,
    highest: float = HIGHEST,
    budget_seconds: float = 15.0,
) -> LearningRates:
    """The range test from the model's own weights, under several orders of batches and draws of dropout.

    Args:
        optimizer: adam, adamw, sgd, adagrad or rmsprop.
        steps: of each run; fewer, to 40, where the budget wants it.
        lowest, highest: the rates between which it rises.
        budget_seconds: after the first run, further ones start only if they should fit.
    """
    started = time.perf_counter()
    curves: list[RateCurve] = []
    try:
        refuse_probe(subject)
        steps = _affordable(subject, optimizer, steps, budget_seconds)
        rates = [lowest * (highest / lowest) ** (step / (steps - 1)) for step in range(steps)]
        for seed in range(seeds):
            if curves and (time.perf_counter() - started) * (seed + 1) / seed > budget_seconds:
                break
            curves.append(read_curve(seed, rates, _run(subject, optimizer, rates, seed)))
    except Exception as error:
        return LearningRates(optimizer, skipped=reason_of(error))
    return _conclude(optimizer, curves, len(subject.training_batches))


def read_curve(seed: int, rates: Sequence[float], losses: Sequence[float]) -> RateCurve:
    """Last stable and steepest rate of a run, if its loss falls by more than noise.

    Args:
        rates: as planned.
        losses: as far as the run went; the last may be infinite or NaN.
    """
    finite = [loss for loss in losses if math.isfinite(loss)]
    smoothed = smooth(finite)
    flat = finite[: max(2, int(len(rates) * FLAT_SHARE))]
    start = statistics.fmean(flat) if flat else math.nan
    noise = statistics.stdev(flat) if len(flat) > 1 else math.nan
    low = min(range(len(smoothed)), key=smoothed.__getitem__, default=0)
    fallen = start - smoothed[low] if smoothed else math.nan
    fall = fallen / max(abs(start), 1e-12) if smoothed else math.nan
    found = len(flat) > 1 and fallen > max(MEANINGFUL_FALL * abs(start), NOISE_DEVIATIONS * noise)
    steepest = None
    if found:
        drops = [(smoothed[at] - smoothed[at - LAG], at) for at in range(len(flat), low + 1)]
        steepest = rates[max(0, min(drops)[1] - LAG - LAG // 2)] if drops else None
    return RateCurve(
        seed,
        tuple(rates[: len(finite)]),
        tuple(finite),
        tuple(smoothed),
        start,
        noise,
        fall,
        rates[max(0, low - LAG)] if found else None,
        steepest,
        len(losses) > len(finite) or has_diverged(smoothed),
    )


def smooth(losses: Sequence[float]) -> list[float]:
    """The exponential moving average without the bias of its start (Kingma and Ba, 2015, section 3)."""
    average, smoothed = 0.0, []
    for count, loss in enumerate(losses, start=1):
        average = SMOOTHING * average + (1 - SMOOTHING) * loss
        smoothed.append(average / (1 - SMOOTHING**count))
    return smoothed


def has_diverged(smoothed: Sequence[float]) -> bool:
    """Whether the last smoothed loss is four times the best, or as far above a best that is near zero."""
    if not smoothed:
        return True
    best = min(smoothed)
    return smoothed[-1] - best > (DIVERGED - 1) * max(abs(best), 0.1 * abs(smoothed[0]))


def _run(subject: Subject, optimizer: str, rates: Sequence[float], seed: int) -> list[float]:
    batches = subject.training_batches
    losses: list[float] = []
    average = 0.0
    smoothed: list[float] = []
    with subject.scratch(train=True, seed=seed) as model:
        stepper = Stepper(subject, model, optimizer)
        for at, rate in zip(batch_order(len(batches), len(rates), seed), rates, strict=True):
            loss, norm = stepper.step(batches[at], rate)
            losses.append(loss)
            average = SMOOTHING * average + (1 - SMOOTHING) * loss
            smoothed.append(average / (1 - SMOOTHING ** len(losses)))
            if not math.isfinite(loss) or not math.isfinite(norm) or has_diverged(smoothed):
                break
    return losses


def _affordable(subject: Subject, optimizer: str, steps: int, budget_seconds: float) -> int:
    batch = subject.training_batches[0]
    with subject.scratch(train=True) as model:
        stepper = Stepper(subject, model, optimizer)
        stepper.step(batch, LOWEST)
        started = time.perf_counter()
        stepper.step(batch, LOWEST)
        seconds = time.perf_counter() - started
    return max(min(FEWEST_STEPS, steps), min(steps, int(budget_seconds / max(seconds, 1e-9))))


def _conclude(optimizer: str, curves: Sequence[RateCurve], batches: int) -> LearningRates:
    stable = [curve.last_stable for curve in curves if curve.last_stable is not None]
    steepest = [curve.steepest for curve in curves if curve.steepest is not None]
    if 2 * min(len(stable), len(steepest)) <= len(curves):
        falls = ", ".join(f"{100 * curve.fall:.1f} %" for curve in curves)
        return LearningRates(
            optimizer,
            tuple(curves),
            batches,
            reason=f"no minimum found: the smoothed loss falls by {falls} of its start; a rate is read from a fall of "
            f"more than {100 * MEANINGFUL_FALL:.0f} % and of {NOISE_DEVIATIONS:.0f} standard deviations of its noise",
        )
    suggestions = [
        min(curve.steepest, curve.last_stable / 10)
        for curve in curves
        if curve.steepest is not None and curve.last_stable is not None
    ]
    return LearningRates(
        optimizer,
        tuple(curves),
        batches,
        statistics.median(stable),
        min(stable),
        max(stable),
        statistics.median(steepest),
        statistics.median(suggestions),
        min(suggestions),
        max(suggestions),
        f"min(steepest, last stable / 10), the median of {len(suggestions)} runs",
    )
