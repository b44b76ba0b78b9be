"""The methods that a leaderboard compares: baselines, probes, their sum, the stack, and what is trained elsewhere."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from deepfm.model_selection import prior
from deepfm.model_selection.protocols import GivenScores, Visible
from deepfm.model_selection.scores import RankedScores
from deepfm.model_selection.stacker import Stacker
from deepfm.utils.seeding import random_stream


class Method(Protocol):
    """Ranks the models for a fold's task by what is visible."""

    @property
    def name(self) -> str:
        """What it is called in tables."""
        ...

    def scores(self, visible: Visible) -> RankedScores:
        """A score for every model, NaN where there is no evidence."""
        ...


@dataclass(frozen=True)
class FromHistory:
    """A summary of the history alone: a function of `(M, T)` to `(M,)`."""

    name: str
    summary: Callable[[prior.Array], prior.Array]

    def scores(self, visible: Visible) -> RankedScores:
        """The summary of what is visible."""
        return RankedScores(self.summary(visible.history))


AVERAGE_RANK = FromHistory("average rank", prior.average_rank)
AVERAGE_Z = FromHistory("average z", prior.average_z)
AVERAGE_VALUE = FromHistory("average value", prior.average_value)
COMPLETED = FromHistory("low-rank completion", prior.completed_average)


@dataclass(frozen=True)
class SimilarTasks:
    """The history of the tasks whose data are most alike."""

    name: str = "similar tasks' history"
    neighbours: int = 5

    def scores(self, visible: Visible) -> RankedScores:
        """The weighted history; the average z-score where no similarity is known."""
        if visible.similarity is None:
            return RankedScores(prior.average_z(visible.history))
        return RankedScores(prior.task_weighted(visible.history, visible.similarity, self.neighbours))


@dataclass(frozen=True)
class OneProbe:
    """A probe alone, by its name in the evidence."""

    name: str

    def scores(self, visible: Visible) -> RankedScores:
        """The probe's scores on the task."""
        return RankedScores(visible.probe(self.name))


@dataclass(frozen=True)
class SumOfZ:
    """A probe plus the average rank, z-scored and added: the join without learned weights."""

    probe: str

    @property
    def name(self) -> str:
        """What it is called in tables."""
        return f"{self.probe} + average rank"

    def scores(self, visible: Visible) -> RankedScores:
        """The sum; of a model that has one of the two only, that one."""
        parts = [
            prior.standard_scores(visible.probe(self.probe)),
            prior.standard_scores(prior.average_rank(visible.history)),
        ]
        both = np.column_stack(parts)
        return RankedScores(np.where(np.isnan(both).all(axis=1), np.nan, np.nansum(both, axis=1)))


@dataclass(frozen=True)
class Stack:
    """The learned stack."""

    name: str = "stack"
    stacker: Stacker = field(default_factory=Stacker)

    def scores(self, visible: Visible) -> RankedScores:
        """Weights learned on the visible tasks, applied to the held-out one."""
        return self.stacker.score(visible).scores


@dataclass(frozen=True)
class Given:
    """Scores from elsewhere, such as a neural ranker that was trained for each fold."""

    name: str
    source: GivenScores

    def scores(self, visible: Visible) -> RankedScores:
        """What the source says for the fold, z-scored over all models so that folds are on one scale."""
        return RankedScores(prior.standard_scores(np.asarray(self.source(visible.fold), np.float64)))


@dataclass(frozen=True)
class Chance:
    """Random scores, a pure function of the seed and the fold."""

    seed: int = 0
    name: str = "chance"

    def scores(self, visible: Visible) -> RankedScores:
        """Uniform numbers."""
        hidden = sum(visible.fold.hidden_models)
        stream = random_stream("chance", self.seed, visible.fold.task, hidden)
        return RankedScores(stream.random(len(visible.history)))
