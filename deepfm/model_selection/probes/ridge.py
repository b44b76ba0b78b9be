"""Ridge: how well a linear model on the features, fitted without a row, tells its class."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepfm.errors import DataError
from deepfm.model_selection.probes.rows import ProbeRows

PENALTIES = np.logspace(-4, 4, 9)  # in units of the features' mean squared singular value


def ridge_accuracy(features: ArrayLike, labels: ArrayLike, *, penalty: float | None = 1.0) -> float:
    """Accuracy of ridge regression on class indicators, each row left out in turn, in closed form.

    With hat matrix H the prediction without row i is (ŷᵢ − hᵢᵢyᵢ)/(1 − hᵢᵢ) (Hastie et al., 2009, section 7.10). The
    intercept is fitted without the row too. Classes with the same prediction share the row.

    Args:
        features: `(n, D)`.
        labels: `(n,)`, classes.
        penalty: λ of λ‖w‖², in units of the centred features' mean squared singular value; None for that of
            `PENALTIES` with the least squared error of rows left out, which told less of fine-tuning on the zoo.

    Returns:
        From 0 to 1; of constant features the share of the largest class.

    Raises:
        DataError: as `ProbeRows.of` does, or a penalty that is not positive.
    """
    return ridge_accuracy_of_rows(ProbeRows.of(features, labels), checked_penalty(penalty))


def ridge_explained(features: ArrayLike, labels: ArrayLike, *, penalty: float | None = 1.0) -> float:
    """The share of the labels' variance that the same regression explains of rows left out; at most 1.

    It has no ties where accuracies of few rows have many; below 0 it is worse than the shares of the classes.

    Args:
        features: `(n, D)`.
        labels: `(n,)`, classes.
        penalty: as in `ridge_accuracy`.

    Raises:
        DataError: as `ProbeRows.of` does, or a penalty that is not positive.
    """
    return ridge_explained_of_rows(ProbeRows.of(features, labels), checked_penalty(penalty))


def checked_penalty(penalty: float | None) -> float | None:
    """The penalty.

    Raises:
        DataError: it is not positive.
    """
    if penalty is not None and not 0 < penalty < np.inf:
        raise DataError(f"penalty = {penalty}; expected a positive number, or None to choose one")
    return penalty


def ridge_accuracy_of_rows(rows: ProbeRows, penalty: float | None = 1.0) -> float:
    """`ridge_accuracy` of rows that were checked."""
    if not len(rows.centred.singular):
        return float(rows.sizes.max() / len(rows.classes))
    predicted = _predicted(rows, penalty)
    most = predicted.max(axis=1)
    first = predicted >= most[:, None] - 1e-9
    right = first[np.arange(len(first)), rows.classes]
    return float((right / first.sum(axis=1)).mean())


def ridge_explained_of_rows(rows: ProbeRows, penalty: float | None = 1.0) -> float:
    """`ridge_explained` of rows that were checked; 0 for constant features."""
    if not len(rows.centred.singular):
        return 0.0
    count = len(rows.classes)
    alone = (rows.indicators.sum(axis=0) - rows.indicators) / (count - 1)  # each class's share among the other rows
    return 1.0 - _error(_predicted(rows, penalty), rows) / _error(alone, rows)


def _predicted(rows: ProbeRows, penalty: float | None) -> NDArray[np.float64]:
    if penalty is not None:
        return _without_row(rows, penalty)
    return min((_without_row(rows, each) for each in PENALTIES), key=lambda each: _error(each, rows))


def _error(predicted: NDArray[np.float64], rows: ProbeRows) -> float:
    return float(((predicted - rows.indicators) ** 2).sum())


def _without_row(rows: ProbeRows, penalty: float) -> NDArray[np.float64]:
    """What is predicted for each row by a fit to the others, `(n, K)`."""
    parts = rows.centred
    squares = parts.singular**2
    shrunk = parts.left * (squares / (squares + penalty * squares.mean()))  # (n, r)
    fitted = rows.indicators.mean(axis=0) + shrunk @ (parts.left.T @ rows.indicators)
    leverage = (1 / len(fitted) + (shrunk * parts.left).sum(axis=1))[:, None]
    predicted: NDArray[np.float64] = (fitted - leverage * rows.indicators) / np.maximum(1 - leverage, 1e-12)
    return predicted
