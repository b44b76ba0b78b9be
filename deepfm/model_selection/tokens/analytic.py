"""The default encoder: pixels and their frequencies, with no weights to fetch."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deepfm.errors import DataError
from deepfm.model_selection.images.pixels import in_channels, resized


@dataclass(frozen=True)
class AnalyticEncoder:
    """The pixels of a small grey version of an image, and the size of each of its frequencies.

    Images of any size and of 1 or 3 channels come out alike: `side`² pixels, then `side`² absolute values of the
    two-dimensional Fourier transform of unit norm, without its constant part, so that 64 + 64 numbers tell apart what
    is where from what repeats.

    Args:
        side: height and width of the small version.
    """

    side: int = 8

    def __post_init__(self) -> None:
        if self.side < 1:
            raise DataError(f"side = {self.side} of the analytic encoder; expected 1 or more, such as 8")

    @property
    def name(self) -> str:
        """What tokens of it are called."""
        return f"analytic-{self.side}"

    def encode(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """`(n, C, H, W)` images from 0 to 1 to `(n, 2 side²)` features."""
        small = resized(in_channels(rows, 1), (self.side, self.side))[:, 0]
        frequencies = np.abs(np.fft.fft2(small - small.mean(axis=(1, 2), keepdims=True), norm="ortho"))
        return np.concatenate([small.reshape(len(rows), -1), frequencies.reshape(len(rows), -1)], 1, dtype=np.float32)
