"""Rankers by fold: one network for each set of hidden tasks and models, which never saw any of these.

Where a family of models is hidden, its whole group of families is, so that all folds of a group share a network that
saw less than it might have.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from deepfm.model_selection.network_settings import RankerSettings
from deepfm.model_selection.protocols import Evidence, Fold
from deepfm.model_selection.ranker import SimilarityTransformerModel
from deepfm.model_selection.ranker_stack import train_rankers
from deepfm.model_selection.ranker_task import score, train_ranker
from deepfm.model_selection.ranking_lists import RankingList
from deepfm.model_selection.tokens.dataset_tokens import DatasetTokens

Array = NDArray[np.float64]
Watch = Callable[[int], None]
GROUPS = 4


class FoldRankers:
    """Trains a ranker when a fold is first asked for, many at once where they are prepared, and keeps their scores.

    Args:
        evidence: whose outcomes are learned, but for what a fold hides.
        tokens: of each task of the evidence; None for one whose data were not seen, which is neither learned from nor
            scored.
        embeddings: `(M, E)`, NaN for a model without one, which is not scored.
        settings: of the ranker.
        seed: of its training.
        groups: of families, where families are hidden.
        watch: told how many networks have been trained.

    Example:
        >>> rankers = FoldRankers(evidence, tokens, embeddings, settings)  # doctest: +SKIP
        >>> rankers(fold).shape  # doctest: +SKIP
        (60,)
    """

    def __init__(
        self,
        evidence: Evidence,
        tokens: Sequence[DatasetTokens | None],
        embeddings: NDArray[np.floating],
        settings: RankerSettings,
        *,
        seed: int = 0,
        groups: int = GROUPS,
        watch: Watch = lambda _: None,
    ) -> None:
        self.evidence, self.tokens, self.settings, self.seed, self.watch = evidence, tokens, settings, seed, watch
        self.known = np.isfinite(embeddings).all(axis=1)
        self.embeddings = np.asarray(embeddings, np.float32)[self.known]
        names = sorted(set(evidence.families))
        self._group = {name: at % groups for at, name in enumerate(names)}
        self._kept: dict[tuple[frozenset[int], frozenset[int]], dict[int, Array]] = {}

    def __call__(self, fold: Fold) -> Array:
        """The scores `(M,)` of the fold's task; NaN for models without an embedding, and for a task without tokens."""
        key = fold.hidden_tasks, self._hidden(fold)
        self.prepare([fold])
        nothing = np.full(len(self.known), np.nan)
        return self._kept[key].get(fold.task, nothing)

    def prepare(self, folds: Sequence[Fold]) -> None:
        """Train what these folds need and is not there, all networks together."""
        needed = dict.fromkeys((fold.hidden_tasks, self._hidden(fold)) for fold in folds)
        keys = [key for key in needed if key not in self._kept]
        if not keys:
            return
        lists = self.lists(frozenset())
        names = [self.evidence.tasks.index(one.name) for one in lists]
        places = np.flatnonzero(self.known)
        hidden = []
        for tasks, models in keys:
            rows = np.isin(names, list(tasks))[:, None] | np.isin(places, list(models))[None]
            hidden.append(np.broadcast_to(rows, (len(lists), len(places))).copy())
        for key, model in zip(keys, train_rankers(lists, hidden, self.settings, seed=self.seed), strict=True):
            wanted = key[0] or range(len(self.tokens))
            self._kept[key] = {task: self.of(model, its) for task in wanted if (its := self.tokens[task]) is not None}
        self.watch(len(self._kept))

    def lists(self, hidden_tasks: frozenset[int], hidden_models: frozenset[int] = frozenset()) -> list[RankingList]:
        """What may be learned from: tasks with tokens, without what is hidden."""
        outcomes = np.array(self.evidence.outcomes, np.float64)
        outcomes[list(hidden_models)] = np.nan
        found = []
        for task, its in enumerate(self.tokens):
            if task in hidden_tasks or its is None or (~np.isnan(outcomes[self.known, task])).sum() < 2:
                continue
            name = self.evidence.tasks[task]
            found.append(RankingList(name, its.tokens[its.mask], self.embeddings, outcomes[self.known, task]))
        return found

    def trained(self, hidden_tasks: frozenset[int], hidden_models: frozenset[int]) -> SimilarityTransformerModel:
        """The ranker of everything that is not hidden."""
        return train_ranker(self.lists(hidden_tasks, hidden_models), self.settings, seed=self.seed)

    def _hidden(self, fold: Fold) -> frozenset[int]:
        """The fold's models, and all models of the groups that their families are in."""
        families = self.evidence.families
        if not fold.hidden_models or not families:
            return fold.hidden_models
        groups = {self._group[families[model]] for model in fold.hidden_models}
        return frozenset(model for model, name in enumerate(families) if self._group[name] in groups)

    def of(self, model: SimilarityTransformerModel, tokens: DatasetTokens) -> Array:
        """A ranker's scores `(M,)` for a data set."""
        found = np.full(len(self.known), np.nan)
        found[self.known] = score(model, tokens.tokens[tokens.mask], self.embeddings)
        return found
