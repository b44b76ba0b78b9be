"""Generated panels: prices that look like prices, with planted signals and the best score that anybody could give."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from deepfm.engine.settings import setting
from deepfm.equities.panels.panel import Panel
from deepfm.utils.seeding import random_stream

FIRST_SESSION = np.datetime64("2010-01-04")
MEDIAN_VOLATILITY = 0.02  # of a session's own part of a return
RANGE, SMALLEST_RANGE, LARGEST_RANGE = 0.04, 0.01, 0.3  # (high − low) / close
RANGE_STEP = 0.02  # of the range for each deviation of what it shows, so that cycles of ten deviations keep it above 0
SWING_SESSIONS = (100.0, 300.0)  # of a drift, from one high to the next
LARGEST_INTRADAY_MOVE = 0.0025  # so that the open lies between low and high, whatever the range
MIN_HISTORY = 20  # rows before a stock is in the universe
DAY_SHIFT = 0.4  # of all volumes on a day of the day-wide effect, in deviations of a stock's own
SIGNALS = ("own", "spill_over", "interaction", "day_wide", "hidden")
SHOWN_BY = {  # signal → features that show it
    "own": ("clv",),
    "spill_over": ("intra",),
    "interaction": ("clv", "vshock"),
    "day_wide": ("clv", "vshock"),
    "hidden": ("range",),
}


@dataclass(frozen=True)
class PlantedSettings:
    """How large a generated panel is, and how strong each planted signal.

    A stock's return is a market, a sector and a cluster part and its own part; clusters of `cluster_size` stocks are
    marked nowhere, but their correlations show them. A strength is the share of a median stock's own volatility that
    a signal of one deviation adds to each of the `effect_sessions` returns which begin `delay` sessions after it shows:

    - `own`: the place of the close between low and high.
    - `spill_over`: the intraday moves of the others of the cluster; the stock's own says nothing.
    - `interaction`: the place of the close times the volume shock; neither alone says anything.
    - `day_wide`: the place of the close, with a sign that changes from day to day: plus where all stocks' volumes are
      high. One stock's volume says little of that, all stocks' together nearly everything, and features that are
      scaled within the day nothing.
    - `hidden`: the range, below a cycle and a slowly drifting level, each so many times as wide as the signal as
      `cycle` and `drift` say. Each stock has its own cycle, 2 to 9 times in `cycle_sessions` sessions.

    `late_listings` is the share of stocks listed mid-way; as many end mid-way.
    """

    num_sessions: int = setting(500, at_least=30)
    num_stocks: int = setting(100, at_least=2)
    num_sectors: int = setting(5, at_least=1)
    cluster_size: int = setting(5, at_least=2)
    delay: int = setting(1, at_least=0)
    effect_sessions: int = setting(1, at_least=1)
    own: float = 0.1
    spill_over: float = 0.1
    interaction: float = 0.1
    day_wide: float = 0.1
    hidden: float = 0.1
    cycle: float = setting(3.0, at_least=0)
    cycle_sessions: int = setting(20, at_least=20)
    drift: float = setting(3.0, at_least=0)
    late_listings: float = setting(0.05, at_least=0, at_most=0.5)


@dataclass(frozen=True, eq=False)
class PlantedPanel:
    """A generated panel and what is known of it.

    Args:
        panel: the prices.
        oracle: the expected part of each forward return, given all that shows at the close of a session, `(T, N, K)`.
        horizons: the `K` horizons in sessions.
        signals: each planted signal by its name, of deviation about 1, `(T, N)`.
    """

    panel: Panel
    oracle: NDArray[np.float32]
    horizons: tuple[int, ...]
    signals: dict[str, NDArray[np.float32]]


def planted_panel(settings: PlantedSettings, seed: int = 0, horizons: Sequence[int] = (1, 5, 10, 20)) -> PlantedPanel:
    """Generate a panel; with one seed always the same.

    Args:
        settings: sizes and strengths.
        seed: of all that is drawn.
        horizons: those of the oracle.
    """
    draw = random_stream("planted panel", seed)
    shape = (settings.num_sessions, settings.num_stocks)
    cluster = draw.permutation(settings.num_stocks) // settings.cluster_size
    place, move, shock, spread = (draw.standard_normal(shape) for _ in range(4))
    sign = draw.choice([-1.0, 1.0], size=(settings.num_sessions, 1))
    if settings.day_wide:
        shock = shock + DAY_SHIFT * sign
    signals = {
        "own": place,
        "spill_over": _of_the_others(move, cluster),
        "interaction": place * shock,
        "day_wide": sign * place,
        "hidden": spread,
    }
    expected = sum(getattr(settings, name) * signal for name, signal in signals.items())
    expected = MEDIAN_VOLATILITY * np.asarray(expected)
    sectors = draw.integers(settings.num_sectors, size=settings.num_stocks)
    returns = _returns(draw, shape, sectors, cluster) + _effect(expected, settings)
    panel = _prices(draw, settings, np.clip(returns, -0.4, 0.4), sectors, place, move, shock, spread)
    oracle = np.stack([_outlook(expected, horizon, settings.effect_sessions) for horizon in horizons], axis=2)
    named = {name: signal.astype(np.float32) for name, signal in signals.items()}
    return PlantedPanel(panel, oracle.astype(np.float32), tuple(horizons), named)


def _of_the_others(values: NDArray[np.float64], cluster: NDArray[np.int64]) -> NDArray[np.float64]:
    """The sum over the others of a stock's cluster, brought to deviation 1; zero for a stock alone."""
    member = cluster[:, None] == cluster
    np.fill_diagonal(member, False)
    return values @ (member / np.sqrt(np.maximum(1, member.sum(axis=0))))


