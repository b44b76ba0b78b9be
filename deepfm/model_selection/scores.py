"""Scores that rank models, and the order that they give: two types, so that one is never taken for the other.

A rank correlation of index lists instead of scores is worthless: a predictor whose true weighted tau is 0.71 scores
0.06 that way. So metrics take `RankedScores` alone, and an `Order` has to be turned into scores by name.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deepfm.errors import DataError


@dataclass(frozen=True, eq=False)
class RankedScores:
    """One score a model, `(N,)` float64: higher is better, NaN says that there is no evidence on it.

    Raises:
        DataError: the values are not a vector of numbers, or one is infinite.

    Example:
        >>> RankedScores([0.1, 0.9, float("nan")]).order().indices.tolist()
        [1, 0, 2]
    """

    values: NDArray[np.float64]

    def __post_init__(self) -> None:
        if isinstance(self.values, (RankedScores, Order)):
            raise DataError(f"scores were given as {type(self.values).__name__}; expected numbers (N,)")
        try:
            values = np.array(self.values, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise DataError("scores hold something that is no number; expected numbers (N,), NaN for none") from error
        if values.ndim != 1:
            raise DataError(f"scores have the shape {values.shape}; expected one number a model, (N,)")
        if np.isinf(values).any():
            raise DataError("a score is infinite; expected finite numbers, or NaN where there is no evidence")
        values.setflags(write=False)
        object.__setattr__(self, "values", values)

    def __len__(self) -> int:
        return len(self.values)

    @property
    def known(self) -> NDArray[np.bool_]:
        """Which models there is evidence on, `(N,)`."""
        return ~np.isnan(self.values)

    def filled(self) -> NDArray[np.float64]:
        """The scores `(N,)` with models without evidence last, tied with each other."""
        known = self.known
        lowest = self.values[known].min() if known.any() else 0.0
        below = lowest - max(1.0, abs(lowest))  # far enough that floating point keeps it below
        return np.where(known, self.values, below)

    def subset(self, keep: NDArray[np.bool_] | NDArray[np.int64]) -> "RankedScores":
        """The scores of some models, by mask or indices."""
        return RankedScores(self.values[keep])

    def order(self) -> "Order":
        """Best first; ties and models without evidence keep the order that they came in."""
        return Order(np.argsort(-self.filled(), kind="stable"))


@dataclass(frozen=True, eq=False)
class Order:
    """The models from best to worst: `indices` `(N,)` holds each of 0 ... N-1 once. This is no score.

    Raises:
        DataError: the indices are not such a permutation.
    """

    indices: NDArray[np.int64]

    def __post_init__(self) -> None:
        given = np.asarray(self.indices)
        whole = given.ndim == 1 and (np.issubdtype(given.dtype, np.integer) or not len(given))
        if not whole or not np.array_equal(np.sort(given), np.arange(len(given))):
            raise DataError("an order is no permutation of 0 ... N-1; give each model's index once, the best first")
        indices = given.astype(np.int64)
        indices.setflags(write=False)
        object.__setattr__(self, "indices", indices)

    def __len__(self) -> int:
        return len(self.indices)

    def scores(self) -> RankedScores:
        """Scores that rank like this order: N for the best model, 1 for the last."""
        values = np.empty(len(self))
        values[self.indices] = np.arange(len(self), 0, -1)
        return RankedScores(values)
