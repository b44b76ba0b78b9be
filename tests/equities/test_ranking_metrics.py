"""Daily metrics against scipy, by hand, and under what must not matter."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import pearsonr, spearmanr

from deepfm.equities.evaluation.daily_summary import newey_west_lags, paired_difference, summarise_days
from deepfm.equities.evaluation.metrics import (
    crossing_rate,
    group_returns,
    information_coefficient,
    interval_coverage,
    pinball,
    quantile_coverage,
    rank_ic,
)
from deepfm.errors import DataError
from deepfm.statistics import newey_west_error


@pytest.fixture(scope="module")
def days():
    rng = np.random.default_rng(4)
    scores = rng.integers(0, 12, (30, 50)).astype(np.float64)  # with ties
    returns = 0.01 * scores + rng.normal(0, 0.05, scores.shape)
    scores[rng.random(scores.shape) < 0.05] = np.nan
    returns[rng.random(returns.shape) < 0.05] = np.nan
    return scores, returns, rng.random(scores.shape) < 0.9


@pytest.mark.parametrize(("ours", "theirs"), [(rank_ic, spearmanr), (information_coefficient, pearsonr)])
def test_correlations_are_scipys(days, ours, theirs):
    scores, returns, where = days
    found = ours(scores, returns, where)
    part = where & np.isfinite(scores) & np.isfinite(returns)
    expected = [theirs(scores[day, part[day]], returns[day, part[day]])[0] for day in range(len(scores))]
    assert found == pytest.approx(expected, abs=1e-12)


def test_the_future_ranks_perfectly_and_its_negative_the_other_way(days):
    _, returns, where = days
    assert rank_ic(returns, returns, where) == pytest.approx(1.0)
    assert rank_ic(-returns, returns, where) == pytest.approx(-1.0)


@given(st.integers(0, 1000), st.floats(0.1, 3.0), st.floats(-2.0, 2.0))
@settings(max_examples=15, deadline=None)
def test_only_the_order_of_scores_counts_and_no_order_of_stocks(seed, slope, shift):
    rng = np.random.default_rng(seed)
    scores, returns = rng.normal(size=(2, 4, 30))
    where = rng.random((4, 30)) < 0.9
    base = rank_ic(scores, returns, where)
    assert rank_ic(np.exp(slope * scores + shift), returns, where) == pytest.approx(base)
    order = rng.permutation(30)
    assert rank_ic(scores[:, order], returns[:, order], where[:, order]) == pytest.approx(base)
    assert rank_ic(-scores, returns, where) == pytest.approx(-base)


def test_days_without_enough_stocks_are_skipped_and_tied_scores_rank_nothing():
    rng = np.random.default_rng(0)
    scores, returns = rng.normal(size=(2, 5, 25))
    where = np.ones((5, 25), dtype=bool)
    where[0, 6:] = False  # too few
    scores[1] = np.nan
    scores[2] = 0.3
    returns[3] = 0.01
    found = rank_ic(scores, returns, where)
    assert np.isnan(found[[0, 1, 3]]).all()
    assert found[2] == 0.0
    assert np.isfinite(found[4])
    dates = np.datetime64("2016-12-30") + np.arange(5)
    summary = summarise_days(found, dates, 5)
    assert (summary.days, summary.skipped) == (2, 3)
    assert [(year.year, year.days) for year in summary.years] == [(2017, 2)]
    assert summary.mean == pytest.approx(found[4] / 2)
    nothing = summarise_days(np.full(5, np.nan), dates, 5)
    assert (nothing.days, nothing.skipped) == (0, 5)
    assert np.isnan(nothing.mean)
    assert np.isnan(nothing.ratio)


def test_shuffled_returns_give_nothing():
    rng = np.random.default_rng(11)
    returns = rng.normal(size=(300, 60))
    scores = rng.permuted(returns, axis=1)
    summary = summarise_days(
        rank_ic(scores, returns, np.ones(returns.shape, bool)), np.datetime64("2015-01-01") + np.arange(300), 1
    )
    assert abs(summary.mean) < 3 * summary.error
    assert summary.error == pytest.approx(1 / np.sqrt(59 * 300), rel=0.25)  # the deviation of Spearman's under chance


def test_years_stand_apart_and_the_summary_is_numpys():
    daily = np.array([0.1, 0.3, -0.2, 0.0, 0.4])
    dates = np.array(["2015-12-30", "2015-12-31", "2016-01-04", "2016-01-05", "2016-01-06"], "datetime64[D]")
    summary = summarise_days(daily, dates, 20)
    assert [(year.year, year.days) for year in summary.years] == [(2015, 2), (2016, 3)]
    assert [year.mean for year in summary.years] == pytest.approx([0.2, 0.2 / 3])
    assert summary.ratio == pytest.approx(daily.mean() / daily.std(ddof=1))
    assert summary.error == newey_west_error(daily, newey_west_lags(20))
    assert summary.positive_share == pytest.approx(0.6)
    assert [newey_west_lags(horizon) for horizon in (1, 5, 6, 10, 20)] == [5, 5, 5, 9, 19]


def test_a_pair_is_compared_on_the_days_that_both_have():
    ours, theirs = np.array([0.5, np.nan, 0.2, 0.4]), np.array([0.1, 0.3, 0.1, np.nan])
    found = paired_difference(ours, theirs, 1)
    assert (found.mean, found.count) == (pytest.approx(0.25), 2)
    with pytest.raises(DataError, match="no day in common"):
        paired_difference(np.array([np.nan, 1.0]), np.array([1.0, np.nan]), 1)


def test_tenths_hold_a_tenth_each_and_ties_go_together():
    returns = np.arange(40.0)[None]
    found = group_returns(returns, returns, np.ones((1, 40), bool))
    assert found[0] == pytest.approx(np.arange(10) * 4 + 1.5)
    tied = group_returns(np.zeros((1, 40)), returns, np.ones((1, 40), bool))
    assert np.isnan(tied[0]).sum() == 9  # all in one tenth
    assert np.nanmean(tied[0]) == returns.mean()


def test_quantiles_by_hand():
    quantiles = np.array([[[-1.0, 0.0, 1.0], [-1.0, 0.0, 1.0], [2.0, 1.0, 3.0], [0.0, 0.0, np.nan]]])
    targets = np.array([[0.5, -2.0, 1.5, 0.0]])
    where = np.ones((1, 4), dtype=bool)
    assert quantile_coverage(quantiles, targets, where) == pytest.approx([2 / 3, 1 / 3, 1.0])
    assert interval_coverage(quantiles, targets, where) == pytest.approx(1 / 3)
    assert crossing_rate(quantiles, where) == pytest.approx(1 / 3)
    levels = (0.1, 0.5, 0.9)
    missed = targets[0, :3, None] - quantiles[0, :3]
    expected = np.where(missed > 0, np.array(levels) * missed, (np.array(levels) - 1) * missed).mean()
    assert pinball(quantiles, targets, where, levels) == pytest.approx(expected)
    with pytest.raises(DataError, match="as many of each"):
        pinball(quantiles, targets, where, (0.1, 0.9))


def test_normal_quantiles_cover_what_they_say():
    from scipy.stats import norm

    levels = (0.05, 0.25, 0.5, 0.75, 0.95)
    truth = np.random.default_rng(1).normal(size=(50, 100))
    forecast = np.broadcast_to(norm.ppf(levels), (50, 100, 5))
    everywhere = np.ones(truth.shape, dtype=bool)
    assert quantile_coverage(forecast, truth, everywhere) == pytest.approx(levels, abs=0.02)
    assert interval_coverage(forecast, truth, everywhere) == pytest.approx(0.9, abs=0.02)
    assert crossing_rate(forecast, everywhere) == 0
    assert pinball(forecast, truth, everywhere) < pinball(1.3 * forecast, truth, everywhere)


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(DataError, match="all alike"):
        rank_ic(np.zeros((2, 3)), np.zeros((2, 4)), np.ones((2, 3), bool))
