"""`deepfm baseline`."""

import argparse

from deepfm.commands.arguments import (
    add_config_arguments,
    add_quiet_argument,
    load_experiment,
    new_run,
    print_results,
)

HELP = "Fit a baseline on the same split and candidates as the models, as a run that compare shows beside them."
NAMES = ("popularity", "itemknn", "ease", "transitions")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("--name", required=True, choices=NAMES)
    add_config_arguments(parser)
    add_quiet_argument(parser)
    parser.add_argument("--overwrite", action="store_true", help="replace the run that output_dir already holds")
    parser.add_argument("--l2", type=float, default=200.0, help="EASE: the penalty (default 200)")
    parser.add_argument(
        "--half-life",
        type=float,
        help="EASE and transitions: score from the likes visible at the moment, one that this many others followed "
        "counting a half (default: transitions 5, EASE none: all training likes count alike)",
    )
    parser.add_argument("--tau", type=float, default=10.0, help="transitions: decay over the likes between (10)")
    parser.add_argument("--damping", type=float, default=0.5, help="transitions: of popular targets (0.5)")
    parser.add_argument("--neighbours", type=int, default=20, help="item-kNN: neighbours an item (default 20)")
    parser.add_argument("--shrink", type=float, default=10.0, help="item-kNN: shrinkage of rare pairs (default 10)")


def run(args: argparse.Namespace) -> int:
    """Fit, evaluate, write the run and print the table."""
    from deepfm.baselines import run_baseline
    from deepfm.utils.logging import configure_console

    configure_console(quiet=args.quiet)

    half_life = {} if args.half_life is None else {"half_life": args.half_life}
    options = {
        "ease": {"l2": args.l2, **half_life},
        "itemknn": {"neighbours": args.neighbours, "shrink": args.shrink},
        "transitions": {"tau": args.tau, "damping": args.damping, **half_life},
    }
    config = load_experiment(args)
    folder = new_run(config, args.name)
    results = run_baseline(args.name, config, folder, overwrite=args.overwrite, **options.get(args.name, {}))
    print_results(folder, results)
    return 0
