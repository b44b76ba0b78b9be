"""How much a leak would flatter: quick learners, and the RankIC of their scores."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from deepfm.equities.features.within_day import rank_within_day
from deepfm.errors import ExtraError

Float = NDArray[np.float32]
Probe = Callable[[Float, Float, Float], Float]
NEIGHBOURS = 20
BLOCK = 256


def daily_rank_ic(scores: NDArray, returns: NDArray, where: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Spearman's correlation of each session's scores and returns, all `(T, N)`; NaN with fewer than three stocks."""
    both = where & np.isfinite(scores) & np.isfinite(returns)
    ranks = [np.where(both, rank_within_day(values, both), 0.0).astype(np.float64) for values in (scores, returns)]
    count = both.sum(axis=1, keepdims=True)
    first, second = (
        np.where(both, rank - rank.sum(axis=1, keepdims=True) / np.maximum(count, 1), 0.0) for rank in ranks
    )
    size = np.sqrt((first**2).sum(axis=1) * (second**2).sum(axis=1))
    fine = (count[:, 0] >= 3) & (size > 1e-12)
    return np.where(fine, (first * second).sum(axis=1) / np.where(fine, size, 1.0), np.nan)


def nearest_neighbours(train: Float, targets: Float, asked: Float) -> Float:
    """The mean target of the twenty nearest rows: no model, so that it finds every copy of a label.

    Args:
        train: `(R, F)`.
        targets: `(R,)`.
        asked: `(Q, F)`.
    """
    count = min(NEIGHBOURS, len(train))
    length = (train**2).sum(axis=1)
    scores = np.empty(len(asked), dtype=np.float32)
    for start in range(0, len(asked), BLOCK):
        far = length - 2 * asked[start : start + BLOCK] @ train.T
        nearest = np.argpartition(far, count - 1, axis=1)[:, :count]
        scores[start : start + BLOCK] = targets[nearest].mean(axis=1)
    return scores


def boosted_trees(train: Float, targets: Float, asked: Float) -> Float:
    """LightGBM as the baselines run it: 120 trees of 31 leaves, learning rate .05.

    Raises:
        ExtraError: lightgbm is not installed.
    """
    try:
        import lightgbm
    except ImportError as error:
        raise ExtraError("this probe needs lightgbm; install it with pip install 'deepfm[equities]'") from error
    settings = {"objective": "l2", "num_leaves": 31, "learning_rate": 0.05, "verbose": -1, "seed": 0, "num_threads": 1}
    model = lightgbm.train(settings, lightgbm.Dataset(train, targets, free_raw_data=True), num_boost_round=120)
    return np.asarray(model.predict(asked), dtype=np.float32)
