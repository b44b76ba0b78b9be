"""Does the advice pay? Short runs of a recommended and of a default configuration, side by side."""

import math
import statistics
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import ClassVar

from deepfm.analysis.batch import Batch, rows_of
from deepfm.analysis.measures.steps import BatchesTask, refuse_probe, split_rows
from deepfm.analysis.reasons import reason_of
from deepfm.analysis.subject import Subject
from deepfm.engine.loop import fit
from deepfm.engine.loop_settings import LoopSettings
from deepfm.errors import TrainingError

SEEDS = 3
STEPS = 120  # of the given batches' rows: what both configurations may learn from
LOOKS = 12  # evaluations in a run, after equal numbers of rows
DEVIATIONS = 2.0  # standard errors of the paired difference
MATTERS = 0.01  # of the default's loss: what is less is no difference


@dataclass(frozen=True)
class TrainingChoice:
    """A configuration to try.

    Args:
        batch_rows: rows a step; None for the batches as they are given.
    """

    optimizer: str = "adam"
    lr: float = LoopSettings.lr
    weight_decay: float = 0.0
    gradient_clip_norm: float | None = 1.0
    warmup_steps: int = 0
    batch_rows: int | None = None


DEFAULT = TrainingChoice()


@dataclass(frozen=True)
class ProofRuns:
    """The runs of one configuration.

    Args:
        losses: a seed's best loss of `LOOKS`, as the engine keeps the best weights; infinite where it diverged.
        last: a seed's last loss.
        curve: the mean over seeds, look by look.
    """

    choice: TrainingChoice
    losses: tuple[float, ...]
    last: tuple[float, ...]
    curve: tuple[float, ...]
    mean: float
    deviation: float
    steps: int


@dataclass(frozen=True)
class Proof:
    """What the comparison found.

    Args:
        difference: recommended minus default, the mean over paired seeds; below zero the recommendation is better.
        standard_error: of the difference.
        verdict: `better`, `no worse` or `worse`; a difference counts from two standard errors and 1 % of the default's
            loss (or half of what it learned, where that is more).
        rows: what each run learned from.
        evaluated_on: `held-out last batch` or `training batch (only one was given)`.
    """

    recommended: ProofRuns | None = None
    default: ProofRuns | None = None
    difference: float | None = None
    standard_error: float | None = None
    verdict: str | None = None
    start: float | None = None
    rows: int = 0
    seeds: int = 0
    evaluated_on: str = ""
    skipped: str | None = None

    SOURCES: ClassVar[dict[str, str]] = {
        "recommended": "measured: best evaluation losses of short runs through the training loop, one a seed",
        "default": "measured: the same with the default configuration",
        "difference": "derived: the mean of the paired differences",
        "standard_error": "derived: of the paired differences",
        "verdict": "derived: from difference and standard error",
        "start": "measured: the evaluation loss of the untrained model",
        "rows": "assumed: 120 steps of the given batches' rows, or fewer within the budget of seconds",
        "seeds": "assumed: three, of batch order and dropout",
    }


def measure_proof(
    subject: Subject,
    recommended: TrainingChoice,
    default: TrainingChoice = DEFAULT,
    *,
    seeds: int = SEEDS,
    steps: int = STEPS,
    budget_seconds: float = 20.0,
) -> Proof:
    """Both configurations from the same weights, over the same rows, with the same seeds.

    Args:
        steps: of the given batches; fewer where they would not fit the budget.
        budget_seconds: of all runs together.
    """
    batches = subject.training_batches
    training, held_out = (batches[:-1], batches[-1:]) if len(batches) > 1 else (batches, batches)
    where = "held-out last batch" if len(batches) > 1 else "training batch (only one was given)"
    try:
        refuse_probe(subject)
        started = time.perf_counter()
        start, _ = _losses(subject, default, training, held_out, 0, LOOKS)
        seconds = (time.perf_counter() - started) / LOOKS
        steps = max(2 * LOOKS, min(steps, int(budget_seconds / (2 * seeds * seconds))))
        rows = steps * rows_of(training[0], subject.batch_dim)
        ours = short_runs(subject, recommended, training, held_out, seeds, rows)
        theirs = short_runs(subject, default, training, held_out, seeds, rows)
    except Exception as error:
        return Proof(skipped=reason_of(error))
    difference, standard_error, verdict = compare(ours.losses, theirs.losses, start)
    return Proof(ours, theirs, difference, standard_error, verdict, start, rows, seeds, where)


