"""The sectors that a training knew: their places in the network, and which stock was of which."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepfm.equities.panels.panel import Panel

UNKNOWN = -1


@dataclass(frozen=True)
class KnownSectors:
    """What a training knew of sectors.

    Args:
        names: whose places the network's sectors are.
        of_tickers: the sector's name of each ticker that had one.
    """

    names: tuple[str, ...] = ()
    of_tickers: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of_panel(cls, panel: Panel) -> "KnownSectors":
        """What a panel knows."""
        pairs = zip(panel.tickers, panel.sectors.tolist(), strict=True)
        return cls(
            panel.sector_names, {ticker: panel.sector_names[place] for ticker, place in pairs if place != UNKNOWN}
        )

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> "KnownSectors":
        """What `to_dict` gave; runs of earlier revisions kept the names alone."""
        return cls(tuple(state["sector_names"]), dict(state.get("sectors", {})))

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {"sector_names": list(self.names), "sectors": dict(self.of_tickers)}

    def places(self, panel: Panel) -> NDArray[np.int64]:
        """Each stock's place among the sectors of the training, `(N,)`; -1 where it is unknown, or was then."""
        return _places(panel.sector_names, self.names)[panel.sectors]

    def completed(self, panel: Panel) -> Panel:
        """A panel that knows no sector with the training's: its stocks keep those, and others have none."""
        if not self.of_tickers or (panel.sectors >= 0).any():
            return panel
        place = {name: at for at, name in enumerate(self.names)}
        sectors = [place.get(self.of_tickers.get(ticker, ""), UNKNOWN) for ticker in panel.tickers]
        return replace(panel, sectors=np.array(sectors, panel.sectors.dtype), sector_names=self.names)


def _places(names: Sequence[str], known: Sequence[str]) -> NDArray[np.int64]:
    """The place of each name, and of the unknown one last, among the known ones."""
    place = {name: at for at, name in enumerate(known)}
    return np.array([*(place.get(name, UNKNOWN) for name in names), UNKNOWN], np.int64)
