"""Encoders of images: what turns a row into the numbers that tokens are made of."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from deepfm.errors import DataError

CHUNK = 1024  # rows that an encoder is given at once


class TokenEncoder(Protocol):
    """Anything that turns images into vectors, each row by itself.

    Attributes:
        name: what tokens of it are called; those of unlike names are not compared.
    """

    @property
    def name(self) -> str:
        """What tokens of it are called."""
        ...

    def encode(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """`(n, C, H, W)` images from 0 to 1 to `(n, D)` features."""
        ...


@dataclass(frozen=True)
class FeatureEncoder:
    """Any model's features as an encoder.

    Args:
        name: the model's name.
        features: takes `(n, C, H, W)` rows to `(n, D)` features; tensors are taken too.

    Example:
        >>> import numpy as np
        >>> FeatureEncoder("means", lambda rows: rows.mean(axis=(2, 3))).encode(np.ones((4, 3, 8, 8), np.float32)).shape
        (4, 3)
    """

    name: str
    features: Callable[[NDArray[np.float32]], Any]

    def encode(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """`(n, C, H, W)` images to `(n, D)` features.

        Raises:
            DataError: the model gives another shape, or values that are not finite.
        """
        parts = [as_array(self.features(rows[start : start + CHUNK])) for start in range(0, len(rows), CHUNK)]
        return checked_features_of(self.name, np.concatenate(parts), len(rows))


def as_array(features: Any) -> NDArray[np.float32]:
    """A tensor's or an array's values as float32, without its history."""
    detached = features.detach().cpu() if hasattr(features, "detach") else features
    return np.asarray(detached, dtype=np.float32)


def checked_features_of(name: str, features: NDArray[np.float32], rows: int) -> NDArray[np.float32]:
    """The features that `name` gave for so many rows.

    Raises:
        DataError: they are not `(rows, D)`, or not finite.
    """
    if features.ndim != 2 or len(features) != rows or not features.shape[1]:
        raise DataError(f"{name} gives features of shape {features.shape} for {rows} rows; expected (rows, dimensions)")
    bad = np.flatnonzero(~np.isfinite(features).all(axis=1))
    if len(bad):
        raise DataError(
            f"{name} gives features that are not finite for {len(bad)} of {rows} rows, first row {bad[0]}; expected "
            "numbers; look at its weights"
        )
    return features
