"""Scoring whole data sets, and turning scores into the protocol's metrics."""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray

from deepfm.data.dataset import TabularDataset
from deepfm.engine.task import Progress, no_progress
from deepfm.errors import TrainingError
from deepfm.models import BaseCTRModel, evaluation_mode
from deepfm.models.calibration import Calibration
from deepfm.models.layers.kernels import scoring_kernels
from deepfm.training.metrics import RankingEvaluator, compute_auc, compute_logloss
from deepfm.training.scoring import scorer, scoring_bounds


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What the evaluation of one data set found, per row and per user, for reports and bootstraps.

    Args:
        metrics: `auc`, `logloss` (None where scores are no logits), `logloss_calibrated` of a calibrated model, `hr@K`
            and `ndcg@K` where there are groups.
        scores: `(N,)` float32.
        labels: `(N,)` float32.
        ranks: `(P,)` 1-based, one a positive, sorted by group; empty without groups.
        groups: `(P,)` the number of each rank's group.
        num_candidates: rows of the largest group; 0 without groups.
    """

    metrics: dict[str, float | None]
    scores: NDArray[np.float32]
    labels: NDArray[np.float32]
    ranks: NDArray[np.int64]
    groups: NDArray[np.int64]
    num_candidates: int = 0

    def __repr__(self) -> str:
        return f"Evaluation({len(self.scores)} rows, {len(self.ranks)} ranks, {self.metrics})"


@torch.inference_mode()
def score_rows(
    model: BaseCTRModel, dataset: TabularDataset, on_progress: Progress = no_progress
) -> NDArray[np.float32]:
    """Logits `(N,)` of every row, in evaluation mode; the mode is left as it was.

    Args:
        on_progress: called with rows scored and rows in all.

    Raises:
        TrainingError: a score is NaN or infinite; the model and the batch are named.
    """
    parts = []
    bounds = scoring_bounds(dataset)
    with evaluation_mode(model), scoring_kernels():
        score = scorer(model, dataset)
        for start, end in pairwise(bounds):
            parts.append(score(slice(start, end)))
            on_progress(end, len(dataset))
    scores = torch.cat(parts).float().cpu().numpy()
    bad = np.flatnonzero(~np.isfinite(scores))
    if len(bad):
        batch = bisect_right(bounds, int(bad[0]))
        raise TrainingError(
            f"{type(model).__name__} gives the score {scores[bad[0]]} in batch {batch} of "
            f"{dataset!r} (row {bad[0]}); expected finite logits, so lower training.lr or look at the data"
        )
    return scores


def evaluate_scores(
    scores: NDArray[np.float32],
    dataset: TabularDataset,
    ks: Sequence[int],
    *,
    are_logits: bool = True,
    calibration: Calibration | None = None,
) -> Evaluation:
    """The metrics of scores `(N,)` of a data set's rows.

    Args:
        ks: cut-offs of the ranking metrics, which need a data set with groups.
        are_logits: whether a sigmoid makes probabilities of the scores; otherwise there is no log loss.
        calibration: adds `logloss_calibrated`, that of its probabilities; ranks are always those of the scores.
    """
    labels = dataset.labels.cpu().numpy()
    metrics: dict[str, float | None] = {"auc": compute_auc(labels, scores), "logloss": None}
    if are_logits:
        probabilities = 1.0 / (1.0 + np.exp(-scores.astype(np.float64).clip(min=-700.0)))
        metrics["logloss"] = compute_logloss(labels, probabilities)
        if calibration is not None:
            calibrated = calibration(torch.from_numpy(scores.astype(np.float64)))
            metrics["logloss_calibrated"] = compute_logloss(labels, calibrated.numpy())
    if dataset.group_offsets is None:
        none = np.zeros(0, dtype=np.int64)
        return Evaluation(metrics, scores, labels, none, none)
    ranking = RankingEvaluator(ks)
    ranks, groups = ranking.ranks(scores, labels, dataset.group_ids)
    metrics |= ranking.summarise(ranks, groups)
    return Evaluation(metrics, scores, labels, ranks, groups, int(np.diff(dataset.group_offsets).max()))
