"""The portfolio by hand, its ratios, and that nothing of the future reaches it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepfm.equities.evaluation.backtest import BacktestSettings, backtest, drawdown
from deepfm.equities.evaluation.portfolio import (
    daily_returns,
    market_returns,
    overlapping_holdings,
    target_weights,
    traded,
)
from deepfm.equities.evaluation.sharpe import (
    best_of_worthless,
    deflated_sharpe,
    probabilistic_sharpe,
    sharpe_error,
    sharpe_ratio,
)
from deepfm.errors import ConfigError, DataError, DeepFMError
from tests.equities.ranking_cases import panel_of, random_panel

THREE = BacktestSettings(share=1 / 3, least_names=2, costs=(0.0, 10.0))


@pytest.fixture(scope="module")
def three():
    """Three stocks; what follows day 0's trade is +10 %, 0, -10 %, what follows day 1's +20 %, +10 %, -20 %."""
    returns = np.array([[0, 0, 0], [0.5, 0.5, 0.5], [0.1, 0.0, -0.1], [0.2, 0.1, -0.2], [0.0, 0.0, 0.0]])
    panel = panel_of(100 * np.cumprod(1 + returns, axis=0), sectors=[0, 0, 1], sector_names=("iron", "wool"))
    scores = np.full((5, 3), np.nan)
    scores[0] = [3, 2, 1]  # buy the first, sell the third
    scores[1] = [1, 3, 2]  # buy the second, sell the first
    return panel, scores


class TestByHand:
    def test_two_tranches(self, three):
        """Half of day 0's choice earns .5 × .1 + .5 × .1; both halves, (0, .5, -.5), then earn .05 + .1."""
        panel, scores = three
        found = backtest(scores, panel, panel.eligible, 2, [0, 1], THREE)
        assert found.gross == pytest.approx([0.1, 0.15], abs=1e-6)
        assert found.turnover == pytest.approx([1.0, 1.0])
        assert found.net(10.0) == pytest.approx([0.099, 0.149], abs=1e-6)
        assert (found.dates == panel.sessions[[2, 3]]).all()
        assert found.level(10.0).annual_return == pytest.approx(252 * 0.124, abs=1e-4)
        assert found.sectors == pytest.approx({"unknown": 0, "iron": 0.5, "wool": -0.5})
        assert found.market == pytest.approx([0.0, 0.1 / 3], abs=1e-6)

    def test_one_session_a_tranche(self, three):
        """Each day's whole choice: .1 + .1, then -.2 + .1; entering trades 2, and then 2 + 1 + 1."""
        panel, scores = three
        found = backtest(scores, panel, panel.eligible, 1, [0, 1], THREE)
        assert found.gross == pytest.approx([0.2, -0.1], abs=1e-6)
        assert found.turnover == pytest.approx([2.0, 4.0])

    def test_without_delay_the_next_session_is_earned(self, three):
        panel, scores = three
        found = backtest(scores, panel, panel.eligible, 1, [0, 1], BacktestSettings(0, 1 / 3, least_names=2))
        assert found.gross == pytest.approx([0.0, -0.1], abs=1e-6)

    def test_long_only_sells_none(self, three):
        panel, scores = three
        settings = BacktestSettings(share=1 / 3, least_names=2, long_only=True)
        found = backtest(scores, panel, panel.eligible, 1, [0, 1], settings)
        assert found.gross == pytest.approx([0.1, 0.1], abs=1e-6)
        assert found.turnover == pytest.approx([1.0, 2.0])


