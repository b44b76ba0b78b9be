"""CSV files as polars frames that are not read yet: every row has as many cells as the header, or is an error."""

import codecs
import csv
import io
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.csv as pc

from deepfm.data.tables.csv_stream import BLOCK_BYTES, CsvStream
from deepfm.errors import DataError
from deepfm.utils.logging import get_logger

TABBED = (".tsv", ".txt", ".dat")
COMPRESSED = (".gz", ".zst", ".bz2")
SEPARATORS = (";", "\t", "|", ",")  # looked for in a header that seems to be one column
HEADER_BYTES = 1 << 20
_TOLD: set[tuple[Path, int]] = set()  # a table is read several times, and its bad rows are told once
log = get_logger(__name__)


@dataclass(frozen=True)
class ReadOptions:
    """How CSV files are read.

    Args:
        columns: the names of the columns of files without a header.
        separator: between two cells; None for a tab in `.tsv`, `.txt` and `.dat`, else a comma.
        encoding: of the text.
        on_bad_row: a row with too few or too many cells: `fail`, or `skip` it with a warning.
    """

    columns: tuple[str, ...] | None = None
    separator: str | None = None
    encoding: str = "utf-8"
    on_bad_row: str = "fail"


def scan_csv(path: Path, options: ReadOptions) -> pl.LazyFrame:
    """A CSV file's rows as text, not read yet; an empty cell is null.

    Raises:
        DataError: the file is empty, or its header is none; reading raises for the rows.
    """
    from polars.io.plugins import register_io_source

    names, header_lines = _header(path, options)

    def batches(
        with_columns: list[str] | None, predicate: pl.Expr | None, n_rows: int | None, _: int | None
    ) -> Iterator[pl.DataFrame]:
        left = n_rows
        for batch in _batches(path, options, names, header_lines, with_columns):
            frame = batch if left is None else batch.head(left)
            left = None if left is None else left - len(frame)
            yield frame if predicate is None else frame.filter(predicate)
            if left == 0:
                return

    return register_io_source(batches, schema=dict.fromkeys(names, pl.String), is_pure=True)


def _header(path: Path, options: ReadOptions) -> tuple[list[str], int]:
    """The names of the columns, and how many lines stand before the first row.

    Raises:
        DataError: there are none, one is empty or stands twice, or `columns` are not as many as the file has.
    """
    _check(path, options)
    names: list[str] = []
    with _one_sentence(path, options), closing(CsvStream(path, options.encoding)) as stream:
        start = codecs.getincrementaldecoder("utf-8")().decode(stream.read(HEADER_BYTES))
        rows = csv.reader(io.StringIO(start.removeprefix("\ufeff"), newline=""), delimiter=_separator(path, options))
        names = next(filter(None, rows), [])
        lines = rows.line_num
    if not names:
        raise DataError(f"{path} is empty; expected a header and rows")
    if options.columns is not None:
        if len(names) != len(options.columns):
            raise DataError(
                f"{path} has {len(names)} columns and {len(options.columns)} names were given with --columns "
                "(data.columns); expected as many"
            )
        names, lines = list(options.columns), 0
    _refuse_one_column(path, options, names)
    for place, name in enumerate(names):
        if not name.strip():
            raise DataError(f"column {place + 1} of {path} has no name; give it one, or name all with --columns")
        if "\n" in name or "\r" in name:
            raise DataError(f"the name of column {place + 1} of {path} has several lines; close its quotes in one")
        if name in names[:place]:
            raise DataError(f"{path} has two columns {name!r}; give every column a name of its own")
    return names, lines


def _refuse_one_column(path: Path, options: ReadOptions, names: list[str]) -> None:
    """A header that seems to be one name, but holds another separator, was meant as several."""
    other = next((sign for sign in SEPARATORS if sign in names[0]), None)
    if len(names) == 1 and options.separator is None and other is not None:
        raise DataError(
            f"{path} has one column, {names[0][:60]!r}; if {other!r} stands between its columns, say so with "
            f"--separator {other!r} (data.separator), else with --separator {_separator(path, options)!r}"
        )


def _check(path: Path, options: ReadOptions) -> None:
    separator = _separator(path, options)
    if len(separator) != 1 or not separator.isascii() or separator in '"\r\n\0':
        raise DataError(
            f"separator {separator!r} of {path} is no single ASCII character; expected one such as ',' or ';'"
        )
    try:
        "".encode(options.encoding)
    except (LookupError, UnicodeError, ValueError) as error:
        raise DataError(f"encoding {options.encoding!r} is unknown; expected one such as utf-8 or latin-1") from error
    if options.on_bad_row not in ("fail", "skip"):
        raise DataError(f"on_bad_row is {options.on_bad_row!r}; expected fail or skip")


