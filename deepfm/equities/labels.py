"""What is to be predicted: returns after a trade, and the last session that each looks at."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deepfm.equities.features.windows import CARRY, carry_forward
from deepfm.equities.features.within_day import rank_within_day, zscore_within_day
from deepfm.equities.panels.panel import Panel
from deepfm.errors import ConfigError, DataError

__all__ = ["Labels", "forward_returns", "rank_within_day", "zscore_within_day"]


@dataclass(frozen=True, eq=False)
class Labels:
    """Forward returns. Its own type, which nothing that takes features accepts.

    Args:
        returns: `(T, N, K)` float32; NaN where there is none.
        last_session: the index of the last session that a session's label looks at, `(T, K)`.
        horizons: sessions held.
        delay: sessions between the decision and the trade.

    Raises:
        DataError: shapes that do not fit.
    """

    returns: NDArray[np.float32]
    last_session: NDArray[np.int64]
    horizons: tuple[int, ...]
    delay: int

    def __post_init__(self) -> None:
        """Check that all parts fit together."""
        expected = (len(self.returns), len(self.horizons))
        if self.returns.ndim != 3 or self.returns.shape[2] != expected[1] or self.last_session.shape != expected:
            raise DataError(
                f"labels of the shape {self.returns.shape} with last sessions {self.last_session.shape} and "
                f"{len(self.horizons)} horizons; expected (T, N, K) and (T, K)"
            )

    def __repr__(self) -> str:
        return f"Labels(horizons={self.horizons}, delay={self.delay}, {len(self.returns)} sessions)"

    def ranked(self, where: NDArray[np.bool_]) -> NDArray[np.float32]:
        """Ranks within the day among the stocks of `where`, in (-1/2, 1/2], `(T, N, K)`."""
        return rank_within_day(self.returns, where)

    def zscored(self, where: NDArray[np.bool_]) -> NDArray[np.float32]:
        """Standard scores within the day among the stocks of `where`, `(T, N, K)`."""
        return zscore_within_day(self.returns, where)


def forward_returns(panel: Panel, horizons: Sequence[int] = (1, 5, 10, 20), delay: int = 1) -> Labels:
    """`close[t + delay + horizon] / close[t + delay] - 1`.

    The price of entry is the close, or one carried forward at most five sessions. A stock that stops printing inside
    the window is sold at its last close: delistings stay in, and a stock suspended over the exit is valued so too.
    Where a stock did not print between entry and exit, the return is 0.

    Raises:
        ConfigError: a horizon below 1 or given twice, none, or a negative delay.
    """
    horizons = tuple(horizons)
    if not horizons or min(horizons) < 1 or len(set(horizons)) < len(horizons):
        raise ConfigError(f"horizons = {list(horizons)}; expected different numbers of sessions, each at least 1")
    if delay < 0:
        raise ConfigError(f"delay = {delay}; expected 0 (trade at the same close) or more sessions")
    sessions = panel.num_sessions
    returns = np.full((sessions, panel.num_stocks, len(horizons)), np.nan, dtype=np.float32)
    close = panel.close.astype(np.float64)
    entry = carry_forward(close, CARRY)
    for place, horizon in enumerate(horizons):
        held = sessions - delay - horizon
        if held > 0:
            leave = carry_forward(close, CARRY + horizon)
            bought = entry[delay : delay + held]
            returns[:held, :, place] = leave[delay + horizon :] / bought - 1
    last = np.arange(sessions)[:, None] + delay + np.array(horizons)[None, :]
    return Labels(returns, last, horizons, delay)
