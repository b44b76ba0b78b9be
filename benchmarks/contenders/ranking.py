"""AUC, HR@10 and NDCG@10 of scored candidates, vectorised in numpy and as a plain loop; one positive a user."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

K = 10


def metrics_of_rows(
    scores: NDArray[np.floating], labels: NDArray[np.float32], offsets: NDArray[np.int64]
) -> dict[str, float]:
    """The metrics of scores and labels `(N,)` whose users' rows begin and end at `offsets (U + 1,)`."""
    scores = np.asarray(scores).reshape(-1)
    positives = scores[np.flatnonzero(labels > 0)]  # (U,), in the users' order
    beaten = scores >= np.repeat(positives, np.diff(offsets))  # counts the positive itself, hence ranks from 1
    ranks = np.add.reduceat(beaten.astype(np.int64), offsets[:-1])
    gains = np.where(ranks <= K, 1.0 / np.log2(ranks + 1.0), 0.0)
    return {f"hr@{K}": float((ranks <= K).mean()), f"ndcg@{K}": float(gains.mean()), "auc": auc(scores, labels)}


def auc(scores: NDArray[np.floating], labels: NDArray[np.float32]) -> float:
    """The area under the ROC curve of `(N,)`; tied pairs count half."""
    order = np.argsort(-scores, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(scores[order])), len(order) - 1)
    true_positives = np.concatenate([[0.0], labels[order].cumsum(dtype=np.float64)[ends]])
    false_positives = np.concatenate([[0.0], 1.0 + ends]) - true_positives
    return float(np.trapezoid(true_positives, false_positives) / (true_positives[-1] * false_positives[-1]))


def rank_of_positive(scores: Sequence[float], labels: Sequence[float]) -> int:
    """The 1-based rank of one user's positive, a loop over the user's rows."""
    positive = max(score for score, label in zip(scores, labels, strict=True) if label > 0)
    return 1 + sum(score >= positive for score, label in zip(scores, labels, strict=True) if label == 0)


def metrics_of_users(ranks: Sequence[int], scores: Sequence[float], labels: NDArray[np.float32]) -> dict[str, float]:
    """The metrics of ranks gathered user by user, and of all scores `(N,)`."""
    hits = [rank <= K for rank in ranks]
    gains = [1.0 / math.log2(rank + 1) if rank <= K else 0.0 for rank in ranks]
    return {
        f"hr@{K}": sum(hits) / len(ranks),
        f"ndcg@{K}": sum(gains) / len(ranks),
        "auc": auc(np.asarray(scores), labels),
    }
