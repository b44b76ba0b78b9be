"""Data sets of scikit-learn's handwritten digits: as they are, and changed so that other features count."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from deepfm.model_selection.zoo.bundled import load_digits
from deepfm.model_selection.zoo.patches import texture
from deepfm.model_selection.zoo.rows import SIDE, Draw, Rows
from deepfm.utils.seeding import random_stream

FOR_SOURCES = 897  # of 1,797 images; the others are for tasks
NOISE = 0.25
WITH_LOOP = (0, 6, 8, 9)
TURNS = ("0", "90", "180", "270")


def plain(draw: Draw) -> Rows:
    """The ten digits."""
    return _named(*_drawn(draw), tuple("0123456789"))


def permuted(draw: Draw) -> Rows:
    """The ten digits with their pixels in one fixed random order, the same for sources and tasks."""
    rows = plain(draw)
    return _named(_reordered(rows.images, draw.seed, "permuted"), rows.labels, rows.classes)


def reshuffled(draw: Draw) -> Rows:
    """The ten digits in an order of pixels that no source has."""
    rows = plain(draw)
    return _named(_reordered(rows.images, draw.seed, "reshuffled"), rows.labels, rows.classes)


def inverted(draw: Draw) -> Rows:
    """The ten digits, dark on light."""
    rows = plain(draw)
    return _named(1 - rows.images, rows.labels, rows.classes)


def mirrored(draw: Draw) -> Rows:
    """The ten digits, left and right swapped."""
    rows = plain(draw)
    return _named(rows.images[:, :, ::-1], rows.labels, rows.classes)


def textured(draw: Draw) -> Rows:
    """The ten digits on patches of photographs."""
    rows = plain(draw)
    images = np.maximum(rows.images * 0.8, texture(draw, len(rows)))
    return _named(images, rows.labels, rows.classes)


def noisy(draw: Draw) -> Rows:
    """The ten digits under noise."""
    rows = plain(draw)
    images = np.clip(rows.images + draw.rng.normal(0, NOISE, rows.images.shape), 0, 1)
    return _named(images, rows.labels, rows.classes)


def parity(draw: Draw) -> Rows:
    """Even and odd digits."""
    rows = plain(draw)
    return _named(rows.images, rows.labels % 2, ("even", "odd"))


def permuted_parity(draw: Draw) -> Rows:
    """Even and odd digits in the order of pixels of `permuted`."""
    rows = permuted(draw)
    return _named(rows.images, rows.labels % 2, ("even", "odd"))


def loops(draw: Draw) -> Rows:
    """Digits that enclose an area, and those that do not."""
    rows = plain(draw)
    return _named(rows.images, np.isin(rows.labels, WITH_LOOP).astype(np.int64), ("open", "loop"))


def rotation(draw: Draw) -> Rows:
    """By how many quarter turns a digit is turned."""
    images = plain(draw).images
    turns = draw.rng.integers(4, size=len(images))
    return _named(turned(images, turns), turns, TURNS)


def turned(images: NDArray[np.float32], turns: NDArray[np.int64]) -> NDArray[np.float32]:
    """Each of `(n, 8, 8)` images turned by its number of quarter turns."""
    answer = images.copy()
    for turn in (1, 2, 3):
        answer[turns == turn] = np.rot90(images[turns == turn], turn, axes=(1, 2))
    return answer


def _drawn(draw: Draw) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """`size` images of one side of the split, each at most once; for a source fewer where there are no more."""
    images, labels = load_digits()
    order = random_stream("zoo digits", draw.seed).permutation(len(images))
    own = order[:FOR_SOURCES] if draw.for_source else order[FOR_SOURCES:]
    chosen = draw.rng.choice(own, min(draw.size, len(own)) if draw.for_source else draw.size, replace=False)
    return images[chosen], labels[chosen]


def _reordered(images: NDArray[np.float32], seed: int, which: str) -> NDArray[np.float32]:
    order = random_stream(f"zoo pixels {which}", seed).permutation(SIDE * SIDE)
    return images.reshape(len(images), -1)[:, order].reshape(images.shape)


def _named(images: NDArray[np.floating], labels: NDArray[np.int64], classes: Sequence[str]) -> Rows:
    return Rows(np.ascontiguousarray(images, dtype=np.float32), labels, tuple(classes))