def _returns(
    draw: np.random.Generator, shape: tuple[int, int], sectors: NDArray[np.int64], cluster: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Returns without signals: market, sector, cluster and own parts; clusters correlate at about one half."""
    num_sessions, num_stocks = shape
    volatility = MEDIAN_VOLATILITY * np.exp(0.3 * draw.standard_normal(num_stocks))
    beta = 1 + 0.3 * draw.standard_normal(num_stocks)
    market = 0.008 * draw.standard_normal((num_sessions, 1)) + 0.0003
    of_sectors = 0.004 * draw.standard_normal((num_sessions, int(sectors.max()) + 1))
    of_clusters = draw.standard_normal((num_sessions, int(cluster.max()) + 1))
    own = draw.standard_normal(shape)
    return beta * market + of_sectors[:, sectors] + volatility * (own + 1.1 * of_clusters[:, cluster])


def _effect(expected: NDArray[np.float64], settings: PlantedSettings) -> NDArray[np.float64]:
    """What the signals add to each session's return."""
    added = np.zeros_like(expected)
    for later in range(settings.delay + 1, settings.delay + 1 + settings.effect_sessions):
        added[later:] += expected[: len(expected) - later]
    return added


def _outlook(expected: NDArray[np.float64], horizon: int, effect_sessions: int) -> NDArray[np.float64]:
    """How much of the forward return is known: each signal shown so far, times the sessions it still moves."""
    known = np.zeros_like(expected)
    for age in range(effect_sessions):
        known[age:] += min(horizon, effect_sessions - age) * expected[: len(expected) - age]
    return known


def _prices(
    draw: np.random.Generator,
    settings: PlantedSettings,
    returns: NDArray[np.float64],
    sectors: NDArray[np.int64],
    place: NDArray[np.float64],
    move: NDArray[np.float64],
    shock: NDArray[np.float64],
    spread: NDArray[np.float64],
) -> Panel:
    """Bars whose returns, close places, intraday moves, volumes and ranges are those given."""
    num_sessions, num_stocks = returns.shape
    if settings.hidden:
        spread = _hidden(draw, settings, spread)
    width = np.clip(RANGE * (1 + RANGE_STEP * spread), SMALLEST_RANGE, LARGEST_RANGE)
    close = np.exp(np.log(20 + 80 * draw.random(num_stocks)) + np.cumsum(np.log1p(returns), axis=0))
    low = close * (1 - width * (0.25 + 0.5 * ndtr(place)))
    high = low + close * width
    opened = close / (1 + LARGEST_INTRADAY_MOVE * (2 * ndtr(move) - 1))
    level = 13 + draw.standard_normal(num_stocks)
    volume = np.exp(level + 0.5 * shock)
    listed = _listed(draw, settings)
    bars = {"open": opened, "high": high, "low": low, "close": close, "volume": volume}
    return Panel(
        np.busday_offset(FIRST_SESSION, np.arange(num_sessions)),
        tuple(f"S{number:04d}" for number in range(num_stocks)),
        **{name: np.where(listed, part, np.nan).astype(np.float32) for name, part in bars.items()},
        eligible=listed & (np.cumsum(listed, axis=0) > MIN_HISTORY),
        sectors=sectors.astype(np.int16),
        sector_names=tuple(f"sector {number}" for number in range(settings.num_sectors)),
    )


def _hidden(draw: np.random.Generator, settings: PlantedSettings, signal: NDArray[np.float64]) -> NDArray[np.float64]:
    """A signal, `(T, N)`, below each stock's cycle and its drift."""
    session, num_stocks = np.arange(len(signal))[:, None], signal.shape[1]

    def wave(period: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.sqrt(2) * np.sin(2 * np.pi * (session / period + draw.random(num_stocks)))

    cycle = wave(np.divide(settings.cycle_sessions, draw.integers(2, 10, size=num_stocks)))
    drift = wave(np.asarray(draw.uniform(*SWING_SESSIONS, size=num_stocks)))
    return signal + settings.cycle * cycle + settings.drift * drift


def _listed(draw: np.random.Generator, settings: PlantedSettings) -> NDArray[np.bool_]:
    """When each stock is listed: some begin mid-way, as many others end there."""
    odd = int(settings.late_listings * settings.num_stocks)
    chosen = draw.permutation(settings.num_stocks)
    first, last = np.zeros(settings.num_stocks, int), np.full(settings.num_stocks, settings.num_sessions)
    half = settings.num_sessions // 2
    first[chosen[:odd]] = draw.integers(half // 2, half, size=odd)
    last[chosen[odd : 2 * odd]] = draw.integers(half, settings.num_sessions, size=odd)
    session = np.arange(settings.num_sessions)[:, None]
    return (session >= first) & (session < last)
