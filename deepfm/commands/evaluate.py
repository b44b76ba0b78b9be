"""`deepfm evaluate`."""

import argparse
import json
from typing import TYPE_CHECKING

from deepfm.commands.arguments import (
    add_config_arguments,
    add_quiet_argument,
    metrics_table,
    runs_place,
)

if TYPE_CHECKING:
    from deepfm.engine.run import RunFolder

HELP = "Score a run's best weights on its validation and test rows."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "run", nargs="?", metavar="RUN", help="a run's folder; left out: the latest, of --config where it is given"
    )
    add_config_arguments(parser)
    add_quiet_argument(parser)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def run(args: argparse.Namespace) -> int:
    """Evaluate and print."""
    from deepfm.utils.logging import configure_console

    configure_console(quiet=args.quiet or args.json, to_stderr=args.json)
    from deepfm.engine.progress import evaluation_bar
    from deepfm.reporting import print_table
    from deepfm.training.experiment import evaluate_run

    folder = _run_folder(args)
    with evaluation_bar(args.quiet or args.json) as on_progress:
        evaluations = evaluate_run(folder, args.override, on_progress)
    metrics = {split: evaluation.metrics for split, evaluation in evaluations.items()}
    if args.json:
        print(json.dumps({"run": str(folder.path), **metrics}, indent=2))
    else:
        rows = "candidates" if folder.candidates.exists() else "rows"
        print_table(metrics_table(metrics, f"{folder.path}: the best weights on the run's own {rows}"))
    return 0


def _run_folder(args: argparse.Namespace) -> "RunFolder":
    from deepfm.engine.run import RunFolder, latest_run
    from deepfm.errors import ConfigError

    if args.run and args.config:
        raise ConfigError(f"both a run ({args.run}) and --config ({args.config}) are given; expected one of them")
    if args.run:
        return RunFolder(args.run)
    return latest_run(runs_place(args))
