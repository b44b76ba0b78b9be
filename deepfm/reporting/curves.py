"""The points of curves over labels and scores, in float64 and without a plotting library."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepfm.errors import DataError

Floats = NDArray[np.float64]


def roc_points(labels: ArrayLike, scores: ArrayLike, max_points: int | None = 400) -> tuple[Floats, Floats, float]:
    """The ROC curve and its area, ties counted as one step.

    Args:
        labels: (N,) 0 or 1.
        scores: (N,) finite, higher for positives.
        max_points: about how many points to keep, spread evenly along the curve; None keeps every threshold.

    Returns:
        False positive rates (P,) and true positive rates (P,), both from 0 to 1, and the whole curve's area.

    Raises:
        DataError: lengths differ, a score is not finite, or one class is missing.
    """
    positive, score = _labelled(labels, scores, "scores")
    order = np.argsort(-score)
    positive, score = positive[order], score[order]
    last = np.append(np.flatnonzero(score[1:] != score[:-1]), len(score) - 1)  # the last row of each tie
    true = np.cumsum(positive, dtype=np.int64)[last]
    false = last + 1 - true
    if not 0 < true[-1] < len(score):
        raise DataError(f"a ROC curve needs both classes; {true[-1]} of {len(score)} labels are positive")
    tpr = np.concatenate(([0.0], true / true[-1]))
    fpr = np.concatenate(([0.0], false / false[-1]))
    area = float(np.sum(np.diff(fpr) * (tpr[1:] + tpr[:-1])) / 2)
    if max_points is not None and len(fpr) > max_points:
        along = np.searchsorted(fpr + tpr, np.linspace(0.0, 2.0, max_points))
        keep = np.unique(np.concatenate(([0], np.minimum(along, len(fpr) - 1), [len(fpr) - 1])))
        fpr, tpr = fpr[keep], tpr[keep]
    return fpr, tpr, area


def calibration_points(
    labels: ArrayLike, probabilities: ArrayLike, bins: int = 10
) -> tuple[Floats, Floats, NDArray[np.int64]]:
    """Mean prediction and share of positives in bins that hold about as many rows each.

    Equal predictions share a bin, so there may be fewer bins than asked for.

    Args:
        labels: (N,) 0 or 1.
        probabilities: (N,) in [0, 1].
        bins: how many quantile bins, 1 or more.

    Returns:
        Mean predictions (P,), shares of positives (P,) and rows (P,) of each bin, by rising prediction.

    Raises:
        DataError: lengths differ, nothing to bin, or a value outside [0, 1].
    """
    positive, predicted = _labelled(labels, probabilities, "probabilities")
    if predicted.min() < 0 or predicted.max() > 1:
        raise DataError(
            f"probabilities reach from {predicted.min():g} to {predicted.max():g}; "
            "expected values in [0, 1], so pass logits through a sigmoid first"
        )
    if bins < 1:
        raise DataError(f"calibration was asked for {bins} bins; expected 1 or more")
    edges = np.quantile(predicted, np.linspace(0.0, 1.0, bins + 1)[1:-1])
    at = np.searchsorted(edges, predicted, side="right")
    rows = np.bincount(at, minlength=bins)
    used = rows > 0
    rows = rows[used]
    mean = np.bincount(at, weights=predicted, minlength=bins)[used] / rows
    observed = np.bincount(at, weights=positive, minlength=bins)[used] / rows
    return mean, observed, rows


def vector(values: ArrayLike, what: str) -> Floats:
    """The values as float64 (N,); `what` names them in the error.

    Raises:
        DataError: they are no numbers, or have more dimensions than one.
    """
    try:
        vector = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"{what} cannot be read as numbers; expected one dimension of numbers") from error
    if vector.ndim != 1:
        raise DataError(f"{what} has the shape {vector.shape}; expected one dimension")
    return vector


def _labelled(labels: ArrayLike, values: ArrayLike, what: str) -> tuple[NDArray[np.bool_], Floats]:
    truth, numbers = vector(labels, "labels"), vector(values, what)
    if len(truth) != len(numbers) or not len(truth):
        raise DataError(f"there are {len(truth)} labels and {len(numbers)} {what}; expected as many of each, and some")
    if not np.isfinite(numbers).all():
        raise DataError(f"{what} hold {int((~np.isfinite(numbers)).sum())} values that are not finite; expected none")
    positive = truth == 1
    if not (positive | (truth == 0)).all():
        raise DataError("labels hold values other than 0 and 1; expected clicks as 1 and everything else as 0")
    return positive, numbers
