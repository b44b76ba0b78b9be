"""A data set in an `.npz`: arrays of images and labels."""

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepfm.errors import DataError
from deepfm.model_selection.images.labelled_rows import LabelledRows
from deepfm.model_selection.images.pixels import resized

IMAGES = ("x", "X", "images", "data")
LABELS = ("y", "Y", "labels", "target")
NAMES = "class_names"

Array = NDArray[Any]


def read_arrays(path: Path, *, size: tuple[int, int] | None = None) -> LabelledRows:
    """Read an `.npz`; nothing in it is ever unpickled.

    Images are under the first of `IMAGES` that is there: `(n, H, W)`, `(n, C, H, W)` or `(n, H, W, C)` with 1, 3 or 4
    channels, the fourth an opacity. Whole numbers are taken as 0 to 255 where none is larger, else as 0 to 65535;
    fractions and booleans as 0 to 1. Labels are under the first of `LABELS`: `(n,)`, whole numbers or text. The names
    of classes 0, 1, ... may be under `class_names`.

    Raises:
        DataError: the file is damaged, an array is missing or of another kind, or there are fewer than two classes.
    """
    arrays = _load(path)
    notes: list[str] = []
    images = _named(arrays, IMAGES, path)
    labels = _named(arrays, LABELS, path)
    labels = labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels
    if images.ndim not in (3, 4) or 0 in images.shape:
        raise DataError(
            f"images in {path} have shape {images.shape}; expected (rows, height, width), (rows, channels, height, "
            "width) or (rows, height, width, channels); reshape them"
        )
    if labels.shape != images.shape[:1]:
        raise DataError(
            f"{path} has labels of shape {labels.shape} for {len(images)} images; expected one label an image"
        )
    classes, names = _classes(labels, arrays.get(NAMES), path, notes)
    rows = _without_opacity(_scaled(_channels_first(images, path, notes), path, notes), notes)
    if size is not None and rows.shape[2:] != size:
        notes.append(
            f"{len(rows)} images of {rows.shape[2]}x{rows.shape[3]} pixels were resized to {size[0]}x{size[1]}"
        )
        rows = resized(rows, size)
    return LabelledRows(rows, classes, names, tuple(notes))


def _load(path: Path) -> dict[str, Array]:
    if path.is_file() and not zipfile.is_zipfile(path):
        raise DataError(f"{path} is no .npz; expected what numpy.savez writes, with x and y")
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in (*IMAGES, *LABELS, NAMES) if name in file.files} | {
                name: np.empty(0) for name in file.files if name not in (*IMAGES, *LABELS, NAMES)
            }
    except Exception as error:  # numpy and zipfile raise a dozen kinds for one damaged file
        if "allow_pickle" in str(error):
            raise DataError(
                f"{path} holds Python objects, which could run code when read; expected plain arrays; images of "
                "several sizes go into a folder DIR/class/*.png instead"
            ) from error
        raise DataError(f"{path} cannot be read as .npz; expected what numpy.savez writes, with x and y") from error


def _named(arrays: dict[str, Array], names: tuple[str, ...], path: Path) -> Array:
    for name in names:
        if name in arrays:
            return arrays[name]
    has = ", ".join(arrays) or "nothing"
    raise DataError(f"{path} has no array {names[0]!r}; expected images in 'x' and labels in 'y'; it has {has}")


def _classes(
    labels: Array, names: Array | None, path: Path, notes: list[str]
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Labels from 0 and the names of the classes that have rows."""
    if labels.dtype.kind not in "iubfUS" or (labels.dtype.kind == "f" and not (labels == np.round(labels)).all()):
        wrong = labels[labels != np.round(labels)][0] if labels.dtype.kind == "f" else labels.dtype
        raise DataError(f"labels in {path} hold {wrong}; expected classes as whole numbers or text")
    present, classes = np.unique(labels.astype(np.int64) if labels.dtype.kind in "fb" else labels, return_inverse=True)
    texts = [each.decode(errors="replace") if isinstance(each, bytes) else str(each) for each in present.tolist()]
    if names is not None:
        if names.ndim != 1 or names.dtype.kind not in "US" or labels.dtype.kind in "US" or present.min() < 0:
            raise DataError(f"{NAMES} in {path} name no classes; expected one text for each of the labels 0, 1, ...")
        if present.max() >= len(names):
            raise DataError(
                f"{path} has label {present.max()} and {len(names)} {NAMES}; expected a name for each label"
            )
        if len(present) < len(names):
            notes.append(f"{len(names) - len(present)} of {len(names)} named classes have no image and are left out")
        texts = [str(names[place]) for place in present]
    return classes.astype(np.int64), tuple(texts)


def _channels_first(images: Array, path: Path, notes: list[str]) -> Array:
    """`(n, C, H, W)`."""
    if images.ndim == 3:
        return images[:, None]
    first, last = images.shape[1] in (1, 3, 4), images.shape[3] in (1, 3, 4)
    if first and last and images.shape[1] != images.shape[3]:
        notes.append(f"images of shape {images.shape[1:]} are taken as channels, height, width")
    if first:
        return images
    if last:
        return np.moveaxis(images, 3, 1)
    raise DataError(
        f"images in {path} have shape {images.shape}; expected 1, 3 or 4 channels in the second place or the last"
    )


def _scaled(images: Array, path: Path, notes: list[str]) -> NDArray[np.float32]:
    """From 0 to 1."""
    kind = images.dtype.kind
    if kind not in "iubf":
        raise DataError(f"images in {path} are of type {images.dtype}; expected numbers")
    if kind == "f":
        bad = np.flatnonzero(~np.isfinite(images).all(axis=(1, 2, 3)))
        if len(bad):
            raise DataError(
                f"{len(bad)} images in {path} hold NaN or infinity, first image {bad[0]}; expected numbers from 0 to "
                "1; mend or drop them"
            )
    least, most = images.min(), images.max()
    if least < 0 or (kind == "f" and most > 1) or most > 65535:
        expected = "fractions from 0 to 1" if kind == "f" else "whole numbers from 0 to 255 or to 65535"
        raise DataError(
            f"images in {path} reach from {least} to {most}; expected {expected}; subtract the least value and "
            "divide by the range"
        )
    if kind in "fb":
        return images.astype(np.float32)
    full = 255 if most <= 255 else 65535
    if images.dtype != np.uint8:
        notes.append(f"images of type {images.dtype} that reach to {most} are taken as 0 to {full}")
    return images.astype(np.float32) / np.float32(full)


def _without_opacity(rows: NDArray[np.float32], notes: list[str]) -> NDArray[np.float32]:
    """Three channels where there are four: laid on white."""
    if rows.shape[1] != 4:
        return rows
    notes.append("images with an opacity are laid on white")
    return np.clip(1 + rows[:, 3:] * (rows[:, :3] - 1), 0, 1)
