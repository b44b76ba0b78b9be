"""What an evaluation found, method by method and horizon by horizon, and the same as JSON."""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepfm.equities.evaluation.ablation import PartDifference
from deepfm.equities.evaluation.backtest import Backtest, BacktestSettings
from deepfm.equities.evaluation.daily_summary import DailySummary
from deepfm.equities.evaluation.places import Floats
from deepfm.errors import DataError
from deepfm.statistics import SerialMean


@dataclass(frozen=True)
class QuantileQuality:
    """How honest the forecast quantiles are; `coverage` goes with `levels`, `interval` is between the outer two."""

    levels: tuple[float, ...]
    coverage: tuple[float, ...]
    interval: float
    pinball: float
    crossing_rate: float


@dataclass(frozen=True, eq=False)
class HorizonResult:
    """One method at one horizon.

    Args:
        horizon: in sessions.
        rank_ic: Spearman's correlation with the forward return, day by day.
        ic: Pearson's, with the forward return clipped at ± 50 %, as in the next two.
        names: the mean number of stocks of a day that was measured.
        daily_rank_ic: `(S,)`; NaN where a day was skipped.
        decile_returns: the mean forward return of each tenth by score, the lowest first, `(10,)`.
        spread: the highest tenth's forward return less the lowest's, over the horizon, day by day.
        portfolio: what trading it earned.
        quantiles: of the forecast quantiles, where there are any.
    """

    horizon: int
    rank_ic: DailySummary
    ic: DailySummary
    names: float
    daily_rank_ic: Floats
    decile_returns: Floats
    spread: DailySummary
    portfolio: Backtest
    quantiles: QuantileQuality | None = None


@dataclass(frozen=True)
class Paired:
    """What a method adds to a baseline at one horizon: daily RankIC, and daily portfolio returns at a cost."""

    method: str
    baseline: str
    horizon: int
    rank_ic: SerialMean
    net_return: SerialMean
    cost: float


@dataclass(frozen=True, eq=False)
class Evaluation:
    """All methods at all horizons.

    Args:
        name: the method that is evaluated.
        dates: the sessions scored, `(S,)`.
        horizons: in sessions.
        methods: by name the results by horizon, the evaluated method first.
        paired: the evaluated method less each baseline, and the blend of it with one less that one.
        settings: how the portfolios are traded.
        ablations: what the parts of the network bring, where they were taken away.
    """

    name: str
    dates: NDArray[np.datetime64]
    horizons: tuple[int, ...]
    methods: Mapping[str, tuple[HorizonResult, ...]]
    paired: tuple[Paired, ...]
    settings: BacktestSettings
    ablations: tuple[PartDifference, ...] = ()

    @property
    def results(self) -> tuple[HorizonResult, ...]:
        """The evaluated method's results by horizon."""
        return self.methods[self.name]

    def difference(self, baseline: str, horizon: int, method: str | None = None) -> Paired:
        """The paired difference to one baseline at one horizon; of another method than the evaluated one by its name.

        Raises:
            DataError: there is none.
        """
        for found in self.paired:
            if (found.method, found.baseline, found.horizon) == (method or self.name, baseline, horizon):
                return found
        raise DataError(f"no paired difference to {baseline!r} at {horizon} sessions; expected one of those evaluated")

    def to_dict(self) -> dict[str, Any]:
        """Everything but the daily series, ready for JSON: what is not finite becomes None."""
        methods = {name: [_result_dict(result) for result in results] for name, results in self.methods.items()}
        paired = [
            {**dataclasses.asdict(item), "rank_ic": _mean_dict(item.rank_ic), "net_return": _mean_dict(item.net_return)}
            for item in self.paired
        ]
        span = [str(self.dates[0]), str(self.dates[-1])]
        settings = dataclasses.asdict(self.settings)
        ablations = {"ablations": [item.to_dict() for item in self.ablations]} if self.ablations else {}
        plain: dict[str, Any] = _plain(
            {
                "name": self.name, "first": span[0], "last": span[1], "sessions": len(self.dates),
                "horizons": self.horizons, "backtest": settings, "methods": methods, "paired": paired,
                **ablations,
            }
        )  # fmt: skip
        return plain


def _result_dict(result: HorizonResult) -> dict[str, Any]:
    portfolio = result.portfolio
    return {
        "horizon": result.horizon,
        "rank_ic": _summary_dict(result.rank_ic),
        "ic": _summary_dict(result.ic),
        "names": result.names,
        "decile_returns": result.decile_returns,
        "spread": _summary_dict(result.spread),
        "portfolio": {
            "days": len(portfolio.dates), "turnover": portfolio.mean_turnover, "beta": portfolio.beta,
            "market_share": portfolio.market_share, "sectors": portfolio.sectors,
            "levels": [dataclasses.asdict(level) for level in portfolio.levels],
        },
        "quantiles": None if result.quantiles is None else dataclasses.asdict(result.quantiles),
    }  # fmt: skip


def _summary_dict(summary: DailySummary) -> dict[str, Any]:
    return {**dataclasses.asdict(summary), "ratio": summary.ratio, "t": summary.t, "interval": summary.interval}


def _mean_dict(found: SerialMean) -> dict[str, Any]:
    return {**dataclasses.asdict(found), "t": found.t, "interval": found.interval}


def _plain(value: Any) -> Any:
    """Nested plain values; arrays and tuples as lists, what is not finite as None."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [_plain(item) for item in value]
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else None
    return int(value) if isinstance(value, np.integer) else value
