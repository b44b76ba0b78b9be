"""The files of MovieLens-100K as bytes: fetched from GroupLens, read from a folder, decoded and hashed."""

import hashlib
import re
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

from deepfm.data.grouplens.archive import ARCHIVES, fetch_archive
from deepfm.errors import DataError

_ARCHIVE = ARCHIVES["movielens"]
URL, MD5, FILES = _ARCHIVE.url, str(_ARCHIVE.md5), _ARCHIVE.files
OFFICIAL_SHA256 = {
    "u.data": "06416e597f82b7342361e41163890c81036900f418ad91315590814211dca490",
    "u.user": "f120e114da2e8cf314fd28f99417c94ae9ddf1cb6db8ce0e4b5995d40e90e62c",
    "u.item": "553841ebc7de3a0fd0d6b62a204ea30c1e651aacfb2814c7a6584ac52f2c5701",
}
FETCH = "or fetch the files again with `deepfm data fetch`"
REPAIR = f"correct it, {FETCH}"
LARGEST_MEMBER = _ARCHIVE.largest


def download_movielens(data_dir: str | Path, url: str = URL, md5: str = MD5, timeout: float = 20) -> list[Path]:
    """Fetch the archive and unpack the data beside its licence (README).

    Unless the archive's MD5 fits, nothing is written.

    Args:
        data_dir: the folder to write to; it is made if missing, and files of these names in it are replaced.
        url: where the archive is.
        md5: the archive's MD5 in hex.
        timeout: seconds to wait for the host's next answer.

    Returns:
        The files written.

    Raises:
        DataError: the host cannot be reached or refuses, the archive is not the one expected, or the folder
            cannot be written.
    """
    return fetch_archive(_ARCHIVE, data_dir, url, md5, timeout)


def present_files(folder: Path, files: Sequence[str] = FILES) -> list[str]:
    """Which of the data's files `folder` holds; none where there is no such folder.

    Raises:
        DataError: `folder` is something else than a folder, or must not be looked into.
    """
    try:
        if folder.exists() and not folder.is_dir():
            raise DataError(f"data_dir {folder} is a file; expected a folder; set data.data_dir to the folder")
        return [name for name in files if (folder / name).exists()]
    except OSError as error:
        reason = error.strerror or str(error)
        raise DataError(f"data_dir {folder} cannot be read: {reason}; set data.data_dir to another") from error


def require_files(folder: Path, files: Sequence[str] = FILES, name: str = "ml-100k", fetch: str = FETCH) -> None:
    """Refuse a folder that lacks one of the files.

    Args:
        name: of the archive's own folder, which the files may lie in.
        fetch: how they can be had, for the message.

    Raises:
        DataError: one is missing.
    """
    present = present_files(folder, files)
    missing = ", ".join(file for file in files if file not in present)
    if not missing:
        return
    advice = f"set data.data_dir or DEEPFM_DATA_DIR to their folder, or run {fetch[fetch.index('`') :]}"
    inner = folder / name
    if len(present_files(inner, files)) == len(files):
        advice = f"set data.data_dir={inner}, which holds them"
    raise DataError(f"{missing} not found in {folder}; expected all of {', '.join(files)}; {advice}")


def read_files(folder: Path) -> dict[str, bytes]:
    """The bytes of the three files in `folder`.

    Raises:
        DataError: one is missing or cannot be read.
    """
    require_files(folder)
    try:
        return {name: (folder / name).read_bytes() for name in FILES}
    except OSError as error:
        reason = error.strerror or str(error)
        raise DataError(f"{error.filename} cannot be read: {reason}; expected a file; {REPAIR}") from error


def decode_file(path: str, content: bytes, ascii_only: bool, advice: str = REPAIR) -> str:
    """The text of one file, each line ended by a newline character; `path` is what errors name.

    Raises:
        DataError: the file is empty, or in another encoding than ASCII or (u.user, u.item) latin-1.
    """
    if not content.strip():
        raise DataError(f"{path} is empty; expected one row per line; {advice}")
    expected = "ASCII" if ascii_only else "latin-1 (ISO-8859-1)"
    found = None
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        found = "UTF-16"
    elif content.startswith(b"\xef\xbb\xbf"):
        found = "UTF-8 with a byte order mark"
    elif b"\0" in content:
        found = "binary or UTF-16 (it holds zero bytes)"
    elif not ascii_only and not content.isascii() and _is_utf8(content):
        found = "UTF-8"
    if found is not None:
        raise DataError(
            f"{path} line 1: the file is {found}; expected {expected} text; {advice.replace('correct', 'convert')}"
        )
    if ascii_only and (other := re.search(rb"[\x80-\xff]", content)):
        line = content.count(b"\n", 0, other.start()) + 1
        byte = other.group()[0]
        raise DataError(f"{path} line {line}: byte 0x{byte:02x} is not ASCII; expected digits and tabs only; {advice}")
    return content.decode("latin-1").replace("\r\n", "\n")


def hash_files(files: Mapping[str, bytes]) -> str:
    """SHA-256 in hex over name, length and bytes of the three files; it identifies the data of a run."""
    digest = hashlib.sha256()
    for name in FILES:
        digest.update(f"{name}:{len(files[name])}:".encode())
        digest.update(files[name])
    return digest.hexdigest()


def sample_banner(folder: Path, reason: str) -> str:
    """The warning of a run that has no real data: why, what that means, and how to give real data."""
    paragraphs = (
        "THIS RUN USES A GENERATED SAMPLE, NOT MOVIELENS",
        f"Real data was not found in {folder.absolute()}.",
        f"The download failed: {reason}.",
        "The numbers of this run say nothing about MovieLens.",
        "To give real data: set data.data_dir=FOLDER or the environment variable DEEPFM_DATA_DIR to the "
        "folder of u.data, u.user and u.item, or run `deepfm data fetch`.",
    )
    lines = [line for paragraph in paragraphs for line in (*textwrap.wrap(paragraph, 84), "")][:-1]
    width = max(map(len, lines))
    edge = "*" * (width + 6)
    return "\n".join(("", edge, *(f"** {line:<{width}} **" for line in lines), edge))


def _is_utf8(content: bytes) -> bool:
    try:
        content.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
