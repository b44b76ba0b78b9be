"""Probabilities from logits that rank well and mean nothing: Platt scaling and isotonic regression."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deepfm.errors import DataError

METHODS = ("platt", "isotonic")
MOST_STEPS = 100


@dataclass(frozen=True)
class Calibration:
    """A monotone map from logits to probabilities, fitted on a validation set.

    Args:
        method: `platt`: σ(scale·logit + shift); `isotonic`: linear between the steps of an isotonic regression.
        scale, shift: of `platt`.
        logits, probabilities: the increasing points of `isotonic`.
    """

    method: str
    scale: float = 1.0
    shift: float = 0.0
    logits: tuple[float, ...] = ()
    probabilities: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what is no map."""
        if self.method not in METHODS:
            raise DataError(f"calibration {self.method!r} is unknown; expected one of {', '.join(METHODS)}")
        if self.method == "isotonic" and (not self.logits or len(self.logits) != len(self.probabilities)):
            raise DataError("an isotonic calibration needs points: as many logits as probabilities, at least one")

    def __call__(self, logits: Tensor) -> Tensor:
        """Logits of any shape to probabilities of that shape."""
        if self.method == "platt":
            return torch.sigmoid(self.scale * logits + self.shift)
        points = torch.tensor(self.logits, dtype=logits.dtype, device=logits.device)
        values = torch.tensor(self.probabilities, dtype=logits.dtype, device=logits.device)
        if len(points) == 1:
            return values.expand_as(logits)
        right = torch.searchsorted(points, logits.contiguous()).clamp(1, len(points) - 1)
        left = right - 1
        share = ((logits - points[left]) / (points[right] - points[left])).clamp(0.0, 1.0)
        return values[left] + share * (values[right] - values[left])

    def __str__(self) -> str:
        if self.method == "platt":
            return f"platt: sigmoid({self.scale:.4g} * logit {self.shift:+.4g})"
        return f"isotonic: {len(self.logits)} points"

    def to_dict(self) -> dict[str, Any]:
        """The map as plain data."""
        return asdict(self)

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> "Calibration":
        """Build the map from what `to_dict` gives.

        Raises:
            DataError: it is not that.
        """
        try:
            points = {name: tuple(plain[name]) for name in ("logits", "probabilities")}
            return cls(str(plain["method"]), float(plain["scale"]), float(plain["shift"]), **points)
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"the calibration cannot be read: {error!r}; train again to write it") from error


def fit_calibration(method: str, logits: NDArray[Any], labels: NDArray[Any]) -> Calibration:
    """Fit a map on a validation set's `(N,)` logits and labels (0 or 1).

    Args:
        method: `platt` (Platt, 1999, with his smoothed targets) or `isotonic` (Zadrozny & Elkan, 2002).

    Raises:
        DataError: the method is unknown, or only one class.
    """
    x, y = np.asarray(logits, dtype=np.float64), np.asarray(labels, dtype=np.float64) > 0.5
    positives, negatives = int(y.sum()), int((~y).sum())
    if not positives or not negatives:
        raise DataError(f"calibration needs both classes; got {positives} positives and {negatives} negatives")
    if method == "platt":
        targets = np.where(y, (positives + 1) / (positives + 2), 1 / (negatives + 2))
        return Calibration("platt", *_logistic_line(x, targets))
    if method == "isotonic":
        return _isotonic(x, y)
    raise DataError(f"calibration {method!r} is unknown; expected one of {', '.join(METHODS)}")


def _logistic_line(x: NDArray[np.float64], targets: NDArray[np.float64]) -> tuple[float, float]:
    """The scale and the shift of least cross-entropy, by Newton's steps, halved where one goes too far."""
    centre, width = float(x.mean()), float(x.std()) or 1.0
    z = (x - centre) / width
    rate = float(targets.mean())
    line = np.array([0.0, np.log(rate / (1 - rate))])

    def loss(line: NDArray[np.float64]) -> float:
        score = line[0] * z + line[1]
        return float((np.logaddexp(0.0, score) - targets * score).mean())

    best = loss(line)
    for _ in range(MOST_STEPS):
        p = 1.0 / (1.0 + np.exp(-(line[0] * z + line[1]).clip(-500, 500)))
        error, curve = p - targets, p * (1 - p)
        gradient = np.array([(error * z).mean(), error.mean()])
        mixed = (curve * z).mean()
        hessian = np.array([[(curve * z * z).mean(), mixed], [mixed, curve.mean()]]) + 1e-12 * np.eye(2)
        step = np.linalg.solve(hessian, gradient)
        while loss(line - step) > best and np.abs(step).max() > 1e-12:
            step = step / 2
        line = line - step
        best = loss(line)
        if np.abs(step).max() < 1e-10:
            break
    return float(line[0] / width), float(line[1] - line[0] * centre / width)


def _isotonic(x: NDArray[np.float64], y: NDArray[np.bool_]) -> Calibration:
    from scipy.optimize import isotonic_regression

    points, inverse, counts = np.unique(x, return_inverse=True, return_counts=True)
    rates = np.bincount(inverse, weights=y) / counts
    fitted = isotonic_regression(rates, weights=counts).x
    # Never quite 0 or 1: the first and the last step are as sure as one observation more of the other kind allows.
    fitted = fitted.clip(1 / (len(x) + 2), 1 - 1 / (len(x) + 2))
    edges = np.flatnonzero(np.diff(fitted) != 0)
    kept = np.unique(np.concatenate([[0], edges, edges + 1, [len(points) - 1]]))
    return Calibration("isotonic", logits=tuple(points[kept].tolist()), probabilities=tuple(fitted[kept].tolist()))
