"""Where outcomes vary: by task, by model, by which model suits which task, or by the seed alone."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deepfm.errors import DataError
from deepfm.model_selection.metrics import weighted_tau
from deepfm.model_selection.prior import additive_fit
from deepfm.model_selection.scores import RankedScores

Array = NDArray[np.float64]
LITTLE = 0.1


@dataclass(frozen=True)
class VarianceShares:
    """Components of variance, in the metric's unit squared.

    Args:
        task: how hard tasks are.
        model: how good models are everywhere.
        interaction: which model suits which task, seed noise taken off where it is known.
        noise: of one seed; None where every cell has one value.
        task_count, model_count: what it rests on.
    """

    task: float
    model: float
    interaction: float
    noise: float | None
    task_count: int
    model_count: int

    @property
    def interaction_share(self) -> float:
        """The share of the variance between models within a task that is interaction, from 0 to 1."""
        within = self.model + self.interaction
        return self.interaction / within if within > 0 else 0.0

    def sentence(self) -> str:
        """What it means for a recommendation."""
        share = f"{self.interaction_share:.0%}"
        mixed = "" if self.noise is not None else ", seed noise included, as there is one value a cell"
        if self.interaction_share < LITTLE:
            return (
                f"Interaction of model and task is {share} of the variance within a task{mixed}: one fixed order of "
                "models is near the best on every task, and a recommendation by task can add little."
            )
        return (
            f"Interaction of model and task is {share} of the variance within a task{mixed}: which model is best "
            "depends on the task, and no fixed order can be right everywhere."
        )


def variance_shares(values: Array) -> VarianceShares:
    """Components by the method of moments: a two-way analysis of variance with seeds as replicates.

    Args:
        values: `(M, T, S)`, NaN for gaps. With gaps the additive part is fitted by least squares, and components are
            those of the mean number of seeds a cell and cells a row.

    Raises:
        DataError: fewer than two models or tasks with outcomes.
    """
    if values.ndim != 3:
        raise DataError(f"values have the shape {values.shape}; expected models by tasks by seeds, (M, T, S)")
    count = (~np.isnan(values)).sum(axis=2)
    known = count > 0
    rows, columns = known.any(axis=1), known.any(axis=0)
    models, tasks = int(rows.sum()), int(columns.sum())
    if models < 2 or tasks < 2:
        raise DataError(f"outcomes of {models} models on {tasks} tasks; expected at least two of each for an analysis")
    cells = np.where(known, np.nansum(values, axis=2) / np.maximum(count, 1), np.nan)
    noise = None
    if (count > 1).any():
        squares = np.nansum((values - cells[:, :, None]) ** 2, axis=2)
        noise = float(squares[count > 1].sum() / (count[count > 1] - 1).sum())
    _, by_model, by_task = additive_fit(cells)
    residual = (cells - by_model[:, None] - by_task[None, :])[known]
    free = max(int(known.sum()) - models - tasks + 1, 1)
    residual_mean = float((residual**2).sum() / free)
    seeds = float(1 / np.mean(1 / count[known]))
    interaction = max(residual_mean - (noise / seeds if noise is not None else 0.0), 0.0)
    share_of = residual_mean / int(known.sum())  # what the sampling error of an effect is, times their number
    model = max(float(np.var(by_model[rows], ddof=1)) - share_of * models, 0.0)
    task = max(float(np.var(by_task[columns], ddof=1)) - share_of * tasks, 0.0)
    return VarianceShares(task, model, interaction, noise, tasks, models)


def seed_ceiling(values: Array) -> float:
    """The weighted tau (symmetric) of one seed's outcomes against the mean of the others, over tasks and seeds.

    No ranking by outcomes can be expected to do much better than a repeat of the experiment does.

    Args:
        values: `(M, T, S)`.

    Raises:
        DataError: no task has two seeds of two models that differ.
    """
    found = []
    for task in range(values.shape[1]):
        for seed in range(values.shape[2]):
            one, rest = values[:, task, seed], np.delete(values[:, task], seed, axis=1)
            both = ~np.isnan(one) & ~np.isnan(rest).all(axis=1)
            if both.sum() < 2:
                continue
            others = np.nanmean(rest[both], axis=1)
            if np.ptp(others) > 0:
                found.append(weighted_tau(others, RankedScores(one[both])))
    if not found:
        raise DataError("no task has outcomes of two models with two seeds, so there is no seed ceiling; add seeds")
    return float(np.mean(found))
