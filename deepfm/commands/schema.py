"""`deepfm schema`: infer a table's schema, or check a table against one."""

import argparse
from typing import TYPE_CHECKING

from deepfm.commands.arguments import add_role_arguments, add_table_arguments, read_options

if TYPE_CHECKING:
    import polars as pl

HELP = "Infer a table's schema as YAML, or check a table against one."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    infer = actions.add_parser("infer", help="write a schema, the reason for each column beside it")
    check = actions.add_parser("check", help="hold all rows of a table to a schema")
    for action in (infer, check):
        action.add_argument("file", metavar="FILE", help="a table: a file, a folder or a glob of files")
        add_table_arguments(action)
        action.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
    add_role_arguments(infer)
    infer.add_argument("-o", "--output", metavar="FILE", help="where to write; left out: the terminal")
    infer.add_argument("--overwrite", action="store_true", help="replace what the output file holds")
    check.add_argument("schema", metavar="SCHEMA", help="the schema's YAML file")


def run(args: argparse.Namespace) -> int:
    """Infer or check."""
    return {"infer": _infer, "check": _check}[args.action](args)


def _infer(args: argparse.Namespace) -> int:
    from pathlib import Path

    from deepfm.data.tables.files import table_paths
    from deepfm.data.tables.infer import infer_schema, to_yaml
    from deepfm.errors import ConfigError, RunError
    from deepfm.utils.io import write_text

    if args.output and Path(args.output).resolve() in [path.resolve() for path in table_paths(args.file)]:
        raise ConfigError(f"output {args.output} is a file of the table that is read; name another with -o")
    if args.output and Path(args.output).exists() and not args.overwrite:
        raise RunError(f"{args.output} is there already; give --overwrite, or another file with -o")
    roles = {role: getattr(args, role) for role in ("label", "user", "item", "time")}
    text = to_yaml(infer_schema(_table(args), **roles, where=args.file))
    if not args.output:
        print(text, end="")
        return 0
    write_text(args.output, text)
    print(f"wrote {args.output}; read its reasons, edit it, and train with --data {args.file} --schema {args.output}")
    return 0


def _check(args: argparse.Namespace) -> int:
    import sys

    from deepfm.data.tables.check import check_table
    from deepfm.data.tables.schema import TableSchema
    from deepfm.reporting import Column, Table, print_table

    found = check_table(_table(args), TableSchema.load(args.schema), args.file)
    counts = [Column(name, format=",d") for name in ("missing", "distinct", "faulty")]
    rows = [[its.name, its.type, its.missing, its.distinct, its.faulty] for its in found.columns]
    print_table(Table([Column("column"), Column("type"), *counts], rows, f"{found.rows:,} rows of {args.file}"))
    for fault in found.faults:
        print(f"deepfm: {fault}", file=sys.stderr)
    return 2 if found.faults else 0


def _table(args: argparse.Namespace) -> "pl.LazyFrame":
    from deepfm.data.tables.files import scan_table

    return scan_table(args.file, read_options(args))