def compare(ours: Sequence[float], theirs: Sequence[float], start: float) -> tuple[float, float, str]:
    """Mean paired difference, its standard error and the verdict; infinite losses are the worst.

    Args:
        start: the loss before training, to tell what the other has learned.
    """
    if not all(map(math.isfinite, ours)):
        verdict = "worse" if all(map(math.isfinite, theirs)) else "no worse"
        return math.inf, math.inf, verdict
    if not all(map(math.isfinite, theirs)):
        return -math.inf, math.inf, "better"
    apart = [one - other for one, other in zip(ours, theirs, strict=True)]
    mean = statistics.fmean(apart)
    error = statistics.stdev(apart) / math.sqrt(len(apart)) if len(apart) > 1 else 0.0
    reference = statistics.fmean(theirs)
    matters = MATTERS * max(1e-12, abs(reference), abs(start - reference) / 2)
    if abs(mean) <= max(DEVIATIONS * error, matters):
        return mean, error, "no worse"
    return mean, error, "better" if mean < 0 else "worse"


def short_runs(
    subject: Subject,
    choice: TrainingChoice,
    training: Sequence[Batch],
    held_out: Sequence[Batch],
    seeds: int,
    rows: int,
) -> ProofRuns:
    """Runs of one configuration, a seed each, over so many rows of the training batches, judged on others."""
    given = min(rows_of(batch, subject.batch_dim) for batch in training)
    if choice.batch_rows is not None:
        choice = replace(choice, batch_rows=min(choice.batch_rows, given))
        training = [part for batch in training for part in split_rows(subject, batch, choice.batch_rows or given)]
    steps = rows // rows_of(training[0], subject.batch_dim)
    runs = [_losses(subject, choice, training, held_out, seed, steps)[1] for seed in range(seeds)]
    losses = tuple(min(run) for run in runs)
    finite = all(map(math.isfinite, losses))
    deviation = statistics.stdev(losses) if finite and len(losses) > 1 else 0.0 if finite else math.inf
    curve = tuple(statistics.fmean(look) for look in zip(*runs, strict=True))
    last = tuple(run[-1] for run in runs)
    return ProofRuns(choice, losses, last, curve, statistics.fmean(losses), deviation, steps // LOOKS * LOOKS)


def _losses(
    subject: Subject,
    choice: TrainingChoice,
    training: Sequence[Batch],
    held_out: Sequence[Batch],
    seed: int,
    steps: int,
) -> tuple[float, list[float]]:
    """The evaluation loss before a run, and after each of its twelve parts; infinite from where it diverged."""
    settings = LoopSettings(
        num_epochs=LOOKS,
        lr=choice.lr,
        optimizer=choice.optimizer,
        scheduler="none",
        warmup_steps=min(choice.warmup_steps, steps // 4),
        early_stopping_patience=LOOKS,
        gradient_clip_norm=choice.gradient_clip_norm,
    )
    with subject.scratch(train=True, seed=seed) as model:
        task = BatchesTask(
            subject, model, training, max(1, steps // LOOKS),
            held_out=held_out, seed=seed, weight_decay=choice.weight_decay,
        )  # fmt: skip
        model.eval()
        start = task.evaluate()["held_out"]
        task.found.clear()
        with suppress(TrainingError):
            fit(task, settings, device=subject.device)
        return start, task.found + [math.inf] * (LOOKS - len(task.found))
