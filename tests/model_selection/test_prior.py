"""The history: comparable within tasks, shrunk by observations, weighted by similarity, completed where sparse."""

import numpy as np
import pytest

from deepfm.errors import DataError
from deepfm.model_selection import prior

HISTORY = np.array([[0.9, 0.5, np.nan], [0.7, 0.6, 0.3], [0.8, np.nan, 0.4], [np.nan] * 3])


def test_ranks_and_z_scores_by_hand():
    np.testing.assert_allclose(
        prior.within_tasks(HISTORY, "rank"),
        [[1 / 3, -0.25, np.nan], [-1 / 3, 0.25, -0.25], [0, np.nan, 0.25], [np.nan] * 3],
    )
    np.testing.assert_allclose(prior.within_tasks(HISTORY, "z")[:, 1], [-1, 1, np.nan, np.nan])
    normal = prior.within_tasks(HISTORY, "normal")[:, 0]
    np.testing.assert_allclose(normal[:3], [0.9674, -0.9674, 0], atol=1e-4)


def test_a_flat_task_says_nothing():
    np.testing.assert_array_equal(prior.standard_scores(np.array([0.1 + 0.2, 0.3, 0.3])), [0, 0, 0])


def test_average_rank_shrinks_by_observations():
    ranks = np.array([[0.4, np.nan, np.nan], [0.4, 0.4, 0.4], [-0.4, -0.4, -0.4]])
    once, thrice, _ = prior.shrunken_mean(ranks, 1.0)
    centre = np.nanmean(ranks)
    assert once == pytest.approx((0.4 + centre) / 2)
    assert thrice == pytest.approx((1.2 + centre) / 4)
    assert np.isnan(prior.average_rank(HISTORY)[3])
    assert np.isnan(prior.average_rank(np.full((2, 3), np.nan))).all()
    np.testing.assert_allclose(prior.shrunken_mean(ranks, 0.0), [0.4, 0.4, -0.4])


def test_average_value_is_fair_to_models_of_hard_tasks():
    values = np.array([[0.9, np.nan], [np.nan, 0.4], [0.8, 0.5]])  # the second model met the hard task alone
    found = prior.average_value(values)
    assert found[0] == pytest.approx(0.65 + 0.1)
    assert found[1] == pytest.approx(0.65 - 0.1)
    assert prior.average_value(np.array([[0.9, 0.5]]))[0] == pytest.approx(0.7)


def test_additive_fit_is_least_squares():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(6, 5))
    values[rng.random((6, 5)) < 0.3] = np.nan
    _, by_model, by_task = prior.additive_fit(values)
    row, column = np.nonzero(~np.isnan(values))
    design = np.zeros((len(row), 11))
    design[np.arange(len(row)), row] = 1
    design[np.arange(len(row)), 6 + column] = 1
    fitted = design @ np.linalg.lstsq(design, values[row, column], rcond=None)[0]
    np.testing.assert_allclose((by_model[:, None] + by_task)[row, column], fitted, atol=1e-8)


def test_similar_tasks_weigh_more():
    rng = np.random.default_rng(1)
    first, second = rng.normal(size=(2, 30))
    history = np.column_stack([first, first + 0.1 * rng.normal(size=30), second, second])
    near_first = prior.task_weighted(history, [3.0, 3.0, -3.0, np.nan], neighbours=2)
    assert np.corrcoef(near_first, first)[0, 1] > 0.95
    scaled = prior.task_weighted(history, [300.0, 300.0, -300.0, np.nan], neighbours=2)
    np.testing.assert_allclose(near_first, scaled)
    np.testing.assert_allclose(prior.task_weighted(history, [np.nan] * 4), prior.average_z(history))
    with pytest.raises(DataError, match="one similarity a task"):
        prior.task_weighted(history, [1.0])


def test_low_rank_completion_recovers_hidden_cells():
    rng = np.random.default_rng(2)
    whole = rng.normal(size=(40, 1)) @ rng.normal(size=(1, 15)) + 0.05 * rng.normal(size=(40, 15))
    hidden = rng.random(whole.shape) < 0.4
    filled = prior.low_rank(np.where(hidden, np.nan, whole), rank=1, penalty=0.5)
    truth = prior.within_tasks(whole, "z")
    assert np.corrcoef(filled[hidden], truth[hidden])[0, 1] > 0.95
    assert np.isnan(prior.low_rank(HISTORY)[3]).all()


def test_duplicate_models_get_one_answer_and_order_plays_no_part():
    rng = np.random.default_rng(3)
    history = rng.normal(size=(9, 6))
    history[8] = history[0]
    shuffled = rng.permutation(9)
    for summary in (prior.average_rank, prior.average_z, prior.average_value, prior.completed_average):
        found = summary(history)
        assert found[8] == pytest.approx(found[0])
        np.testing.assert_allclose(summary(history[shuffled]), found[shuffled], atol=1e-9)


def test_unknown_kinds_are_refused():
    with pytest.raises(DataError, match="'best' is unknown"):
        prior.within_tasks(HISTORY, "best")
    with pytest.raises(DataError, match=r"expected models by tasks"):
        prior.within_tasks(HISTORY[0], "z")
