"""`deepfm predict`."""

import argparse
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deepfm.commands.arguments import add_table_arguments

if TYPE_CHECKING:
    import polars as pl

HELP = "Score raw rows with a finished run."
FORMATS = (".csv", ".parquet")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("run", metavar="RUN", help="a run's folder")
    parser.add_argument("data", metavar="ROWS", help="CSV, TSV or Parquet: a file, a folder or a glob of files")
    parser.add_argument("-o", "--output", metavar="FILE", default="-", help=".csv or .parquet; left out: CSV on stdout")
    parser.add_argument("--keep", metavar="COLUMN", nargs="+", help="columns to write beside; left out: user and item")
    parser.add_argument("--device", default="auto")
    add_table_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Score and write, a part of the rows at a time."""
    from deepfm.data.tables.csv_files import ReadOptions
    from deepfm.data.tables.files import table_paths
    from deepfm.errors import ConfigError
    from deepfm.inference import Predictor
    from deepfm.utils.logging import configure_console

    configure_console(to_stderr=True)
    output = None if args.output == "-" else output_path(args.output)
    paths = [path.resolve() for path in table_paths(args.data)]
    if output is not None and output.resolve() in paths:
        raise ConfigError(f"output {output} is a file that is read; name another")
    names = tuple(name.strip() for name in args.columns.split(",")) if args.columns else None
    options = ReadOptions(names, args.separator, args.encoding or "utf-8", args.on_bad_row or "fail")
    predictor = Predictor.load(args.run, args.device)
    kept = args.keep or predictor.ids
    started = time.perf_counter()
    parts = _columns(predictor.batches(args.data, options), kept, args.data)
    if output is None:
        for number, part in enumerate(parts):
            sys.stdout.write(part.write_csv(include_header=not number))
        return 0
    rows = write_frames(parts, output)
    seconds = time.perf_counter() - started
    print(f"{rows:,} rows scored in {seconds:.1f} s ({rows / max(seconds, 1e-9):,.0f} a second); {output}")
    return 0


def output_path(name: str) -> Path:
    """Where to write.

    Raises:
        ConfigError: the suffix is none that is known.
    """
    from deepfm.errors import ConfigError

    if not name.endswith(FORMATS):
        raise ConfigError(f"output {name} is neither .csv nor .parquet; name such a file")
    return Path(name)


def write_frames(parts: Iterator["pl.DataFrame"], output: Path) -> int:
    """Write frames one after the other, whole or not at all; how many rows."""
    from deepfm.utils.io import atomic_path

    with atomic_path(output) as beside:
        return (_write_parquet if output.name.endswith(".parquet") else _write_csv)(parts, beside)


def _columns(batches: Iterator[Any], kept: list[str], where: str) -> Iterator["pl.DataFrame"]:
    import polars as pl

    from deepfm.data.tables.files import require_columns

    for batch in batches:
        require_columns(batch.rows.lazy(), kept, where)
        yield batch.rows.select(kept).with_columns(pl.Series("probability", batch.probabilities))


def _write_csv(parts: Iterator["pl.DataFrame"], path: Path) -> int:
    rows = 0
    with open(path, "w", encoding="utf-8", newline="") as file:
        for number, part in enumerate(parts):
            file.write(part.write_csv(include_header=not number))
            rows += len(part)
    return rows


def _write_parquet(parts: Iterator["pl.DataFrame"], path: Path) -> int:
    import pyarrow.parquet as pq

    rows, writer = 0, None
    try:
        for part in parts:
            table = part.to_arrow()
            writer = writer or pq.ParquetWriter(path, table.schema)
            writer.write_table(table)
            rows += len(part)
    finally:
        if writer is not None:
            writer.close()
    return rows