class TestWeights:
    @given(st.integers(0, 10_000), st.integers(2, 40), st.floats(0.05, 0.5))
    @settings(max_examples=40, deadline=None)
    def test_each_side_sums_to_one_and_ties_share(self, seed, stocks, share):
        rng = np.random.default_rng(seed)
        scores = rng.integers(0, 6, (3, stocks)).astype(float)
        weights = target_weights(scores, np.ones(scores.shape, bool), share, least_names=2)
        long = target_weights(scores, np.ones(scores.shape, bool), share, long_only=True, least_names=2)
        assert long.sum(axis=1) == pytest.approx(np.ones(3))
        assert weights.sum(axis=1) == pytest.approx(np.zeros(3))
        assert (long >= 0).all()
        assert np.abs(weights).max() <= 1 + 1e-9
        for day in range(3):
            for value in np.unique(scores[day]):
                assert np.ptp(weights[day, scores[day] == value]) == pytest.approx(0)
        assert target_weights(-scores, np.ones(scores.shape, bool), share, least_names=2) == pytest.approx(-weights)

    def test_a_tenth_of_thirty_is_three(self):
        weights = target_weights(np.arange(30.0)[None], np.ones((1, 30), bool))
        assert weights[0, -3:] == pytest.approx(np.full(3, 1 / 3))
        assert weights[0, :3] == pytest.approx(np.full(3, -1 / 3))
        assert not weights[0, 3:-3].any()

    def test_scores_that_say_nothing_hold_nothing(self):
        everywhere = np.ones((1, 30), bool)
        assert not target_weights(np.zeros((1, 30)), everywhere).any()
        assert not target_weights(np.full((1, 30), np.nan), everywhere).any()
        assert not target_weights(np.arange(30.0)[None], np.arange(30)[None] < 19).any()  # too few

    def test_tranches_overlap_and_run_out(self):
        weights = np.zeros((5, 1))
        weights[1] = 1.0
        holdings = overlapping_holdings(weights, 3)
        assert holdings[:, 0] == pytest.approx([0, 1 / 3, 1 / 3, 1 / 3, 0])
        assert traded(holdings) == pytest.approx([0, 1 / 3, 0, 0, 1 / 3])


class TestReturns:
    def test_holes_are_carried_five_sessions_and_jumps_are_clipped(self):
        close = np.array([100, 110, *[np.nan] * 5, 121, 484, 48.4])[:, None]
        found = daily_returns(close)[:, 0]
        assert np.isnan(found[0])
        assert found[1:] == pytest.approx([0.1, 0, 0, 0, 0, 0, 0.1, 0.5, -0.5])
        longer = np.array([100, *[np.nan] * 6, 121.0])[:, None]
        assert np.isnan(daily_returns(longer)[6:, 0]).all()

    def test_the_market_is_of_those_who_belonged_before(self):
        returns = np.array([[0.0, 0.0], [0.1, 0.3], [0.2, np.nan]])
        where = np.array([[True, False], [True, True], [True, True]])
        assert market_returns(returns, where) == pytest.approx([0, 0.1, 0.2])


@pytest.fixture(scope="module")
def market():
    panel = random_panel(1, sessions=120, stocks=50)
    ahead = np.full(panel.close.shape, np.nan)
    ahead[:-2] = daily_returns(panel.close)[2:]
    return panel, ahead


class TestWhole:
    def test_the_future_earns_and_its_negative_loses_as_much(self, market):
        panel, ahead = market
        sessions = np.arange(10, 110)
        good, bad = (backtest(sign * ahead, panel, panel.eligible, 1, sessions) for sign in (1, -1))
        assert good.level(0.0).sharpe > 20
        assert good.gross == pytest.approx(-bad.gross)
        assert good.level(0.0).sharpe == pytest.approx(-bad.level(0.0).sharpe)
        assert good.turnover == pytest.approx(bad.turnover)
        assert good.level(20.0).sharpe < good.level(5.0).sharpe < good.level(0.0).sharpe
        assert good.level(0.0).drawdown == 0

    def test_ratios_are_those_of_the_daily_returns(self, market):
        panel, _ = market
        scores = np.random.default_rng(0).normal(size=panel.close.shape)
        found = backtest(scores, panel, panel.eligible, 5, np.arange(0, 100))
        gross = found.gross
        level = found.level(0.0)
        assert level.sharpe == pytest.approx(gross.mean() / gross.std(ddof=1) * np.sqrt(252))
        assert level.annual_return == pytest.approx(252 * gross.mean())
        assert level.volatility == pytest.approx(gross.std(ddof=1) * np.sqrt(252))
        assert found.beta == pytest.approx(np.polyfit(found.market, gross, 1)[0])
        assert found.market_share == pytest.approx(np.corrcoef(found.market, gross)[0, 1] ** 2)
        assert sum(found.sectors.values()) == pytest.approx(0, abs=1e-9)

    def test_what_comes_later_changes_nothing_before(self, market):
        panel, _ = market
        scores = np.random.default_rng(3).normal(size=panel.close.shape)
        whole = backtest(scores, panel, panel.eligible, 5, np.arange(0, 110))
        cut = panel.until(80)
        short = backtest(scores[:81], cut, cut.eligible, 5, np.arange(0, 79))
        assert (short.gross == whole.gross[: len(short.gross)]).all()
        assert (short.turnover == whole.turnover[: len(short.turnover)]).all()

    def test_a_universe_of_too_few_earns_nothing_and_says_so(self, market):
        panel, ahead = market
        found = backtest(ahead, panel, np.zeros(ahead.shape, bool), 5, np.arange(100))
        assert not len(found.dates)
        assert np.isnan(found.level(0.0).sharpe)

    @pytest.mark.parametrize("sessions", [[], [3, 2], [119], [500]])
    def test_sessions_that_cannot_be_traded_are_refused(self, market, sessions):
        panel, ahead = market
        with pytest.raises(DataError, match="session"):
            backtest(ahead, panel, panel.eligible, 5, sessions)

    def test_settings_and_shapes_are_held_to_their_limits(self, market):
        panel, ahead = market
        for wrong in ({"share": 0.6}, {"delay": -1}, {"costs": (-1.0,)}, {"costs": ()}):
            with pytest.raises(ConfigError, match="backtest"):
                BacktestSettings(**wrong)
        with pytest.raises(DataError, match="shapes"):
            backtest(ahead[:, :3], panel, panel.eligible, 5, [1])
        with pytest.raises(DataError, match="no backtest at 7 bp"):
            backtest(ahead, panel, panel.eligible, 5, np.arange(50)).level(7)


