"""Functional fingerprint: what a model does to a fixed set of inputs, whatever its weights are."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepfm.errors import DataError
from deepfm.model_selection.tokens.encoder import FeatureEncoder
from deepfm.utils.io import load_arrays, save_arrays
from deepfm.utils.seeding import random_stream

Float = NDArray[np.float64]


def probe_inputs(
    count: int = 80, *, channels: int = 1, size: tuple[int, int] = (8, 8), seed: int = 0
) -> NDArray[np.float32]:
    """Images that belong to no data set: gratings, blobs and noise of several grains, in turn.

    Returns:
        `(count, C, H, W)` from 0 to 1, the same for the same arguments.

    Raises:
        DataError: fewer than two images, or a size below 1.
    """
    if count < 2 or channels < 1 or min(size) < 1:
        raise DataError(
            f"{count} probe inputs of {channels} channels and {size} pixels; expected two or more, of "
            "one channel and pixel or more"
        )
    rng = random_stream("probe inputs", seed)
    down, across = np.meshgrid(np.linspace(0, 1, size[0]), np.linspace(0, 1, size[1]), indexing="ij")
    images = np.empty((count, channels, *size))
    for place in range(count):
        for channel in range(channels):
            if place % 3 == 0:
                angle, waves, phase = rng.uniform(0, np.pi), rng.uniform(0.5, 3.5), rng.uniform(0, 2 * np.pi)
                drawn = np.sin(2 * np.pi * waves * (across * np.cos(angle) + down * np.sin(angle)) + phase)
            elif place % 3 == 1:
                high, left, wide = rng.uniform(0.1, 0.9), rng.uniform(0.1, 0.9), rng.uniform(0.1, 0.4)
                drawn = rng.choice([-1, 1]) * np.exp(-((down - high) ** 2 + (across - left) ** 2) / (2 * wide**2))
            else:
                spectrum = np.fft.rfft2(rng.normal(size=size))
                waves = np.hypot(np.fft.fftfreq(size[0])[:, None], np.fft.rfftfreq(size[1]))
                drawn = np.fft.irfft2(spectrum / (waves + 1 / max(size)) ** rng.uniform(0, 2), s=size)
            images[place, channel] = (drawn - drawn.min()) / max(np.ptp(drawn), 1e-12)
    return images.astype(np.float32)


def kernel_vector(features: NDArray[Any]) -> Float:
    """The centred linear kernel of features, of unit norm, as a vector.

    Its upper triangle, the part off the diagonal times √2, so that the dot product of two models' vectors is their
    linear centred kernel alignment (Kornblith et al., 2019, equation 4). Rotating, moving or multiplying all features
    changes nothing.

    Args:
        features: `(P, D)`, of P probe inputs.

    Returns:
        `(P(P + 1)/2,)` of length 1; zeros where the features do not vary.

    Raises:
        DataError: another shape, or values that are not finite.
    """
    taken = np.asarray(features, dtype=np.float64)
    if taken.ndim != 2 or len(taken) < 2 or not taken.shape[1] or not np.isfinite(taken).all():
        raise DataError(
            f"features of probe inputs have shape {taken.shape}; expected finite numbers (inputs, dimensions)"
        )
    largest = np.abs(taken).max()
    scaled = taken / largest if largest > 0 else taken
    centred = scaled - scaled.mean(axis=0)
    kernel = centred @ centred.T
    rows, columns = np.triu_indices(len(kernel))
    vector: Float = kernel[rows, columns] * np.where(rows == columns, 1.0, np.sqrt(2.0))
    length = np.linalg.norm(vector)
    return vector / length if np.abs(centred).max() > 1e-9 else np.zeros_like(vector)


def kernel_vectors(models: dict[str, Callable[[NDArray[np.float32]], Any]], inputs: NDArray[np.float32]) -> Float:
    """`kernel_vector` of each model on the same inputs.

    Args:
        models: by name, callables that take `(P, C, H, W)` rows to `(P, D)` features.
        inputs: `(P, C, H, W)`.

    Returns:
        `(M, P(P + 1)/2)`, in the order of `models`.

    Raises:
        DataError: no models, or features of one that do not fit, by its name.
    """
    if not models:
        raise DataError("no models to take a fingerprint of; expected one or more")
    return np.stack([kernel_vector(FeatureEncoder(name, model).encode(inputs)) for name, model in models.items()])


@dataclass(frozen=True, eq=False)
class FunctionalFingerprint:
    """Principal components of kernel vectors, fitted to training models and kept for all others.

    Args:
        mean: `(P(P + 1)/2,)` of the training models' vectors.
        directions: `(components, P(P + 1)/2)`, orthonormal, by falling variance; of each the largest entry is positive.
    """

    mean: Float
    directions: Float

    @classmethod
    def fit(cls, vectors: Sequence[Float] | Float, components: int = 24) -> "FunctionalFingerprint":
        """Find the directions in which training models differ most, by singular values.

        Args:
            vectors: `(M, P(P + 1)/2)`, of the training models alone.
            components: how many at most; M models differ in no more than M - 1.

        Raises:
            DataError: fewer than two models, models that do not differ, or fewer than one component.
        """
        taken = np.asarray(vectors, dtype=np.float64)
        if taken.ndim != 2 or len(taken) < 2 or not np.isfinite(taken).all():
            raise DataError(f"kernel vectors have shape {taken.shape}; expected finite numbers of two models or more")
        if components < 1:
            raise DataError(f"components = {components} of a fingerprint; expected 1 or more, such as 24")
        mean = taken.mean(axis=0)
        _, singular, directions = np.linalg.svd(taken - mean, full_matrices=False)
        kept = directions[: min(components, int((singular > 1e-9).sum()))]
        if not len(kept):
            raise DataError(f"{len(taken)} models do the same to every probe input; expected models that differ")
        largest = kept[np.arange(len(kept)), np.abs(kept).argmax(axis=1)]
        return cls(mean, kept * np.sign(largest)[:, None])

    @property
    def width(self) -> int:
        """How many components there are."""
        return len(self.directions)

    def transform(self, vectors: Sequence[Float] | Float) -> NDArray[np.float32]:
        """`(M, P(P + 1)/2)` kernel vectors to `(M, components)` fingerprints.

        Raises:
            DataError: vectors of another number of probe inputs.
        """
        taken = np.asarray(vectors, dtype=np.float64)
        if taken.ndim != 2 or taken.shape[1] != len(self.mean):
            raise DataError(
                f"kernel vectors have shape {taken.shape}; expected (models, {len(self.mean)}), of the probe inputs "
                "that the fingerprint was fitted with"
            )
        return ((taken - self.mean) @ self.directions.T).astype(np.float32)

    def save(self, path: Path) -> None:
        """Write an `.npz`, whole or not at all."""
        save_arrays(path, {"mean": self.mean, "directions": self.directions})

    @classmethod
    def load(cls, path: Path) -> "FunctionalFingerprint":
        """Read what `save` wrote.

        Raises:
            RunError: the file is missing or damaged.
            DataError: it holds something else.
        """
        arrays = load_arrays(path, "fingerprint")
        if set(arrays) != {"mean", "directions"}:
            raise DataError(
                f"{path} holds {', '.join(arrays) or 'nothing'}; expected a fingerprint's mean and directions"
            )
        return cls(arrays["mean"], arrays["directions"])
