"""What to try: the best models within a budget, what they cost against what they promise, and how many are enough."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deepfm.errors import DataError
from deepfm.model_selection.budget import Budget, WithinBudget, require_some
from deepfm.model_selection.catalogue import Catalogue
from deepfm.model_selection.conformal import TARGET, models_to_try, position_of_best
from deepfm.model_selection.scores import RankedScores
from deepfm.model_selection.stacker import TrainingRows

Array = NDArray[np.float64]
COSTS = ("parameters", "macs", "latency_ms")


@dataclass(frozen=True, eq=False)
class Selection:
    """The models to try.

    Args:
        order: indices of the models within the budget that there is evidence on, best first.
        top: the first of them.
        without_evidence: indices of models within the budget that nothing is known of.
        budget: which models met it, and of how many a cost is not known.
        front: for each cost, indices of the models that no other within the budget beats in promise and cost at once,
            cheapest first.
        enough: the smallest k that holds the best model with the probability `target`; None for no evidence.
        target: such as .9.
    """

    order: tuple[int, ...]
    top: tuple[int, ...]
    without_evidence: tuple[int, ...]
    budget: WithinBudget
    front: dict[str, tuple[int, ...]]
    enough: int | None
    target: float


def select(
    catalogue: Catalogue,
    scores: RankedScores,
    promise: Array | None = None,
    budget: Budget | None = None,
    top: int = 5,
    rows: TrainingRows | None = None,
    left_out_scores: Array | None = None,
    target: float = TARGET,
) -> Selection:
    """Choose from a catalogue.

    Args:
        catalogue: M models.
        scores: their scores on the task, `(M,)`.
        promise: the expected accuracy `(M,)` for the front; the scores where it is left out.
        budget: None for no limit.
        top: how many to name.
        rows: the stacker's training rows, with `left_out_scores` `(R,)`, their scores by weights of other tasks: where
            both are given, `enough` is counted among the models within the budget.
        left_out_scores: see `rows`.
        target: the probability that the best model is among the first `enough`.

    Raises:
        DataError: nothing meets the budget, no model within it has evidence, lengths differ, or `top` is below 1.
    """
    promise = scores.values if promise is None else promise
    if not len(catalogue) == len(scores) == len(promise):
        raise DataError(
            f"{len(catalogue)} models have {len(scores)} scores and {len(promise)} promises; expected one each"
        )
    if top < 1:
        raise DataError(f"top = {top} models; expected at least 1")
    met = require_some(catalogue, Budget({}) if budget is None else budget)
    usable = met.allowed & scores.known
    if not usable.any():
        raise DataError(
            f"there is no evidence on any of the {met.allowed.sum()} models within the budget; "
            "run probes on the data (--probe), or add outcomes of these models"
        )
    order = _best_first(catalogue, scores, usable)
    front = {
        cost: pareto_front(np.where(usable, promise, np.nan), catalogue.costs(cost))
        for cost in COSTS
        if not np.isnan(catalogue.costs(cost)[usable]).all()
    }
    enough = None
    if rows is not None and left_out_scores is not None:
        enough = models_to_try(positions_of_best(rows, left_out_scores, usable), int(usable.sum()), target)
    nothing = tuple(np.flatnonzero(met.allowed & ~scores.known).tolist())
    return Selection(order, order[:top], nothing, met, front, enough, target)


def pareto_front(promise: Array, costs: Array) -> tuple[int, ...]:
    """The models `(M,)` that no other beats in promise and cost at once, cheapest first; NaN in either leaves one out.

    Models alike in both stay together.
    """
    known = np.flatnonzero(~np.isnan(promise) & ~np.isnan(costs))
    front: list[int] = []
    for at in known[np.lexsort((-promise[known], costs[known]))].tolist():
        last = front[-1] if front else None
        if last is None or promise[at] > promise[last] or (promise[at] == promise[last] and costs[at] == costs[last]):
            front.append(at)
    return tuple(front)


def positions_of_best(rows: TrainingRows, scores: Array, models: NDArray[np.bool_]) -> Sequence[int]:
    """On each training task, the place of the best among some models by scores that left the task out.

    Args:
        rows: R training rows.
        scores: `(R,)`, NaN for none, which come last.
        models: `(M,)`, those that count; a task where none of them was measured gives no position.
    """
    found = []
    for task in np.unique(rows.tasks):
        inside = (rows.tasks == task) & models[rows.models]
        if inside.any():
            found.append(position_of_best(rows.outcomes[inside], RankedScores(scores[inside]).filled()))
    return found


def _best_first(catalogue: Catalogue, scores: RankedScores, usable: NDArray[np.bool_]) -> tuple[int, ...]:
    """By score; of tied models the smaller comes first, then by name, so that the catalogue's order plays no part."""
    sizes = np.nan_to_num(catalogue.costs("parameters"), nan=np.inf)
    chosen = np.flatnonzero(usable)
    names = catalogue.models
    return tuple(sorted(chosen.tolist(), key=lambda at: (-scores.values[at], sizes[at], names[at])))