def _batches(
    path: Path, options: ReadOptions, names: list[str], header_lines: int, wanted: list[str] | None
) -> Iterator[pl.DataFrame]:
    """Rows in order; short and long ones raise, or are left out and counted."""
    bad: list[Any] = []

    def invalid(row: Any) -> str:
        bad.append(row)
        return "error" if options.on_bad_row == "fail" or _lines(row) else "skip"

    parse = pc.ParseOptions(delimiter=_separator(path, options), invalid_row_handler=invalid, newlines_in_values=True)
    read = pc.ReadOptions(column_names=names, skip_rows_after_names=header_lines, block_size=BLOCK_BYTES)
    wanted = names if wanted is None else wanted
    convert = pc.ConvertOptions(
        column_types=dict.fromkeys(names, pa.large_string()),
        include_columns=list(dict.fromkeys([*wanted, names[-1]])),
        strings_can_be_null=True,
        quoted_strings_can_be_null=True,
        null_values=[""],
    )
    last = None
    try:
        with closing(CsvStream(path, options.encoding)) as stream, pc.open_csv(stream, read, parse, convert) as reader:
            for batch in reader:
                if batch.num_rows:
                    last = batch.column(names[-1])[-1].as_py()
                    frame = pl.from_arrow(batch)
                    assert isinstance(frame, pl.DataFrame)
                    yield frame.select(wanted)
            unclosed = stream.open_quote(last)
    except (pa.ArrowException, OSError, EOFError, UnicodeError) as error:
        if bad and (options.on_bad_row == "fail" or _lines(bad[-1])):
            raise _bad_row(path, options, names, bad[-1]) from error
        raise _sentence(path, options, error) from error
    if unclosed:
        raise DataError(f"{path} ends inside quotes that are never closed; close them, in the last row or before it")
    if bad and (path, len(bad)) not in _TOLD:
        _TOLD.add((path, len(bad)))
        log.warning("%s: %d rows have too few or too many cells and were left out", path, len(bad))


def _lines(row: Any) -> bool:
    """Whether a bad row has several lines: quotes never closed would take the rows after it along."""
    return row.text is not None and ("\n" in row.text or "\r" in row.text)


def _bad_row(path: Path, options: ReadOptions, names: list[str], row: Any) -> DataError:
    where = f"{path} has {row.actual_columns} cells in row {_number(path, options, names)}"
    expected = f"expected {row.expected_columns}, as in the header, so"
    if _lines(row):
        return DataError(
            f"{where}, which has several lines; {expected} see whether its quotes are closed, as --on-bad-row skip "
            "would take the rows after it along"
        )
    return DataError(f"{where}; {expected} mend the row, or leave such rows out with --on-bad-row skip")


def _number(path: Path, options: ReadOptions, names: list[str]) -> int | str:
    """The number of the row that stopped reading, the header apart, which only a reader without threads knows."""
    found: list[int] = []

    def invalid(row: Any) -> str:
        stops = options.on_bad_row == "fail" or _lines(row)
        if stops:
            found.append(row.number)
        return "error" if stops else "skip"

    parse = pc.ParseOptions(delimiter=_separator(path, options), invalid_row_handler=invalid, newlines_in_values=True)
    read = pc.ReadOptions(column_names=names, use_threads=False, block_size=BLOCK_BYTES)
    convert = pc.ConvertOptions(include_columns=names[:1], column_types={names[0]: pa.large_binary()})
    with (
        suppress(pa.ArrowException),
        closing(CsvStream(path, options.encoding)) as stream,
        pc.open_csv(stream, read, parse, convert) as reader,
    ):
        for _ in reader:
            pass
    return found[0] - (options.columns is None) if found and found[0] is not None else "?"


@contextmanager
def _one_sentence(path: Path, options: ReadOptions) -> Iterator[None]:
    """Turn what pyarrow and codecs say into one sentence."""
    try:
        yield
    except (pa.ArrowException, OSError, EOFError, UnicodeError, csv.Error) as error:
        raise _sentence(path, options, error) from error


def _sentence(path: Path, options: ReadOptions, error: BaseException) -> DataError:
    text = " ".join(str(error).split())
    if "Empty CSV" in text:
        return DataError(f"{path} is empty; expected a header and rows")
    if "UTF8" in text or "UTF-8" in text or isinstance(error, UnicodeError) or "decode" in text:
        return DataError(
            f"{path} holds bytes that are no {options.encoding} text; name its encoding with --encoding "
            "(data.encoding), such as latin-1"
        )
    if "straddl" in text:
        return DataError(f"{path} has a row longer than {BLOCK_BYTES >> 20} MB; see whether its quotes are closed")
    return DataError(f"{path} cannot be read: {text[:200].rstrip('.')}; mend the file or name another")


def _separator(path: Path, options: ReadOptions) -> str:
    if options.separator is not None:
        return options.separator
    name = path.name
    for ending in COMPRESSED:
        name = name.removesuffix(ending)
    return "\t" if name.endswith(TABBED) else ","
