"""Rows that a probe looks at: features and classes, checked, and the one decomposition that probes share."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepfm.errors import DataError

Float = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Decomposition:
    """The singular value decomposition of features, without the directions that hold nothing.

    Args:
        left: `(n, r)`, orthonormal.
        singular: `(r,)`, positive, falling.
        width: D of the features.
    """

    left: Float
    singular: Float
    width: int

    @classmethod
    def of(cls, features: Float) -> "Decomposition":
        """Decompose `(n, D)` features; directions below rounding are dropped."""
        left, singular, _ = np.linalg.svd(features, full_matrices=False)
        kept = singular > singular.max(initial=0.0) * max(features.shape) * np.finfo(np.float64).eps
        return cls(left[:, kept], singular[kept], features.shape[1])


@dataclass(frozen=True, eq=False)
class ProbeRows:
    """Features and classes of a data set.

    Args:
        features: `(n, D)`, as the model gave them or standardised.
        classes: `(n,)` from 0, every one of them present.
    """

    features: Float
    classes: NDArray[np.intp]

    @classmethod
    def of(cls, features: ArrayLike, labels: ArrayLike) -> "ProbeRows":
        """Check and take features and labels of any kind that can be told apart.

        Raises:
            DataError: shapes that do not fit, values that are not finite, labels that are no classes, fewer than two
                classes, or no class with a second row.
        """
        checked = checked_features(features)
        classes = checked_classes(labels, len(checked))
        return cls(checked, classes)

    @property
    def count(self) -> int:
        """How many classes there are."""
        return int(self.classes.max()) + 1

    @cached_property
    def sizes(self) -> Float:
        """Rows of each class, `(K,)`."""
        return np.bincount(self.classes).astype(np.float64)

    @cached_property
    def indicators(self) -> Float:
        """One column a class, 1 where a row is of it: `(n, K)`."""
        return np.eye(self.count)[self.classes]

    @cached_property
    def decomposition(self) -> Decomposition:
        """Of the features as they are, for a model without an intercept."""
        return Decomposition.of(self.features)

    @cached_property
    def centred(self) -> Decomposition:
        """Of the features less their mean; the same as `decomposition` where they were standardised."""
        means = self.features.mean(axis=0)
        if (np.abs(means) <= 1e-12 * np.abs(self.features).max(initial=0.0)).all():
            return self.decomposition
        return Decomposition.of(self.features - means)


def checked_features(features: ArrayLike) -> Float:
    """Features as float64 `(n, D)`.

    Raises:
        DataError: another shape, fewer than two rows, no columns, or values that are not finite numbers.
    """
    try:
        taken = np.asarray(features, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(
            f"features cannot be read as numbers ({error}); expected an array (rows, dimensions)"
        ) from error
    if taken.ndim != 2 or taken.shape[0] < 2 or not taken.shape[1]:
        raise DataError(f"features have shape {taken.shape}; expected (rows, dimensions) with two rows or more")
    bad = np.flatnonzero(~np.isfinite(taken).all(axis=1))
    if len(bad):
        raise DataError(
            f"features of {len(bad)} rows are not finite, first of row {bad[0]}; expected numbers; look at the model "
            "that made them, or at that row's input"
        )
    return taken


def checked_classes(labels: ArrayLike, rows: int) -> NDArray[np.intp]:
    """Labels as classes from 0, in the order of the labels.

    Raises:
        DataError: another length, fractions or NaN, fewer than two classes, or every class with one row.
    """
    taken = np.asarray(labels)
    if taken.shape != (rows,):
        raise DataError(f"labels have shape {taken.shape} for {rows} rows of features; expected one label a row")
    if taken.dtype.kind not in "iubfUS":
        raise DataError(f"labels are of type {taken.dtype}; expected classes as whole numbers or text")
    if taken.dtype.kind == "f" and not (taken == np.round(taken)).all():
        wrong = taken[taken != np.round(taken)][0]
        raise DataError(f"labels hold {wrong}; expected classes as whole numbers or text, as these probes classify")
    names, classes = np.unique(taken, return_inverse=True)
    if len(names) < 2:
        raise DataError(f"all {rows} rows are of class '{names[0]}'; expected two classes or more to tell apart")
    if len(names) == rows:
        raise DataError(f"each of the {rows} rows has a class of its own; expected a class with two rows or more")
    return classes.astype(np.intp)
