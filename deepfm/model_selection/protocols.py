"""What a method may see when it ranks models for a task: the folds, and the evidence with everything else hidden.

Never a split by image: a whole task is held out, a whole family of models, or both.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepfm.errors import DataError
from deepfm.model_selection.prior import Kind, within_tasks

Protocol = Literal["unseen task", "unseen family", "unseen family and task"]
PROTOCOLS: tuple[Protocol, ...] = ("unseen task", "unseen family", "unseen family and task")
Array = NDArray[np.float64]
LEAST_MODELS = 5


@dataclass(frozen=True, eq=False)
class Fold:
    """One task to rank models for, and what stays hidden meanwhile. Hashable, so that fits can be kept by fold.

    Args:
        task: the index of the task.
        hidden_tasks: indices of tasks of which no outcome may be seen; a fold that trains inside another hides that
            one's task too.
        hidden_models: indices of models of which no outcome may be seen, on any task.
    """

    task: int
    hidden_tasks: frozenset[int]
    hidden_models: frozenset[int] = frozenset()

    def _key(self) -> tuple[int, frozenset[int], frozenset[int]]:
        return self.task, self.hidden_tasks, self.hidden_models

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Fold) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())


@dataclass(frozen=True, eq=False)
class Evidence:
    """All that is known of models on tasks.

    Args:
        models: M names.
        tasks: T names.
        outcomes: `(M, T)`, higher is better; NaN where nobody measured.
        probes: scores by name, each `(M, T)`, NaN where a probe was not run. They look at a task's data, never at
            outcomes, so they are seen for held-out tasks too.
        families: `(M,)`, what was pre-trained alike; empty for unknown.
        similarity: `(T, T)` between the tasks' data, higher is nearer; None for unknown.

    Raises:
        DataError: a shape does not fit.
    """

    models: tuple[str, ...]
    tasks: tuple[str, ...]
    outcomes: Array
    probes: Mapping[str, Array] = field(default_factory=dict)
    families: tuple[str, ...] = ()
    similarity: Array | None = None

    def __post_init__(self) -> None:
        shape = (len(self.models), len(self.tasks))
        for name, values in {"outcomes": self.outcomes, **self.probes}.items():
            if np.shape(values) != shape:
                raise DataError(f"{name} have the shape {np.shape(values)}; expected models by tasks, {shape}")
        if self.families and len(self.families) != len(self.models):
            raise DataError(f"{len(self.models)} models have {len(self.families)} families; expected one each")
        if self.similarity is not None and np.shape(self.similarity) != (shape[1], shape[1]):
            raise DataError(f"the similarity of {shape[1]} tasks has the shape {np.shape(self.similarity)}")

    def fold(self, task: str) -> Fold:
        """The fold that holds one task out.

        Raises:
            DataError: the task is unknown.
        """
        if task not in self.tasks:
            raise DataError(f"task {task!r} is unknown; there are {', '.join(self.tasks)}")
        at = self.tasks.index(task)
        return Fold(at, frozenset({at}))

    def seen(self, fold: Fold) -> "Visible":
        """The evidence with the fold's tasks and models hidden."""
        outcomes = np.array(self.outcomes, np.float64)
        outcomes[:, list(fold.hidden_tasks)] = np.nan
        outcomes[list(fold.hidden_models)] = np.nan
        return Visible(replace(self, outcomes=outcomes), fold)

    def with_task(
        self, name: str, probes: Mapping[str, ArrayLike] | None = None, similarity: ArrayLike | None = None
    ) -> "Evidence":
        """The evidence with a task on which nothing was measured, such as a user's own.

        Args:
            name: of the task, new.
            probes: scores `(M,)` by name; absent ones count as not run.
            similarity: `(T,)` to the tasks so far.

        Raises:
            DataError: the name is taken, a probe is new, or a shape does not fit.
        """
        given = {} if probes is None else dict(probes)
        if name in self.tasks:
            raise DataError(f"task {name!r} is known already; give the new one another name")
        if strange := sorted(set(given) - set(self.probes)):
            raise DataError(f"probe {strange[0]!r} was run on no other task, so its weight is not known; leave it out")
        nothing = np.full(len(self.models), np.nan)

        def joined(values: Array, column: ArrayLike) -> Array:
            new = np.asarray(column, np.float64)
            if new.shape != nothing.shape:
                raise DataError(f"a column of task {name!r} has the shape {new.shape}; expected {nothing.shape}")
            return np.column_stack([values, new])

        wider = None
        if self.similarity is not None:
            near = np.full(len(self.tasks), np.nan) if similarity is None else np.asarray(similarity, np.float64)
            if near.shape != (len(self.tasks),):
                raise DataError(f"similarities to {len(self.tasks)} tasks have the shape {near.shape}")
            wider = np.block([[self.similarity, near[:, None]], [near[None], np.ones((1, 1))]])
        return replace(
            self,
            tasks=(*self.tasks, name),
            outcomes=joined(self.outcomes, nothing),
            probes={probe: joined(values, given.get(probe, nothing)) for probe, values in self.probes.items()},
            similarity=wider,
        )


