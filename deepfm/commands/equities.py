"""`deepfm equities`: which stocks will do best."""

import argparse

from deepfm.commands import tune
from deepfm.commands.arguments import RUNS_DIR, add_config_arguments, add_override_argument, add_quiet_argument

HELP = "Rank the stocks of a day: panels of prices, walk-forward training, honest evaluation."
EXAMPLE = "training.learning_rate=0.001 or model.hidden_size=64"
ACTIONS = {
    "panel": "build, check or generate a panel of prices",
    "train": "train all folds and seeds of a walk-forward experiment, and measure their tests once",
    "ablate": "train a run's network with one part the other way, and say what each part brings",
    "predict": "rank the stocks of new days",
    "evaluate": "measure a finished experiment's tests again, beside baselines",
    "backtest": "trade a finished experiment's scores, or a file of predictions, with costs",
    "baselines": "measure reversal, momentum, ridge and LightGBM on a configuration's folds",
    "leak-check": "look for the future in features, labels and folds",
    "tune": "search for settings on validation days, and test the best ones",
    "smoke": "generate a panel, train on it and report, in less than a minute",
    "report": "write the report of a finished experiment again",
}
PANEL_ACTIONS = {
    "build": "read prices, mask what cannot be right, and write a panel",
    "check": "say what is found in a file of prices",
    "synth": "generate a panel with planted signals",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    made = _actions(parser, "action", ACTIONS)
    panels = _actions(made["panel"], "panel_action", PANEL_ACTIONS)
    for name in ("build", "check"):
        panels[name].add_argument("prices", metavar="FILE", help="Parquet or CSV: date, ticker, OHLC, volume, …")
        panels[name].add_argument("--sectors", metavar="CSV", help="with the columns ticker and sector (or industry)")
        panels[name].add_argument("--keep-bad-prints", action="store_true", help="mask no close")
    panels["check"].add_argument("--json", metavar="FILE", help="all figures")
    for name in ("build", "synth"):
        panels[name].add_argument("-o", "--output", metavar="FILE", required=True, help="the panel, Parquet")
    panels["synth"].add_argument("--seed", type=int, default=0, help="of all that is drawn (0)")
    add_override_argument(panels["synth"], "num_stocks=200 or own=0.3")

    for name in ("train", "baselines", "leak-check"):
        add_config_arguments(made[name], EXAMPLE)
    made["train"].add_argument("--resume", metavar="DIR", help="go on with an experiment, by its own configuration")
    made["train"].add_argument("--overwrite", action="store_true", help="replace the experiment that stands there")
    made["train"].add_argument("--folds", nargs="+", default=[], metavar="NAME", help="only these, such as 2013 2014")
    made["ablate"].add_argument("run", metavar="RUN", help="an experiment's folder, finished or not")
    made["ablate"].add_argument("--folds", nargs="+", metavar="NAME", help="to train, such as 2013 2014")
    made["ablate"].add_argument("--seeds", nargs="+", metavar="N", help="some of the experiment's; left out: the first")
    made["ablate"].add_argument(
        "--only", nargs="+", metavar="PART", help="of graph, FAN, SAN, VSN and normalization; left out: each"
    )
    add_override_argument(made["ablate"], "ablation.normalization=slice")
    made["predict"].add_argument("run", metavar="RUN", help="an experiment (its last fold), or one fold's run")
    made["predict"].add_argument("--panel", metavar="FILE", help="prices; left out: those of the experiment")
    made["predict"].add_argument("--sectors", metavar="CSV", help="as of the panel")
    made["predict"].add_argument("--from", dest="first", metavar="DATE", help="the first session")
    made["predict"].add_argument("--to", dest="last", metavar="DATE", help="the last session")
    made["predict"].add_argument("--device", default="auto", help="auto, cpu, cuda or mps")
    made["predict"].add_argument("-o", "--output", metavar="FILE", required=True, help="the predictions, Parquet")
    for name in ("evaluate", "backtest", "report"):
        made[name].add_argument("run", metavar="RUN", help="an experiment's folder")
        add_override_argument(made[name], "evaluation.share=0.2 or evaluation.costs=[0,10]")
    made["evaluate"].add_argument("--json", metavar="FILE", help="all figures")
    made["report"].add_argument("-o", "--output", metavar="FILE", help="also here: .html, or .md with plots beside it")
    made["backtest"].add_argument(
        "--predictions", metavar="FILE", help="of `deepfm equities predict`, instead of its own"
    )
    made["backtest"].add_argument("--long-only", action="store_true", help="sell none short")
    made["baselines"].add_argument("-o", "--output", metavar="DIR", help="where their scores are kept")
    made["baselines"].add_argument("--json", metavar="FILE", help="all figures")
    made["leak-check"].add_argument("--json", metavar="FILE", help="all figures")
    tune.add_arguments(made["tune"], EXAMPLE)
    made["smoke"].add_argument(
        "--folder",
        default=f"{RUNS_DIR}/equities/smoke",
        metavar="DIR",
        help="where it goes, and DIR-panel.parquet beside it",
    )
    made["smoke"].add_argument("--seed", type=int, default=0, help="of the panel and the network (0)")
    for name in ("train", "ablate", "smoke"):
        add_quiet_argument(made[name])


def run(args: argparse.Namespace) -> int:
    """Do one of them."""
    from deepfm.utils.logging import configure_console

    configure_console(quiet=getattr(args, "quiet", False))
    if args.action == "tune":
        args.task = "equities"
        return tune.run(args)
    from deepfm.commands import equities_actions, equities_panels

    actions, name = (equities_panels, args.panel_action) if args.action == "panel" else (equities_actions, args.action)
    code: int = getattr(actions, name.replace("-", "_"))(args)
    return code


def _actions(parser: argparse.ArgumentParser, dest: str, texts: dict[str, str]) -> dict[str, argparse.ArgumentParser]:
    actions = parser.add_subparsers(dest=dest, required=True, metavar="ACTION")
    made = {}
    for name, text in texts.items():
        made[name] = actions.add_parser(name, help=text, description=text[:1].upper() + text[1:] + ".")
        made[name].add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
    return made
