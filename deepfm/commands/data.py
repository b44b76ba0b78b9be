"""`deepfm data`: fetch, check, sample, describe."""

import argparse
import json
from typing import Any

from deepfm.commands.arguments import add_config_arguments, load_experiment

HELP = "Fetch, check, generate or describe the data."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    fetch = actions.add_parser("fetch", help="download MovieLens-100K from GroupLens, checked by its MD5")
    check = actions.add_parser("check", help="read the files and say what they hold")
    sample = actions.add_parser("sample", help="generate a data set in MovieLens' format")
    describe = actions.add_parser("describe", help="show the schema, the split and the candidates")
    for action, default in (
        (fetch, "data/ml-100k"),
        (check, "data/ml-100k"),
        (sample, "data/ml-100k-sample"),
    ):
        action.add_argument("folder", nargs="?", default=default, metavar="DIR", help=f"the folder ({default})")
    fetch.add_argument("--url", help="another place that holds the same archive")
    sample.add_argument("--seed", type=int, default=0)
    add_config_arguments(describe)
    for action in (fetch, check, sample, describe):  # also after the action, as with every other verb
        action.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS)


def run(args: argparse.Namespace) -> int:
    """Do one of the four."""
    return {"fetch": _fetch, "check": _check, "sample": _sample, "describe": _describe}[args.action](args)


def _fetch(args: argparse.Namespace) -> int:
    from deepfm.data.movielens_download import URL, download_movielens

    for path in download_movielens(args.folder, url=args.url or URL):
        print(path)
    print(f"MovieLens-100K is in {args.folder}; its README holds the licence (research use, no redistribution)")
    return 0


def _check(args: argparse.Namespace) -> int:
    from deepfm.data.movielens_files import check_files

    print(json.dumps(check_files(args.folder), indent=2))
    return 0


def _sample(args: argparse.Namespace) -> int:
    from deepfm.data.sample import write_sample

    for path in write_sample(args.folder, args.seed):
        print(path)
    print(f"generated, not real data; train on it with --override data.data_dir={args.folder}")
    return 0


def _describe(args: argparse.Namespace) -> int:
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
