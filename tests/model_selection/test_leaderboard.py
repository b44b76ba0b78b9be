"""Protocols and the leaderboard: controls that must come out at nothing, published bars, and where variance lies."""

import dataclasses

import numpy as np
import pytest

from deepfm.errors import DataError
from deepfm.model_selection.leaderboard import evaluate
from deepfm.model_selection.methods import (
    AVERAGE_RANK,
    AVERAGE_Z,
    COMPLETED,
    Chance,
    Given,
    OneProbe,
    SimilarTasks,
    Stack,
    SumOfZ,
)
from deepfm.model_selection.protocols import Fold, folds
from deepfm.model_selection.stacker import Stacker, StackerSettings
from deepfm.model_selection.variance import seed_ceiling, variance_shares
from tests.model_selection.made import made_evidence
from tests.model_selection.published import evidence_of, published

TAU = ("weighted tau", "regret@1", "recall@5")


@pytest.fixture(scope="module")
def evidence():
    return made_evidence()


def test_folds_hide_tasks_families_or_both(evidence):
    by_task = folds(evidence, "unseen task", ["t1"])
    assert by_task == [(Fold(1, frozenset({1})), list(range(24)))]
    both = folds(evidence, "unseen family and task")
    assert len(both) == 12 * 8
    fold, judged = both[9]
    visible = evidence.seen(fold)
    assert np.isnan(visible.history[judged]).all()
    assert np.isnan(visible.history[:, fold.task]).all()
    assert np.isnan(visible.inside(5).history[:, 5]).all()
    (fold, judged), *_ = folds(evidence, "unseen family", ["t1"])
    assert np.isnan(evidence.seen(fold).history[judged]).all()
    assert not np.isnan(evidence.seen(fold).history[:, 1]).all()
    with pytest.raises(DataError, match="at least two families"):
        folds(dataclasses.replace(evidence, families=()), "unseen family")
    with pytest.raises(DataError, match="'by image' is unknown"):
        folds(evidence, "by image")
    with pytest.raises(DataError, match="task 'mine' is unknown"):
        evidence.fold("mine")


def test_similarity_of_hidden_tasks_is_hidden(evidence):
    near = np.random.default_rng(0).random((12, 12))
    visible = dataclasses.replace(evidence, similarity=near).seen(evidence.fold("t2")).inside(4)
    assert np.flatnonzero(np.isnan(visible.similarity)).tolist() == [2, 4]


def test_a_new_task_joins_without_outcomes(evidence):
    near = dataclasses.replace(evidence, similarity=np.eye(12))
    wider = near.with_task("mine", {"good": np.arange(24.0)}, np.linspace(0, 1, 12))
    visible = wider.seen(wider.fold("mine"))
    assert visible.probe("good").tolist() == list(range(24))
    assert np.isnan(visible.probe("useless")).all()
    assert np.isnan(visible.similarity[12])
    assert Stacker().score(visible).scores.known.all()
    with pytest.raises(DataError, match="known already"):
        near.with_task("t1")
    with pytest.raises(DataError, match="'new' was run on no other task"):
        near.with_task("mine", {"new": np.zeros(24)})


def test_shuffled_outcomes_rank_nothing(evidence):
    """Outcomes shuffled within every task: whatever a method learns of them is worth nothing on the held-out one."""
    rng = np.random.default_rng(1)
    found = []
    for _ in range(6):
        noise = rng.permuted(evidence.outcomes, axis=0)
        board = evaluate(dataclasses.replace(evidence, outcomes=noise), [AVERAGE_RANK, Stack()], metrics=TAU[:1])
        found.append([board.mean(name, "weighted tau") for name in ("average rank", "stack")])
    assert np.abs(np.mean(found, axis=0)).max() < 0.12


def test_a_model_id_gains_nothing_double_blind(evidence):
    """A column that only says which model it is cannot help for models of which no outcome was ever seen."""
    ids = np.tile(np.random.default_rng(2).normal(size=(24, 1)), (1, 12))
    marked = dataclasses.replace(evidence, probes={**evidence.probes, "model id": ids})
    tested = ["t0", "t3", "t6", "t9"]
    alone = Stack("id alone", Stacker(StackerSettings(history=(), probes=("model id",))))
    without = Stack("without", Stacker(StackerSettings(probes=("good", "useless"))))
    board = evaluate(marked, [Stack(), without, alone], "unseen family and task", tested, metrics=TAU[:1])
    assert board.mean("stack", "weighted tau") < board.mean("without", "weighted tau") + 0.02
    assert board.mean("id alone", "weighted tau") < 0.25


def test_a_method_never_sees_what_is_judged(evidence):
    class Peeks:
        name = "peeks"

        def scores(self, visible):
            assert np.isnan(visible.history[:, visible.fold.task]).all()
            return AVERAGE_Z.scores(visible)

    evaluate(evidence, [Peeks()], metrics=TAU[:1])


