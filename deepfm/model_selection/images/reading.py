"""Reads a user's data set, whatever holds it."""

from pathlib import Path

from deepfm.errors import ConfigError, DataError
from deepfm.model_selection.images.arrays import read_arrays
from deepfm.model_selection.images.folder import read_folder
from deepfm.model_selection.images.labelled_rows import LabelledRows
from deepfm.model_selection.images.pixels import checked_size

ON_UNREADABLE = ("skip", "refuse")


def read_dataset(path: str | Path, *, on_unreadable: str = "skip", size: tuple[int, int] | None = None) -> LabelledRows:
    """Read labelled images from a folder with one folder a class, or from an `.npz`.

    Args:
        path: `DIR` with `DIR/class/*.png` (see `read_folder`), or an `.npz` with `x` and `y` (see `read_arrays`).
        on_unreadable: what becomes of an image that cannot be read: `skip` notes it, `refuse` raises.
        size: `(height, width)` that all images are brought to; None for the size that most have.

    Raises:
        ConfigError: `on_unreadable` is neither.
        DataError: nothing is there, or it holds no data set of two classes; the sentence says what to do.
    """
    if on_unreadable not in ON_UNREADABLE:
        raise ConfigError(f"on_unreadable = {on_unreadable!r}; expected {' or '.join(ON_UNREADABLE)}")
    if size is not None:
        checked_size(size)
    path = Path(path)
    if path.is_dir():
        return read_folder(path, refuse=on_unreadable == "refuse", size=size)
    if path.suffix.lower() == ".npz" and path.is_file():
        return read_arrays(path, size=size)
    found = "is neither" if path.exists() else "does not exist"
    raise DataError(f"data set {path} {found}; expected a folder with one folder of images a class, or an .npz file")
