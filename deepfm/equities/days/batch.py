"""Some days' stocks, as the network reads them."""

from dataclasses import dataclass, fields

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class DayBatch:
    """The stocks of `D` days, one after another: `R` rows, `L` sessions of look-back, `F` features, `K` horizons.

    Args:
        sequences: features of each stock over its last sessions, the day's own last, `(R, L, F)` float32, finite.
        day: which day a row belongs to, 0 to `D - 1`, never falling, `(R,)` int64.
        stock: the panel's column of the row, `(R,)` int64.
        sector: the stock's sector from 1 on, 0 where unknown, `(R,)` int64.
        edge_index: pairs of rows, source above target, both of one day, each edge in both directions, `(2, E)` int64.
        edge_attr: what is known of an edge, `(E, 3)` float32: the correlation, its absolute value, same sector (0, 1).
        targets: what is learned, such as the rank of the return within the day, `(R, K)`; NaN where there is none.
        returns: the raw forward returns, `(R, K)`; NaN where there is none.
    """

    sequences: Tensor
    day: Tensor
    stock: Tensor
    sector: Tensor
    edge_index: Tensor
    edge_attr: Tensor
    targets: Tensor
    returns: Tensor

    @property
    def num_rows(self) -> int:
        """How many rows there are, `R`."""
        return len(self.day)

    @property
    def num_days(self) -> int:
        """How many days there are, `D`."""
        return int(self.day[-1]) + 1 if len(self.day) else 0

    def to(self, device: torch.device | str) -> "DayBatch":
        """The batch on a device."""
        return DayBatch(**{item.name: getattr(self, item.name).to(device) for item in fields(self)})
