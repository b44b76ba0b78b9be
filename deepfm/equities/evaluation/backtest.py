"""What trading a ranking would have earned, before and after costs, and what else it was a bet on."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepfm.engine.settings import check_settings, setting
from deepfm.equities.evaluation.metrics import LEAST_NAMES
from deepfm.equities.evaluation.places import Floats
from deepfm.equities.evaluation.portfolio import (
    daily_returns,
    market_returns,
    overlapping_holdings,
    target_weights,
    traded,
)
from deepfm.equities.evaluation.sharpe import SESSIONS_PER_YEAR, deflated_sharpe, sharpe_error, sharpe_ratio
from deepfm.equities.panels.panel import Panel
from deepfm.errors import DataError

BASIS_POINT = 1e-4
MAIN_COST = 10.0  # basis points
LEAST_DEFLATED = 3  # returns that have a skewness


@dataclass(frozen=True)
class BacktestSettings:
    """How a ranking is traded.

    Args:
        delay: sessions from the scores' close to the close at which they are traded.
        share: of the day's stocks that are bought, and that are sold.
        costs: in basis points per unit bought or sold.
        long_only: buy the best, sell none short.
        least_names: a day with fewer scores holds nothing new.
        trials: how many strategies were tried before this one was chosen, itself among them.
        trial_deviation: the deviation of their annualised Sharpe ratios; None for what chance gives.
    """

    delay: int = setting(1, at_least=0)
    share: float = setting(0.1, above=0, at_most=0.5)
    costs: tuple[float, ...] = setting((0.0, 5.0, 10.0, 20.0), at_least=0, not_empty=True)
    long_only: bool = setting(False)
    least_names: int = setting(LEAST_NAMES, at_least=2)
    trials: int = setting(1, at_least=1)
    trial_deviation: float | None = setting(None, at_least=0)

    def __post_init__(self) -> None:
        """Hold every value to its limits."""
        check_settings(self, "backtest.")

    @property
    def main_cost(self) -> float:
        """The cost at which portfolios are compared: 10 bp, or the highest there is."""
        return MAIN_COST if MAIN_COST in self.costs else max(self.costs)


@dataclass(frozen=True)
class CostLevel:
    """The portfolio at one cost of trading; Sharpe ratios are of its daily returns, times √252.

    `deflated` is the probability that the ratio is above what the best of the settings' trials would show by chance.
    """

    cost: float
    annual_return: float
    volatility: float
    sharpe: float
    sharpe_error: float
    deflated: float
    drawdown: float


@dataclass(frozen=True, eq=False)
class Backtest:
    """One horizon's portfolio over the days on which it is held.

    Args:
        horizon: sessions for which a tranche is held.
        dates: the session at whose close each return is known, `(P,)`.
        gross: the daily returns before costs on one side's capital, `(P,)`.
        turnover: how much each day trades on one side's capital, `(P,)`: a long-short portfolio that is renewed whole
            every day trades 4.
        market: the equal-weight universe's returns on the same days, `(P,)`.
        levels: summaries by cost, in the order asked for.
        before_costs: the summary at no cost, asked for or not.
        beta: of the gross returns to the market.
        market_share: of the gross returns' variance that the market explains.
        sectors: the mean net weight by sector's name, unknown ones as "unknown".
    """

    horizon: int
    dates: NDArray[np.datetime64]
    gross: Floats
    turnover: Floats
    market: Floats
    levels: tuple[CostLevel, ...]
    before_costs: CostLevel
    beta: float
    market_share: float
    sectors: dict[str, float] = field(default_factory=dict)

    def net(self, cost: float) -> Floats:
        """The daily returns after `cost` basis points per unit traded, `(P,)`."""
        return self.gross - cost * BASIS_POINT * self.turnover

    def level(self, cost: float) -> CostLevel:
        """The summary at a cost.

        Raises:
            DataError: it was not asked for.
        """
        found = [level for level in self.levels if level.cost == cost]
        if not found:
            raise DataError(f"no backtest at {cost} bp; expected one of {[level.cost for level in self.levels]}")
        return found[0]

    @property
    def mean_turnover(self) -> float:
        """The mean of what a day trades."""
        return float(self.turnover.mean()) if len(self.turnover) else float("nan")


def backtest(
    scores: ArrayLike,
    panel: Panel,
    where: ArrayLike,
    horizon: int,
    sessions: Sequence[int] | NDArray[np.integer],
    settings: BacktestSettings | None = None,
    returns: Floats | None = None,
) -> Backtest:
    """Trade one horizon's scores: buy the best, sell the worst, hold each day's choice for `horizon` sessions.

    Args:
        scores: `(T, N)` on the panel's sessions, higher is bought; what lies outside `sessions` is not read.
        panel: for closes, sectors and the market.
        where: the universe, `(T, N)`, as known on each day.
        horizon: sessions of a tranche.
        sessions: indices whose scores are traded, rising.
        settings: how; left out, the defaults.
        returns: `daily_returns(panel.close)`, to compute them once for many backtests.

    Raises:
        DataError: shapes that do not fit the panel, no session, or none that is followed by the returns it needs.
    """
    settings = settings or BacktestSettings()
    chosen = np.asarray(sessions, dtype=np.int64)
    values, universe = np.asarray(scores), np.asarray(where, dtype=np.bool_)
    shape = (panel.num_sessions, panel.num_stocks)
    if values.shape != shape or universe.shape != shape:
        raise DataError(f"scores and where have the shapes {values.shape} and {universe.shape}; expected {shape}")
    if not len(chosen) or (np.diff(chosen) <= 0).any() or chosen[0] < 0 or chosen[-1] >= shape[0]:
        raise DataError(f"a backtest needs rising session indices from 0 to {shape[0] - 1}, at least one")
    returns = daily_returns(panel.close) if returns is None else returns
    first, after = int(chosen[0]), settings.delay + 1
    last = min(int(chosen[-1]), shape[0] - 1 - after)
    if last < first:
        raise DataError(
            f"no session is followed by the {after} sessions that its trade needs; give more sessions or fewer to trade"
        )
    weights = np.zeros((last - first + 1, shape[1]))
    within = chosen[chosen <= last]
    weights[within - first] = target_weights(
        values[within], universe[within], settings.share, settings.long_only, settings.least_names
    )
    holdings = overlapping_holdings(weights, horizon)
    trades = traded(holdings)
    earning = slice(first + after, last + after + 1)
    gross = np.einsum("sn,sn->s", holdings, np.nan_to_num(returns[earning]))
    market = market_returns(returns, universe)[earning]
    held = np.abs(holdings).sum(axis=1) + trades > 0
    kept = np.flatnonzero(held)
    gross, trades, market = gross[kept], trades[kept], market[kept]
    free, *levels = (_level(gross - cost * BASIS_POINT * trades, cost, settings) for cost in (0.0, *settings.costs))
    beta, market_share = _beta(gross, market)
    dates, sectors = panel.sessions[earning][kept], _sectors(holdings[kept], panel)
    return Backtest(horizon, dates, gross, trades, market, tuple(levels), free, beta, market_share, sectors)


def _level(returns: Floats, cost: float, settings: BacktestSettings) -> CostLevel:
    if not len(returns):
        return CostLevel(cost, *[float("nan")] * 6)
    deviation = float(returns.std(ddof=1)) if len(returns) > 1 else 0.0
    sharpe = sharpe_ratio(returns)
    known = np.isfinite(sharpe) and len(returns) >= LEAST_DEFLATED
    return CostLevel(
        cost,
        float(returns.mean() * SESSIONS_PER_YEAR),
        deviation * float(np.sqrt(SESSIONS_PER_YEAR)),
        sharpe,
        sharpe_error(returns),
        deflated_sharpe(returns, settings.trials, settings.trial_deviation) if known else float("nan"),
        drawdown(returns),
    )


def drawdown(returns: Floats) -> float:
    """The largest fall of the summed returns `(P,)` below their highest level so far, start included, 0 or more."""
    level = np.concatenate([[0.0], np.cumsum(returns)])
    return float((np.maximum.accumulate(level) - level).max())


def _beta(gross: Floats, market: Floats) -> tuple[float, float]:
    """The slope of the portfolio on the market, and the share of its variance that this explains."""
    if len(gross) < 3:
        return float("nan"), float("nan")
    ours, theirs = gross - gross.mean(), market - market.mean()
    if not ours @ ours > 0 or not theirs @ theirs > 0:
        return 0.0, 0.0
    return float(ours @ theirs / (theirs @ theirs)), float((ours @ theirs) ** 2 / ((theirs @ theirs) * (ours @ ours)))


def _sectors(holdings: Floats, panel: Panel) -> dict[str, float]:
    """The mean net weight of each sector."""
    if not len(holdings):
        return {}
    net = np.bincount(panel.sectors.astype(np.int64) + 1, holdings.mean(axis=0), len(panel.sector_names) + 1)
    names = ("unknown", *panel.sector_names)
    return {name: float(weight) for name, weight in zip(names, net, strict=True)}
