"""The expected accuracy of each model on a new task, in the metric's unit, with an interval that holds across tasks."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deepfm.model_selection import conformal, prior
from deepfm.model_selection.pattern_ridge import PatternRidge
from deepfm.model_selection.protocols import Visible
from deepfm.model_selection.stacker import StackedScores, Stacker, TrainingRows

Array = NDArray[np.float64]
PENALTY = 0.05


@dataclass(frozen=True, eq=False)
class Expected:
    """What the models are expected to reach on a task.

    Args:
        values: `(M,)`, NaN for no evidence.
        low, high: `(M,)`, the interval; without end where there are too few tasks to say.
        target: the share of models of a new task that the interval is to hold.
        half_width: infinite for no evidence.
        tasks: how many tasks it rests on.
    """

    values: Array
    low: Array
    high: Array
    target: float
    half_width: float
    tasks: int


@dataclass(frozen=True, eq=False)
class LeftOut:
    """What the stack and the expected accuracy said of each training task when it was left out.

    Args:
        scores: the stack's score of each training row, `(R,)`.
        errors: expected minus reached of each task, `(n,)` each.
        tasks: the tasks' indices.
        positions: for each task, the place of its best model among those measured.
    """

    scores: Array
    errors: tuple[Array, ...]
    tasks: tuple[int, ...]
    positions: tuple[int, ...]


def expect(
    stacker: Stacker,
    visible: Visible,
    rows: TrainingRows | None = None,
    levels: Sequence[str] = (),
    target: float = conformal.TARGET,
    bounds: tuple[float, float] | None = (0.0, 1.0),
) -> tuple[StackedScores, Expected, LeftOut]:
    """Score the models for the view's task, and say what they are expected to reach.

    A linear model of the stack's score, the model's average value on other tasks, and of `levels`, probes that are
    themselves accuracies on the task (leave-one-out k-NN or ridge): the model's own, and their mean over models, which
    tells a hard task from an easy one. Without such a probe a new task's level is unknown, and the interval says so.

    The interval is an approximation: a task's left-out errors come from weights that did not see it, but the history
    features of the other tasks that these were learned on did.

    Args:
        stacker: joins the evidence.
        visible: what may be seen.
        rows: the stacker's training rows, if there already.
        levels: names of probes in the metric's unit.
        target: the interval's coverage.
        bounds: the metric's least and greatest value, for interval ends; None for a metric without.

    Raises:
        DataError: no training task, or an unknown probe.
    """
    rows = stacker.training_rows(visible) if rows is None else rows
    tasks = [int(task) for task in np.unique(rows.tasks)]
    scores = _scores_without(stacker, rows, tasks)
    features = np.empty((len(scores), 2 + 2 * len(levels)))
    for task in tasks:
        inside, models = rows.tasks == task, rows.only(task).models
        placed = np.full(len(visible.history), np.nan)
        placed[models] = scores[inside]
        features[inside] = _features(visible.inside(task), placed, levels)[models]
    scale = _Scale.of(features)
    scaled = scale.apply(features)
    errors, positions = [], []
    for task in tasks:
        inside = rows.tasks == task
        if len(tasks) > 1:
            fit = PatternRidge(scaled[~inside], rows.outcomes[~inside], rows.tasks[~inside], PENALTY, False)
            predicted = fit.predict(scaled[inside]).values
            errors.append((predicted - rows.outcomes[inside])[~np.isnan(predicted)])
        known = np.nan_to_num(scores[inside], nan=-np.inf)
        positions.append(conformal.position_of_best(rows.outcomes[inside], known))
    answer = stacker.score(visible, rows)
    whole = PatternRidge(scaled, rows.outcomes, rows.tasks, PENALTY, False)
    values = whole.predict(scale.apply(_features(visible, answer.scores.values, levels))).values
    values[~answer.scores.known] = np.nan
    width = conformal.half_width([task for task in errors if len(task)], target)
    low, high = values - width, values + width
    if bounds is not None:
        values, low, high = (np.clip(ends, *bounds) for ends in (values, low, high))
    expected = Expected(values, low, high, target, width, len(tasks))
    return answer, expected, LeftOut(scores, tuple(errors), tuple(tasks), tuple(positions))


def _scores_without(stacker: Stacker, rows: TrainingRows, tasks: Sequence[int]) -> Array:
    """The stack's score of each row, by weights of the other tasks."""
    if len(tasks) < 2:
        return np.full(len(rows.outcomes), np.nan)
    scores = np.empty(len(rows.outcomes))
    for task in tasks:
        scores[rows.tasks == task] = stacker.fitted(rows.without(task)).predict(rows.only(task).features).values
    return scores


def _features(visible: Visible, scores: Array, levels: Sequence[str]) -> Array:
    """The stack's score, the average value elsewhere, and each level probe's own and mean value, `(M, F)`."""
    columns = [scores, prior.average_value(visible.history)]
    for name in levels:
        values = visible.probe(name)
        known = ~np.isnan(values)
        columns += [values, np.where(known, values[known].mean() if known.any() else np.nan, np.nan)]
    return np.column_stack(columns)


@dataclass(frozen=True)
class _Scale:
    """Centres and spreads of features, fixed on training rows."""

    centre: Array
    spread: Array

    @classmethod
    def of(cls, features: Array) -> "_Scale":
        known = ~np.isnan(features)
        count = np.maximum(known.sum(axis=0), 1)
        centre = np.where(known, features, 0.0).sum(axis=0) / count
        spread = np.sqrt(np.where(known, (features - centre) ** 2, 0.0).sum(axis=0) / count)
        return cls(centre, np.where(spread > 1e-12, spread, 1.0))

    def apply(self, features: Array) -> Array:
        return (features - self.centre) / self.spread
