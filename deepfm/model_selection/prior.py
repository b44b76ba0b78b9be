"""What the history of other tasks says of each model, without any look at the task at hand.

All functions take a history `(M, T)`, NaN where nobody measured, of the tasks that may be seen, and give `(M,)` scores,
higher is better, NaN for a model without history. Tasks differ in level and spread, so values are made comparable
within each task first.
"""

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepfm.errors import DataError

Kind = Literal["rank", "z", "value", "normal"]
Array = NDArray[np.float64]

SHRINKAGE = 0.5  # of how many tasks at the average a model's history is joined


def within_tasks(history: ArrayLike, kind: Kind) -> Array:
    """Each task's values made comparable, `(M, T)`.

    Args:
        history: `(M, T)`.
        kind: "rank" gives the share of models below, centred, from -.5 to .5; "z" the distance to the task's mean in
            standard deviations; "normal" the normal score of the rank (van der Waerden), which one failed fine-tune
            cannot drag; "value" the values as they are.

    Raises:
        DataError: the history is no matrix, or the kind is unknown.
    """
    values = np.asarray(history, np.float64)
    if values.ndim != 2:
        raise DataError(f"a history has the shape {values.shape}; expected models by tasks, (M, T)")
    if kind == "value":
        return values
    if kind not in ("rank", "z", "normal"):
        raise DataError(f"history of kind {kind!r} is unknown; expected 'rank', 'z', 'value' or 'normal'")
    alone = (~np.isnan(values)).sum(axis=0) < 2  # one value is above or below nothing
    columns = [_standardised(values[:, task], kind) for task in range(values.shape[1])]
    return np.where(alone, np.nan, np.column_stack(columns).reshape(values.shape))


def standard_scores(values: Array) -> Array:
    """Distances to the mean in standard deviations, `(M,)`; 0 where all are alike, NaN where there is none."""
    return _standardised(values, "z")


def normal_scores(values: Array) -> Array:
    """Normal scores of the ranks, `(M,)`, NaN where there is no value."""
    return _standardised(values, "normal")


def shrunken_mean(relative: Array, shrinkage: float = SHRINKAGE) -> Array:
    """The mean over tasks of comparable values `(M, T)`, drawn to the mean of all models by few observations.

    With n observations it is `(n · own mean + shrinkage · mean of all) / (n + shrinkage)`.
    """
    known = ~np.isnan(relative)
    count = known.sum(axis=1)
    if not known.any():
        return np.full(len(relative), np.nan)
    centre = float(relative[known].mean())
    total = np.where(known, relative, 0.0).sum(axis=1)
    return np.where(count > 0, (total + shrinkage * centre) / np.maximum(count + shrinkage, 1e-12), np.nan)


def average_rank(history: ArrayLike, shrinkage: float = SHRINKAGE) -> Array:
    """The mean rank over tasks: the baseline that most published scores do not beat (Singh et al., 2026)."""
    return shrunken_mean(within_tasks(history, "rank"), shrinkage)


def average_z(history: ArrayLike, shrinkage: float = SHRINKAGE) -> Array:
    """The mean z-score over tasks."""
    return shrunken_mean(within_tasks(history, "z"), shrinkage)


def average_value(history: ArrayLike) -> Array:
    """The mean value over tasks, in their unit; with gaps, of what the additive model of model and task leaves.

    A model that was measured on the easy tasks alone is no better for it.
    """
    values = within_tasks(history, "value")
    known = ~np.isnan(values)
    if not known.any():
        return np.full(len(values), np.nan)
    _, by_model, by_task = additive_fit(values)
    seen = known.any(axis=0)
    return by_model + by_task[seen].mean()


def task_weighted(
    history: ArrayLike, similarity: ArrayLike, neighbours: int = 5, shrinkage: float = SHRINKAGE
) -> Array:
    """The mean z-score over the tasks most like the one at hand.

    The nearest `neighbours` tasks weigh by the softmax of their standardised similarities; the average z-score of all
    tasks joins with the weight `shrinkage` over the number of neighbours.

    Args:
        history: `(M, T)`.
        similarity: `(T,)` of each task to the one at hand, on any scale; NaN for a task that must not count.
        neighbours: how many tasks count.

    Raises:
        DataError: not one similarity a task, or fewer than one neighbour.
    """
    return near_mean(within_tasks(history, "z"), similarity, neighbours, shrinkage)


