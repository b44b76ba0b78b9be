"""What one layer's weights look like: numbers that do not change with the order of units."""

import numpy as np
from numpy.typing import NDArray

from deepfm.model_selection.weights.layers import KINDS, Layer

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
EXACT_SIDE = 512  # up to which the largest singular value is that of an eigenvalue solver
POWER_STEPS = 50
_MOMENTS = ("mean", "deviation", "least", "largest", *(f"quantile {share}" for share in QUANTILES))
FEATURES: tuple[str, ...] = (
    *(f"weight {name}" for name in _MOMENTS),
    "weight kurtosis",
    *(f"row norm {name}" for name in ("mean", "deviation", "least", "largest")),
    *(f"column norm {name}" for name in ("mean", "deviation", "least", "largest")),
    "spectral norm",
    "stable rank",
    "participation",
    "has bias",
    *(f"bias {name}" for name in _MOMENTS),
    "log outputs",
    "log inputs",
    "log kernel",
    "log weights",
    "depth",
    "log layers",
    *KINDS,
)

Array = NDArray[np.float64]


def layer_features(layer: Layer, place: int, layers: int) -> Array:
    """The features of a layer, `(len(FEATURES),)`, in the order of their names.

    Weights `(outputs, inputs, kernel...)` count as a matrix of outputs by all else. Row and column norms are over the
    root of their length, so root mean squares; the spectral norm is over √outputs + √inputs, what a random matrix of
    deviation 1 has (Bai and Yin, 1993). The stable rank is ‖W‖²_F/‖W‖²₂ and the participation (Σσ²)²/Σσ⁴, both over
    the smaller side. None of them changes when hidden units change places.

    Args:
        place: of the layer among `layers`, from 0; `depth` is the place over the last one.
    """
    weight = np.atleast_1d(layer.weight)
    matrix = weight.reshape(len(weight), -1)
    outputs, inputs = matrix.shape
    channels = weight.shape[1] if weight.ndim > 1 else 1
    spectral, stable, participation = _spectrum(matrix)
    squares = matrix**2
    bias = np.zeros(len(_MOMENTS)) if layer.bias is None else _moments(layer.bias)
    return np.concatenate(
        [
            _moments(weight),
            [_kurtosis(weight)],
            _four(np.sqrt(squares.mean(axis=1))),
            _four(np.sqrt(squares.mean(axis=0))),
            [spectral, stable, participation, float(layer.bias is not None)],
            bias,
            np.log1p([outputs, channels, inputs / channels, weight.size]),
            [place / max(1, layers - 1), np.log1p(layers)],
            [float(layer.kind == kind) for kind in KINDS],
        ]
    )


def _moments(values: Array) -> Array:
    flat = values.reshape(-1)
    return np.array([flat.mean(), flat.std(), flat.min(), flat.max(), *np.quantile(flat, QUANTILES)])


def _four(values: Array) -> Array:
    return np.array([values.mean(), values.std(), values.min(), values.max()])


def _kurtosis(values: Array) -> float:
    """The logarithm of 1 + the fourth moment over the squared second: ln 4 for a normal distribution, 0 for equals."""
    centred = values - values.mean()
    largest = np.abs(centred).max()
    if largest <= 1e-12 * np.abs(values).max():
        return 0.0
    centred = centred / largest
    return float(np.log1p((centred**4).mean() / (centred**2).mean() ** 2))


def _spectrum(matrix: Array) -> tuple[float, float, float]:
    largest = np.abs(matrix).max()
    if largest == 0:
        return 0.0, 0.0, 0.0
    scaled = matrix / largest
    gram = scaled @ scaled.T if len(scaled) <= scaled.shape[1] else scaled.T @ scaled
    total, side = float(np.trace(gram)), len(gram)
    top = float(np.linalg.eigvalsh(gram)[-1]) if side <= EXACT_SIDE else _largest_eigenvalue(gram)
    norm = largest * np.sqrt(top) / (np.sqrt(matrix.shape[0]) + np.sqrt(matrix.shape[1]))
    return float(norm), total / top / side, total**2 / float((gram**2).sum()) / side


def _largest_eigenvalue(gram: Array) -> float:
    """By power iteration from the rows' sums of squares, which follow the units where they go."""
    vector = np.sqrt((gram**2).sum(axis=1))
    for _ in range(POWER_STEPS):
        vector = gram @ (vector / np.linalg.norm(vector))
    return float(np.linalg.norm(vector))
