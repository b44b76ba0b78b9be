"""`deepfm compare`."""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deepfm.commands.arguments import RUNS_DIR

if TYPE_CHECKING:
    from deepfm.reporting import Table

HELP = "Put runs side by side, one table for each data set and set of candidates."
LOWER_IS_BETTER = ("logloss",)
SORTED_BY = ("ndcg@10", "auc")  # the first that the runs have, where --sort is left out


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "runs", nargs="*", default=[RUNS_DIR], metavar="DIR", help=f"runs, or folders of runs ({RUNS_DIR})"
    )
    parser.add_argument(
        "--sort", metavar="METRIC", help="best first by this test metric (ndcg@10, or auc where none is ranked)"
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print JSON")
    form.add_argument("--markdown", action="store_true", help="print Markdown")


def run(args: argparse.Namespace) -> int:
    """Print the tables."""
    from deepfm.engine.run import find_runs
    from deepfm.errors import ConfigError, RunError
    from deepfm.reporting import print_table
    from deepfm.utils.logging import configure_console, get_logger

    configure_console(to_stderr=True)
    for root in args.runs:
        if root != RUNS_DIR and not Path(root).is_dir():
            raise RunError(f"{root} is no folder; expected a run, or a folder of runs")
    folders = list({run.path.resolve(): run for root in args.runs for run in find_runs(root)}.values())
    if not folders:
        raise RunError(
            f"no finished run at or below {', '.join(map(str, args.runs))}; train first, or name another folder"
        )
    results, damaged = [], []
    for folder in folders:
        try:
            results.append((folder.path, folder.read_results()))
        except RunError as error:
            damaged.append(error)
    if not results:
        raise damaged[0]
    for reason in damaged:
        get_logger(__name__).warning("left out: %s", reason)
    metrics = list(dict.fromkeys(name for _, result in results for name in result["test"]))
    sort = args.sort or next((name for name in SORTED_BY if name in metrics), metrics[0])
    if sort not in metrics:
        raise ConfigError(f"--sort {sort!r} is no metric of these runs; known: {', '.join(metrics)}")
    groups = _comparable_groups(results)
    tables = [_table(heading, group, sort) for heading, group in groups.items()]
    if args.json:
        print(json.dumps([{"group": table.caption, "runs": table.to_records()} for table in tables], indent=2))
        return 0
    for number, table in enumerate(tables, start=1):
        if args.markdown:
            print(table.to_markdown() + "\n")
        else:
            print_table(table)
        if number < len(tables):
            print("(the next runs saw other data or candidates: do not compare across)\n")
    return 0


def _comparable_groups(
    results: list[tuple[Path, dict[str, Any]]],
) -> dict[str, list[tuple[Path, dict[str, Any]]]]:
    """Runs whose metrics can be compared: the same data, split and candidates."""
    groups: dict[str, list[tuple[Path, dict[str, Any]]]] = {}
    for path, result in results:
        data, protocol = result["data"], result["protocol"]
        sample = " (GENERATED SAMPLE)" if data["source"] == "sample" else ""
        ranked = "candidates" in protocol
        what = f"1 + {protocol['num_neg_eval']} candidates ({protocol['candidates']})" if ranked else protocol["label"]
        heading = f"{data['name']} {data['hash'][:12]}{sample}, {protocol['split_strategy']}, {what}"
        groups.setdefault(heading, []).append((path, result))
    return groups


def _table(heading: str, group: list[tuple[Path, dict[str, Any]]], sort: str) -> "Table":
    from deepfm.reporting import Column, Table

    metrics = list(dict.fromkeys(name for _, result in group for name in result["test"]))
    if sort not in metrics:
        sort = next((name for name in SORTED_BY if name in metrics), sort)
    negatives = any("train_negatives" in result["protocol"] for _, result in group)
    sign = 1 if sort in LOWER_IS_BETTER else -1
    ordered = sorted(group, key=lambda one: (one[1]["test"].get(sort) is None, sign * (one[1]["test"].get(sort) or 0)))
    columns = [
        Column("run"),
        Column("model"),
        *([Column("negatives")] if negatives else []),
        *(Column(name, format=".4f", better="low" if name in LOWER_IS_BETTER else "high") for name in metrics),
        Column("best epoch", format="d"),
        Column("seconds", format=".0f"),
    ]
    rows = [
        [
            str(path),
            result["model"],
            *([result["protocol"]["train_negatives"] if result["kind"] == "model" else None] if negatives else []),
            *(result["test"].get(name) for name in metrics),
            result["best_epoch"],
            result["seconds"],
        ]
        for path, result in ordered
    ]
    return Table(columns, rows, f"Test metrics on {heading}")
