"""Rows of several days as a table of days by stocks, and back."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class DayLayout:
    """Where each of R rows stands in a table of D days by at most N stocks.

    Args:
        day: each row's day, never falling, `(R,)` int64.
        place: each row's place within its day, from 0, `(R,)` int64.
        num_days: D.
        num_places: N, the rows of the longest day.

    Example:
        >>> layout = DayLayout.of(torch.tensor([0, 0, 1]))
        >>> layout.pad(torch.tensor([1.0, 2.0, 3.0]))
        tensor([[1., 2.],
                [3., 0.]])
    """

    day: Tensor
    place: Tensor
    num_days: int
    num_places: int

    @classmethod
    @torch.compiler.disable
    def of(cls, day: Tensor) -> "DayLayout":
        """The layout of days `(R,)` that never fall; the one place where the device is waited for."""
        if not len(day):
            return cls(day, day, 0, 0)
        place = torch.arange(len(day), device=day.device) - torch.searchsorted(day, day)
        last_day, last_place = torch.stack([day[-1], place.max()]).tolist()
        return cls(day, place, int(last_day) + 1, int(last_place) + 1)

    @property
    def is_full(self) -> bool:
        """Whether all days have equally many rows, so that nothing is padded."""
        return len(self.day) == self.num_days * self.num_places

    @property
    def mask(self) -> Tensor:
        """Where the table holds a row, `(D, N)` bool."""
        return self.pad(torch.ones_like(self.day, dtype=torch.bool))

    def pad(self, rows: Tensor) -> Tensor:
        """`(R, ...)` → `(D, N, ...)`, with zeros where a day has no further row."""
        if self.is_full:
            return rows.unflatten(0, (self.num_days, self.num_places))
        table = rows.new_zeros(self.num_days * self.num_places, *rows.shape[1:])
        return table.index_copy(0, self._cell, rows).unflatten(0, (self.num_days, self.num_places))

    def rows(self, table: Tensor) -> Tensor:
        """`(D, N, ...)` → `(R, ...)`: what `pad` put there."""
        flat = table.flatten(0, 1)
        return flat if self.is_full else flat.index_select(0, self._cell)

    @property
    def _cell(self) -> Tensor:
        return self.day * self.num_places + self.place
