"""A data set in a folder: one folder of image files a class."""

from collections import Counter
from pathlib import Path

import numpy as np

from deepfm.errors import DataError
from deepfm.model_selection.images.files import ImageHeader, read_header, read_pixels
from deepfm.model_selection.images.labelled_rows import LabelledRows

SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".pgm", ".ppm", ".pbm", ".pnm"}
)
MOST_BYTES = 8 * 2**30  # of all images in memory


def read_folder(path: Path, *, refuse: bool = False, size: tuple[int, int] | None = None) -> LabelledRows:
    """Read `DIR/class/*.png` and other kinds of image file that Pillow reads (`SUFFIXES`), classes in sorted order.

    Images are grey where all of them are, else colour; those with an opacity are laid on white, those of 16 bits keep
    them, and animations give their first frame. Where sizes differ, each is brought to the given size or that of most.
    What is hidden (a name that starts with a dot) is passed over; other files that are no images, folders within a
    class's, and folders without images are left out with a note.

    Args:
        path: the folder.
        refuse: whether an image that cannot be read raises; else it is left out with a note that names it.
        size: `(height, width)`; None for that of most images, the larger of two that are as frequent.

    Raises:
        DataError: there are fewer than two classes or images, an image cannot be read (`refuse`), the images would not
            fit in memory, or Pillow is not there.
    """
    files, notes = _files(path)
    headers: dict[Path, ImageHeader] = {}
    unreadable: list[str] = []
    for file in (file for members in files.values() for file in members):
        try:
            headers[file] = read_header(file)
        except DataError as error:
            _note_unreadable(error, unreadable, refuse)
    if not headers:
        raise DataError(_none_readable(path, unreadable))
    sizes = Counter(header.size for header in headers.values())
    wanted = size or max(sizes, key=lambda each: (sizes[each], each))
    channels = 3 if any(header.is_colour for header in headers.values()) else 1
    needed = 4 * len(headers) * channels * wanted[0] * wanted[1]
    if needed > MOST_BYTES:
        raise DataError(
            f"{len(headers)} images of {wanted[0]}x{wanted[1]} in {path} take {needed / 2**30:.1f} GiB; expected at "
            f"most {MOST_BYTES / 2**30:.0f}; give a smaller size"
        )
    rows = np.empty((len(headers), channels, *wanted), np.float32)
    kept: list[Path] = []
    for file in headers:
        try:
            rows[len(kept)] = read_pixels(file, channels, wanted)
        except DataError as error:
            _note_unreadable(error, unreadable, refuse)
        else:
            kept.append(file)
    if not kept:
        raise DataError(_none_readable(path, unreadable))
    if unreadable:
        notes.append(f"{len(unreadable)} images cannot be read and are left out: {_some(unreadable)}")
    changed = sum(headers[file].size != wanted for file in kept)
    if changed:
        notes.append(f"{changed} of {len(kept)} images were resized to {wanted[0]}x{wanted[1]} pixels")
    mixed = sum(not headers[file].is_colour for file in kept)
    if channels == 3 and mixed:
        notes.append(f"{mixed} of {len(kept)} images are grey, among colour ones, and are read as colour")
    names = sorted({file.parent.name for file in kept})
    if len(kept) > 1 and len(names) == 1:
        raise DataError(_one_class(path, names[0]))
    labels = np.array([names.index(file.parent.name) for file in kept], np.int64)
    return LabelledRows(rows[: len(kept)], labels, tuple(names), tuple(notes))


def _files(path: Path) -> tuple[dict[str, list[Path]], list[str]]:
    """The image files of each class, and notes of what is none."""
    try:
        inside = sorted(each for each in path.iterdir() if not each.name.startswith("."))
        folders = {
            each: sorted(f for f in each.iterdir() if not f.name.startswith(".")) for each in inside if each.is_dir()
        }
    except OSError as error:
        raise DataError(
            f"folder {path} cannot be read: {error.strerror}; give yourself the right to read it"
        ) from error
    stray = [each for each in inside if each not in folders]
    files = {folder.name: [file for file in members if _is_image(file)] for folder, members in folders.items()}
    stray += [file for members in folders.values() for file in members if not _is_image(file)]
    empty = [name for name, members in files.items() if not members]
    for name in empty:
        del files[name]
    if not files:
        raise DataError(_no_classes(path, stray, folders))
    if len(files) == 1:
        raise DataError(_one_class(path, next(iter(files))))
    notes = []
    if empty:
        held = "folder holds no image and is" if len(empty) == 1 else "folders hold no image and are"
        notes.append(f"{len(empty)} {held} left out: {_some(empty)}")
    if stray:
        named = "file or folder is" if len(stray) == 1 else "files or folders are"
        notes.append(f"{len(stray)} {named} no image of a class: {_some([str(s.relative_to(path)) for s in stray])}")
    return files, notes


def _is_image(file: Path) -> bool:
    return file.suffix.lower() in SUFFIXES and file.is_file()


def _note_unreadable(error: DataError, unreadable: list[str], refuse: bool) -> None:
    if refuse:
        raise error
    unreadable.append(str(error).split("; ")[0].removeprefix("image "))


def _none_readable(path: Path, unreadable: list[str]) -> str:
    return f"none of {len(unreadable)} images in {path} can be read, first {unreadable[0]}; mend them or give others"


def _no_classes(path: Path, stray: list[Path], folders: dict[Path, list[Path]]) -> str:
    expected = f"expected {path}/CLASS/*.png with a folder for each class"
    if any(_is_image(each) for each in stray if each.parent == path):
        return f"folder {path} holds images but no folders of them; {expected}; sort them into folders"
    deeper = [each for each in stray if each.is_dir() and each.parent != path]
    if deeper:
        return f"folder {path} holds folders of folders; {expected}; give one below it, such as {deeper[0].parent}"
    return f"folder {path} holds {len(folders)} folders and no image in them; {expected}"


def _one_class(path: Path, name: str) -> str:
    return (
        f"folder {path} holds images of one class, {name!r}; expected two or more to tell apart; add a folder for each "
        "other class"
    )


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
