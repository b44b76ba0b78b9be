"""What a feature may read: a panel's past, with what many features share worked out once."""

from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from deepfm.equities.features.windows import carry_forward, lag
from deepfm.equities.panels.panel import Panel

Array = NDArray[np.float64]
CLIP = 0.5  # the largest daily return, in size, that a window takes in
FEWEST_IN_SECTOR = 3


class History:
    """A panel in float64, as features read it; arrays are `(T, N)`, NaN where there is nothing.

    Args:
        panel: the prices; nothing else of the future or the past enters.
        market: the mean return of the universe, `(T,)`, where the panel is a part of a wider one.
    """

    def __init__(self, panel: Panel, market: Array | None = None) -> None:
        self.panel = panel
        if market is not None:
            self.__dict__["market"] = market
        self.open = panel.open.astype(np.float64)
        self.high = panel.high.astype(np.float64)
        self.low = panel.low.astype(np.float64)
        self.close = panel.close.astype(np.float64)
        self.volume = panel.volume.astype(np.float64)
        self.eligible = panel.eligible

    def of_stocks(self, stocks: NDArray[np.integer]) -> "History":
        """Some stocks alone, with the market of all."""
        return History(self.panel.of_stocks(stocks), self.market)

    @cached_property
    def carried(self) -> Array:
        """Closes, carried forward at most five sessions."""
        return carry_forward(self.close)

    @cached_property
    def returns(self) -> Array:
        """Daily returns of carried closes, clipped at ±50 %."""
        return np.clip(self.carried / lag(self.carried, 1) - 1, -CLIP, CLIP)

    @cached_property
    def dollar_volume(self) -> Array:
        """Close times volume of the session."""
        return self.close * self.volume

    @cached_property
    def log_dollar_volume(self) -> Array:
        """`log(1 + close · volume)`."""
        return np.log1p(self.dollar_volume)

    @cached_property
    def market(self) -> Array:
        """The mean return of the session's universe, `(T,)`; NaN where it has none."""
        known = self.eligible & ~np.isnan(self.returns)
        count = known.sum(axis=1)
        total = np.where(known, self.returns, 0.0).sum(axis=1)
        return np.where(count > 0, total / np.maximum(count, 1), np.nan)

    def past_return(self, sessions: int, until: int = 0) -> Array:
        """The carried close of `until` sessions ago over that of `sessions` ago, minus 1."""
        return lag(self.carried, until) / lag(self.carried, sessions) - 1

    def minus_sector(self, values: Array) -> Array:
        """Values minus the median of the universe's stocks of their sector on the session.

        NaN where the sector is unknown or fewer than three of its stocks have a value.
        """
        apart = np.full_like(values, np.nan)
        for sector in range(len(self.panel.sector_names)):
            members = np.flatnonzero(self.panel.sectors == sector)
            if len(members) >= FEWEST_IN_SECTOR:
                inside = values[:, members]
                apart[:, members] = inside - _median(np.where(self.eligible[:, members], inside, np.nan))[:, None]
        return apart


def _median(values: Array) -> Array:
    """The median of each row's known values; NaN where fewer than three are known."""
    ordered = np.sort(values, axis=1)  # NaN last
    count = (~np.isnan(values)).sum(axis=1)
    rows = np.arange(len(values))
    middle = (
        ordered[rows, np.maximum(count - 1, 0) // 2] + ordered[rows, np.minimum(count // 2, values.shape[1] - 1)]
    ) / 2
    return np.where(count >= FEWEST_IN_SECTOR, middle, np.nan)
