"""One image file: what its header says, and its pixels."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from deepfm.errors import DataError, ExtraError
from deepfm.model_selection.images.pixels import in_channels, resized

if TYPE_CHECKING:
    from PIL import Image

GREY = frozenset({"1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "I;16N", "F"})
TRANSPOSED = frozenset({5, 6, 7, 8})  # orientations of EXIF that swap height and width
ORIENTATION = 0x0112


@dataclass(frozen=True)
class ImageHeader:
    """What is known of an image before its pixels are read.

    Args:
        size: `(height, width)`, turned upright.
        is_colour: whether it may hold more than grey.
    """

    size: tuple[int, int]
    is_colour: bool


def read_header(file: Path) -> ImageHeader:
    """Read an image's size and kind.

    Raises:
        DataError: it cannot be read.
    """
    with _opened(file) as image:
        width, height = image.size
        turned = image.getexif().get(ORIENTATION) in TRANSPOSED
        return ImageHeader((width, height) if turned else (height, width), image.mode not in GREY)


def read_pixels(file: Path, channels: int, size: tuple[int, int]) -> NDArray[np.float32]:
    """An image `(C, H, W)` from 0 to 1, upright, on white where it has an opacity.

    Args:
        file: the image.
        channels: 1 for grey, 3 for colour.
        size: `(height, width)`.

    Raises:
        DataError: it cannot be read, or its pixels lie outside of any range that is known.
    """
    from PIL import ImageOps

    with _opened(file) as image:
        upright = ImageOps.exif_transpose(image)
        pixels = _deep(upright, file) if upright.mode in GREY and upright.mode[0] in "IF" else _shallow(upright)
    return resized(in_channels(pixels[None], channels), size)[0]


@contextmanager
def _opened(file: Path) -> "Iterator[Image.Image]":
    import warnings

    try:
        from PIL import Image
    except ImportError as error:
        raise ExtraError("reading image files needs Pillow; pip install pillow, or give an .npz instead") from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of fields that are not read
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(file) as image:
                yield image
    except DataError:
        raise
    except Exception as error:  # Pillow raises a dozen kinds for damaged files
        reason = "it is no image that Pillow knows" if "identify image" in str(error) else str(error) or "it is damaged"
        raise DataError(f"image {file} cannot be read ({reason}); mend or remove it, or skip such images") from error


def _deep(image: "Image.Image", file: Path) -> NDArray[np.float32]:
    """Grey of 16 bits, or fractions: `(1, H, W)`."""
    values = np.asarray(image)
    full = 1 if image.mode == "F" else 65535
    if not (np.isfinite(values).all() and values.min() >= 0 and values.max() <= full):
        raise DataError(
            f"image {file} cannot be read (its values reach from {values.min()} to {values.max()} where 0 to {full} is "
            "known); save it with 8 or 16 bits"
        )
    return (values / np.float32(full)).astype(np.float32)[None]


def _shallow(image: "Image.Image") -> NDArray[np.float32]:
    """Grey or colour of 8 bits: `(1, H, W)` or `(3, H, W)`."""
    kind = "L" if image.mode in GREY else "RGB"
    if image.has_transparency_data:
        values = np.asarray(image.convert("RGBA"), np.float32) / np.float32(255)
        white = np.float32(1)
        colour = np.moveaxis(white + values[:, :, 3:] * (values[:, :, :3] - white), 2, 0)
        return colour[:1] if kind == "L" else colour
    values = np.asarray(image.convert(kind), np.float32) / np.float32(255)
    return values[None] if kind == "L" else np.moveaxis(values, 2, 0)
