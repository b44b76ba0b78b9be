"""Tables in files: CSV and Parquet through polars, every failure of reading in one sentence that names the file."""

import glob
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
from polars.datatypes import DataType

from deepfm.data.tables.csv_files import COMPRESSED, ReadOptions, scan_csv
from deepfm.data.tables.frames import polars_frame, read_series
from deepfm.engine.settings import nearest
from deepfm.errors import DataError

DEFAULT = ReadOptions()

TEXT = (".csv", ".tsv", ".txt", ".dat")
SUFFIXES = (*(f"{text}{packed}" for text in TEXT for packed in ("", *COMPRESSED)), ".parquet")
PART_SUFFIXES = (".csv", ".csv.gz", ".tsv", ".tsv.gz", ".parquet")  # of train, valid and test without another name


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
    there = [path for suffix in PART_SUFFIXES if (path := Path(folder) / f"{stem}{suffix}").is_file()]
    if not there:
        wanted = ", ".join(f"{stem}{suffix}" for suffix in PART_SUFFIXES)
        raise DataError(f"none of {wanted} is in {folder}; set data.data_dir, or data.{stem}_file for another name")
    if len(there) > 1:
        names = " and ".join(path.name for path in there)
        raise DataError(f"{folder} holds {names}; say which is meant with data.{stem}_file={there[0].name}")
    return there[0]


def table_paths(source: str | Path) -> list[Path]:
    """The files of a table: one, or those of a folder or a glob, in the order of their names.

    Raises:
        DataError: there is none, or they are of several formats.
    """
    path = Path(source)
    if path.is_dir():
        paths = sorted(file for file in path.iterdir() if file.name.endswith(SUFFIXES) and file.name[0] not in "._")
        if not paths:
            raise DataError(f"folder {path} holds none of {', '.join(SUFFIXES)}; name a table's file or folder")
    elif any(sign in str(source) for sign in "*?[") and not path.exists():
        paths = [Path(file) for file in sorted(glob.glob(str(source), recursive=True))]
        if not paths:
            raise DataError(f"no file is named like {source}; name a table's files")
    elif path.is_file():
        paths = [path]
    else:
        raise DataError(f"{source} does not exist; name a table's file, a folder or a glob of files")
    for file in paths:
        if not file.name.endswith(SUFFIXES):
            raise DataError(f"{file} is none of {', '.join(SUFFIXES)}; convert it, or name another file")
    if len({file.suffix == ".parquet" for file in paths}) > 1:
        raise DataError(f"{source} holds both Parquet and text files; name those of one format, such as *.parquet")
    return paths


def scan_table(source: Any, options: ReadOptions = DEFAULT) -> pl.LazyFrame:
    """A table's rows, not read yet; a CSV's columns are all text, as only the table schema knows what they mean.

    Args:
        source: a file, a folder or a glob of files of one format and the same columns (CSV, TSV, each also compressed;
            Parquet), or a pandas, polars or pyarrow frame, or a dict of arrays.

    Raises:
        DataError: a file is missing, empty, or of another format, or the files differ in their columns.
    """
    if not isinstance(source, str | Path):
        return _in_memory(source)
    paths = table_paths(source)
    tables = []
    for path in paths:
        if path.suffix != ".parquet":
            tables.append(scan_csv(path, options))
            continue
        with reading(path):
            tables.append(pl.scan_parquet(path, glob=False))
            tables[-1].collect_schema()
    first = tables[0].collect_schema()
    for path, table in zip(paths, tables, strict=True):
        its = table.collect_schema()
        for name in dict.fromkeys([*first, *its]):
            if first.get(name) != its.get(name):
                raise DataError(
                    f"column {name!r} is {first.get(name, 'missing')} in {paths[0]} and {its.get(name, 'missing')} in "
                    f"{path}; expected the same in all files of a table"
                )
    return tables[0] if len(tables) == 1 else pl.concat([table.select(first.names()) for table in tables])


def _in_memory(source: Any) -> pl.LazyFrame:
    if isinstance(source, pl.LazyFrame):
        return source
    if isinstance(source, Mapping):
        for name, column in source.items():
            if isinstance(column, str | bytes) or not hasattr(column, "__len__") or getattr(column, "ndim", 1) == 0:
                raise DataError(f"column {name!r} of a table is {column!r}; expected an array of its rows")
        lengths = {name: len(column) for name, column in source.items()}
        if len(set(lengths.values())) > 1:
            raise DataError(f"the columns of a table have different lengths: {lengths}; expected as many rows in each")
        columns = {str(name): read_series(column, str(name)) for name, column in source.items()}
        for name, column in columns.items():
            if column.dtype == pl.Object:
                raise DataError(
                    f"column {name!r} of a table holds Python objects; expected text, numbers, dates or lists"
                )
        return pl.DataFrame(columns).lazy()
    if isinstance(source, pa.Table | pa.RecordBatch):
        try:
            frame = pl.from_arrow(source)
        except (pa.ArrowException, pl.exceptions.PolarsError) as error:
            raise DataError(
                f"an Arrow table cannot be read: {error}; expected text, numbers, dates or lists"
            ) from error
        assert isinstance(frame, pl.DataFrame)
        return frame.lazy()
    if not hasattr(source, "columns") or (not hasattr(source, "iloc") and not isinstance(source, pl.DataFrame)):
        raise DataError(
            f"a table is a {type(source).__name__}; expected a path, a pandas, polars or pyarrow frame, or a dict of "
            "arrays"
        )
    return polars_frame(source, "the table").lazy()


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
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
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