def near_mean(relative: Array, similarity: ArrayLike, neighbours: int = 5, shrinkage: float = SHRINKAGE) -> Array:
    """As `task_weighted`, of values `(M, T)` that are comparable already."""
    near = np.asarray(similarity, np.float64)
    if near.shape != (relative.shape[1],) or neighbours < 1:
        raise DataError(
            f"{relative.shape[1]} tasks have similarities of the shape {near.shape} and {neighbours} neighbours count; "
            "expected one similarity a task and at least one neighbour"
        )
    usable = ~np.isnan(near) & ~np.isnan(relative).all(axis=0)
    average = shrunken_mean(relative, shrinkage)
    if not usable.any():
        return average
    scaled = standard_scores(np.where(usable, near, np.nan))
    chosen = np.argsort(-np.where(usable, scaled, -np.inf), kind="stable")[: min(neighbours, int(usable.sum()))]
    weights = np.exp(scaled[chosen] - scaled[chosen].max())
    weights /= weights.sum()
    known = ~np.isnan(relative[:, chosen])
    joined = shrinkage / neighbours
    total = np.where(known, relative[:, chosen], 0.0) @ weights + joined * np.nan_to_num(average)
    return np.where(np.isnan(average), np.nan, total / (known @ weights + joined + 1e-12))


def low_rank(history: ArrayLike, rank: int = 3, penalty: float = 1.0, rounds: int = 50) -> Array:
    """The z-scores with every gap filled, `(M, T)`: soft-thresholded SVD (Mazumder, Hastie and Tibshirani, 2010).

    A model without any history stays NaN, and so does a task without any.

    Args:
        history: `(M, T)`.
        rank: how many directions are kept.
        penalty: what each singular value is reduced by.
        rounds: how often the gaps are filled anew.
    """
    relative = within_tasks(history, "z")
    known = ~np.isnan(relative)
    filled = np.where(known, relative, 0.0)
    fitted = np.zeros_like(filled)
    for _ in range(rounds):
        left, values, right = np.linalg.svd(np.where(known, relative, fitted), full_matrices=False)
        kept = np.maximum(values[:rank] - penalty, 0)
        fitted = (left[:, :rank] * kept) @ right[:rank]
    answer = np.where(known, relative, fitted)
    answer[~known.any(axis=1)] = np.nan
    answer[:, ~known.any(axis=0)] = np.nan
    return answer


def completed_average(history: ArrayLike, rank: int = 3, penalty: float = 1.0) -> Array:
    """The mean z-score over tasks once `low_rank` has filled the gaps, `(M,)`: for sparse histories."""
    return shrunken_mean(low_rank(history, rank, penalty), 0.0)


def additive_fit(values: Array, rounds: int = 200) -> tuple[float, Array, Array]:
    """The least-squares fit of `mean + model + task` to the known cells of `(M, T)`.

    Returns:
        The mean of the known cells, the effect of each model `(M,)` and of each task `(T,)`, the model effects of mean
        0; NaN where a model or a task has no cell. The mean is part of the task effects too: a cell is
        `model + task`.
    """
    known = ~np.isnan(values)
    cells = np.where(known, values, 0.0)
    by_model, by_task = np.zeros(values.shape[0]), np.zeros(values.shape[1])
    rows, columns = np.maximum(known.sum(axis=1), 1), np.maximum(known.sum(axis=0), 1)
    for _ in range(rounds):
        by_task = (cells.sum(axis=0) - known.T @ by_model) / columns
        moved = (cells.sum(axis=1) - known @ by_task) / rows
        done = np.abs(moved - by_model).max(initial=0.0) < 1e-12
        by_model = moved
        if done:
            break
    seen = known.any(axis=1)
    shift = by_model[seen].mean() if seen.any() else 0.0
    return (
        float(values[known].mean()) if known.any() else np.nan,
        np.where(seen, by_model - shift, np.nan),
        np.where(known.any(axis=0), by_task + shift, np.nan),
    )


def _standardised(values: Array, kind: Kind) -> Array:
    known = ~np.isnan(values)
    answer = np.full(len(values), np.nan)
    count = int(known.sum())
    if count == 0:
        return answer
    if kind == "z":
        spread = float(values[known].std())
        flat = spread <= 1e-12 * max(1.0, float(np.abs(values[known]).max()))
        answer[known] = 0.0 if flat else (values[known] - values[known].mean()) / spread
        return answer
    from scipy.special import ndtri

    ordered = np.sort(values[known])
    below, up_to = (np.searchsorted(ordered, values[known], side) for side in ("left", "right"))
    share = (below + up_to) / 2 / count  # the mean rank of the tied, less a half, as a share
    answer[known] = share - 0.5 if kind == "rank" else ndtri(share)
    return answer
