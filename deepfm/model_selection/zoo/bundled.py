"""The images that scikit-learn brings along: handwritten digits and two photographs."""

import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepfm.errors import ExtraError

PHOTOGRAPHS = ("china", "flower")


@functools.cache
def load_digits() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """1,797 digits: images `(n, 8, 8)` in [0, 1] and labels `(n,)`.

    Raises:
        ExtraError: scikit-learn is not here.
    """
    bunch = _datasets().load_digits()
    return (bunch.images / 16).astype(np.float32), bunch.target.astype(np.int64)


@functools.cache
def load_photographs() -> tuple[NDArray[np.float32], ...]:
    """Two photographs in grey: each `(427, 640)` in [0, 1].

    Raises:
        ExtraError: scikit-learn is not here.
    """
    bundled = _datasets()
    return tuple(
        (bundled.load_sample_image(f"{name}.jpg").mean(axis=2) / 255).astype(np.float32) for name in PHOTOGRAPHS
    )


def _datasets() -> Any:
    try:
        import sklearn.datasets
    except ImportError as error:
        raise ExtraError(
            "building a zoo needs scikit-learn's bundled digits and photographs; pip install 'deepfm[zoo]'"
        ) from error
    return sklearn.datasets
