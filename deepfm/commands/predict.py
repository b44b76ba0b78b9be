"""`deepfm predict`."""

import argparse
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deepfm.commands.arguments import add_table_arguments, read_options

if TYPE_CHECKING:
    import polars as pl

HELP = "Score raw rows with a finished run."
FORMATS = (".csv", ".parquet")
PROBABILITY = "probability"


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
    from deepfm.data.tables.files import table_paths
    from deepfm.errors import ConfigError
    from deepfm.inference import Predictor
    from deepfm.utils.logging import configure_console

    configure_console(to_stderr=True)
    output = None if args.output == "-" else output_path(args.output)
    paths = [path.resolve() for path in table_paths(args.data)]
    if output is not None and output.resolve() in paths:
        raise ConfigError(f"output {output} is a file that is read; name another")
    options = read_options(args)
    predictor = Predictor.load(args.run, args.device)
    kept = _kept(args.keep, predictor.ids)
    started = time.perf_counter()
    as_text = output is None or output.suffix == ".csv"
    parts = _columns(predictor.batches(args.data, options), kept, args.data, as_text)
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


def _kept(asked: list[str] | None, ids: list[str]) -> list[str]:
    """The columns to write beside the probability, each once."""
    from deepfm.errors import ConfigError

    kept = list(dict.fromkeys(asked or ids))
    if PROBABILITY in kept:
        raise ConfigError(
            f"--keep {PROBABILITY} is the name of the column that is written; leave it out, or rename it in the rows"
        )
    return kept


def _columns(batches: Iterator[Any], kept: list[str], where: str, as_text: bool) -> Iterator["pl.DataFrame"]:
    import polars as pl

    from deepfm.data.tables.files import require_columns
    from deepfm.errors import DataError

    for batch in batches:
        types = require_columns(batch.rows.lazy(), kept, where)
        nested = [name for name, kind in types.items() if kind.is_nested()]
        if nested and as_text:
            raise DataError(
                f"column {nested[0]!r} of {where} holds lists, which CSV has no form for; write a .parquet file with "
                "-o, or keep other columns with --keep"
            )
        probability = pl.Series(PROBABILITY, batch.probabilities)
        yield pl.DataFrame([*(batch.rows[name] for name in kept), probability])


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
