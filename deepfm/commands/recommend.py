"""`deepfm recommend`."""

import argparse

HELP = "Rank the items of a run's catalogue for one user."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("run", metavar="RUN", help="a run's folder")
    parser.add_argument("--user", required=True, metavar="ID", help="whom to recommend to")
    parser.add_argument("--top", type=int, default=10, metavar="K", help="how many items; left out: 10")
    parser.add_argument("--exclude-seen", action="store_true", help="leave out what the user was seen with in the data")
    parser.add_argument(
        "--candidates", metavar="FILE", help="rank these items alone: a table with the item column, or one id a line"
    )
    parser.add_argument("--device", default="auto", help="where to score; left out: the best that is there")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--json", action="store_true", help="print JSON instead of a table")
    where.add_argument("-o", "--output", metavar="FILE", help="write .csv or .parquet")


def run(args: argparse.Namespace) -> int:
    """Rank and print, or write."""
    import json

    from deepfm.utils.logging import configure_console

    configure_console(quiet=True, to_stderr=True)
    from deepfm.commands.predict import output_path, write_frames
    from deepfm.inference import Recommender
    from deepfm.reporting import Column, Table, print_table

    output = None if args.output is None else output_path(args.output)
    recommender = Recommender.load(args.run, args.device)
    found = recommender.recommend(args.user, args.top, args.exclude_seen, args.candidates)
    if output is not None:
        write_frames(iter([found]), output)
    elif args.json:
        known = recommender.knows_user(args.user)
        print(json.dumps({"user": args.user, "known_user": known, "items": found.to_dicts()}, indent=2))
    else:
        columns = [Column(name, format=".4f" if name == "probability" else "") for name in found.columns]
        print_table(Table(columns, [list(row) for row in found.iter_rows()], f"user {args.user}", best=False))
    return 0
