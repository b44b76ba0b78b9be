"""LogME: the evidence that a Bayesian linear model has for the labels, given a model's features."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepfm.errors import DataError
from deepfm.model_selection.probes.rows import Decomposition, ProbeRows, checked_features

GRID = np.logspace(-8, 8, 33)  # ratios of precisions to begin from, in units of the features' mean square
MOST_STEPS = 50
CLOSE_ENOUGH = 1e-4  # between two steps, of the ratio's logarithm; the evidence then holds to 1e-6

Float = NDArray[np.float64]


def logme(features: ArrayLike, labels: ArrayLike, *, intercept: bool = False) -> float:
    """The maximum log evidence of one-vs-rest labels, the mean over classes and rows (You et al., 2021, section 4).

    It changes with the scale of the features and favours wide ones: probe standardised features (`run_probes` does),
    and let a stacker learn what it is worth. Features that were centred hold no constant, so that without an intercept
    the share of a class counts as noise.

    Args:
        features: `(n, D)`.
        labels: `(n,)`, classes.
        intercept: whether to take their means off features and labels; the paper takes them as they are.

    Raises:
        DataError: as `ProbeRows.of` does.
    """
    return logme_of_rows(ProbeRows.of(features, labels), intercept=intercept)


def logme_of_rows(rows: ProbeRows, *, intercept: bool = True) -> float:
    """`logme` of rows that were checked."""
    if intercept:
        return float(log_evidence(rows.centred, rows.indicators - rows.indicators.mean(axis=0)).mean())
    return float(log_evidence(rows.decomposition, rows.indicators).mean())


def logme_of_targets(features: ArrayLike, targets: ArrayLike) -> float:
    """The maximum log evidence of regression targets, the mean over targets and rows.

    Args:
        features: `(n, D)`, taken as they are, without an intercept.
        targets: `(n,)` or `(n, K)`, real numbers.

    Raises:
        DataError: shapes that do not fit, values that are not finite, or a target that is zero throughout.
    """
    checked = checked_features(features)
    taken = np.asarray(targets, dtype=np.float64)
    columns = taken[:, None] if taken.ndim == 1 else taken
    if columns.ndim != 2 or len(columns) != len(checked) or not columns.shape[1] or not np.isfinite(columns).all():
        raise DataError(
            f"targets have shape {taken.shape} for {len(checked)} rows of features; expected finite numbers (rows,) or "
            "(rows, targets)"
        )
    if not columns.any(axis=0).all():
        raise DataError("a target is zero in every row; expected one that varies; leave it out")
    return float(log_evidence(Decomposition.of(checked), columns).mean())


def log_evidence(decomposition: Decomposition, targets: Float) -> Float:
    """The log evidence for each target, over n, at the precisions that maximise it.

    With prior precision α of the weights, noise precision β and λ = α/β the evidence is maximal in β at β = n/E,
    E = Σ x²λ/(s²+λ) + (what lies outside of the features); λ follows from the fixed point λ = γ·r/((n−γ)·m) of MacKay
    (1992), γ the number of directions in use, r the squared residual and m the squared weights. The step begins from
    the best of a grid, as the evidence may have more than one maximum.

    Args:
        decomposition: of `(n, D)` features.
        targets: `(n, K)`, none of them zero throughout.

    Returns:
        `(K,)`.
    """
    squares = decomposition.singular**2  # (r,)
    total = (targets**2).sum(axis=0)  # (K,)
    along = (decomposition.left.T @ targets) ** 2  # (r, K)
    outside = np.maximum(total - along.sum(axis=0), 0.0)
    if not len(squares):
        return -0.5 * (np.log(2 * np.pi * total / len(targets)) + 1)
    problem = _Evidence(squares, along, outside, 1e-12 * total, len(targets))
    unit = squares.mean()
    at_grid = problem.values_at(unit * GRID)  # (G, K)
    ratio = unit * GRID[at_grid.argmax(axis=0)]  # (K,)
    for _ in range(MOST_STEPS):
        stepped = np.clip(problem.step(ratio), unit * GRID[0], unit * GRID[-1])
        moved = np.abs(np.log(stepped / ratio)).max()
        ratio = stepped
        if moved < CLOSE_ENOUGH:
            break
    best: Float = np.maximum(problem.value(ratio), at_grid.max(axis=0))
    return best


class _Evidence:
    """The evidence as a function of the ratio of precisions, for all targets at once."""

    def __init__(self, squares: Float, along: Float, outside: Float, least: Float, rows: int) -> None:
        self.squares, self.along, self.outside, self.least, self.rows = squares[:, None], along, outside, least, rows

    def value(self, ratio: Float) -> Float:
        """The log evidence over n at each target's own ratio, `(K,)`."""
        kept = ratio / (self.squares + ratio)  # (r, K)
        energy = np.maximum((self.along * kept).sum(axis=0) + self.outside, self.least)
        volume: Float = np.log(kept).sum(axis=0) / self.rows
        return 0.5 * (volume - np.log(2 * np.pi * energy / self.rows) - 1)

    def values_at(self, ratios: Float) -> Float:
        """The log evidence over n at ratios `(G,)` that all targets share, `(G, K)`."""
        kept = ratios[:, None] / (self.squares[:, 0] + ratios[:, None])  # (G, r)
        energy = np.maximum(kept @ self.along + self.outside, self.least)
        volume = np.log(kept).sum(axis=1, keepdims=True) / self.rows
        evidence: Float = 0.5 * (volume - np.log(2 * np.pi * energy / self.rows) - 1)
        return evidence

    def step(self, ratio: Float) -> Float:
        """The next ratio, `(K,)`."""
        kept = ratio / (self.squares + ratio)
        used = (1 - kept).sum(axis=0)
        residual = np.maximum((self.along * kept**2).sum(axis=0) + self.outside, self.least)
        weights = (self.squares * self.along / (self.squares + ratio) ** 2).sum(axis=0)
        stepped: Float = used * residual / np.maximum((self.rows - used) * weights, np.finfo(np.float64).tiny)
        return stepped