@dataclass(frozen=True, eq=False)
class Visible:
    """What a method sees of a fold: its outcomes hold NaN wherever the fold hides them."""

    evidence: Evidence
    fold: Fold
    around: "Visible | None" = None  # the view that this one lies inside, which differs by one hidden column
    _relative: dict[Kind, Array] = field(default_factory=dict, repr=False)

    def relative(self, kind: Kind) -> Array:
        """The history made comparable within each task (`prior.within_tasks`), `(M, T)`, worked out once a fold."""
        if kind not in self._relative:
            if self.around is None:
                self._relative[kind] = within_tasks(self.history, kind)
            else:
                self._relative[kind] = np.array(self.around.relative(kind))
                self._relative[kind][:, self.fold.task] = np.nan
        return self._relative[kind]

    @property
    def history(self) -> Array:
        """Outcomes `(M, T)`; the column of the fold's task and all else that is hidden is NaN."""
        return self.evidence.outcomes

    @property
    def similarity(self) -> Array | None:
        """`(T,)` of the tasks to the fold's task, NaN for hidden ones; None for unknown."""
        if self.evidence.similarity is None:
            return None
        near = np.array(self.evidence.similarity[self.fold.task], np.float64)
        near[list(self.fold.hidden_tasks | {self.fold.task})] = np.nan
        return near

    def probe(self, name: str) -> Array:
        """A probe's scores on the fold's task, `(M,)`.

        Raises:
            DataError: there is no such probe.
        """
        if name not in self.evidence.probes:
            has = ", ".join(self.evidence.probes) or "none"
            raise DataError(f"probe {name!r} is not there; the evidence has {has}")
        return self.evidence.probes[name][:, self.fold.task]

    def training_tasks(self) -> list[int]:
        """The tasks with outcomes that differ of at least five models (of all, where there are fewer): those that
        weights can be learned from. A few models' feedback counts in the history alone.
        """
        values = self.history
        least = max(2, min(LEAST_MODELS, len(values)))
        usable = []
        for task in range(values.shape[1]):
            known = values[~np.isnan(values[:, task]), task]
            if len(known) >= least and np.ptp(known) > 0:
                usable.append(task)
        return usable

    def inside(self, task: int) -> "Visible":
        """The view for ranking a training task: its own outcomes are hidden besides all that is hidden here."""
        fold = Fold(task, self.fold.hidden_tasks | {task}, self.fold.hidden_models)
        outcomes = np.array(self.history)
        outcomes[:, task] = np.nan
        return Visible(replace(self.evidence, outcomes=outcomes), fold, self)


GivenScores = Callable[[Fold], ArrayLike]
"""Scores `(M,)` of a method that is trained elsewhere, for a fold whose hidden tasks and models it never saw."""


def folds(evidence: Evidence, protocol: Protocol, tasks: Sequence[str] | None = None) -> list[tuple[Fold, list[int]]]:
    """The folds of a protocol, each with the models that are judged in it.

    "unseen task" hides one task and judges all models; "unseen family" hides one family everywhere and judges it on
    each task; "unseen family and task" hides both. Of the latter two, a task's families are put together to one list,
    so scores of different folds must be on one scale.

    Raises:
        DataError: the protocol or a task is unknown, or families are needed and not known.
    """
    if protocol not in PROTOCOLS:
        raise DataError(f"protocol {protocol!r} is unknown; expected one of {', '.join(PROTOCOLS)}")
    held = [evidence.fold(task) for task in (evidence.tasks if tasks is None else tasks)]
    if protocol == "unseen task":
        return [(fold, list(range(len(evidence.models)))) for fold in held]
    names = sorted(set(evidence.families))
    if len(names) < 2:
        raise DataError(f"protocol {protocol!r} needs at least two families of models; the evidence has {len(names)}")
    hides = protocol == "unseen family and task"
    found = []
    for fold in held:
        for name in names:
            family = [model for model, its in enumerate(evidence.families) if its == name]
            hidden = fold.hidden_tasks if hides else frozenset[int]()
            found.append((Fold(fold.task, hidden, frozenset(family)), family))
    return found
