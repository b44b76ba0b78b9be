"""Every method on the same folds: values of each task, intervals over tasks, and differences to the average rank."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deepfm.errors import DataError
from deepfm.model_selection.methods import AVERAGE_RANK, Method
from deepfm.model_selection.metrics import METRICS
from deepfm.model_selection.protocols import Evidence, Protocol, folds
from deepfm.model_selection.scores import RankedScores
from deepfm.reporting.tables import Column, Table
from deepfm.statistics import Interval, bootstrap_mean, paired_bootstrap

Array = NDArray[np.float64]
SHOWN = ("weighted tau", "Spearman", "regret@1", "regret@5", "recall@5")
LEAST_JUDGED = 2


@dataclass(frozen=True, eq=False)
class Leaderboard:
    """What every method reached on every task.

    Args:
        protocol: how evidence was hidden.
        tasks: the judged tasks.
        values: method -> metric -> `(T,)`.
        scores: method -> `(M, T)`, the scores themselves, for other uses.
        seconds: method -> CPU seconds of all folds.
        skipped: tasks without two judged models that differ.
    """

    protocol: Protocol
    tasks: tuple[str, ...]
    values: Mapping[str, Mapping[str, Array]]
    scores: Mapping[str, Array]
    seconds: Mapping[str, float]
    skipped: tuple[str, ...]

    def mean(self, method: str, metric: str) -> float:
        """The mean over tasks."""
        return float(self._of(method, metric).mean())

    def interval(self, method: str, metric: str, seed: int = 0) -> Interval:
        """The mean over tasks with its bootstrap interval."""
        return bootstrap_mean(self._of(method, metric), seed=seed)

    def difference(self, method: str, metric: str, reference: str = AVERAGE_RANK.name, seed: int = 0) -> Interval:
        """The paired difference to another method on the same tasks, with its bootstrap interval."""
        return paired_bootstrap(self._of(method, metric), self._of(reference, metric), seed=seed)

    def table(self, metrics: Sequence[str] = SHOWN, reference: str = AVERAGE_RANK.name) -> Table:
        """A row a method: means with intervals over tasks, and the first metric's difference to `reference`."""
        better = {metric: "low" if metric.startswith("regret") else "high" for metric in metrics}
        columns = [Column("method")]
        for metric in metrics:
            columns += [Column(metric, format=".3f", better=better[metric]), Column(f"{metric} 95 %", "right")]  # type: ignore[arg-type]
        if reference in self.values:
            columns.append(Column(f"{metrics[0]} against {reference}", "right"))
        columns.append(Column("CPU s", format=".2f"))
        rows = []
        for method in self.values:
            row: list[str | float] = [method]
            for metric in metrics:
                found = self.interval(method, metric)
                row += [found.mean, f"[{found.low:.3f}, {found.high:.3f}]"]
            if reference in self.values:
                row.append("–" if method == reference else str(self.difference(method, metrics[0], reference)))  # noqa: RUF001
            rows.append([*row, self.seconds[method]])
        left_out = f"; left out, as nothing differs there: {', '.join(self.skipped)}" if self.skipped else ""
        return Table(
            columns, rows, f"{self.protocol}, mean over {len(self.tasks)} tasks, regret in the metric's unit{left_out}"
        )

    def _of(self, method: str, metric: str) -> Array:
        if method not in self.values:
            raise DataError(f"method {method!r} is not on the leaderboard; it has {', '.join(self.values)}")
        if metric not in self.values[method]:
            raise DataError(f"metric {metric!r} was not computed; there are {', '.join(self.values[method])}")
        return self.values[method][metric]


def evaluate(
    evidence: Evidence,
    methods: Sequence[Method],
    protocol: Protocol = "unseen task",
    tasks: Sequence[str] | None = None,
    judged: NDArray[np.bool_] | None = None,
    metrics: Sequence[str] = tuple(METRICS),
) -> Leaderboard:
    """Rank the models of every task by every method, with the task, the family or both hidden.

    Args:
        evidence: all that is known.
        methods: of names that differ.
        protocol: what is hidden.
        tasks: the tasks to judge by; the others are history alone. None for all.
        judged: `(M, T)`, which models count on which task; None for all that were measured.
        metrics: names of `METRICS`.

    Raises:
        DataError: two methods of one name, an unknown metric, a method whose scores have the wrong length, or no task
            to judge by.
    """
    names = [method.name for method in methods]
    if len(set(names)) < len(names) or not names:
        raise DataError(f"the leaderboard has the methods {', '.join(names) or 'none'}; expected names that differ")
    if strange := [metric for metric in metrics if metric not in METRICS]:
        raise DataError(f"metric {strange[0]!r} is unknown; expected some of {', '.join(METRICS)}")
    truth = np.array(evidence.outcomes, np.float64)
    if judged is not None:
        truth[~judged] = np.nan
    scores = {name: np.full(truth.shape, np.nan) for name in names}
    seconds = dict.fromkeys(names, 0.0)
    held = folds(evidence, protocol, tasks)
    for fold, models in held:
        visible = evidence.seen(fold)
        for method in methods:
            start = time.process_time()
            answer = method.scores(visible)
            seconds[method.name] += time.process_time() - start
            if len(answer) != len(truth):
                raise DataError(f"method {method.name!r} gave {len(answer)} scores for {len(truth)} models")
            scores[method.name][models, fold.task] = answer.values[models]
    wanted = sorted({fold.task for fold, _ in held})
    usable = [task for task in wanted if _differ(truth[:, task])]
    if not usable:
        raise DataError("no task has two judged models that differ, so nothing can be compared; add outcomes")
    values = {
        name: {
            metric: np.array([METRICS[metric](truth[:, task], RankedScores(found[:, task])) for task in usable])
            for metric in metrics
        }
        for name, found in scores.items()
    }
    skipped = tuple(evidence.tasks[task] for task in wanted if task not in usable)
    return Leaderboard(protocol, tuple(evidence.tasks[task] for task in usable), values, scores, seconds, skipped)


def _differ(values: Array) -> bool:
    known = values[~np.isnan(values)]
    return len(known) >= LEAST_JUDGED and float(np.ptp(known)) > 0
