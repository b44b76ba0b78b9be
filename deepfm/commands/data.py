"""`deepfm data`: fetch, check, sample, describe."""

import argparse
import json
from typing import TYPE_CHECKING, Any

from deepfm.commands.arguments import (
    add_config_arguments,
    add_role_arguments,
    add_table_arguments,
    holds_split,
    load_experiment,
    print_warnings,
    read_options,
)

if TYPE_CHECKING:
    from deepfm.data.tables.describe import TableDescription

HELP = "Fetch, check, generate or describe the data."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    fetch = actions.add_parser("fetch", help="download MovieLens from GroupLens, checked by its MD5")
    check = actions.add_parser("check", help="read the files and say what they hold")
    sample = actions.add_parser("sample", help="generate a data set in MovieLens' format")
    describe = actions.add_parser("describe", help="show the schema, the split and the candidates")
    for action, default in ((check, "data/ml-100k"), (sample, "data/ml-100k-sample")):
        action.add_argument("folder", nargs="?", default=default, metavar="DIR", help=f"the folder ({default})")
    fetch.add_argument("folder", nargs="?", metavar="DIR", help="the folder (data/ml-100k, or as the archive is named)")
    fetch.add_argument(
        "--dataset", default="movielens", metavar="NAME", help="movielens (100K), or movielens_1m, movielens_32m, ..."
    )
    fetch.add_argument("--url", help="another place that holds the same archive")
    fetch.add_argument("--md5", help="the archive's MD5, where GroupLens publishes none")
    sample.add_argument("--seed", type=int, default=0)
    describe.add_argument("file", nargs="?", metavar="FILE", help="a table; left out: the data of --config")
    describe.add_argument("--schema", metavar="FILE", help="the table's schema; left out: inferred")
    describe.add_argument("--split", choices=("random", "temporal", "leave_one_out"), help="how the table is split")
    describe.add_argument("--json", action="store_true", help="print JSON")
    add_role_arguments(describe)
    add_table_arguments(describe)
    add_config_arguments(describe)
    for action in (fetch, check, sample, describe):  # also after the action, as with every other verb
        action.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS)


def run(args: argparse.Namespace) -> int:
    """Do one of the four."""
    return {"fetch": _fetch, "check": _check, "sample": _sample, "describe": _describe}[args.action](args)


def _fetch(args: argparse.Namespace) -> int:
    from deepfm.data.grouplens.archive import archive_of, fetch_archive

    archive = archive_of(args.dataset)
    folder = args.folder or archive.folder
    for path in fetch_archive(archive, folder, args.url, args.md5):
        print(path)
    print(f"{archive.title} is in {folder}; its README holds the licence (research use, no redistribution)")
    if args.dataset != "movielens":
        print(f"train on it with --override data.dataset_name={args.dataset} data.data_dir={folder}")
    return 0


def _check(args: argparse.Namespace) -> int:
    from deepfm.data.grouplens.files import check_files

    print(json.dumps(check_files(args.folder), indent=2))
    return 0


def _sample(args: argparse.Namespace) -> int:
    from deepfm.data.sample import write_sample

    for path in write_sample(args.folder, args.seed):
        print(path)
    print(f"generated, not real data; train on it with --override data.data_dir={args.folder}")
    return 0


def _describe(args: argparse.Namespace) -> int:
    if args.file is not None:
        return _describe_table(args)
    if args.json:
        from deepfm.errors import ConfigError

        raise ConfigError("--json describes a table; name its file, as in deepfm data describe FILE --json")
    from deepfm.reporting import Column, Table, print_table
    from deepfm.training.experiment import open_data

    data = open_data(load_experiment(args))
    columns = [
        Column("field"),
        Column("type"),
        Column("group"),
        Column("vocabulary", format=",d"),
        Column("width", format="d"),
    ]
    rows = [
        [field.name, str(field.feature_type), field.group, field.vocabulary_size, field.embedding_dim]
        for field in data.schema.fields.values()
    ]
    print_table(
        Table(columns, rows, f"{data.schema.num_fields} fields, width {data.schema.total_embedding_dim} in all")
    )
    sizes: list[list[Any]] = [["train", len(data.train), None]]
    for name, part in (("validation", data.validation), ("test", data.test)):
        candidates = data.adapter.candidates.get(name)
        sizes.append([name, len(part), None if candidates is None else len(candidates.users)])
    print_table(Table([Column("part"), Column("rows", format=",d"), Column("users", format=",d")], sizes))
    print(json.dumps(data.adapter.protocol(), indent=2))
    return 0


def _describe_table(args: argparse.Namespace) -> int:
    from dataclasses import asdict

    from deepfm.data.tables.describe import describe_data
    from deepfm.errors import ConfigError

    roles = {role: getattr(args, role) for role in ("label", "user", "item", "time")}
    if args.config or args.override:
        raise ConfigError(f"{args.file} is described as it is; leave out --config and --override")
    if args.schema and any(roles[role] for role in ("label", "user", "item")):
        raise ConfigError("--schema names label, user and item; leave out --label, --user and --item")
    three = holds_split(args.file)
    if three and args.split:
        raise ConfigError(
            f"{args.file} holds train and valid files, which are the split; leave out --split {args.split}"
        )
    split = args.split or ("temporal" if args.time else "random")
    found = describe_data(args.file, None if three else split, read_options(args), args.schema, roles)
    if args.json:
        print(json.dumps(asdict(found), indent=2, allow_nan=False))
    else:
        _print_description(found, f"{sum(part.rows for part in found.parts):,} rows of {args.file}")
    return 0


def _print_description(found: "TableDescription", caption: str) -> None:
    from datetime import UTC, datetime

    from deepfm.reporting import Column, Table, print_table

    columns = [Column("column"), Column("type"), Column("distinct", format=",d"), Column("missing", format=",d")]
    columns += [Column("head"), Column("unknown in validation", format=".1%"), Column("in test", format=".1%")]
    columns.append(Column("AUC alone", format=".3f"))
    rows = [
        [
            *(its.name, its.type, its.distinct, its.missing),
            ", ".join(f"{value} {share:.0%}" for value, share in its.head),
            *(its.unknown.get("validation"), its.unknown.get("test"), its.auc),
        ]
        for its in found.columns
    ]
    print_table(Table(columns, rows, caption))
    heads = [Column("part"), Column("rows", format=",d"), Column("label rate", format=".4f"), Column("from")]
    heads += [Column("to"), Column("also in training", format=",d")]
    parts = []
    for its in found.parts:
        span = [
            None if at is None else f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M}" for at in (its.first, its.last)
        ]
        parts.append([its.name, its.rows, its.label_rate, *span, its.duplicates])
    print_table(Table(heads, parts))
    print_warnings(found.warnings)
