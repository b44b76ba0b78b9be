"""Pixels of many images at once: their channels and their size."""

import numpy as np
from numpy.typing import NDArray

from deepfm.errors import DataError

LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)  # of red, green and blue (ITU-R BT.601), as Pillow takes them

Rows = NDArray[np.float32]


def in_channels(rows: Rows, channels: int) -> Rows:
    """`(n, C, H, W)` images as grey (1) or colour (3); grey ones become colour by repetition.

    Raises:
        DataError: other channels than 1 or 3.
    """
    if channels not in (1, 3) or rows.shape[1] not in (1, 3):
        raise DataError(
            f"images of {rows.shape[1]} channels cannot be given {channels}; expected 1 (grey) or 3 (colour)"
        )
    if rows.shape[1] == channels:
        return rows
    if channels == 3:
        return np.repeat(rows, 3, axis=1)
    return np.clip(np.tensordot(LUMINANCE, rows, axes=(0, 1))[:, None], 0, 1)


def resized(rows: Rows, size: tuple[int, int]) -> Rows:
    """`(n, C, H, W)` images at another `(height, width)`: a mean over areas where smaller, linear where larger.

    Raises:
        DataError: a height or width below 1.
    """
    checked_size(size)
    for axis, wanted in zip((2, 3), size, strict=True):
        if rows.shape[axis] != wanted:
            weights = _weights(rows.shape[axis], wanted)
            rows = np.moveaxis(np.tensordot(weights, rows, axes=(1, axis)), 0, axis)
    return np.ascontiguousarray(np.clip(rows, 0, 1))


def checked_size(size: tuple[int, int]) -> None:
    """Refuse a size that no image has.

    Raises:
        DataError: not a height and a width of 1 or more.
    """
    if len(size) != 2 or min(size) < 1:
        raise DataError(f"size = {size}; expected a height and a width in pixels, each 1 or more, such as (64, 64)")


def _weights(have: int, wanted: int) -> Rows:
    """How much of each old pixel along an axis is in each new one, `(wanted, have)`; rows sum to 1."""
    if wanted < have:
        edges = np.linspace(0, have, wanted + 1)
        pixels = np.arange(have)
        shared = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
        weights = np.clip(shared, 0, None)
    else:
        centres = np.clip((np.arange(wanted) + 0.5) * have / wanted - 0.5, 0, have - 1)
        weights = np.clip(1 - np.abs(centres[:, None] - np.arange(have)), 0, None)
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
