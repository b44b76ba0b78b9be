"""All that is measured of a ranking, beside the baselines on the same days, stocks and harness."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepfm.equities.evaluation.backtest import BacktestSettings, backtest
from deepfm.equities.evaluation.daily_summary import newey_west_lags, paired_difference, summarise_days
from deepfm.equities.evaluation.metrics import (
    QUANTILE_LEVELS,
    crossing_rate,
    group_returns,
    information_coefficient,
    interval_coverage,
    pinball,
    quantile_coverage,
    rank_ic,
)
from deepfm.equities.evaluation.places import Floats, Mask, blend
from deepfm.equities.evaluation.portfolio import LARGEST_RETURN, daily_returns
from deepfm.equities.evaluation.results import Evaluation, HorizonResult, Paired, QuantileQuality
from deepfm.equities.panels.panel import Panel
from deepfm.errors import DataError
from deepfm.statistics import newey_west


class ForwardReturns(Protocol):
    """What followed each session, such as `Labels`."""

    @property
    def returns(self) -> NDArray[np.float32]:
        """The raw forward returns, `(T, N, K)`; NaN where there is none."""

    @property
    def horizons(self) -> Sequence[int]:
        """The `K` horizons in sessions."""

    @property
    def delay(self) -> int:
        """Sessions from the scores to the trade."""


def evaluate(
    scores: ArrayLike,
    panel: Panel,
    labels: ForwardReturns,
    where: ArrayLike,
    baselines: Mapping[str, ArrayLike] | None = None,
    quantiles: ArrayLike | None = None,
    sessions: ArrayLike | None = None,
    *,
    name: str = "ATFT",
    quantile_targets: ArrayLike | None = None,
    levels: tuple[float, ...] = QUANTILE_LEVELS,
    settings: BacktestSettings | None = None,
    paired_cost: float | None = None,
    blended: str | None = None,
) -> Evaluation:
    """Measure scores and baselines on the same sessions and stocks.

    Args:
        scores: `(T, N, K)` on the panel's sessions, higher is better; NaN is none.
        panel: for prices, dates and sectors.
        labels: the forward returns, raw.
        where: the universe, `(T, N)`, as known on each day.
        baselines: by name, scores as the first argument.
        quantiles: forecasts, `(T, N, K, Q)`.
        sessions: indices that are measured, rising; left out, all that have a score.
        name: of the evaluated method.
        quantile_targets: what the quantiles are of, `(T, N, K)`; left out, the raw returns.
        levels: the quantiles' `Q` levels.
        settings: how portfolios are traded; left out, the defaults with the labels' delay. The trials are those of the
            method and its blend; no baseline was searched for.
        paired_cost: the cost at which portfolios are paired; left out, 10 bp or the highest there is.
        blended: a baseline whose rank average with the scores is measured too, beside that baseline.

    Raises:
        DataError: shapes that do not fit, a baseline of the method's own name, or nothing to measure.
    """
    settings = settings or BacktestSettings(delay=labels.delay)
    cost = settings.main_cost if paired_cost is None else paired_cost
    shape = (panel.num_sessions, panel.num_stocks, len(labels.horizons))
    if labels.returns.shape != shape or np.shape(where) != shape[:2]:
        raise DataError(
            f"labels and where have the shapes {labels.returns.shape} and {np.shape(where)}; expected {shape} and "
            f"{shape[:2]}, on the panel's sessions and stocks"
        )
    ranked = {name: np.asarray(scores)}
    for other, array in (baselines or {}).items():
        if other == name:
            raise DataError(f"a baseline is called {name!r} like the evaluated method; expected names that differ")
        ranked[other] = np.asarray(array)
    for method, array in ranked.items():
        if array.shape != shape:
            raise DataError(f"the scores of {method!r} have the shape {array.shape}; expected {shape}")
    pairs = [(name, other) for other in ranked if other != name]
    if blended is not None:
        if blended not in ranked or blended == name:
            raise DataError(f"{blended!r} is to be blended with {name!r}; expected one of the baselines")
        joined = f"{name} + {blended}"
        ranked[joined] = blend({one: ranked[one] for one in (name, blended)})
        pairs.append((joined, blended))
    chosen = _sessions(ranked[name], sessions)
    universe = np.asarray(where, dtype=np.bool_)
    measure = _Harness(panel, labels, universe, chosen, settings, daily_returns(panel.close))
    unsearched = dataclasses.replace(measure, settings=dataclasses.replace(settings, trials=1))
    methods = {
        method: tuple(
            (unsearched if method in (baselines or {}) else measure).horizon(array[:, :, at], at)
            for at in range(shape[2])
        )
        for method, array in ranked.items()
    }
    if quantiles is not None:
        targets = labels.returns if quantile_targets is None else np.asarray(quantile_targets)
        methods[name] = tuple(
            dataclasses.replace(result, quantiles=measure.quantiles(np.asarray(quantiles), targets, at, levels))
            for at, result in enumerate(methods[name])
        )
    paired = tuple(
        _paired(methods[ours][at], methods[theirs][at], (ours, theirs), cost)
        for ours, theirs in pairs
        for at in range(shape[2])
    )
    return Evaluation(name, panel.sessions[chosen], tuple(labels.horizons), methods, paired, settings)


@dataclass(frozen=True, eq=False)
class _Harness:
    """What is the same for every method."""

    panel: Panel
    labels: ForwardReturns
    where: Mask
    sessions: NDArray[np.int64]
    settings: BacktestSettings
    returns: Floats

    def horizon(self, scores: NDArray[Any], at: int) -> HorizonResult:
        """One method's scores `(T, N)` at the horizon number `at`."""
        horizon, dates = self.labels.horizons[at], self.panel.sessions[self.sessions]
        mine, after, where = scores[self.sessions], self.labels.returns[self.sessions, :, at], self.where[self.sessions]
        daily = rank_ic(mine, after, where, self.settings.least_names)
        # A split that was not adjusted for would decide alone.
        clipped = np.clip(after, -LARGEST_RETURN, LARGEST_RETURN)
        pearson = information_coefficient(mine, clipped, where, self.settings.least_names)
        tenths = group_returns(mine, clipped, where, least_names=self.settings.least_names)
        known = np.isfinite(tenths).all(axis=1)
        deciles = tenths[known].mean(axis=0) if known.any() else np.full(tenths.shape[1], np.nan)
        names = (np.isfinite(mine) & np.isfinite(after) & where).sum(axis=1)[np.isfinite(daily)]
        return HorizonResult(
            horizon,
            summarise_days(daily, dates, horizon),
            summarise_days(pearson, dates, horizon),
            float(names.mean()) if len(names) else float("nan"),
            daily,
            deciles,
            summarise_days(tenths[:, -1] - tenths[:, 0], dates, horizon),
            backtest(scores, self.panel, self.where, horizon, self.sessions, self.settings, self.returns),
        )

    def quantiles(
        self, forecast: NDArray[Any], targets: NDArray[Any], at: int, levels: tuple[float, ...]
    ) -> QuantileQuality:
        """The forecast quantiles `(T, N, K, Q)` at the horizon number `at`."""
        if forecast.shape[:3] != targets.shape or forecast.shape[3:] != (len(levels),):
            raise DataError(f"quantiles have the shape {forecast.shape}; expected {(*targets.shape, len(levels))}")
        mine, truth, where = forecast[self.sessions, :, at], targets[self.sessions, :, at], self.where[self.sessions]
        return QuantileQuality(
            levels,
            tuple(float(share) for share in quantile_coverage(mine, truth, where)),
            interval_coverage(mine, truth, where),
            pinball(mine, truth, where, levels),
            crossing_rate(mine, where),
        )


def _sessions(scores: NDArray[Any], sessions: ArrayLike | None) -> NDArray[np.int64]:
    if sessions is None:
        chosen = np.flatnonzero(np.isfinite(scores).any(axis=(1, 2)))
    else:
        chosen = np.asarray(sessions, dtype=np.int64)
    if not len(chosen):
        raise DataError("no session has a score, so nothing can be measured; check the sessions and the scores")
    return chosen


def _paired(ours: HorizonResult, theirs: HorizonResult, names: tuple[str, str], cost: float) -> Paired:
    days, first, second = np.intersect1d(ours.portfolio.dates, theirs.portfolio.dates, return_indices=True)
    if not len(days):
        raise DataError(f"the portfolio shares no day with that of {names[1]!r}; score the same sessions with both")
    difference = ours.portfolio.net(cost)[first] - theirs.portfolio.net(cost)[second]
    return Paired(
        *names,
        ours.horizon,
        paired_difference(ours.daily_rank_ic, theirs.daily_rank_ic, ours.horizon),
        newey_west(difference, newey_west_lags(ours.horizon)),
        cost,
    )
