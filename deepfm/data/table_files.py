"""Tables in files: CSV and Parquet through polars, every failure of reading in one sentence that names the file."""

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import polars as pl
from polars.datatypes import DataType

from deepfm.engine.settings import nearest
from deepfm.errors import DataError

SUFFIXES = (".csv", ".csv.gz", ".parquet")


def find_table(folder: str | Path, stem: str, name: str | None = None) -> Path:
    """The file of one part of a data set: `name` in a folder, or `stem` with the suffix that is there.

    Raises:
        DataError: no such file, or several that could be meant.
    """
    if name is not None:
        path = Path(folder) / name
        if not path.is_file():
            raise DataError(f"{path} does not exist; name another with data.{stem}_file or data.data_dir")
        if not path.name.endswith(SUFFIXES):
            raise DataError(f"{path} is none of {', '.join(SUFFIXES)}; convert it, or name another file")
        return path
    there = [path for suffix in SUFFIXES if (path := Path(folder) / f"{stem}{suffix}").is_file()]
    if not there:
        wanted = ", ".join(f"{stem}{suffix}" for suffix in SUFFIXES)
        raise DataError(f"none of {wanted} is in {folder}; set data.data_dir, or data.{stem}_file for another name")
    if len(there) > 1:
        names = " and ".join(path.name for path in there)
        raise DataError(f"{folder} holds {names}; say which is meant with data.{stem}_file={there[0].name}")
    return there[0]


def scan_table(path: str | Path) -> pl.LazyFrame:
    """A file's rows, not read yet; a CSV's columns are all text, as only the table schema knows what they mean.

    Raises:
        DataError: the file is missing, empty, or of another format.
    """
    with reading(path):
        frame = pl.scan_parquet(path) if str(path).endswith(".parquet") else pl.scan_csv(path, infer_schema=False)
        names = frame.collect_schema().names()
    for name in names:
        twice = re.fullmatch(r"(.+)_duplicated_\d+", name)
        if twice is not None and twice[1] in names:
            raise DataError(f"{path} has two columns {twice[1]!r}; give every column a name of its own")
    return frame


@contextmanager
def reading(path: str | Path) -> Iterator[None]:
    """Turn what polars says of a file that cannot be read into one sentence.

    Raises:
        DataError: instead of any of polars' errors.
    """
    try:
        yield
    except pl.exceptions.NoDataError as error:
        raise DataError(f"{path} is empty; expected a header and rows") from error
    except (pl.exceptions.PolarsError, OSError) as error:
        reason = " ".join(str(error).split("\n\n")[0].split())[:200].rstrip(".")
        raise DataError(f"{path} cannot be read: {reason}; mend the file or name another") from error


def require_columns(frame: pl.LazyFrame, names: Iterable[str], where: str | Path) -> dict[str, DataType]:
    """The types of some columns.

    Raises:
        DataError: one is missing; the nearest that exists is named.
    """
    types = dict(frame.collect_schema())
    for name in names:
        if name not in types:
            raise DataError(f"{where} has no column {name!r}; {nearest(name, list(types))}")
    return {name: types[name] for name in names}
