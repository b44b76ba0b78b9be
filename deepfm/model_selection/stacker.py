"""The stack: history, probes and other rankers, joined by weights that are learned on other tasks.

Each feature is z-scored within its task, over the models that have it, and the target is the normal score of a model's
outcome there: ranks are judged, and one failed fine-tune must not set the scale. Every training task's features are
those that a method would have had, had that task been the new one (its own outcomes hidden, besides the held-out
ones), so history is never flattered.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepfm.engine.settings import setting
from deepfm.errors import DataError
from deepfm.model_selection import prior
from deepfm.model_selection.pattern_ridge import PatternRidge, Prediction
from deepfm.model_selection.protocols import GivenScores, Visible
from deepfm.model_selection.scores import RankedScores
from deepfm.utils.io import load_arrays, save_arrays

Array = NDArray[np.float64]
ARRAYS = ("features", "outcomes", "tasks", "models", "targets")
HISTORIES = ("rank", "z", "value", "alike")


@dataclass(frozen=True)
class StackerSettings:
    """What the stack joins, and how.

    Args:
        history: summaries of the history: the average rank, z-score and value, and "alike", the z-score over similar
            tasks, which is used where similarities are known. On the two published tables the rank alone does as well
            as all three, and is the easiest to explain.
        probes: the probes by name; None for all that the evidence has.
        penalty: on squared weights. From .003 to .05 the weighted tau on TransferGraph is .525 to .526 and the one by
            truth on Model Spider's table .805 to .811.
        non_negative: keep weights from 0, as every feature is "higher is better"; signs left free cost Model Spider's
            table .03 to .08 of weighted tau.
    """

    history: tuple[str, ...] = setting(("rank", "alike"), choices=HISTORIES)
    probes: tuple[str, ...] | None = None
    penalty: float = setting(0.02, at_least=0.0)
    non_negative: bool = True


@dataclass(frozen=True, eq=False)
class StackedScores:
    """The stack's answer for a task, and what it rests on.

    Args:
        scores: expected normal score of each model, `(M,)`, NaN for no evidence.
        features: F names.
        contributions: `(M, F)`, what each feature adds to the score; 0 where it was not there.
        used: `(M, F)`, which features each model's score rests on.
    """

    scores: RankedScores
    features: tuple[str, ...]
    contributions: Array
    used: NDArray[np.bool_]

    def missing(self, model: int) -> tuple[str, ...]:
        """The features that a model's score had to do without."""
        return tuple(name for name, has in zip(self.features, self.used[model], strict=True) if not has)


@dataclass(frozen=True, eq=False)
class TrainingRows:
    """What the stack learns from: one row a model and training task.

    Args:
        names: F features.
        features: `(R, F)`, z-scored within tasks, NaN where absent.
        outcomes: `(R,)`, what the models reached, in the metric's unit.
        tasks: `(R,)`, indices of tasks.
        models: `(R,)`, indices of models.
        targets: `(R,)`, normal scores of the outcomes within their tasks.
    """

    names: tuple[str, ...]
    features: Array
    outcomes: Array
    tasks: NDArray[np.int64]
    models: NDArray[np.int64]
    targets: Array

    def without(self, task: int) -> "TrainingRows":
        """The rows of all other tasks."""
        return self._kept(self.tasks != task)

    def only(self, task: int) -> "TrainingRows":
        """The rows of one task."""
        return self._kept(self.tasks == task)

    def _kept(self, rows: NDArray[np.bool_]) -> "TrainingRows":
        return TrainingRows(self.names, *(getattr(self, name)[rows] for name in ARRAYS))

    def save(self, path: Path) -> None:
        """Write the rows as `.npz`, whole or not at all."""
        save_arrays(
            path,
            {"names": np.array(self.names, np.str_), **{name: getattr(self, name) for name in ARRAYS}},
        )

    @classmethod
    def load(cls, path: Path) -> "TrainingRows":
        """Read what `save` wrote.

        Raises:
            RunError: the file is missing or damaged.
            DataError: it holds something else.
        """
        arrays = load_arrays(path, "rows of the stacker")
        if missing := {"names", *ARRAYS} - set(arrays):
            raise DataError(f"{path} holds no rows of the stacker (no {sorted(missing)[0]!r}); train the stacker again")
        return cls(
            tuple(str(name) for name in arrays["names"]),
            *(arrays[name] for name in ARRAYS),
        )


