"""The expected accuracy of each model on a new task, in the metric's unit, with an interval that holds across tasks."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deepfm.errors import DataError
from deepfm.model_selection import conformal, prior
from deepfm.model_selection.pattern_ridge import PatternRidge
from deepfm.model_selection.protocols import Visible
from deepfm.model_selection.stacker import StackedScores, Stacker, TrainingRows
from deepfm.utils.seeding import random_stream

Array = NDArray[np.float64]
PENALTY = 0.05
LEAST_TASKS = 9  # that tell how levels vary; with fewer there is no interval of 90 % either


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
        scores: the stack's score of each training row, `(R,)`; NaN where there is no other task.
        errors: expected minus reached of each task, `(n,)` each, without those that stood for feedback.
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
    reached: Array | None = None,
) -> tuple[StackedScores, Expected, LeftOut]:
    """Score the models for the view's task, and say what they are expected to reach.

    A linear model of the stack's score, the model's average value on other tasks, and of `levels`, probes that are
    themselves accuracies on the task (leave-one-out k-NN or ridge): the model's own, and their mean over models, which
    tells a hard task from an easy one. Without such a probe a new task's level is unknown, and the interval says so.

    A task's left-out errors are what all of this would have said of it, had it been the new task: of the histories that
    weights are learned on, none saw it. They are of the stack without other rankers (`Stacker.given`), which would have
    to be trained for every pair of tasks inside every third. Feedback moves the level: see `moved`.

    Args:
        stacker: joins the evidence.
        visible: what may be seen.
        rows: the stacker's training rows, if there already.
        levels: names of probes in the metric's unit.
        target: the interval's coverage.
        bounds: the metric's least and greatest value, for interval ends; None for a metric without.
        reached: `(M,)`, what models reached on the task itself, by feedback; NaN for the others.

    Raises:
        DataError: no training task, or an unknown probe.
    """
    rows = stacker.training_rows(visible) if rows is None else rows
    tasks = [int(task) for task in np.unique(rows.tasks)]
    answer, values = _said(stacker, visible, rows, levels)
    plain = Stacker(stacker.settings)
    errors, positions = [], []
    scores = np.full(len(rows.outcomes), np.nan)
    for task in tasks:
        own = rows.only(task)
        if len(tasks) > 1:
            inside = visible.inside(task)
            before, said = _said(plain, inside, plain.training_rows(inside), levels)
            scores[rows.tasks == task] = before.scores.values[own.models]
            missed = said[own.models] - own.outcomes
            errors.append(missed[~np.isnan(missed)])
        known = np.nan_to_num(scores[rows.tasks == task], nan=-np.inf)
        positions.append(conformal.position_of_best(own.outcomes, known))
    values, errors = moved(values, errors, reached)
    width = conformal.half_width([task for task in errors if len(task)], target)
    low, high = values - width, values + width
    if bounds is not None:
        values, low, high = (np.clip(ends, *bounds) for ends in (values, low, high))
    expected = Expected(values, low, high, target, width, len(tasks))
    return answer, expected, LeftOut(scores, tuple(errors), tuple(tasks), tuple(positions))


@dataclass(frozen=True)
class IntervalCoverage:
    """How often the intervals hold, each task's half-width taken from the other tasks.

    Args:
        target: the share that was asked for.
        held: the share that was held, the mean over tasks.
        least: the lowest share of a task.
        half_width: the mean; None, as without end, where there are too few tasks.
        tasks: how many.
    """

    target: float
    held: float
    least: float
    half_width: float | None
    tasks: int

    def sentence(self) -> str:
        """What it says."""
        if self.half_width is None:
            return f"Intervals: no evidence, as {self.tasks} tasks are too few for {self.target:.0%}."
        return (
            f"Intervals of the expected value: {self.target:.0%} asked for, {self.held:.1%} held on tasks left out "
            f"(the lowest of a task {self.least:.0%}); ± {self.half_width:.3f} in the mean, {self.tasks} tasks."
        )


def interval_coverage(errors: Sequence[Array], target: float = conformal.TARGET) -> IntervalCoverage:
    """How often intervals hold that are made from the other tasks' left-out errors.

    Args:
        errors: of each task, `(n,)`, as `LeftOut` has them.
        target: the coverage asked for.

    Raises:
        DataError: fewer than two tasks with errors.
    """
    usable = [task for task in errors if len(task)]
    if len(usable) < 2:
        raise DataError(f"{len(usable)} tasks have left-out errors; expected at least 2")
    widths = [conformal.half_width([*usable[:at], *usable[at + 1 :]], target) for at in range(len(usable))]
    held = [float((np.abs(task) <= width).mean()) for task, width in zip(usable, widths, strict=True)]
    width = float(np.mean(widths))
    return IntervalCoverage(target, float(np.mean(held)), min(held), width if width < np.inf else None, len(usable))


def moved(values: Array, errors: Sequence[Array], reached: Array | None) -> tuple[Array, list[Array]]:
    """Expected values, moved by what feedback says of the task's level; and the left-out errors of tasks moved so too.

    The mean miss of `m` measured models, shrunk by m / (m + σ²/τ²), where τ² is the variance of the tasks' mean misses
    and σ² that of misses within a task (the best linear predictor of a random effect). A miss beyond all that the other
    tasks have shown counts as the largest of these: one fine-tune that failed does not make a task hopeless. Each other
    task is moved by `m` of its own models, drawn once, so that the interval is that of an answer with feedback. Nothing
    moves with fewer than nine other tasks.

    Args:
        values: `(M,)`, before.
        errors: of each left-out task, expected minus reached.
        reached: `(M,)`, what was measured on the task; NaN for the others; None for nothing.
    """
    known = np.zeros(len(values), np.bool_) if reached is None else ~np.isnan(reached) & ~np.isnan(values)
    count = int(known.sum())
    usable = [task for task in errors if len(task) > count]
    if reached is None or not count or len(usable) < LEAST_TASKS:
        return values, list(errors)
    within = float(np.mean([task.var(ddof=1) if len(task) > 1 else 0.0 for task in usable]))
    each = within * float(np.mean([1 / len(task) for task in usable]))
    between = max(float(np.var([task.mean() for task in usable], ddof=1)) - each, 0.0)
    if between + within <= 0:
        return values, list(errors)
    weight = count * between / (count * between + within)
    most = max(float(np.abs(task).max()) for task in usable)
    missed = float(np.clip((values - reached)[known], -most, most).mean())
    rng = random_stream("models with feedback", count)
    after = []
    for task in errors:
        drawn = rng.permutation(len(task))
        told, rest = task[drawn[:count]], task[drawn[count:]]
        after.append(rest - weight * told.mean() if len(rest) else rest)
    return values - weight * missed, after


def _said(stacker: Stacker, visible: Visible, rows: TrainingRows, levels: Sequence[str]) -> tuple[StackedScores, Array]:
    """The stack's answer for the view's task and the expected values `(M,)`, NaN for no evidence."""
    tasks = [int(task) for task in np.unique(rows.tasks)]
    scores = _scores_without(stacker, rows, tasks)
    features = np.empty((len(scores), 2 + 2 * len(levels)))
    for task in tasks:
        inside, models = rows.tasks == task, rows.only(task).models
        placed = np.full(len(visible.history), np.nan)
        placed[models] = scores[inside]
        features[inside] = _features(visible.inside(task), placed, levels)[models]
    scale = _Scale.of(features)
    answer = stacker.score(visible, rows)
    fit = PatternRidge(scale.apply(features), rows.outcomes, rows.tasks, PENALTY)
    values = fit.predict(scale.apply(_features(visible, answer.scores.values, levels))).values
    values[~answer.scores.known] = np.nan
    return answer, values


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
