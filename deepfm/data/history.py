"""Behaviour histories: stored once a user, and cut out for each moment when a batch asks.

A history is oldest first and right-aligned: its latest event stands in the last column, padding (0) before it.
"""

from collections.abc import Callable
from copy import copy

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deepfm.errors import DataError

Integers = NDArray[np.int64]
TIES = ("file_order", "strictly_earlier")


class Histories:
    """What users did before each of M moments.

    Args:
        events: `(E,)` ids of all events, those of a user side by side and oldest first.
        starts, ends: `(M,)` the history of a moment is `events[starts:ends]`.
        max_length: L; of a longer history the latest L events are seen.

    Raises:
        DataError: spans that are none, or a length below 1.

    Example:
        >>> Histories(np.array([7, 8, 9]), np.array([0]), np.array([2]), max_length=4).latest(torch.tensor([0]))
        tensor([[0, 0, 7, 8]], dtype=torch.int32)
    """

    def __init__(self, events: NDArray, starts: Integers, ends: Integers, max_length: int) -> None:
        if max_length < 1:
            raise DataError(f"max_length is {max_length}; expected at least 1 event")
        if len(starts) != len(ends) or (len(starts) and (starts.min() < 0 or (ends < starts).any())):
            raise DataError("a history has to begin before it ends; give starts and ends of events, one a moment")
        if len(ends) and ends.max() > len(events):
            raise DataError(
                f"a history ends at event {ends.max()}; expected at most {len(events)}, the events there are"
            )
        self.max_length = max_length
        self.num_cut = int((ends - starts > max_length).sum())
        self.num_empty = int((ends == starts).sum())
        padded = np.concatenate([[0], events])  # so that there is something to read where there are no events
        self._events = torch.as_tensor(padded.astype(np.int32))
        self._ends = torch.as_tensor(ends.astype(np.int64)) + 1
        self._lengths = torch.as_tensor((ends - starts).clip(max=max_length).astype(np.int64))
        self._ages = torch.arange(max_length, 0, -1)

    def __repr__(self) -> str:
        return f"Histories({len(self)} moments, {len(self._events) - 1} events, at most {self.max_length} of each)"

    def __len__(self) -> int:
        return len(self._ends)

    @property
    def events(self) -> Tensor:
        """`(E,)` the stored ids."""
        return self._events[1:]

    @property
    def nbytes(self) -> int:
        """Bytes of what is stored."""
        return sum(tensor.nbytes for tensor in (self._events, self._ends, self._lengths))

    def latest(self, moments: Tensor) -> Tensor:
        """The histories `(B, L)` of moments `(B,)`: ids, oldest first, right-aligned, padded with 0."""
        ends, lengths = self._ends.index_select(0, moments), self._lengths.index_select(0, moments)
        hidden = self._ages > lengths.unsqueeze(1)  # (B, L)
        places = (ends.unsqueeze(1) - self._ages).masked_fill_(hidden, 0)
        return self._events.index_select(0, places.view(-1)).view(places.shape).masked_fill_(hidden, 0)

    def select(self, moments: Tensor) -> "Histories":
        """The histories of some moments `(B,)`, in that order, on the same events."""
        chosen = copy(self)
        chosen._ends, chosen._lengths = (part.index_select(0, moments) for part in (self._ends, self._lengths))
        chosen.num_empty = int((chosen._lengths == 0).sum())
        return chosen

    def lengths(self, moments: Tensor) -> Tensor:
        """How many events `(B,)` the histories of moments `(B,)` have, at most L."""
        return self._lengths.index_select(0, moments)

    def map_tensors(self, change: Callable[[Tensor], Tensor]) -> None:
        """Apply a function, such as a move to a device, to all that is stored."""
        self._events, self._ends, self._lengths, self._ages = map(
            change, (self._events, self._ends, self._lengths, self._ages)
        )


def event_order(timestamps: Integers, ties: str = "file_order") -> Integers:
    """A number `(E,)` for each event that says what lies before what: an event is earlier where its number is smaller.

    Args:
        timestamps: `(E,)`, in the file's order.
        ties: `file_order` numbers events of one second in the order of the file; under `strictly_earlier` they have
            the same number, so that none of them is before another.

    Raises:
        DataError: `ties` is unknown.
    """
    if ties not in TIES:
        raise DataError(f"ties = {ties!r} is unknown; expected one of {', '.join(TIES)}")
    if ties == "strictly_earlier":
        return np.unique(timestamps, return_inverse=True)[1].astype(np.int64)
    order = np.argsort(timestamps, kind="stable")
    numbers = np.empty(len(order), dtype=np.int64)
    numbers[order] = np.arange(len(order))
    return numbers


def histories_before(
    events: tuple[Integers, Integers, Integers], users: Integers, moments: Integers, max_length: int
) -> Histories:
    """Each moment's earlier events of the same user.

    Args:
        events: users, order numbers (see `event_order`) and ids, each `(E,)`: the events that may be seen.
        users, moments: `(M,)` whose history is asked for, and the order number that it must lie before.
        max_length: L.
    """
    event_users, numbers, ids = events
    largest = max((int(part.max()) for part in (numbers, moments) if len(part)), default=0)
    span = largest + 1
    order = np.lexsort((numbers, event_users))  # stable: of equal numbers the first given comes first
    keys = event_users[order] * span + numbers[order]
    starts = np.searchsorted(keys, users * span)
    ends = np.searchsorted(keys, users * span + moments)
    return Histories(ids[order], starts, ends, max_length)
