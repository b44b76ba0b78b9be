"""GroupLens' archives: which there are, and fetching one, checked by its MD5, without a trace where it is not right."""

import hashlib
import http.client
import re
import shutil
import tempfile
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

from deepfm.engine.settings import nearest
from deepfm.errors import ConfigError, DataError, RunError
from deepfm.utils import get_logger
from deepfm.utils.io import atomic_path

_PLACE = "https://files.grouplens.org/datasets/movielens"
_BLOCK = 1 << 20
_MIB, _GIB = 1 << 20, 1 << 30
_BY_HAND = "or unpack the archive by hand and set data.data_dir to its folder"


@dataclass(frozen=True)
class Archive:
    """One of GroupLens' archives.

    Args:
        title: what people call the data.
        name: of the archive without `.zip`, and of the folder that it is unpacked to.
        files: the members that are needed; the last one written, that of the ratings, comes first.
        beside: members that are unpacked too where they are there: the licence and what explains the data.
        md5: as GroupLens publishes it; None where it changes, and stands beside the archive in `URL.md5`.
        largest: bytes of the archive, and of a member, at most.
    """

    title: str
    name: str
    files: tuple[str, ...]
    beside: tuple[str, ...]
    md5: str | None
    largest: int

    @property
    def url(self) -> str:
        """Where GroupLens keeps it."""
        return f"{_PLACE}/{self.name}.zip"

    @property
    def folder(self) -> str:
        """Where it is unpacked to when nobody says where."""
        return f"data/{self.name}"


_CSV = ("ratings.csv", "movies.csv")
_README = ("README.txt", "README.html", "README")
ARCHIVES = {
    "movielens": Archive(
        "MovieLens-100K", "ml-100k", ("u.data", "u.user", "u.item"),
        ("README", "u.genre", "u.info", "u.occupation"), "0e33842e24a9c977be4e0107933c0723", 64 * _MIB,
    ),
    "movielens_1m": Archive(
        "MovieLens-1M", "ml-1m", ("ratings.dat", "users.dat", "movies.dat"), ("README",),
        "c4d9eecfca2ab87c1945afe126590906", 256 * _MIB,
    ),
    "movielens_latest_small": Archive(
        "MovieLens-latest-small", "ml-latest-small", _CSV, _README, None, 256 * _MIB
    ),
    "movielens_20m": Archive(
        "MovieLens-20M", "ml-20m", _CSV, _README, "cd245b17a1ae2cc31bb14903e1204af3", 4 * _GIB
    ),
    "movielens_25m": Archive(
        "MovieLens-25M", "ml-25m", _CSV, _README, "6b51fb2759a8657d3bfcbfc42b592ada", 4 * _GIB
    ),
    "movielens_32m": Archive(
        "MovieLens-32M", "ml-32m", _CSV, _README, "d472be332d4daa821edc399621853b57", 4 * _GIB
    ),
}  # fmt: skip
"""By the name that `data.dataset_name` has."""


def archive_of(dataset_name: str) -> Archive:
    """The archive of a data set.

    Raises:
        ConfigError: there is none of that name.
    """
    if dataset_name not in ARCHIVES:
        raise ConfigError(f"data set {dataset_name!r} cannot be fetched; {nearest(dataset_name, list(ARCHIVES))}")
    return ARCHIVES[dataset_name]


def fetch_archive(
    archive: Archive, data_dir: str | Path, url: str | None = None, md5: str | None = None, timeout: float = 20
) -> list[Path]:
    """Fetch an archive and unpack the needed members and the licence, by their base names.

    It is checked before anything is written to the folder: unless its MD5 fits and all of it can be unpacked, nothing
    is.

    Args:
        archive: which.
        data_dir: the folder to write to; it is made if missing, and files of these names in it are replaced.
        url: another place that holds the same archive.
        md5: the archive's MD5 in hex; None for the published one.
        timeout: seconds to wait for the host's next answer.

    Returns:
        The files written.

    Raises:
        DataError: the host cannot be reached or refuses, the archive is not the one expected, or the folder cannot be
            written.
    """
    url = url or archive.url
    expected = (md5 or archive.md5 or _published_md5(url, timeout)).lower()
    get_logger(__name__).info("fetching %s", url)
    with tempfile.TemporaryFile() as file:
        found = _download(url, file, archive.largest, timeout)
        if found != expected:
            raise DataError(
                f"{url} has MD5 {found}; expected {expected}; nothing was written, try again later {_BY_HAND}"
            )
        with _damage_named(archive, url), zipfile.ZipFile(file) as unpacked:
            members = _wanted(archive, unpacked, url)
            for info in members:  # read once for nothing: a damaged member is found before the first is written
                with unpacked.open(info) as member:
                    shutil.copyfileobj(member, _Nowhere(), _BLOCK)
            return [_write(unpacked, info, Path(data_dir).expanduser()) for info in members]


