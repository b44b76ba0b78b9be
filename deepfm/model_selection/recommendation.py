"""Which models to try on a data set: the ranking, what each is expected to reach, and why."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepfm.errors import DataError
from deepfm.model_selection.asked import Question, ask
from deepfm.model_selection.budget import Budget, parse_budget
from deepfm.model_selection.embedding import LEVELS, require_embedded
from deepfm.model_selection.expected import LEAST_TASKS, expect
from deepfm.model_selection.fold_rankers import FoldRankers
from deepfm.model_selection.ranker_task import load_ranker
from deepfm.model_selection.scores import RankedScores
from deepfm.model_selection.selector import Selection, select
from deepfm.model_selection.settings import ModelSelectionSettings
from deepfm.model_selection.shelf import Shelf
from deepfm.model_selection.stacker import TrainingRows
from deepfm.model_selection.training import stage_key, trained
from deepfm.model_selection.variance import LITTLE, variance_shares

LITTLE_BY_SCORE = 1e-6

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Recommended:
    """One model.

    Args:
        place: from 1.
        model, family, architecture: of the catalogue.
        expected: what it should reach; what it did reach where `measured`.
        low, high: the interval; None without end.
        measured: whether feedback says so.
        score: the stack's, a normal score.
        contributions: what each feature adds to the score.
        missing: features that the score had to do without.
        ranker_place: by the neural ranker alone; None where it has no say.
        parameters, macs, latency_ms: costs; None for unknown.
        reached: on a task of the shelf, what it really reached, which was hidden.
    """

    place: int
    model: str
    family: str
    architecture: str
    expected: float
    low: float | None
    high: float | None
    measured: bool
    score: float
    contributions: dict[str, float]
    missing: tuple[str, ...]
    ranker_place: int | None
    parameters: int | None
    macs: float | None
    latency_ms: float | None
    reached: float | None


@dataclass(frozen=True, eq=False)
class Recommendation:
    """The answer.

    Args:
        data: the data set's name.
        models: the first ones, best first.
        considered: how many models there was evidence on within the budget.
        budget: in words; "" for none.
        left_out: models that do not meet it, and of these how many have an unknown cost.
        without_evidence: names of models within the budget that nothing is known of.
        enough: how many to try so that the best is among them with the probability `target`; None for no evidence.
        target: such as .9.
        half_width: of the intervals; None without end.
        tasks: how many tasks the history has.
        probes: that were run on the data.
        interaction: the share of the variance within tasks that is model by task; None where it cannot be told.
        fronts: cost -> models that no other beats in promise and cost at once, cheapest first.
        reasons, changes, notes: sentences.
    """

    data: str
    models: tuple[Recommended, ...]
    considered: int
    budget: str
    left_out: tuple[int, int]
    without_evidence: tuple[str, ...]
    enough: int | None
    target: float
    half_width: float | None
    tasks: int
    probes: tuple[str, ...]
    interaction: float | None
    fronts: dict[str, tuple[str, ...]]
    reasons: tuple[str, ...]
    changes: tuple[str, ...]
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


def recommend(
    folder: str | Path,
    settings: ModelSelectionSettings,
    data: str,
    *,
    top: int = 5,
    budget: str | None = None,
    probe: bool = False,
    split: str | None = None,
    on_unreadable: str = "skip",
) -> Recommendation:
    """Rank the models of a shelf for a data set.

    Args:
        folder: the shelf.
        settings: of its stages.
        data: a folder of images, an `.npz`, or a task of the shelf.
        top: how many models to name.
        budget: such as `params<=30e6,latency<=20ms`.
        probe: whether to look at the data through every model.
        split: of the outcomes, where the shelf has several.
        on_unreadable: what becomes of images that cannot be read, `skip` or `refuse`.

    Raises:
        DataError: the shelf or the data set cannot be read, a stage was run with other settings, nothing meets the
            budget, or there is no evidence at all.
        ConfigError: the budget cannot be read.
    """
    limit: Budget | None = None if budget is None else parse_budget(budget)
    shelf = Shelf.open(folder)
    require_embedded(shelf, settings)
    question = ask(shelf, settings, data, probe=probe, split=split, on_unreadable=on_unreadable)
    visible = question.evidence.seen(question.evidence.fold(question.task))
    if not visible.training_tasks():
        raise DataError(
            f"no evidence: the shelf {folder} has no task with outcomes of two models, so nothing can be said; add "
            "outcomes with deepfm zoo feedback add, or import a table"
        )
    seen = {} if question.tokens is None else {question.task: question.tokens}
    found = trained(shelf, settings, split=split, evidence=question.evidence, further=seen)
    stacker = found.stacker
    levels = [name for name in LEVELS if name in question.evidence.probes]
    rows = _rows(shelf, settings, question, stacker.features(visible)[0], split)
    rows = stacker.training_rows(visible) if rows is None else rows
    told = None if question.judge else question.reached
    answer, expected, left_out = expect(stacker, visible, rows, levels, reached=told)
    measured = ~np.isnan(question.reached) & (not question.judge)
    promise = np.where(measured, question.reached, expected.values)
    by_promise = promise + LITTLE_BY_SCORE * answer.scores.filled().clip(-10, 10)  # of those alike the better score
    scores = RankedScores(by_promise) if measured.any() else answer.scores
    chosen = select(shelf.catalogue, scores, promise, limit, top, rows, left_out.scores)
    ranker = _ranker_places(shelf, settings, question, found.rankers, split)
    models = tuple(
        _recommended(place, at, shelf, question, answer, expected, promise, measured, ranker)
        for place, at in enumerate(chosen.top, start=1)
    )
    share = _interaction(shelf, split)
    return Recommendation(
        data=question.name,
        models=models,
        considered=len(chosen.order),
        budget="" if limit is None else str(limit),
        left_out=(int((~chosen.budget.allowed).sum()), sum(chosen.budget.unknown.values())),
        without_evidence=tuple(shelf.catalogue.models[at] for at in chosen.without_evidence),
        enough=chosen.enough,
        target=chosen.target,
        half_width=expected.half_width if np.isfinite(expected.half_width) else None,
        tasks=len(visible.training_tasks()),
        probes=question.probed,
        interaction=share,
        fronts={cost: tuple(shelf.catalogue.models[at] for at in front) for cost, front in chosen.front.items()},
        reasons=_reasons(question, models, len(visible.training_tasks()), ranker is not None),
        changes=_changes(question, chosen, limit, shelf.zoo is not None, share),
        notes=question.notes,
    )


def _rows(
    shelf: Shelf, settings: ModelSelectionSettings, question: Question, features: tuple[str, ...], split: str | None
) -> TrainingRows | None:
    """What `train` left for the stack; None where it is of other outcomes, or saw those of the task in question."""
    at = shelf.folder
    if (
        question.judge
        or not at.rows.exists()
        or not at.is_done("stacker", stage_key(shelf, settings, "stacker", split))
    ):
        return None
    rows = TrainingRows.load(at.rows)
    return rows if rows.names == features else None


def _recommended(
    place: int,
    at: int,
    shelf: Shelf,
    question: Question,
    answer: Any,
    expected: Any,
    promise: Array,
    measured: NDArray[np.bool_],
    ranker: Array | None,
) -> Recommended:
    row = shelf.catalogue.row(shelf.catalogue.models[at])
    bounded = np.isfinite(expected.half_width) and not measured[at]
    contributions = {
        name: float(answer.contributions[at, number])
        for number, name in enumerate(answer.features)
        if answer.used[at, number]
    }
    true = question.reached[at] if question.judge and not np.isnan(question.reached[at]) else None
    return Recommended(
        place=place,
        model=row["model"],
        family=row["family"],
        architecture=row["architecture"],
        expected=float(promise[at]),
        low=float(expected.low[at]) if bounded else None,
        high=float(expected.high[at]) if bounded else None,
        measured=bool(measured[at]),
        score=float(answer.scores.values[at]),
        contributions=contributions,
        missing=answer.missing(at),
        ranker_place=None if ranker is None or np.isnan(ranker[at]) else int(ranker[at]),
        parameters=row["parameters"],
        macs=row["macs"],
        latency_ms=row["latency_ms"],
        reached=None if true is None else float(true),
    )


def _ranker_places(
    shelf: Shelf,
    settings: ModelSelectionSettings,
    question: Question,
    rankers: FoldRankers | None,
    split: str | None,
) -> Array | None:
    """The place of each model by the neural ranker alone, from 1; None where none is up to date, or it saw the task."""
    key = stage_key(shelf, settings, "ranker", split)
    if rankers is None or question.tokens is None or question.judge or not shelf.folder.is_done("ranker", key):
        return None
    scores = rankers.of(load_ranker(shelf.folder.networks), question.tokens)
    known = ~np.isnan(scores)
    places = np.full(len(scores), np.nan)
    places[known] = (-scores[known]).argsort().argsort() + 1
    return places


def _interaction(shelf: Shelf, split: str | None) -> float | None:
    try:
        seeds = shelf.outcomes.by_seed(shelf.catalogue.models, shelf.tasks, split=split)
        return variance_shares(seeds.values).interaction_share
    except DataError:
        return None


def _reasons(question: Question, models: tuple[Recommended, ...], tasks: int, ranked: bool) -> tuple[str, ...]:
    found = [f"history: outcomes on {tasks} task{'s' * (tasks != 1)}"]
    if question.evidence.similarity is not None and question.tokens is not None:
        near = question.evidence.similarity[question.evidence.tasks.index(question.task)].copy()
        near[question.evidence.tasks.index(question.task)] = np.nan
        if not np.isnan(near).all():
            order = np.argsort(np.nan_to_num(-near, nan=np.inf))[:3]
            named = ", ".join(f"{question.evidence.tasks[at]} ({near[at]:.2f})" for at in order if near[at] > 0)
            found.append(f"most alike by the data's tokens: {named}")
    found.append(
        f"probes on the data: {', '.join(question.probed)}" if question.probed else "no probe was run on the data"
    )
    told = 0 if question.judge else int((~np.isnan(question.reached)).sum())
    if told:
        others = "; what is expected of the others moved with them" if tasks >= LEAST_TASKS else ""
        found.append(
            f"feedback: {told} model{'s' * (told != 1)} measured on these data, which stand at what they "
            f"reached{others}"
        )
    if models and models[0].contributions:
        parts = sorted(models[0].contributions.items(), key=lambda part: -abs(part[1]))
        found.append(f"{models[0].model} is first by " + ", ".join(f"{name} {value:+.2f}" for name, value in parts[:4]))
    if ranked and models and models[0].ranker_place is not None:
        found.append(f"the neural ranker alone puts {models[0].model} at place {models[0].ranker_place}")
    return tuple(found)


def _changes(
    question: Question, chosen: Selection, limit: Budget | None, has_weights: bool, share: float | None
) -> tuple[str, ...]:
    found = []
    if not question.probed and has_weights:
        found.append("probes on your data (--probe) find the winner more often than history does")
    if chosen.enough is not None and 2 * chosen.enough <= len(chosen.order):
        found.append(f"trying the first {chosen.enough} and telling the result (deepfm zoo feedback add) settles it")
    if limit is not None and (~chosen.budget.allowed).any():
        found.append(f"without the budget {int((~chosen.budget.allowed).sum())} more models would be considered")
    if share is not None and share < LITTLE:
        found.append(
            f"little: only {share:.0%} of the differences between models depend on the task, so the same few win "
            "everywhere"
        )
    if chosen.without_evidence:
        found.append(f"outcomes of the {len(chosen.without_evidence)} models that nothing is known of")
    return tuple(found)
