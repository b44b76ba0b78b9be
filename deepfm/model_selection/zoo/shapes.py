"""Data sets of generated images: gratings, blobs and simple shapes, each under noise."""

import numpy as np
from numpy.typing import NDArray

from deepfm.model_selection.zoo.rows import SIDE, Draw, Rows

ORIENTATIONS = 6
FREQUENCIES = (0.1, 0.17, 0.24, 0.31)  # cycles a pixel
BLOBS = (1, 2, 3, 4, 5)
WIDTHS = (0.5, 0.8, 1.2, 1.8)  # standard deviations, in pixels
KINDS = ("square", "disc", "cross", "ring")

_DOWN, _ACROSS = np.mgrid[:SIDE, :SIDE].astype(np.float64)


def gratings_orientation(draw: Draw) -> Rows:
    """The direction of a grating of any frequency and phase."""
    label = draw.rng.integers(ORIENTATIONS, size=draw.size)
    waves = _grating(label * np.pi / ORIENTATIONS, draw.rng.uniform(0.1, 0.3, draw.size), draw.rng)
    return _noisy(waves, label, tuple(f"{180 * one // ORIENTATIONS}" for one in range(ORIENTATIONS)), 0.15, draw.rng)


def gratings_frequency(draw: Draw) -> Rows:
    """The frequency of a grating of any direction and phase."""
    label = draw.rng.integers(len(FREQUENCIES), size=draw.size)
    waves = _grating(draw.rng.uniform(0, np.pi, draw.size), np.asarray(FREQUENCIES)[label], draw.rng)
    return _noisy(waves, label, tuple(f"{one:g}" for one in FREQUENCIES), 0.1, draw.rng)


def blobs_count(draw: Draw) -> Rows:
    """How many blobs there are."""
    label = draw.rng.integers(len(BLOBS), size=draw.size)
    images = _blobs(np.asarray(BLOBS)[label], np.full(draw.size, 0.7), draw.rng)
    return _noisy(images, label, tuple(str(one) for one in BLOBS), 0.05, draw.rng)


def blobs_size(draw: Draw) -> Rows:
    """How wide the one to three blobs of an image are."""
    label = draw.rng.integers(len(WIDTHS), size=draw.size)
    images = _blobs(draw.rng.integers(1, 4, size=draw.size), np.asarray(WIDTHS)[label], draw.rng)
    return _noisy(images, label, tuple(f"{one:g}" for one in WIDTHS), 0.05, draw.rng)


def shapes_kind(draw: Draw) -> Rows:
    """Which of four shapes it is, of any place, size and lightness."""
    label = draw.rng.integers(len(KINDS), size=draw.size)
    down, across = draw.rng.uniform(2.5, 4.5, (2, draw.size))
    radius = draw.rng.uniform(1.8, 2.8, draw.size)[:, None, None]
    high, wide = np.abs(_DOWN - down[:, None, None]), np.abs(_ACROSS - across[:, None, None])
    far = np.sqrt(high**2 + wide**2)
    shapes = np.stack(
        [
            np.maximum(high, wide) < radius * 0.9,
            far < radius,
            (np.minimum(high, wide) < 0.8) & (np.maximum(high, wide) < radius * 1.2),
            np.abs(far - radius) < 0.7,
        ]
    )[label, np.arange(draw.size)]
    images = shapes * draw.rng.uniform(0.5, 1, draw.size)[:, None, None]
    return _noisy(images, label, KINDS, 0.1, draw.rng)


def _grating(
    angle: NDArray[np.float64], frequency: NDArray[np.float64], rng: np.random.Generator
) -> NDArray[np.float64]:
    along = np.cos(angle)[:, None, None] * _ACROSS + np.sin(angle)[:, None, None] * _DOWN
    phase = rng.uniform(0, 2 * np.pi, len(angle))[:, None, None]
    return 0.5 + 0.4 * np.sin(2 * np.pi * frequency[:, None, None] * along + phase)


def _blobs(count: NDArray[np.int64], width: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """So many blobs an image, each in a cell of its own of a 4 x 4 grid, so that no two fall together."""
    images = np.zeros((len(count), SIDE, SIDE))
    places = np.argsort(rng.random((len(count), 16)), axis=1)
    for number in range(count.max()):
        down, across = (2 * part + rng.uniform(0.2, 0.8, len(count)) for part in np.divmod(places[:, number], 4))
        height = (number < count) * rng.uniform(0.6, 1, len(count))
        images += height[:, None, None] * np.exp(-_squared_distance(down, across) / (2 * width[:, None, None] ** 2))
    return images


def _squared_distance(down: NDArray[np.float64], across: NDArray[np.float64]) -> NDArray[np.float64]:
    return (_DOWN - down[:, None, None]) ** 2 + (_ACROSS - across[:, None, None]) ** 2


def _noisy(
    images: NDArray[np.float64],
    labels: NDArray[np.int64],
    classes: tuple[str, ...],
    sigma: float,
    rng: np.random.Generator,
) -> Rows:
    noisy = images + rng.normal(0, sigma, images.shape)
    return Rows(np.clip(noisy, 0, 1).astype(np.float32), labels.astype(np.int64), classes)
