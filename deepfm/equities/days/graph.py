"""Which stocks have moved together: a sparse graph of trailing correlations, known at the close of its session."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deepfm.engine.settings import setting
from deepfm.equities.panels.panel import Panel

LARGEST_RETURN = 0.5  # a day's move beyond it counts as this much
EPOCH = np.datetime64("1970-01-01")


@dataclass(frozen=True)
class GraphSettings:
    """How the graph is made.

    The correlation of two stocks is that of their daily returns over the last `window` sessions, each session weighing
    half of the one `half_life` sessions later, and shrunk towards zero by the share `shrinkage`. A stock chooses the
    `top_k` others of the largest absolute correlation, none below `min_correlation`, and of them at most
    `max_same_sector` of its own sector (None: no cap). An edge stands where either end chose the other. A stock, or a
    pair's common sessions, with fewer returns in the window than `min_observations` has no edge. The graph is made anew
    every `refresh_sessions` weekdays. Without `enabled` there are no edges.
    """

    enabled: bool = True
    window: int = setting(60, at_least=2)
    half_life: float = setting(20.0, above=0)
    shrinkage: float = setting(0.05, at_least=0, below=1)
    min_correlation: float = setting(0.3, at_least=0, at_most=1)
    top_k: int = setting(10, at_least=1, also=("k", "neighbours"))
    max_same_sector: int | None = setting(5, at_least=0)
    min_observations: int = setting(40, at_least=2)
    refresh_sessions: int = setting(5, at_least=1)


@dataclass(frozen=True, eq=False)
class DayGraph:
    """The edges between a panel's columns, each in both directions.

    Args:
        edge_index: source above target, in the order of the sources, `(2, E)` int64.
        edge_attr: correlation, its absolute value, whether both are of one known sector (0, 1), `(E, 3)` float32.
    """

    edge_index: NDArray[np.int64]
    edge_attr: NDArray[np.float32]

    @property
    def num_edges(self) -> int:
        """How many directed edges there are, `E`."""
        return self.edge_index.shape[1]

    def among(self, stocks: NDArray[np.int64], num_stocks: int, first_row: int = 0) -> "DayGraph":
        """The edges between some columns, which become rows.

        Args:
            stocks: the columns that have rows, in the rows' order, `(R,)`.
            num_stocks: how many columns the panel has.
            first_row: the number of the first row.
        """
        row = np.full(num_stocks, -1, np.int64)
        row[stocks] = np.arange(len(stocks))
        ends = row[self.edge_index]
        kept = (ends >= 0).all(axis=0)
        return DayGraph(ends[:, kept] + first_row, self.edge_attr[kept])


NO_EDGES = DayGraph(np.zeros((2, 0), np.int64), np.zeros((0, 3), np.float32))


class TrailingGraphs:
    """The graph of each session of a panel, made when it is asked for; nothing after the session is looked at.

    Graphs are made on the first session of every block of `refresh_sessions` weekdays, counted from 1970 and so from no
    panel's beginning, and hold until the next.

    Args:
        panel: prices, the universe and the sectors.
        settings: how the graph is made.
        kept: how many graphs are held, those asked for last; days that are drawn at random want many.
    """

    def __init__(self, panel: Panel, settings: GraphSettings, kept: int = 1) -> None:
        self.panel, self.settings, self.kept = panel, settings, kept
        self.refreshed = refresh_sessions(panel.sessions, settings.refresh_sessions)
        self._made: dict[int, DayGraph] = {}

    def at(self, session: int) -> DayGraph:
        """The graph that is known at the close of a session, by its index."""
        if not self.settings.enabled:
            return NO_EDGES
        made_on = int(self.refreshed[session])
        found = self._made.pop(made_on, None) or self._make(made_on)
        while len(self._made) >= self.kept:
            del self._made[next(iter(self._made))]
        self._made[made_on] = found
        return found

    def _make(self, session: int) -> DayGraph:
        first = max(0, session - self.settings.window)
        columns = np.flatnonzero(self.panel.eligible[session] & np.isfinite(self.panel.close[session]))
        close = self.panel.close[first : session + 1, columns]
        with np.errstate(divide="ignore", invalid="ignore"):
            returns = np.clip(close[1:] / close[:-1] - 1, -LARGEST_RETURN, LARGEST_RETURN)
        found = correlation_graph(returns, self.panel.sectors[columns], self.settings)
        return DayGraph(columns[found.edge_index], found.edge_attr)


def refresh_sessions(sessions: NDArray[np.datetime64], every: int) -> NDArray[np.int64]:
    """For each session the index of the latest one on which graphs are made, `(T,)`."""
    block = np.busday_count(EPOCH, sessions.astype("datetime64[D]")) // every
    begins = np.diff(block, prepend=block[:1] - 1) > 0
    return np.maximum.accumulate(np.where(begins, np.arange(len(sessions)), 0))


def correlation_graph(returns: NDArray[np.float32], sectors: NDArray[np.integer], settings: GraphSettings) -> DayGraph:
    """The graph of some stocks' returns, over the columns given.

    Args:
        returns: dates by stocks, the latest last, `(W, N)`; NaN is missing.
        sectors: each stock's sector, `(N,)`; -1 is unknown, and no two stocks share it.
        settings: how the graph is made.
    """
    returns = returns[-settings.window :]
    num_stocks = returns.shape[1]
    if num_stocks < 2 or len(returns) < settings.min_observations:
        return NO_EDGES
    correlation = weighted_correlations(returns, settings)
    strength = np.abs(correlation)
    strength *= strength >= settings.min_correlation
    np.fill_diagonal(strength, 0)
    same_sector = (sectors[:, None] == sectors) & (sectors >= 0)
    chosen = _strongest(strength, same_sector, settings)
    chosen |= chosen.T
    source, target = np.divmod(np.flatnonzero(chosen), num_stocks)  # far sooner than two-dimensional nonzero
    rho = correlation[np.minimum(source, target), np.maximum(source, target)]  # both directions agree to the last bit
    attributes = np.stack([rho, np.abs(rho), same_sector[source, target]], axis=1).astype(np.float32)
    return DayGraph(np.stack([source, target]).astype(np.int64), attributes)


def weighted_correlations(returns: NDArray[np.float32], settings: GraphSettings) -> NDArray[np.float32]:
    """Exponentially weighted, shrunk correlations, `(N, N)`; zero where too little is known.

    A missing return counts as the stock's own mean, which pulls its correlations towards zero.
    """
    age = np.arange(len(returns) - 1, -1, -1, dtype=np.float32)
    weight = np.exp2(-age / np.float32(settings.half_life))[:, None]
    known = np.isfinite(returns)
    shares = weight * known
    total = np.maximum(shares.sum(axis=0), np.float32(1e-12))
    values = np.where(known, returns, np.float32(0))
    deviations = np.where(known, values - (shares * values).sum(axis=0) / total, np.float32(0)) * np.sqrt(weight)
    length = np.sqrt((deviations**2).sum(axis=0))
    enough = (known.sum(axis=0) >= settings.min_observations) & (length > 1e-6)
    deviations = np.where(enough, deviations / np.where(enough, length, 1), 0).astype(np.float32)
    correlation = np.clip(deviations.T @ deviations, -1, 1)
    gaps = ~known.all(axis=0) & enough
    if gaps.any():  # only with gaps can two stocks share fewer returns than each has
        seen = known.astype(np.float32)
        scarce = seen[:, gaps].T @ seen < settings.min_observations
        correlation[gaps] = np.where(scarce, 0, correlation[gaps])
        correlation[:, gaps] = np.where(scarce.T, 0, correlation[:, gaps])
    correlation *= np.float32(1 - settings.shrinkage)
    return correlation


def _strongest(
    strength: NDArray[np.float32], same_sector: NDArray[np.bool_], settings: GraphSettings
) -> NDArray[np.bool_]:
    """What each stock, a row, chooses one after another: the strongest left; of equals the first; nothing at 0."""
    left, rows = strength.copy(), np.arange(len(strength))
    chosen = np.zeros(strength.shape, np.bool_)
    of_own_sector = np.zeros(len(strength), np.int64)
    cap = settings.top_k if settings.max_same_sector is None else settings.max_same_sector
    full = of_own_sector == cap
    for _ in range(min(settings.top_k, len(strength) - 1)):
        if full.any():
            left[full] = np.where(same_sector[full], np.float32(0), left[full])
        best = left.argmax(axis=1)
        taken = left[rows, best] > 0
        chosen[rows, best] |= taken
        left[rows, best] = 0
        before = of_own_sector
        of_own_sector = before + (taken & same_sector[rows, best])
        full = (of_own_sector == cap) & (before < cap)
    return chosen