@dataclass(frozen=True, eq=False)
class Stacker:
    """Learns weights on training rows and scores models of a new task.

    Args:
        settings: what is joined.
        given: further scores by name, such as a neural ranker's; called for the fold and for every training task inside
            it, each with what must stay hidden.
    """

    settings: StackerSettings = field(default_factory=StackerSettings)
    given: Mapping[str, GivenScores] = field(default_factory=dict)

    def features(self, visible: Visible) -> tuple[tuple[str, ...], Array]:
        """The features of the models for the view's task: names, and `(M, F)` z-scored, NaN where absent."""
        columns: dict[str, ArrayLike] = {}
        for kind in self.settings.history:
            if kind == "alike":
                if visible.similarity is not None:
                    columns["history of similar tasks"] = prior.near_mean(visible.relative("z"), visible.similarity)
            elif kind == "value":
                columns["average value"] = prior.average_value(visible.history)
            else:
                columns[f"average {kind}"] = prior.shrunken_mean(visible.relative(kind))  # type: ignore[arg-type]
        probes = tuple(visible.evidence.probes) if self.settings.probes is None else self.settings.probes
        columns |= {name: visible.probe(name) for name in probes}
        columns |= {name: scores(visible.fold) for name, scores in self.given.items()}
        if not columns:
            raise DataError("the stack has no feature; name a history, a probe or a ranker")
        scaled = [prior.standard_scores(np.asarray(column, np.float64)) for column in columns.values()]
        return tuple(columns), np.column_stack(scaled)

    def training_rows(self, visible: Visible) -> TrainingRows:
        """The rows of every task with visible outcomes, each as it would have looked as a new task.

        Raises:
            DataError: no task has two outcomes that differ.
        """
        features, outcomes, tasks, models, targets = [], [], [], [], []
        names: tuple[str, ...] = ()
        for task in visible.training_tasks():
            names, found = self.features(visible.inside(task))
            known = np.flatnonzero(~np.isnan(visible.history[:, task]))
            features.append(found[known])
            outcomes.append(visible.history[known, task])
            tasks.append(np.full(len(known), task))
            models.append(known)
            targets.append(prior.normal_scores(outcomes[-1]))
        if not tasks:
            raise DataError(
                "no task has two models with outcomes that differ, so no weight can be learned; add outcomes"
            )
        return TrainingRows(names, *(np.concatenate(parts) for parts in (features, outcomes, tasks, models, targets)))

    def fitted(self, rows: TrainingRows) -> PatternRidge:
        """The regression on training rows."""
        return PatternRidge(rows.features, rows.targets, rows.tasks, self.settings.penalty, self.settings.non_negative)

    def score(self, visible: Visible, rows: TrainingRows | None = None) -> StackedScores:
        """Score the models for the view's task.

        Args:
            visible: what may be seen.
            rows: training rows made before; they are made from the view where they are left out.

        Raises:
            DataError: there is nothing to learn from, or the rows are of other features.
        """
        names, features = self.features(visible)
        rows = self.training_rows(visible) if rows is None else rows
        if rows.names != names:
            raise DataError(
                f"the stacker was trained on {', '.join(rows.names)} and is to score by {', '.join(names)}; "
                "train it again"
            )
        return stacked(names, self.fitted(rows).predict(features))


def stacked(names: tuple[str, ...], prediction: Prediction) -> StackedScores:
    """A prediction of normal scores as the stack's answer."""
    return StackedScores(RankedScores(prediction.values), names, prediction.contributions, prediction.used)
