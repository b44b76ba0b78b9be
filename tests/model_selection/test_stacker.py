"""The stack: nested without a look at the held-out task, gaps and all, against ridge by hand; and its intervals."""

import dataclasses

import numpy as np
import pytest

from deepfm.errors import DataError
from deepfm.model_selection.conformal import half_width, models_to_try, position_of_best
from deepfm.model_selection.expected import expect, interval_coverage, moved
from deepfm.model_selection.leaderboard import evaluate
from deepfm.model_selection.methods import AVERAGE_RANK, OneProbe, Stack, SumOfZ
from deepfm.model_selection.metrics import coverage
from deepfm.model_selection.pattern_ridge import PatternRidge
from deepfm.model_selection.stacker import Stacker, StackerSettings, TrainingRows
from tests.model_selection.made import made_evidence


@pytest.fixture(scope="module")
def evidence():
    return made_evidence()


def test_ridge_is_the_closed_form_with_tasks_weighing_the_same():
    rng = np.random.default_rng(0)
    tasks = np.repeat([0, 1], [5, 20])
    features, targets = rng.normal(size=(25, 3)), rng.normal(size=25)
    fitted = PatternRidge(features, targets, tasks, penalty=0.3, non_negative=False)
    _, weights, intercept = fitted.weights([0, 1, 2])
    root = np.sqrt(np.repeat([1 / 5, 1 / 20], [5, 20]) / 2)
    design = np.column_stack([features, np.ones(25)]) * root[:, None]
    expected = np.linalg.solve(design.T @ design + np.diag([0.3, 0.3, 0.3, 0]), design.T @ (root * targets))
    np.testing.assert_allclose([*weights, intercept], expected)


def test_weights_below_zero_are_kept_out():
    rng = np.random.default_rng(1)
    features = rng.normal(size=(60, 2))
    targets = features @ [1.0, -1.0]
    tasks = np.arange(60) // 20
    _, weights, _ = PatternRidge(features, targets, tasks, 1e-6).weights([0, 1])
    assert weights[1] == 0
    assert weights[0] > 0.8


def test_a_row_without_a_feature_is_scored_by_weights_learned_without_it():
    rng = np.random.default_rng(2)
    features = rng.normal(size=(60, 2))
    features[:, 1] = features[:, 0] + 0.1 * features[:, 1]
    targets, tasks = features[:, 0], np.arange(60) // 20
    fitted = PatternRidge(features, targets, tasks, 1e-6)
    answer = fitted.predict(np.array([[np.nan, 2.0], [2.0, 2.0], [np.nan, np.nan]]))
    assert answer.values[0] == pytest.approx(2, abs=0.2)
    assert answer.used.tolist() == [[False, True], [True, True], [False, False]]
    assert np.isnan(answer.values[2])
    np.testing.assert_allclose(answer.contributions[:2].sum(axis=1) + answer.offsets[:2], answer.values[:2])