class _Nowhere:
    def write(self, data: bytes) -> int:
        return len(data)


def _published_md5(url: str, timeout: float) -> str:
    """The sum in `URL.md5`, in the form of md5 or of md5sum."""
    with tempfile.TemporaryFile() as file:
        _download(f"{url}.md5", file, _BLOCK, timeout)
        file.seek(0)
        text = file.read().decode("ascii", "replace")
    sums = set(re.findall(r"(?<![0-9a-f])[0-9a-f]{32}(?![0-9a-f])", text.lower()))
    if len(sums) != 1:
        raise DataError(f"{url}.md5 holds {' '.join(text.split())[:60]!r}; expected one MD5; name it with --md5")
    return sums.pop()


def _download(url: str, file: IO[bytes], largest: int, timeout: float) -> str:
    """Write what an address answers to a file; its MD5."""
    digest, size, promised = hashlib.md5(usedforsecurity=False), 0, None
    try:
        request = urllib.request.Request(url, headers={"User-Agent": "deepfm (Python urllib)"})
        with urllib.request.urlopen(request, timeout=timeout) as response:
            promised = response.headers.get("Content-Length")
            while block := response.read(_BLOCK):
                size += len(block)
                if size > largest:
                    raise DataError(f"{url} sends more than {largest} bytes; expected fewer of this file; {_BY_HAND}")
                digest.update(block)
                file.write(block)
    except urllib.error.HTTPError as error:
        raise DataError(
            f"{url} answers HTTP status {error.code} ({error.reason}); expected the archive; try again later {_BY_HAND}"
        ) from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        raise DataError(f"{url} cannot be fetched: {reason}; check the network and the address, {_BY_HAND}") from error
    if promised is not None and promised.isdecimal() and size < int(promised):
        raise DataError(f"{url} broke off after {size} of {promised} bytes; nothing was written, try again {_BY_HAND}")
    return digest.hexdigest()


def _wanted(archive: Archive, unpacked: zipfile.ZipFile, url: str) -> list[zipfile.ZipInfo]:
    """The members to unpack in the order of writing; no path inside the archive ever names a file here."""
    members: dict[str, zipfile.ZipInfo] = {}
    for info in unpacked.infolist():
        members.setdefault(PurePosixPath(info.filename).name, info)
    for name in archive.files:
        if name not in members:
            raise DataError(f"{url} holds no {name}; expected {archive.title}'s archive; use the official one")
    order = (*archive.beside, *reversed(archive.files))
    wanted = [members[name] for name in order if name in members]
    for info in wanted:
        if info.file_size > archive.largest:
            raise DataError(
                f"{PurePosixPath(info.filename).name} in {url} has {info.file_size} bytes; expected at most "
                f"{archive.largest}; use the official archive"
            )
    return wanted


def _write(unpacked: zipfile.ZipFile, info: zipfile.ZipInfo, folder: Path) -> Path:
    path = folder / PurePosixPath(info.filename).name
    try:
        with atomic_path(path) as beside, unpacked.open(info) as member, open(beside, "wb") as file:
            shutil.copyfileobj(member, file, _BLOCK)
    except RunError as error:
        reason = getattr(error.__cause__, "strerror", None) or str(error.__cause__)
        raise DataError(f"cannot write {path}: {reason}; set data.data_dir to a folder that can be written") from error
    return path


@contextmanager
def _damage_named(archive: Archive, url: str) -> Iterator[Any]:
    try:
        yield
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError) as error:
        raise DataError(
            f"{url} is not a zip archive, or a damaged one ({error}); expected {archive.title}'s; use the official one"
        ) from error
