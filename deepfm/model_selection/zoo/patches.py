"""Data sets of 8 x 8 patches of two photographs; sources see the left halves, tasks the right ones."""

import dataclasses
import functools

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from deepfm.model_selection.zoo.bundled import PHOTOGRAPHS, load_photographs
from deepfm.model_selection.zoo.rows import SIDE, Draw, Rows

NOISE = (0.0, 0.06, 0.12, 0.24)  # standard deviations, in units of the whole grey scale
BLUR = (0.0, 1.0, 2.5)  # standard deviations, in pixels
FLAT = 0.03  # patches whose pixels deviate less say nothing and are left out
GAP = 8  # columns between the halves that neither uses
GRAIN = 0.1  # the standard deviation of each kind of noise

Photograph = NDArray[np.float32]


def photograph(draw: Draw) -> Rows:
    """Which of the two photographs a patch is of."""
    images, origin = _cut(draw)
    return _rows(images, origin, PHOTOGRAPHS)


def rotation(draw: Draw) -> Rows:
    """By how many quarter turns a patch is turned."""
    images, _ = _cut(draw)
    turns = draw.rng.integers(4, size=draw.size)
    turned = np.stack([np.rot90(image, turn) for image, turn in zip(images, turns, strict=True)])
    return _rows(turned, turns, ("0", "90", "180", "270"))


def noise(draw: Draw) -> Rows:
    """How much Gaussian noise lies over a patch."""
    images, _ = _cut(draw)
    level = draw.rng.integers(len(NOISE), size=draw.size)
    noisy = images + draw.rng.normal(size=images.shape) * np.asarray(NOISE)[level][:, None, None]
    return _rows(noisy, level, tuple(f"{sigma:g}" for sigma in NOISE))


def grain(draw: Draw) -> Rows:
    """Which kind of noise of one strength lies over a patch: of pixels, of rows, of columns, or specks."""
    images, _ = _cut(draw)
    kind = draw.rng.integers(4, size=draw.size)
    specks = (
        np.where(draw.rng.random(images.shape) < 0.05, draw.rng.choice([-1.0, 1.0], images.shape), 0)
        * GRAIN
        / 0.05**0.5
    )
    kinds = [
        draw.rng.normal(0, GRAIN, images.shape),
        np.broadcast_to(draw.rng.normal(0, GRAIN, (draw.size, SIDE, 1)), images.shape),
        np.broadcast_to(draw.rng.normal(0, GRAIN, (draw.size, 1, SIDE)), images.shape),
        specks,
    ]
    return _rows(images + np.stack(kinds)[kind, np.arange(draw.size)], kind, ("pixels", "rows", "columns", "specks"))


def blur(draw: Draw) -> Rows:
    """How blurred a patch is."""
    level = draw.rng.integers(len(BLUR), size=draw.size)
    images, _ = _cut(draw, level)
    return _rows(images, level, tuple(f"{sigma:g}" for sigma in BLUR))


def texture(draw: Draw, size: int) -> NDArray[np.float32]:
    """Patches `(n, 8, 8)` without labels, to lie behind something."""
    return _cut(dataclasses.replace(draw, size=size))[0]


def _cut(draw: Draw, blurred: NDArray[np.int64] | None = None) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """`size` patches `(n, 8, 8)`, each blurred by its level of `BLUR`, and which photograph each is of `(n,)`.

    Sources cut anywhere in the left halves; tasks cut disjoint cells of the right ones, each at most once. As many are
    of either photograph, to within one.
    """
    origin = draw.rng.permutation(np.arange(draw.size) % len(PHOTOGRAPHS))
    level = np.zeros(draw.size, np.int64) if blurred is None else blurred
    answer = np.empty((draw.size, SIDE, SIDE), np.float32)
    for number, photograph in enumerate(load_photographs()):
        half = _half(photograph, draw.for_source)
        places = _places(number, draw.for_source)
        own = np.flatnonzero(origin == number)
        chosen = places[draw.rng.choice(len(places), len(own), replace=False)]
        for one in np.unique(level):
            windows = _windows(gaussian_filter(half, BLUR[one]))
            at = level[own] == one
            answer[own[at]] = windows[chosen[at, 0], chosen[at, 1]]
    return answer, origin


@functools.cache
def _places(photograph: int, for_source: bool) -> NDArray[np.int64]:
    """The upper left corners `(n, 2)` of patches of a half that show something."""
    step = 1 if for_source else SIDE
    windows = _windows(_half(load_photographs()[photograph], for_source))[::step, ::step]
    return np.argwhere(windows.std(axis=(2, 3)) > FLAT) * step


def _windows(half: Photograph) -> Photograph:
    return np.lib.stride_tricks.sliding_window_view(half, (SIDE, SIDE))


def _half(image: Photograph, for_source: bool) -> Photograph:
    middle = image.shape[1] // 2
    return image[:, : middle - GAP // 2] if for_source else image[:, middle + GAP // 2 :]


def _rows(images: NDArray[np.floating], labels: NDArray[np.int64], classes: tuple[str, ...]) -> Rows:
    return Rows(np.clip(images, 0, 1).astype(np.float32), labels.astype(np.int64), classes)
