"""A panel of daily prices: sessions by tickers."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from deepfm.errors import DataError

PRICES = ("open", "high", "low", "close")


@dataclass(frozen=True, eq=False)
class Panel:
    """Daily prices and volumes of all stocks on one calendar; `T` sessions, `N` tickers.

    A stock that is not listed, or has no print on a session, is NaN there in every array.

    Args:
        sessions: the exchange's trading days, `(T,)` of `datetime64[D]`, rising.
        tickers: `N` different names.
        open, high, low, close: prices in one currency, adjusted for splits, `(T, N)` float32; NaN is missing.
        volume: shares, `(T, N)` float32; NaN is missing.
        eligible: whether a stock belongs to the universe on a session, from what was known then, `(T, N)`.
        sectors: each ticker's place in `sector_names`, `(N,)`; -1 is unknown.
        sector_names: the sectors.

    Raises:
        DataError: shapes that do not fit, sessions that do not rise, names that are not unique, or a sector that is
            none.
    """

    sessions: NDArray[np.datetime64]
    tickers: tuple[str, ...]
    open: NDArray[np.float32]
    high: NDArray[np.float32]
    low: NDArray[np.float32]
    close: NDArray[np.float32]
    volume: NDArray[np.float32]
    eligible: NDArray[np.bool_]
    sectors: NDArray[np.int16]
    sector_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check that all parts fit together."""
        shape = (len(self.sessions), len(self.tickers))
        for name in (*PRICES, "volume", "eligible"):
            found = getattr(self, name).shape
            if found != shape:
                raise DataError(f"panel.{name} has the shape {found}; expected {shape}, sessions by tickers")
        if len(self.sessions) and not (np.diff(self.sessions) > np.timedelta64(0, "D")).all():
            raise DataError("the panel's sessions do not rise; expected each date once, in order")
        if len(set(self.tickers)) != len(self.tickers):
            raise DataError("the panel names a ticker twice; expected each once")
        if self.sectors.shape != shape[1:]:
            raise DataError(f"panel.sectors has the shape {self.sectors.shape}; expected {shape[1:]}")
        known = len(self.sector_names)
        if len(self.sectors) and not (self.sectors.min() >= -1 and self.sectors.max() < known):
            raise DataError(f"panel.sectors holds {self.sectors.max()}; expected -1 (unknown) to {known - 1}")

    def __repr__(self) -> str:
        span = f"{self.sessions[0]} to {self.sessions[-1]}" if len(self.sessions) else "no sessions"
        return f"Panel({len(self.sessions)} sessions, {len(self.tickers)} tickers, {span})"

    @property
    def num_sessions(self) -> int:
        """How many sessions there are, `T`."""
        return len(self.sessions)

    @property
    def num_stocks(self) -> int:
        """How many tickers there are, `N`."""
        return len(self.tickers)

    @property
    def listed(self) -> NDArray[np.bool_]:
        """Where a stock has a close, `(T, N)`."""
        return np.isfinite(self.close)

    def until(self, session: int) -> "Panel":
        """The panel as it was known at the close of a session's index: nothing after it."""
        return self.between(0, session)

    def between(self, first: int, last: int) -> "Panel":
        """The panel's sessions from one index to another, both inside."""
        return replace(self, **{name: getattr(self, name)[first : last + 1] for name in _TIMED})

    def of_stocks(self, stocks: NDArray[np.integer] | NDArray[np.bool_]) -> "Panel":
        """The panel of some tickers, in the order given."""
        columns = np.arange(self.num_stocks)[stocks]
        wide = {name: getattr(self, name)[:, columns] for name in _TIMED if name != "sessions"}
        tickers = tuple(self.tickers[column] for column in columns)
        return replace(self, tickers=tickers, sectors=self.sectors[columns], **wide)


_TIMED = ("sessions", *PRICES, "volume", "eligible")
