"""Batches of days: windows gathered when they are asked for, in an order that seed and epoch decide."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from deepfm.equities.days.batch import DayBatch
from deepfm.equities.days.graph import DayGraph, TrailingGraphs
from deepfm.equities.features.windows import rolling_count
from deepfm.errors import DataError
from deepfm.utils.seeding import random_stream

Sessions = NDArray[np.int64]
EDGE_FACTS = 3


@dataclass(frozen=True, eq=False)
class DayArrays:
    """What batches are gathered from: one array of scaled features, and no copy of any window.

    Args:
        features: scaled, finite, `(T, N, F)` float32 or float16; a value that is missing stands in the middle of its
            day, and so a stock's sessions before its listing do.
        rows: which stocks of a session are ranked, `(T, N)`.
        sectors: each stock's sector, `(N,)`; -1 is unknown.
        sequence_length: `L`, the sessions of a window.
        targets: what is learned, `(T, N, K)`; None where nothing is.
        returns: the raw forward returns, `(T, N, K)`; None where nothing is learned.
        graphs: the edges of each session; None for none.
        num_horizons: `K`.
        first: the panel's index of the first session of all these arrays, which hold `T` of its sessions.
    """

    features: NDArray[np.floating]
    rows: NDArray[np.bool_]
    sectors: NDArray[np.integer]
    sequence_length: int
    num_horizons: int
    targets: NDArray[np.float32] | None = None
    returns: NDArray[np.float32] | None = None
    graphs: TrailingGraphs | None = None
    first: int = 0

    def usable(self, sessions: Sessions) -> Sessions:
        """Those of the panel's sessions that have a whole window before them and two stocks or more to rank."""
        inside = sessions - self.first
        sessions = sessions[(inside >= self.sequence_length - 1) & (inside < len(self.rows))]
        return sessions[self.rows[sessions - self.first].sum(axis=1) > 1]

    def groups(self, sessions: Sessions, rows: int) -> list[Sessions]:
        """Sessions that follow one another, some at a time: about so many rows together, and one session or more."""
        before = np.cumsum(self.rows[sessions - self.first].sum(axis=1)) - 1
        return [part for part in np.split(sessions, np.flatnonzero(np.diff(before // rows)) + 1) if len(part)]

    def batch(self, sessions: Sequence[int] | Sessions) -> DayBatch:
        """The rows of some of the panel's sessions, day after day, each day's in the order of the columns.

        Raises:
            DataError: a session has no whole window, or no stock.
        """
        stocks, windows, edges, days = [], [], [], []
        row = 0
        for place, session in enumerate(sessions):
            at = int(session) - self.first
            if at < self.sequence_length - 1 or at >= len(self.rows) or not self.rows[at].any():
                raise DataError(
                    f"session {int(session)} has no stock with {self.sequence_length} sessions to look back on; choose "
                    "one of those that usable() gives"
                )
            chosen = np.flatnonzero(self.rows[at])
            window = self.features[at - self.sequence_length + 1 : at + 1, chosen]
            windows.append(window.transpose(1, 0, 2))
            stocks.append(chosen)
            days.append(np.full(len(chosen), place))
            if self.graphs is not None:
                edges.append(self.graphs.at(int(session)).among(chosen, self.rows.shape[1], row))
            row += len(chosen)
        stock, day = np.concatenate(stocks), np.concatenate(days)
        at_rows = (np.asarray(sessions)[day] - self.first, stock)
        nothing = np.full((row, self.num_horizons), np.nan, np.float32)
        index, facts = _joined(edges)
        return DayBatch(
            sequences=torch.from_numpy(np.concatenate(windows).astype(np.float32, copy=False)),
            day=torch.from_numpy(day.astype(np.int64)),
            stock=torch.from_numpy(stock.astype(np.int64)),
            sector=torch.from_numpy(self.sectors[stock].astype(np.int64) + 1),
            edge_index=torch.from_numpy(index),
            edge_attr=torch.from_numpy(facts),
            targets=torch.from_numpy(nothing if self.targets is None else self.targets[at_rows]),
            returns=torch.from_numpy(nothing if self.returns is None else self.returns[at_rows]),
        )


@dataclass(frozen=True, eq=False)
class DayOrder:
    """Which days an epoch trains on, and in which batches: a function of the seed and the epoch.

    Args:
        days: the training sessions, rising.
        batch_size: days of a batch; an epoch's last batch may have fewer where days are drawn.
        every: an epoch takes every so many-th day, beginning one later each time.
        consecutive: whether the days of a batch follow one another, as a portfolio's do; then days that fill no batch
            are left out of the epoch, others each time.
        seed: of the order.

    Raises:
        DataError: there is no day.
    """

    days: Sessions
    batch_size: int
    every: int = 1
    consecutive: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse an epoch without days."""
        if not len(self.days):
            raise DataError(
                "no training session has a whole window and two stocks to rank; give more sessions, or lower "
                "data.sequence_length or data.min_history"
            )

    @property
    def days_per_epoch(self) -> int:
        """The days that an epoch chooses from, the same number in each."""
        return max(1, len(self.days) // self.every)

    @property
    def num_batches(self) -> int:
        """Batches an epoch."""
        if self.consecutive:
            return max(1, self.days_per_epoch // self.batch_size)
        return -(-self.days_per_epoch // self.batch_size)

    def of_epoch(self, epoch: int) -> list[Sessions]:
        """The batches of an epoch (from 1)."""
        draw = random_stream("order of days", self.seed, epoch)
        begin = (epoch - 1) % min(self.every, len(self.days))
        days = self.days[begin :: self.every][: self.days_per_epoch]
        if not self.consecutive:
            drawn = days[draw.permutation(len(days))]
            return [drawn[start : start + self.batch_size] for start in range(0, len(days), self.batch_size)]
        left_over = max(0, len(days) - self.num_batches * self.batch_size)
        start = int(draw.integers(left_over + 1))
        blocks = [
            days[start + number * self.batch_size : start + (number + 1) * self.batch_size]
            for number in range(self.num_batches)
        ]
        return [blocks[number] for number in draw.permutation(self.num_batches)]


def rankable(
    close: NDArray[np.floating], eligible: NDArray[np.bool_], sequence_length: int, min_history: int
) -> NDArray[np.bool_]:
    """Which stocks of a session are ranked, `(T, N)`: of its universe, with enough closes in the look-back.

    Args:
        close: `(T, N)`; NaN is missing.
        eligible: the universe.
        sequence_length: the look-back in sessions.
        min_history: how many of them need a close; all where the look-back is shorter.
    """
    printed = np.where(np.isfinite(close), 1.0, np.nan)
    return eligible & (rolling_count(printed, sequence_length) >= min(min_history, sequence_length))


def _joined(graphs: Sequence[DayGraph]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The edges of several days as one graph."""
    if not graphs:
        return np.zeros((2, 0), np.int64), np.zeros((0, EDGE_FACTS), np.float32)
    return (
        np.concatenate([graph.edge_index for graph in graphs], axis=1),
        np.concatenate([graph.edge_attr for graph in graphs]),
    )
