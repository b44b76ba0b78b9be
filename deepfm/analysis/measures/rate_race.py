"""Short runs at a few learning rates: a range test says what is safe, these say what learns faster."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from deepfm.analysis.batch import rows_of
from deepfm.analysis.measures.learning_rate import LearningRates
from deepfm.analysis.measures.proof import DEFAULT, LOOKS, TrainingChoice, short_runs
from deepfm.analysis.measures.steps import refuse_probe
from deepfm.analysis.reasons import reason_of
from deepfm.analysis.subject import Subject

FACTORS = (1.0, 3.0)  # of the range test's rate
SEEDS = 2
FEWEST_BATCHES = 4  # two to learn from, one to judge the rates by, one that is left for the proof
AHEAD = 0.01  # of the loss, by which a larger rate must win


@dataclass(frozen=True)
class RateRace:
    """What short runs reached.

    Args:
        rates: in rising order.
        losses: of each, the mean over seeds of the best loss on the last batch but one; infinite where it diverged.
        chosen: the rate with the lowest loss; of those within 1 % the default or else the smallest. None where nothing
            was run.
        steps: of each run.
        skipped: why nothing was run.
    """

    rates: tuple[float, ...] = ()
    losses: tuple[float, ...] = ()
    chosen: float | None = None
    steps: int = 0
    skipped: str | None = None

    SOURCES: ClassVar[dict[str, str]] = {
        "rates": "derived: the suggestion of the range test, 3 times it up to the last stable rate, and the default",
        "losses": "measured: short runs through the training loop, judged on the last batch but one",
        "chosen": "derived: the lowest loss; of those within 1 % the default or else the smallest rate",
        "steps": "assumed: one pass over the batches given, and 24 at least",
    }


def measure_rate_race(
    subject: Subject,
    rates: LearningRates,
    choice: TrainingChoice = DEFAULT,
    *,
    seeds: int = SEEDS,
    budget_seconds: float = 8.0,
) -> RateRace:
    """Run the candidates from the same weights once over the same rows; the last batch stays unseen.

    No row is seen again where there are 24 batches to learn from, so that memorising does not count.

    Args:
        rates: what the range test found.
        choice: everything but the rate.
        seeds: of each rate; one where more would not fit the budget.
        budget_seconds: of all runs together; where one seed would take longer, nothing is run.
    """
    batches = subject.training_batches
    if len(batches) < FEWEST_BATCHES:
        return RateRace(skipped=f"{len(batches)} batches; rates are told apart from {FEWEST_BATCHES} on")
    first = choice.lr if rates.suggestion is None else rates.suggestion
    most = math.inf if rates.last_stable is None else rates.last_stable
    candidates = sorted(
        {DEFAULT.lr, *(first * factor for factor in FACTORS if factor == 1.0 or first * factor <= most)}
    )
    training, judge = batches[:-2], batches[-2:-1]
    try:
        refuse_probe(subject)
        started = time.perf_counter()
        given = rows_of(training[0], subject.batch_dim)
        short_runs(subject, replace(choice, lr=first), training, judge, 1, LOOKS * given)
        seconds = (time.perf_counter() - started) / LOOKS
        steps = max(2 * LOOKS, len(training))
        seeds = max(1, min(seeds, int(budget_seconds / (steps * len(candidates) * seconds))))
        if steps * len(candidates) * seeds * seconds > budget_seconds:
            return RateRace(skipped=f"{steps} steps at {len(candidates)} rates do not fit into {budget_seconds:.0f} s")
        runs = [
            short_runs(subject, replace(choice, lr=rate), training, judge, seeds, steps * given) for rate in candidates
        ]
    except Exception as error:
        return RateRace(skipped=reason_of(error))
    losses = tuple(one.mean for one in runs)
    return RateRace(tuple(candidates), losses, _best(candidates, losses), steps)


def _best(rates: Sequence[float], losses: Sequence[float]) -> float:
    lowest = min(losses)
    if not math.isfinite(lowest):
        return rates[0]
    alike = [rate for rate, loss in zip(rates, losses, strict=True) if loss <= lowest + AHEAD * abs(lowest)]
    return DEFAULT.lr if DEFAULT.lr in alike else alike[0]
