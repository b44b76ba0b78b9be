"""Splits of events into training, validation and test, as positions in the event table."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deepfm.errors import DataError

Integers = NDArray[np.int64]
TRAIN_SHARE, VALIDATION_SHARE = 0.8, 0.1


@dataclass(frozen=True)
class Split:
    """Positions of the events of each part; together every event once, each part in time order of its users."""

    train: Integers
    validation: Integers
    test: Integers

    def __repr__(self) -> str:
        return f"Split(train={len(self.train)}, validation={len(self.validation)}, test={len(self.test)})"


def split_events(
    strategy: str, users: Integers, timestamps: Integers, *, min_interactions: int, rng: np.random.Generator
) -> Split:
    """Split N events.

    Args:
        strategy: `leave_one_out` (a user's last event is test, the one before validation), `temporal` (80/10/10 by
            quantile of the timestamp) or `random` (80/10/10 at random).
        users, timestamps: `(N,)`, in the file's order, which breaks ties of time.
        min_interactions: under `leave_one_out` a user with fewer events is train-only.

    Raises:
        DataError: the strategy is unknown, or leaves a part empty.
    """
    if not len(users):
        raise DataError(
            f"the {strategy} split of 0 positive events leaves nothing to train on; lower the label threshold"
        )
    order = np.lexsort((timestamps, users))  # stable: events of one second stay in the file's order
    if strategy == "leave_one_out":
        part = _leave_one_out(users[order], min_interactions)
    elif strategy == "temporal":
        part = _temporal(timestamps[order])
    elif strategy == "random":
        edges = (np.array([TRAIN_SHARE, TRAIN_SHARE + VALIDATION_SHARE]) * len(order)).round().astype(np.int64)
        part = np.searchsorted(edges, rng.permutation(len(order)), side="right")
    else:
        raise DataError(f"split strategy {strategy!r} is unknown; expected leave_one_out, temporal or random")
    split = Split(*(order[part == number] for number in range(3)))
    if not (len(split.train) and len(split.validation) and len(split.test)):
        raise DataError(
            f"the {strategy} split of {len(order)} positive events leaves {split!r}; expected events in every part, "
            "so give more data or lower the label threshold"
        )
    return split


def _leave_one_out(users: Integers, min_interactions: int) -> Integers:
    """Part numbers (0 train, 1 validation, 2 test) of events sorted by user and time."""
    _, starts, counts = np.unique(users, return_index=True, return_counts=True)
    ends = starts + counts
    enough = counts >= min_interactions
    part = np.zeros(len(users), dtype=np.int64)
    part[ends[enough] - 2] = 1
    part[ends[enough] - 1] = 2
    return part


def _temporal(timestamps: Integers) -> Integers:
    edges = np.quantile(timestamps, [TRAIN_SHARE, TRAIN_SHARE + VALIDATION_SHARE])
    return np.searchsorted(edges, timestamps, side="left")