def test_given_scores_and_the_rest_stand_in_one_table(evidence):
    near = dataclasses.replace(evidence, similarity=np.eye(12))
    methods = [
        AVERAGE_RANK,
        COMPLETED,
        SimilarTasks(),
        SumOfZ("good"),
        Given("oracle", lambda fold: 100 * evidence.outcomes[:, fold.task]),
        Chance(),
    ]
    board = evaluate(near, methods, metrics=TAU)
    assert board.mean("oracle", "weighted tau") == pytest.approx(1)
    assert board.mean("oracle", "regret@1") == 0
    assert abs(board.mean("chance", "weighted tau")) < 0.2
    gain = board.difference("oracle", "weighted tau")
    assert gain.excludes_zero
    assert gain.low < gain.mean < gain.high
    table = board.table(("weighted tau", "regret@1"))
    assert [row[0] for row in table.rows] == [method.name for method in methods]
    assert "oracle | **1.000** | [1.000, 1.000]" in table.to_markdown().replace("\\", "")
    with pytest.raises(DataError, match="'stack' is not on the leaderboard"):
        board.mean("stack", "weighted tau")
    with pytest.raises(DataError, match="'Spearman' was not computed"):
        board.mean("oracle", "Spearman")


def test_tasks_that_cannot_be_judged_are_named(evidence):
    outcomes = np.array(evidence.outcomes)
    outcomes[:, 4] = 0.5
    board = evaluate(dataclasses.replace(evidence, outcomes=outcomes), [AVERAGE_RANK], metrics=TAU[:1])
    assert board.skipped == ("t4",)
    assert len(board.values["average rank"]["weighted tau"]) == 11
    with pytest.raises(DataError, match="names that differ"):
        evaluate(evidence, [AVERAGE_RANK, AVERAGE_RANK])
    with pytest.raises(DataError, match="metric 'AUC' is unknown"):
        evaluate(evidence, [AVERAGE_RANK], metrics=("AUC",))


def test_bars_on_model_spider():
    """Leave one of eight data sets out: .786 by truth, the best join in the literature notes."""
    evidence = evidence_of(published("model_spider_single_source_10ptm.csv"))
    board = evaluate(evidence, [AVERAGE_RANK, Stack()], metrics=("weighted tau by truth", "regret@1"))
    assert board.mean("stack", "weighted tau by truth") >= 0.786
    assert board.difference("stack", "weighted tau by truth").low > 0
    assert board.mean("stack", "regret@1") <= 0.005


def test_bars_on_transfergraph():
    """Eight vision data sets, models with LogME, history of all twelve: the literature notes' .52, .5 points, .55."""
    evidence = evidence_of(published("transfergraph_image_long.csv"), "eval")
    judged = ~np.isnan(evidence.probes["LogME"])
    eight = [task for task, any_judged in zip(evidence.tasks, judged.any(axis=0), strict=True) if any_judged]
    board = evaluate(evidence, [AVERAGE_RANK, OneProbe("LogME"), Stack()], tasks=eight, judged=judged, metrics=TAU)
    assert len(board.tasks) == 8
    assert board.mean("average rank", "weighted tau") == pytest.approx(0.505, abs=0.0005)
    assert board.mean("average rank", "recall@5") == pytest.approx(0.525)
    assert board.mean("LogME", "weighted tau") == pytest.approx(0.321, abs=0.0005)
    assert board.mean("LogME", "regret@1") == pytest.approx(0.088, abs=0.0005)
    assert board.mean("stack", "weighted tau") >= 0.52
    assert board.mean("stack", "regret@1") <= 0.005
    assert board.mean("stack", "recall@5") >= 0.55


def test_variance_is_split_as_it_was_made():
    rng = np.random.default_rng(0)
    values = (
        0.3 * rng.normal(size=(1, 60, 1))
        + 0.1 * rng.normal(size=(80, 1, 1))
        + 0.1 * rng.normal(size=(80, 60, 1))
        + 0.05 * rng.normal(size=(80, 60, 3))
    )
    shares = variance_shares(values)
    assert shares.noise == pytest.approx(0.0025, rel=0.05)
    assert shares.interaction == pytest.approx(0.01, rel=0.05)
    assert shares.model == pytest.approx(0.01, rel=0.3)
    assert shares.task == pytest.approx(0.09, rel=0.3)
    assert "depends on the task" in shares.sentence()
    holes = np.where(rng.random((80, 60, 1)) < 0.2, np.nan, values)
    assert variance_shares(holes).interaction == pytest.approx(0.01, rel=0.1)
    once = variance_shares(values[:, :, :1])
    assert once.noise is None
    assert once.interaction == pytest.approx(0.0125, rel=0.1)
    assert "seed noise included" in once.sentence()
    assert 0.5 < seed_ceiling(values) < 0.95


def test_a_static_winner_is_said():
    values = np.random.default_rng(1).normal(size=(10, 1, 1)) + 0.01 * np.random.default_rng(2).normal(size=(10, 5, 2))
    assert "can add little" in variance_shares(values).sentence()
    with pytest.raises(DataError, match="at least two of each"):
        variance_shares(values[:1])
    with pytest.raises(DataError, match="no seed ceiling"):
        seed_ceiling(values[:, :, :1])
