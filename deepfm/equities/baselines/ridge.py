"""Ridge regression of the return's rank on the features' ranks."""

import numpy as np
from numpy.typing import NDArray

from deepfm.equities.baselines.base import Baseline, RankedFeatures, Scores, Sessions
from deepfm.errors import ConfigError, DataError

SESSIONS_AT_ONCE = 64


class Ridge(Baseline):
    """Linear weights with a quadratic penalty, one fit a horizon (Hoerl and Kennard, 1970).

    A feature that is not known counts as the day's middle, 0. There is no intercept: ranks are centred, and a constant
    would rank nothing.

    Args:
        alpha: the penalty, in the unit of summed squares.

    Raises:
        ConfigError: a penalty that is not above zero.
    """

    def __init__(self, alpha: float = 1000.0) -> None:
        if not alpha > 0:
            raise ConfigError(f"alpha = {alpha}; expected a penalty above 0")
        self.alpha = alpha
        self.weights = np.zeros((0, 0))  # (F, K)

    def __repr__(self) -> str:
        return f"Ridge(alpha={self.alpha:g})"

    def _learn(self, features: RankedFeatures, targets: NDArray[np.float32], sessions: Sessions) -> None:
        width, horizons = features.values.shape[2], targets.shape[2]
        squares = np.zeros((horizons, width, width))
        products = np.zeros((horizons, width))
        for start in range(0, len(sessions), SESSIONS_AT_ONCE):
            part = sessions[start : start + SESSIONS_AT_ONCE]
            values, wanted = features.values[part], targets[part]
            known = np.isfinite(values).any(axis=2)
            rows = np.nan_to_num(values[known].astype(np.float64))
            goals = wanted[known].astype(np.float64)
            for at in range(horizons):
                there = np.isfinite(goals[:, at])
                kept = rows if there.all() else rows[there]
                squares[at] += kept.T @ kept
                products[at] += kept.T @ goals[there, at]
        if not squares.any():
            raise DataError("ridge found no stock with a feature and a target in its sessions; give others")
        penalty = self.alpha * np.eye(width)
        self.weights = np.stack(
            [np.linalg.solve(squares[at] + penalty, products[at]) for at in range(horizons)], axis=1
        )

    def _score(self, features: RankedFeatures, num_horizons: int) -> Scores:
        values = features.values
        if values.shape[2] != len(self.weights):
            raise DataError(f"ridge learned from {len(self.weights)} features and was given {values.shape[2]} to score")
        scores = np.full((*values.shape[:2], num_horizons), np.nan, dtype=np.float32)
        for start in range(0, len(values), SESSIONS_AT_ONCE):
            part = values[start : start + SESSIONS_AT_ONCE]
            known = np.isfinite(part).any(axis=2)
            scores[start : start + SESSIONS_AT_ONCE][known] = (
                np.nan_to_num(part[known].astype(np.float64)) @ self.weights
            )
        return scores
