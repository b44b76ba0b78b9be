"""Forward returns by hand, and ranks within the day."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from deepfm.equities.features.within_day import place_within_day
from deepfm.equities.labels import Labels, forward_returns, rank_within_day, zscore_within_day
from deepfm.errors import ConfigError, DataError
from tests.equities.made_panels import made_panel


def priced(close):
    panel = made_panel(len(close), len(close[0]), missing=0.0)
    object.__setattr__(panel, "close", np.array(close, dtype=np.float32))
    return panel


class TestReturns:
    def test_by_hand(self):
        labels = forward_returns(priced([[1.0], [2], [3], [6], [3]]), (1, 2), delay=1)
        np.testing.assert_allclose(labels.returns[:, 0, 0], [0.5, 1.0, -0.5, np.nan, np.nan])
        np.testing.assert_allclose(labels.returns[:, 0, 1], [2.0, 0.0, np.nan, np.nan, np.nan])
        assert labels.last_session.tolist() == [[2, 3], [3, 4], [4, 5], [5, 6], [6, 7]]
        now = forward_returns(priced([[1.0], [2], [3]]), (1,), delay=0)
        np.testing.assert_allclose(now.returns[:, 0, 0], [1.0, 0.5, np.nan])

    def test_a_delisting_inside_the_window_keeps_the_last_price(self):
        close = np.full((20, 1), 10.0)
        close[3], close[4:] = 4.0, np.nan
        labels = forward_returns(priced(close), (12,), delay=1)
        np.testing.assert_allclose(labels.returns[:3, 0, 0], [-0.6, -0.6, 0.0], rtol=1e-6)
        assert np.isnan(labels.returns[8:, 0, 0]).all()  # the price of entry is more than five sessions old

    def test_nothing_between_the_trade_and_the_last_session_is_missed_and_nothing_beyond_is_seen(self):
        panel = made_panel(60, 4, missing=0.0)
        labels = forward_returns(panel, (5,), delay=2)
        for session in (10, 30):
            last = int(labels.last_session[session, 0])
            seen = forward_returns(panel.until(last), (5,), delay=2)
            assert np.array_equal(seen.returns[session], labels.returns[session], equal_nan=True)
            assert np.isnan(forward_returns(panel.until(last - 1), (5,), delay=2).returns[session]).all()

    @pytest.mark.parametrize("horizons", [(), (0,), (5, 5)])
    def test_refused(self, horizons):
        with pytest.raises(ConfigError, match="horizons"):
            forward_returns(made_panel(10), horizons)
        with pytest.raises(ConfigError, match="delay"):
            forward_returns(made_panel(10), (1,), delay=-1)
        with pytest.raises(DataError, match="3 horizons"):
            Labels(np.zeros((2, 3, 1), np.float32), np.zeros((2, 1), np.int64), (1, 2, 3), 1)

    def test_longer_than_the_panel_is_missing(self):
        assert np.isnan(forward_returns(made_panel(10), (20,)).returns).all()


class TestWithinDay:
    @given(st.integers(0, 10_000))
    @settings(max_examples=40, deadline=None)
    def test_ranks_are_scipys(self, seed):
        rng = np.random.default_rng(seed)
        values = rng.integers(0, 6, size=(4, 9, 2)).astype(np.float32)
        values[rng.random(values.shape) < 0.2] = np.nan
        where = rng.random((4, 9)) < 0.8
        ranks = rank_within_day(values, where)
        for day in range(4):
            for column in range(2):
                inside = where[day] & np.isfinite(values[day, :, column])
                expected = stats.rankdata(values[day, inside, column]) / max(inside.sum(), 1) - 0.5
                np.testing.assert_allclose(ranks[day, inside, column], expected, atol=1e-6)
                assert np.isnan(ranks[day, ~inside, column]).all()

    def test_ranks_lie_in_the_half_open_interval(self):
        np.testing.assert_allclose(
            rank_within_day(np.array([[3.0, 1, 2, 9]]), np.ones((1, 4), bool)), [[0.25, -0.25, 0, 0.5]]
        )

    def test_those_outside_are_placed_without_moving_the_others(self):
        values, where = np.array([[1.0, 2, 3, 4, 2.5, 9, -1]]), np.array([[True] * 4 + [False] * 3])
        np.testing.assert_allclose(place_within_day(values, where), [[-0.25, 0, 0.25, 0.5, 0.125, 0.5, -0.375]])
        assert np.isnan(place_within_day(values, ~where & where)).all()

    def test_scores_have_mean_0_and_deviation_1_and_flat_days_are_0(self):
        values = np.random.default_rng(0).normal(3, 2, size=(5, 30))
        values[4] = 7
        scores = zscore_within_day(values, np.ones(values.shape, bool))
        np.testing.assert_allclose(scores.mean(axis=1), 0, atol=1e-6)
        np.testing.assert_allclose(scores[:4].std(axis=1), 1, atol=1e-6)
        assert (scores[4] == 0).all()

    def test_labels_rank_by_horizon(self):
        panel = made_panel(40)
        labels = forward_returns(panel, (1, 5))
        ranked = labels.ranked(panel.eligible)
        np.testing.assert_array_equal(ranked[..., 1], rank_within_day(labels.returns[..., 1], panel.eligible))
        assert np.isnan(labels.zscored(panel.eligible)[~panel.eligible]).all()

    def test_shapes_are_checked(self):
        with pytest.raises(DataError, match="where"):
            rank_within_day(np.zeros((3, 4)), np.ones((4, 3), bool))
