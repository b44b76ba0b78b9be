"""A data set of images: rows of one shape, their labels, and the names of the classes."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from deepfm.errors import DataError
from deepfm.model_selection.images.pixels import in_channels, resized


@dataclass(frozen=True, eq=False)
class LabelledRows:
    """Images with their labels.

    Args:
        rows: `(n, C, H, W)`, float32 from 0 to 1; C is 1 for grey and 3 for red, green and blue.
        labels: `(n,)`, int64 places in `class_names`.
        class_names: K names; each has a row.
        notes: what was changed, left out or taken for granted in reading them, a sentence each.

    Raises:
        DataError: fewer than two rows or classes, a class without a row, or arrays of another shape, type or range.
    """

    rows: NDArray[np.float32]
    labels: NDArray[np.int64]
    class_names: tuple[str, ...]
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        rows, labels = self.rows, self.labels
        if rows.ndim != 4 or rows.dtype != np.float32 or rows.shape[1] not in (1, 3) or 0 in rows.shape[1:]:
            raise DataError(
                f"rows have shape {rows.shape} and type {rows.dtype}; expected float32 (rows, 1 or 3 channels, height, "
                "width)"
            )
        if labels.shape != rows.shape[:1] or labels.dtype != np.int64:
            raise DataError(
                f"labels have shape {labels.shape} and type {labels.dtype}; expected int64, one for each of "
                f"{len(rows)} rows"
            )
        if len(rows) < 2:
            raise DataError(f"the data set has {len(rows)} images; expected two or more, of two classes or more")
        if len(self.class_names) < 2:
            raise DataError(
                f"the data set has one class, {', '.join(self.class_names)!r}; expected two or more to tell apart"
            )
        if not np.array_equal(np.unique(labels), np.arange(len(self.class_names))):
            raise DataError(
                f"labels are {np.unique(labels)[:10].tolist()} for {len(self.class_names)} class names; expected every "
                "place in the names, from 0, to have a row"
            )
        if not (rows.min() >= 0 and rows.max() <= 1):
            raise DataError(
                f"rows reach from {rows.min():.4g} to {rows.max():.4g}; expected from 0 to 1, none of them NaN"
            )

    def __repr__(self) -> str:
        count, channels, height, width = self.rows.shape
        return f"LabelledRows({count} images {channels}x{height}x{width}, {len(self.class_names)} classes)"

    def __len__(self) -> int:
        return len(self.rows)

    def fitted(self, channels: int, size: tuple[int, int]) -> "LabelledRows":
        """The same images in another number of channels and `(height, width)`, as a model takes them.

        Raises:
            DataError: other channels than 1 or 3, or a size below 1.
        """
        rows = resized(in_channels(self.rows, channels), size)
        return replace(self, rows=rows)

    def subset(self, indices: Sequence[int] | NDArray[np.intp]) -> "LabelledRows":
        """Some of the rows, in this order; classes that lose their last row lose their name.

        Raises:
            DataError: fewer than two rows or classes are left.
        """
        labels = self.labels[indices]
        kept, again = np.unique(labels, return_inverse=True)
        names = tuple(self.class_names[place] for place in kept)
        return replace(self, rows=self.rows[indices], labels=again.astype(np.int64), class_names=names)
