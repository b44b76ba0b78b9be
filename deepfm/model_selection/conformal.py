"""Intervals that hold for a new task: quantiles of what was missed on the others, each task counting as one."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from deepfm.errors import DataError

Array = NDArray[np.float64]
TARGET = 0.9


def half_width(misses: Sequence[Array], target: float = TARGET) -> float:
    """How far to either side an interval must reach to hold a model of a new task with the probability `target`.

    The errors of one task hang together, so tasks are what is exchangeable: each of T tasks gives its absolute errors
    the weight 1 / (T + 1) together, and the new task's 1 / (T + 1) lies at infinity (hierarchical conformal prediction,
    Lee, Barber and Willett, 2023). The errors should be those of a fit that left their task out.

    Args:
        misses: for each task the errors of its models, `(n,)`, n at least 1.
        target: such as .9.

    Returns:
        The half-width in the errors' unit; infinite where there are too few tasks, fewer than 9 for 90 %.

    Raises:
        DataError: a task without errors, an error that is not finite, or a target outside 0 to 1.
    """
    _check(target)
    if any(not len(errors) or not np.isfinite(errors).all() for errors in misses):
        raise DataError("a task has no error, or one that is not finite; leave out tasks without outcomes")
    if not misses:
        return math.inf
    sizes = np.concatenate([np.abs(np.asarray(errors, np.float64)) for errors in misses])
    weights = np.concatenate([np.full(len(errors), 1 / len(errors)) for errors in misses]) / (len(misses) + 1)
    order = np.argsort(sizes, kind="stable")
    reached = np.cumsum(weights[order])
    enough = np.flatnonzero(reached >= target - 1e-12)
    return float(sizes[order][enough[0]]) if len(enough) else math.inf


def models_to_try(positions: Sequence[int], models: int, target: float = TARGET) -> int | None:
    """The smallest k such that the k best-scored models hold the best one with the probability `target`.

    Args:
        positions: for each of T other tasks, ranked without its own outcomes, the place from 1 of the truly best model.
        models: how many there are to choose from.
        target: such as .9.

    Returns:
        The ⌈(T + 1) · target⌉-th smallest position (split conformal prediction over tasks); None, no evidence, where
        there are too few tasks, fewer than 9 for 90 %.

    Raises:
        DataError: a position outside 1 to `models`, or a target outside 0 to 1.
    """
    _check(target)
    if any(not 1 <= position <= models for position in positions):
        raise DataError(f"a position of the best model is outside 1 to {models}: {sorted(positions)}")
    needed = math.ceil((len(positions) + 1) * target - 1e-9)
    return None if needed > len(positions) else sorted(positions)[needed - 1]


def position_of_best(truth: Array, values: Array) -> int:
    """The place, from 1, of the truly best model by scores `(N,)` without NaN; ties count against it.

    Where several models are truly best, it is the place of the one that comes first. NaN truths are left out.

    Raises:
        DataError: nothing was measured.
    """
    known = ~np.isnan(truth)
    if not known.any():
        raise DataError("no truth is known, so there is no best model; leave the task out")
    true, scores = truth[known], values[known]
    return int((scores >= scores[true == true.max()].max()).sum())


def _check(target: float) -> None:
    if not 0 < target < 1:
        raise DataError(f"target coverage {target} is outside 0 to 1; expected a share such as .9")
