"""`deepfm train`."""

import argparse
import shlex
from typing import TYPE_CHECKING, Any

from deepfm.commands.arguments import (
    add_config_arguments,
    add_quiet_argument,
    add_role_arguments,
    add_table_arguments,
    config_name,
    load_experiment,
    new_run,
    print_results,
    runs_place,
    table_settings,
)

if TYPE_CHECKING:
    from deepfm.engine.run import RunFolder

HELP = "Train a model to final validation and test metrics."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add_config_arguments(parser)
    parser.add_argument("--data", metavar="PATH", help="train on your own table: a file, a folder or a glob of files")
    parser.set_defaults(takes_table=True)
    parser.add_argument("--schema", metavar="FILE", help="the table's schema; left out: inferred")
    parser.add_argument("--split", choices=("random", "temporal", "leave_one_out"), help="how one table is split")
    add_role_arguments(parser)
    add_table_arguments(parser)
    add_quiet_argument(parser)
    parser.add_argument(
        "--resume",
        metavar="RUN",
        nargs="?",
        const="",
        help="continue an interrupted run: its folder, or the latest of --config",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace the run that output_dir already holds")


def run(args: argparse.Namespace) -> int:
    """Train, or resume, and print the final table."""
    from deepfm.utils.logging import configure_console

    configure_console(quiet=args.quiet)
    if args.resume is None:
        config = load_experiment(args)
        folder = new_run(config, config_name(args, config))
    else:
        folder = _interrupted_run(args)
    try:
        results = _train(args, folder)
    except KeyboardInterrupt as error:
        if folder.checkpoint.exists() and not folder.finished:
            path = shlex.quote(str(folder.path))
            raise KeyboardInterrupt(
                f"interrupted; the finished epochs are kept, continue with: deepfm train --resume {path}"
            ) from error
        raise KeyboardInterrupt("interrupted before training began; nothing to resume") from error
    print_results(folder, results)
    return 0


def _train(args: argparse.Namespace, folder: "RunFolder") -> dict[str, Any]:
    from deepfm.engine.progress import progress_observers
    from deepfm.training.experiment import resume_experiment, run_config, train_experiment

    if args.resume is None:
        config = load_experiment(args)
        observers = progress_observers(config.training.metric, args.quiet)
        return train_experiment(config, folder, observers, overwrite=args.overwrite)
    metric = run_config(folder).training.metric
    return resume_experiment(folder, progress_observers(metric, args.quiet))


def _interrupted_run(args: argparse.Namespace) -> "RunFolder":
    from deepfm.engine.run import RunFolder, latest_run
    from deepfm.errors import ConfigError, RunError

    if args.overwrite:
        raise ConfigError("--overwrite replaces a run and --resume continues it; expected one of them")
    if args.resume:
        if args.config or args.override or args.data or args.schema or args.split or table_settings(args):
            raise ConfigError(
                f"--resume {args.resume} continues with that run's own configuration and data; leave out all else"
            )
        folder = RunFolder(args.resume).require("config", "checkpoint")
        if folder.finished:
            raise RunError(
                f"{folder.path} is finished, there is nothing to resume; its metrics are in {folder.results.name}"
            )
        return folder
    return latest_run(runs_place(args), unfinished=True)
