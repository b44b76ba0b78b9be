"""Labelled 8 x 8 grey images, and a task made of them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deepfm.errors import DataError

SIDE = 8  # pixels


@dataclass(frozen=True, eq=False)
class Rows:
    """Labelled images.

    Args:
        images: `(n, 8, 8)`, float32 in [0, 1].
        labels: `(n,)`, int64, indices into `classes`.
        classes: the names of the classes.

    Raises:
        DataError: shapes or types differ from that, a pixel is outside [0, 1], or a label names no class.
    """

    images: NDArray[np.float32]
    labels: NDArray[np.int64]
    classes: tuple[str, ...]

    def __post_init__(self) -> None:
        shape = (len(self.labels), SIDE, SIDE)
        if self.images.shape != shape or self.images.dtype != np.float32:
            raise DataError(f"images are {self.images.dtype} {self.images.shape}; expected float32 {shape}")
        if not len(self.images):
            raise DataError("no images; expected at least one")
        if self.labels.shape != (len(self.images),) or self.labels.dtype != np.int64:
            raise DataError(f"labels are {self.labels.dtype} {self.labels.shape}; expected int64 (n,)")
        low, high = float(self.images.min()), float(self.images.max())
        if not (low >= 0 and high <= 1):
            raise DataError(f"pixels run from {low:g} to {high:g}; expected 0 to 1; divide by the largest grey value")
        if self.labels.min() < 0 or self.labels.max() >= len(self.classes):
            raise DataError(
                f"labels run from {self.labels.min()} to {self.labels.max()}; expected 0 to {len(self.classes) - 1}, "
                "one for each of the class names"
            )

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, chosen: NDArray[np.int64]) -> "Rows":
        """The rows at these indices."""
        return Rows(self.images[chosen], self.labels[chosen], self.classes)


@dataclass(frozen=True)
class Draw:
    """What a data set is asked for.

    Args:
        for_source: rows to pre-train on; otherwise rows of a task, which share no image with them.
        size: how many; a source may have fewer.
        seed: the zoo's, which fixes what all its data sets share, such as the order of permuted pixels.
        rng: where this draw's randomness comes from.
    """

    for_source: bool
    size: int
    seed: int
    rng: np.random.Generator


@dataclass(frozen=True, eq=False)
class TransferTask:
    """A data set to fine-tune on: a few shots of a pool, and rows to test on.

    Args:
        name: what outcomes call it.
        pool: what the shots are drawn from.
        test: what accuracy is measured on; shares no image with the pool.
        shots: `(seeds, shots)`, int64: the rows of the pool that each seed trains on.
    """

    name: str
    pool: Rows
    test: Rows
    shots: NDArray[np.int64]

    def __post_init__(self) -> None:
        if self.shots.ndim != 2 or not self.shots.size:
            raise DataError(f"the shots of task {self.name!r} have shape {self.shots.shape}; expected (seeds, shots)")
        if self.shots.min() < 0 or self.shots.max() >= len(self.pool):
            raise DataError(
                f"a shot of task {self.name!r} is row {self.shots.max()} of a pool of {len(self.pool)}; build it again"
            )

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes."""
        return self.pool.classes

    @property
    def seeds(self) -> int:
        """How many draws of shots there are."""
        return len(self.shots)

    def training(self, seed: int = 0) -> Rows:
        """The shots of a seed.

        Raises:
            DataError: the task has no such seed.
        """
        if not 0 <= seed < self.seeds:
            raise DataError(f"task {self.name!r} has no shots of seed {seed}; expected 0 to {self.seeds - 1}")
        return self.pool.take(self.shots[seed])


def stratified(labels: NDArray[np.int64], size: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Indices of `size` rows with the classes' shares kept to within one row, at least one a class, in random order.

    Raises:
        DataError: there are fewer rows than `size`, or more classes.
    """
    classes, counts = np.unique(labels, return_counts=True)
    if not len(classes) <= size <= len(labels):
        raise DataError(f"{size} shots of {len(labels)} rows in {len(classes)} classes; expected a number between them")
    wanted = _shares(counts, size)
    chosen = [
        rng.permutation(np.flatnonzero(labels == one))[:count] for one, count in zip(classes, wanted, strict=True)
    ]
    return rng.permutation(np.concatenate(chosen))


def _shares(counts: NDArray[np.int64], size: int) -> Sequence[int]:
    """`size` split as `counts` are (largest remainders), at least one each, so never more than there are."""
    exact = counts / counts.sum() * size
    shares = np.maximum(1, np.floor(exact)).astype(np.int64)
    while shares.sum() != size:
        missing = 1 if shares.sum() < size else -1
        room = (shares < counts) if missing > 0 else (shares > 1)
        gap = np.where(room, missing * (exact - shares), -np.inf)
        shares[int(gap.argmax())] += missing
    return [int(share) for share in shares]