class TestSharpe:
    def test_annualisation(self):
        returns = np.array([0.01, -0.005, 0.02, 0.0])
        assert sharpe_ratio(returns) == pytest.approx(returns.mean() / returns.std(ddof=1) * 252**0.5)
        assert np.isnan(sharpe_ratio(np.full(5, 0.01)))
        assert np.isnan(sharpe_ratio([0.01]))

    def test_five_years_leave_an_error_of_nearly_a_half(self):
        returns = np.random.default_rng(0).normal(0, 0.01, 1244)
        assert sharpe_error(returns) == pytest.approx(0.4501, abs=0.002)

    def test_drawdown_by_hand(self):
        assert drawdown(np.array([0.1, -0.3, 0.1, -0.2, 0.5])) == pytest.approx(0.4)
        assert drawdown(np.array([-0.1, 0.2])) == pytest.approx(0.1)

    def test_the_best_of_many_worthless_is_deflated(self):
        """Bailey and López de Prado's point: of 100 worthless strategies the best looks good and is not."""
        rng = np.random.default_rng(5)
        naive, deflated = [], []
        for _ in range(40):
            trials = rng.normal(0, 0.01, (100, 500))
            best = max(trials, key=sharpe_ratio)
            naive.append(deflated_sharpe(best, 1))
            deflated.append(deflated_sharpe(best, 100))
        assert np.mean(naive) > 0.97
        assert np.mean(deflated) == pytest.approx(0.5, abs=0.15)

    def test_one_trial_of_normal_returns_is_the_normal_probability(self):
        from scipy.stats import norm

        returns = np.random.default_rng(6).normal(0.0005, 0.01, 2000)
        daily = sharpe_ratio(returns) / 252**0.5
        assert deflated_sharpe(returns, 1) == pytest.approx(norm.cdf(daily * 2000**0.5), abs=0.01)
        assert deflated_sharpe(returns, 10, trial_deviation=0.0) == pytest.approx(deflated_sharpe(returns, 1))

    def test_the_papers_example(self):
        """Bailey and López de Prado (2014): 2.5 a year over 1,250 days of 250 a year, the best of 100, gives .9004."""
        best = best_of_worthless(100, (0.5 / 250) ** 0.5)
        assert best == pytest.approx(0.1132, abs=5e-5)
        found = probabilistic_sharpe(2.5 / 250**0.5, best, 1250, -3.0, 10.0)
        assert found == pytest.approx(0.9004, abs=5e-5)

    def test_every_level_is_deflated_by_the_settings_trials(self):
        panel = random_panel(3, sessions=120, stocks=30)
        scores = np.random.default_rng(0).normal(size=panel.close.shape)
        sessions = np.arange(20, 110)
        for trials, deviation in ((1, None), (50, None), (50, 2.0)):
            settings = BacktestSettings(trials=trials, trial_deviation=deviation)
            found = backtest(scores, panel, panel.eligible, 5, sessions, settings)
            for level in found.levels:
                assert level.deflated == deflated_sharpe(found.net(level.cost), trials, deviation)
        assert found.level(0.0).deflated > found.level(20.0).deflated

    @pytest.mark.parametrize(("returns", "trials"), [([0.1, 0.2, 0.3], 0), ([0.1, 0.1, 0.1], 2), ([np.nan], 1)])
    def test_what_has_no_ratio_is_refused(self, returns, trials):
        with pytest.raises(DeepFMError, match=r"trials|Sharpe"):
            deflated_sharpe(returns, trials)