def test_a_feature_that_training_tasks_lack_is_left_out():
    features = np.column_stack([np.arange(8.0), np.full(8, np.nan)])
    fitted = PatternRidge(features, np.arange(8.0), np.arange(8) // 4, 1e-6)
    assert fitted.predict(np.array([[2.0, 5.0]])).used.tolist() == [[True, False]]
    with pytest.raises(DataError, match="not finite"):
        PatternRidge(features, np.full(8, np.nan), np.arange(8))


def test_the_held_out_outcomes_change_nothing(evidence):
    """Not by one bit: neither the held-out task's outcomes nor, in a training row, that task's own."""
    visible = evidence.seen(evidence.fold("t3"))
    base = Stacker().score(visible).scores.values
    changed = np.array(evidence.outcomes)
    changed[:, 3] = np.random.default_rng(9).permutation(changed[:, 3]) * 100
    other = dataclasses.replace(evidence, outcomes=changed)
    np.testing.assert_array_equal(Stacker().score(other.seen(other.fold("t3"))).scores.values, base)
    rows = Stacker().training_rows(visible)
    changed = np.array(evidence.outcomes)
    changed[:, 5] = changed[::-1, 5]
    other = dataclasses.replace(evidence, outcomes=changed)
    moved = Stacker().training_rows(other.seen(other.fold("t3")))
    np.testing.assert_array_equal(moved.only(5).features, rows.only(5).features)
    assert not np.array_equal(moved.only(6).features, rows.only(6).features)


def test_hidden_models_leave_no_trace(evidence):
    family = frozenset({0, 1, 2})
    fold = dataclasses.replace(evidence.fold("t0"), hidden_models=family)
    base = Stacker().score(evidence.seen(fold)).scores.values
    changed = np.array(evidence.outcomes)
    changed[:3] += 1
    other = dataclasses.replace(evidence, outcomes=changed)
    np.testing.assert_array_equal(Stacker().score(other.seen(fold)).scores.values, base)


def test_the_stack_beats_its_parts(evidence):
    methods = [AVERAGE_RANK, OneProbe("good"), OneProbe("useless"), SumOfZ("useless"), Stack()]
    board = evaluate(evidence, methods, metrics=("weighted tau", "regret@1"))
    taus = {method.name: board.mean(method.name, "weighted tau") for method in methods}
    assert taus["stack"] > max(taus["good"], taus["average rank"])
    assert abs(taus["useless"]) < 0.2
    assert taus["useless + average rank"] < taus["average rank"]


def test_order_of_models_and_duplicates(evidence):
    fold = evidence.fold("t1")
    base = Stacker().score(evidence.seen(fold))
    order = np.random.default_rng(4).permutation(len(evidence.models))
    shuffled = dataclasses.replace(
        evidence,
        models=tuple(evidence.models[i] for i in order),
        outcomes=evidence.outcomes[order],
        probes={name: values[order] for name, values in evidence.probes.items()},
        families=tuple(evidence.families[i] for i in order),
    )
    np.testing.assert_allclose(Stacker().score(shuffled.seen(fold)).scores.values, base.scores.values[order])
    twice = dataclasses.replace(
        evidence,
        models=(*evidence.models, "copy"),
        outcomes=np.vstack([evidence.outcomes, evidence.outcomes[:1]]),
        probes={name: np.vstack([values, values[:1]]) for name, values in evidence.probes.items()},
        families=(*evidence.families, "f0"),
    )
    answer = Stacker().score(twice.seen(fold)).scores.values
    assert answer[-1] == pytest.approx(answer[0])


def test_missing_evidence_is_flagged(evidence):
    probe = np.array(evidence.probes["good"])
    probe[2, 0] = np.nan
    outcomes = np.array(evidence.outcomes)
    outcomes[5] = np.nan
    gaps = dataclasses.replace(evidence, outcomes=outcomes, probes={"good": probe})
    answer = Stacker().score(gaps.seen(gaps.fold("t0")))
    assert answer.missing(2) == ("good",)
    assert answer.missing(5) == ("average rank",)
    assert answer.scores.known.all()
    cold = gaps.with_task("mine")
    nothing = Stacker().score(cold.seen(cold.fold("mine")))
    assert np.flatnonzero(~nothing.scores.known).tolist() == [5]


def test_scale_of_a_probe_plays_no_part(evidence):
    scaled = dataclasses.replace(evidence, probes={name: 10 * v + 3 for name, v in evidence.probes.items()})
    fold = evidence.fold("t2")
    np.testing.assert_allclose(
        Stacker().score(scaled.seen(fold)).scores.values, Stacker().score(evidence.seen(fold)).scores.values
    )


def test_training_rows_come_back_and_score_alike(evidence, tmp_path):
    visible = evidence.seen(evidence.fold("t4"))
    rows = Stacker().training_rows(visible)
    rows.save(tmp_path / "rows.npz")
    loaded = TrainingRows.load(tmp_path / "rows.npz")
    base = Stacker().score(visible).scores.values
    np.testing.assert_array_equal(Stacker().score(visible, loaded).scores.values, base)
    fewer = Stacker(StackerSettings(probes=("good",)))
    with pytest.raises(DataError, match=r"trained on average rank, good, useless .*train it again"):
        fewer.score(visible, loaded)


def test_given_scores_are_asked_for_every_fold_with_what_is_hidden(evidence):
    asked = []

    def oracle(fold):
        asked.append(fold)
        return evidence.outcomes[:, fold.task]

    answer = Stacker(given={"oracle": oracle}).score(evidence.seen(evidence.fold("t0")))
    assert {fold.task for fold in asked} == set(range(12))
    assert all(fold.hidden_tasks == {0, fold.task} for fold in asked)
    assert np.corrcoef(answer.scores.values, evidence.outcomes[:, 0])[0, 1] > 0.97


def test_nothing_to_learn_from_is_refused(evidence):
    empty = dataclasses.replace(evidence, outcomes=np.full_like(evidence.outcomes, np.nan))
    with pytest.raises(DataError, match="no weight can be learned"):
        Stacker().score(empty.seen(empty.fold("t0")))
    with pytest.raises(DataError, match="probe 'LogMe' is not there; the evidence has good, useless"):
        Stacker(StackerSettings(probes=("LogMe",))).score(evidence.seen(evidence.fold("t0")))
    with pytest.raises(DataError, match="no feature"):
        Stacker(StackerSettings(history=(), probes=())).features(evidence.seen(evidence.fold("t0")))


def test_intervals_hold_on_tasks_that_were_never_seen():
    evidence = made_evidence(tasks=30, seed=7)
    hits, widths = [], []
    for task in range(0, 30, 2):
        visible = evidence.seen(evidence.fold(f"t{task}"))
        _, expected, _ = expect(Stacker(), visible)
        hits.append(coverage(evidence.outcomes[:, task], expected.low, expected.high))
        widths.append(expected.half_width)
    assert 0.85 < np.mean(hits) < 0.98
    assert max(widths) < 0.25


def test_a_probe_in_the_metrics_unit_tells_hard_tasks_from_easy():
    evidence = made_evidence(tasks=14, seed=5)
    level = evidence.outcomes + 0.02 * np.random.default_rng(0).normal(size=evidence.outcomes.shape)
    evidence = dataclasses.replace(evidence, probes={**evidence.probes, "k-NN": level})
    visible = evidence.seen(evidence.fold("t0"))
    _, without, _ = expect(Stacker(), visible)
    _, with_level, left_out = expect(Stacker(), visible, levels=("k-NN",))
    assert with_level.half_width < without.half_width / 2
    assert np.abs(with_level.values - evidence.outcomes[:, 0]).mean() < 0.04
    assert len(left_out.positions) == 13


def test_a_left_out_error_is_what_would_have_been_said_of_that_task():
    evidence = made_evidence(tasks=8, seed=3)
    visible = evidence.seen(evidence.fold("t0"))
    _, _, left_out = expect(Stacker(), visible, levels=("good",), bounds=None)
    for task, errors in zip(left_out.tasks, left_out.errors, strict=True):
        _, said, _ = expect(Stacker(), visible.inside(task), levels=("good",), bounds=None)
        np.testing.assert_allclose(errors, said.values - evidence.outcomes[:, task], atol=1e-12)


def test_feedback_moves_the_level_of_models_that_were_not_tried():
    evidence = made_evidence(tasks=30, seed=9)
    levels = np.random.default_rng(1).normal(0, 0.2, size=30)
    evidence = dataclasses.replace(evidence, outcomes=evidence.outcomes + levels)
    hits, before, after = [], [], []
    for task in range(0, 30, 3):
        visible, truth = evidence.seen(evidence.fold(f"t{task}")), evidence.outcomes[:, task]
        reached = np.where(np.arange(len(truth)) < 4, truth, np.nan)
        _, blind, _ = expect(Stacker(), visible, bounds=None)
        _, told, left_out = expect(Stacker(), visible, bounds=None, reached=reached)
        assert told.half_width < blind.half_width / 2
        assert {len(errors) for errors in left_out.errors} == {len(truth) - 4}
        hits.append(coverage(truth[4:], told.low[4:], told.high[4:]))
        before.append(np.abs(blind.values - truth)[4:].mean())
        after.append(np.abs(told.values - truth)[4:].mean())
    assert np.mean(after) < np.mean(before) / 2
    assert 0.82 < np.mean(hits) < 0.98


def test_one_failed_fine_tune_does_not_make_a_task_hopeless():
    values, errors = np.full(6, 0.8), [np.full(4, level) for level in np.linspace(-0.1, 0.1, 12)]
    after, _ = moved(values, errors, np.array([0.0, *[np.nan] * 5]))
    np.testing.assert_allclose(after, 0.7)  # the largest miss of the other tasks, .1, and levels are all that varies


def test_coverage_is_counted_with_the_other_tasks_widths():
    errors = [np.full(2, 0.1)] * 10 + [np.array([0.05, 0.3])]
    found = interval_coverage(errors)
    assert (found.tasks, found.least) == (11, 0.5)
    assert found.held == pytest.approx((10 + 0.5) / 11)
    assert found.half_width == pytest.approx((10 * 0.3 + 0.1) / 11)  # without the last task .1, with it its worst
    assert found.sentence() == (
        "Intervals of the expected value: 90% asked for, 95.5% held on tasks left out (the lowest of a task 50%); "
        "± 0.282 in the mean, 11 tasks."
    )
    assert "no evidence, as 4 tasks are too few" in interval_coverage(errors[:4]).sentence()
    with pytest.raises(DataError, match="1 tasks have left-out errors"):
        interval_coverage(errors[:1])


def test_feedback_that_cannot_be_placed_moves_nothing():
    values, errors = np.array([0.5, 0.7, np.nan]), [np.array([0.1, 0.2]), np.array([-0.1, 0.0])]
    for reached in (None, np.full(3, np.nan), np.array([np.nan, np.nan, 0.4]), np.array([0.4, 0.5, 0.6])):
        same, kept = moved(values, errors, reached)
        np.testing.assert_array_equal(same, values)
        np.testing.assert_array_equal(np.concatenate(kept), np.concatenate(errors))


def test_too_few_tasks_give_no_interval():
    evidence = made_evidence(tasks=6)
    _, expected, _ = expect(Stacker(), evidence.seen(evidence.fold("t0")), bounds=None)
    assert np.isinf(expected.half_width)
    assert np.isinf(expected.low).all()
    assert np.isfinite(expected.values).all()


def test_conformal_quantiles_by_hand():
    misses = [np.array([task / 10, -task / 10]) for task in range(1, 10)]
    assert half_width(misses, 0.9) == pytest.approx(0.9)
    assert half_width(misses, 0.8) == pytest.approx(0.8)
    assert half_width(misses[:8], 0.9) == np.inf
    assert half_width([], 0.9) == np.inf
    many = [*misses[1:], np.full(1000, 0.05)]
    assert half_width(many, 0.8) == pytest.approx(0.8)  # a task of many models counts once
    with pytest.raises(DataError, match="no error"):
        half_width([np.array([])])
    with pytest.raises(DataError, match="outside 0 to 1"):
        half_width(misses, 90)


def test_how_many_to_try_by_hand():
    assert models_to_try([1, 1, 2, 1, 1, 3, 1, 1, 4], 10, 0.9) == 4
    assert models_to_try([1, 1, 2, 1, 1, 3, 1, 1, 4], 10, 0.7) == 2
    assert models_to_try([1] * 8, 10, 0.9) is None
    with pytest.raises(DataError, match="outside 1 to 3"):
        models_to_try([4], 3)
    assert position_of_best(np.array([0.5, 0.9, np.nan, 0.9]), np.array([3.0, 1.0, 9.0, 2.0])) == 2
    assert position_of_best(np.array([0.5, 0.9]), np.array([1.0, 1.0])) == 2
