"""Ridge regression with gaps: one fit for each pattern of features that are there.

A row is predicted from the features that it has, by weights that were learned on those features alone; so a probe's
weight beside a history is not used for a model that has none (reduced models, Saar-Tsechansky and Provost, 2007).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deepfm.errors import DataError

Array = NDArray[np.float64]
LEAST_ROWS = 2  # of a task, for it to say anything on weights
LEAST_TASKS = 2


@dataclass(frozen=True, eq=False)
class Prediction:
    """Predicted targets and what they rest on.

    Args:
        values: `(N,)`; NaN where no feature is there.
        contributions: `(N, F)`, weight times feature, summing with `offsets` to the values; 0 for a feature not used.
        used: `(N, F)`, which features each row was predicted from.
        offsets: `(N,)`, the part that no feature explains.
    """

    values: Array
    contributions: Array
    used: NDArray[np.bool_]
    offsets: Array


@dataclass(frozen=True, eq=False)
class PatternRidge:
    """Least squares with an intercept and an L2 penalty, every task weighing the same.

    Args:
        features: `(R, F)`, NaN where a feature is not there.
        targets: `(R,)`.
        tasks: `(R,)`, the task of each row.
        penalty: on the squared weights, against the mean square error; features should have a spread of about 1.
        non_negative: keep weights from 0: for features that are all "higher is better", a weight below zero is noise.

    Raises:
        DataError: the shapes do not fit, a target is not finite, or the penalty is negative.
    """

    features: Array
    targets: Array
    tasks: NDArray[np.int64]
    penalty: float = 0.1
    non_negative: bool = True

    def __post_init__(self) -> None:
        rows = len(self.targets)
        if self.features.ndim != 2 or not len(self.features) == rows == len(self.tasks):
            raise DataError(
                f"features {self.features.shape}, targets {np.shape(self.targets)} and tasks {np.shape(self.tasks)} "
                "do not go together; expected (R, F), (R,) and (R,)"
            )
        if not np.isfinite(self.targets).all() or self.penalty < 0:
            raise DataError("a target is not finite, or the penalty is below 0; leave out rows without a target")

    def predict(self, features: Array) -> Prediction:
        """Predict rows `(N, F)`, NaN where a feature is not there.

        Raises:
            DataError: another number of features.
        """
        if features.ndim != 2 or features.shape[1] != self.features.shape[1]:
            raise DataError(f"rows to predict have the shape {features.shape}; expected (N, {self.features.shape[1]})")
        known = ~np.isnan(features)
        values, offsets = np.full(len(features), np.nan), np.zeros(len(features))
        contributions, used = np.zeros(features.shape), np.zeros(features.shape, np.bool_)
        patterns, which = np.unique(known, axis=0, return_inverse=True)
        for at, pattern in enumerate(patterns):
            fitted = self.weights(tuple(np.flatnonzero(pattern).tolist()))
            if fitted is None:
                continue
            chosen, weights, intercept = fitted
            rows = np.flatnonzero(which.reshape(-1) == at)
            for feature, weight in zip(chosen, weights, strict=True):
                contributions[rows, feature] = features[rows, feature] * weight
                used[rows, feature] = True
            offsets[rows] = intercept
            values[rows] = contributions[rows].sum(axis=1) + intercept
        return Prediction(values, contributions, used, offsets)

    def weights(self, chosen: Sequence[int]) -> tuple[list[int], Array, float] | None:
        """The features used out of those chosen, their weights and the intercept, learned on rows that have them all.

        Where too few tasks have rows with all of them, the feature that the fewest rows have is left out; None when
        nothing is left.
        """
        kept = list(chosen)
        known = ~np.isnan(self.features)
        while kept:
            complete = known[:, kept].all(axis=1)
            _, inverse, counts = np.unique(self.tasks[complete], return_inverse=True, return_counts=True)
            enough = counts >= LEAST_ROWS
            if enough.sum() >= min(LEAST_TASKS, len(np.unique(self.tasks))) and enough.any():
                rows = np.flatnonzero(complete)[enough[inverse]]
                share = 1 / counts[inverse][enough[inverse]] / enough.sum()
                return kept, *self._solve(self.features[rows][:, kept], self.targets[rows], share)
            kept.remove(min(kept, key=lambda feature: (known[:, feature].sum(), -feature)))
        return None

    def _solve(self, features: Array, targets: Array, share: Array) -> tuple[Array, float]:
        from scipy.optimize import nnls

        centre, level = share @ features, float(share @ targets)
        centred = features - centre
        gram = (centred * share[:, None]).T @ centred + max(self.penalty, 1e-9) * np.eye(features.shape[1])
        towards = (centred * share[:, None]).T @ (targets - level)
        if self.non_negative:
            root = np.linalg.cholesky(gram)
            weights = nnls(root.T, np.linalg.solve(root, towards))[0]
        else:
            weights = np.linalg.solve(gram, towards)
        return weights, level - float(centre @ weights)
