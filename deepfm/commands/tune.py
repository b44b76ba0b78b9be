"""`deepfm tune`."""

import argparse
from typing import TYPE_CHECKING

from deepfm.commands.arguments import (
    OF_CLICKS,
    RUNS_DIR,
    add_override_argument,
    add_quiet_argument,
    print_results,
)

if TYPE_CHECKING:
    from deepfm.tuning.experiment import Tuning
    from deepfm.tuning.subject import Subject

HELP = "Search for settings on the validation split, and train the best ones to test metrics."
SAMPLERS, PRUNERS = ("tpe", "random", "grid"), ("median", "hyperband", "none")


def add_arguments(parser: argparse.ArgumentParser, example: str = OF_CLICKS) -> None:
    """Declare the arguments; `example` is of settings that may be overridden."""
    parser.add_argument(
        "config",
        metavar="CONFIG",
        nargs="?",
        help="a YAML file with the settings that stay and, below tune:, those that are varied; left out: the defaults "
        "and the space of the package",
    )
    add_override_argument(parser, example)
    parser.add_argument("--trials", type=int, default=20, metavar="N", help="how many the study has in all (20)")
    parser.add_argument("--metric", help="what trials are judged by (training.metric of the configuration)")
    parser.add_argument("--sampler", choices=SAMPLERS, default="tpe", help="where values come from (tpe)")
    parser.add_argument("--pruner", choices=PRUNERS, default="median", help="what ends hopeless trials early (median)")
    parser.add_argument("--storage", metavar="URL", help="such as sqlite:///study.db; left out: study.db in --output")
    parser.add_argument("--study", metavar="NAME", help="left out: the configuration's name")
    parser.add_argument("--output", metavar="FOLDER", help=f"left out: {RUNS_DIR}/tune/<study>")
    parser.add_argument("--jobs", type=int, default=1, metavar="K", help="processes that try at once (1)")
    parser.add_argument("--timeout", type=float, metavar="S", help="no trial starts after so many seconds")
    parser.add_argument("--seed", type=int, help="of the sampler; left out: the configuration's")
    parser.add_argument("--setup", action="store_true", help="only make the study, and print its name")
    add_quiet_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Tune, or make the study, and print what was found."""
    from deepfm.tuning import require_optuna
    from deepfm.utils.logging import configure_console

    configure_console(quiet=args.quiet)
    require_optuna()
    tuning = _tuning(args)
    if args.setup:
        from deepfm.tuning.experiment import set_up_study

        storage = set_up_study(tuning)
        print(f"study {tuning.study} in {storage}")
        return 0
    _tune(args, tuning)
    return 0


def _tune(args: argparse.Namespace, tuning: "Tuning") -> None:
    from deepfm.engine.progress import progress_observers
    from deepfm.reporting import print_table
    from deepfm.tuning.experiment import tune_experiment
    from deepfm.tuning.report import TERMINAL_ROWS, trials_table

    observers = progress_observers(tuning.config.training.metric, args.quiet)
    results = tune_experiment(tuning, observers, quiet=args.quiet)
    print_table(trials_table(results, TERMINAL_ROWS))
    assert results.best is not None  # `tune_experiment` ends with one
    assert results.winner is not None
    print_results(tuning.folder.run_of(results.best), results.winner)
    print(f"best configuration {tuning.folder.best}, study report {tuning.folder.report}")


def _tuning(args: argparse.Namespace) -> "Tuning":
    from pathlib import Path

    from deepfm.engine.settings import build_settings
    from deepfm.tuning import StudySettings, load_space
    from deepfm.tuning.experiment import StudyFolder, Tuning

    if args.metric is not None:
        args.override = [*args.override, f"training.metric={args.metric}"]
    subject = _subject(args)
    config = subject.load(args.config, args.override)
    given = {name: getattr(args, name) for name in ("trials", "sampler", "pruner", "jobs", "timeout")}
    seed = config.seed if args.seed is None else args.seed
    settings = build_settings(StudySettings, {**given, "seed": seed}, "--")
    space = load_space(args.config, args.override, config, subject.rules)
    study = args.study or (Path(args.config).stem if args.config else subject.model(config))
    folder = StudyFolder(args.output or Path(RUNS_DIR, "tune", study))
    return Tuning(config, space, settings, study, folder, args.storage, subject)


def _subject(args: argparse.Namespace) -> "Subject":
    """What is tuned: the experiment that the configuration's `task` names, click models where it names none."""
    from deepfm.engine.settings import read_settings

    if getattr(args, "task", None) or read_settings(args.config).get("task") == "equities":
        from deepfm.equities.experiment.tuning import StockRanking

        return StockRanking()
    from deepfm.tuning.clicks import ClickModels

    return ClickModels()
