"""`deepfm zoo`: which pre-trained model suits a data set."""

import argparse
from typing import TYPE_CHECKING, Any

from deepfm.commands.arguments import RUNS_DIR, add_config_arguments

if TYPE_CHECKING:
    from deepfm.model_selection.settings import ModelSelectionSettings
    from deepfm.reporting import Document

HELP = "Build or import a shelf of pre-trained models, and ask which suits a data set."
FOLDER = f"{RUNS_DIR}/zoo"
STAGES = ("autoencoder", "ranker", "stacker")
PROTOCOLS = ("unseen task", "unseen family", "unseen family and task")
ACTIONS = {
    "build": "train a zoo of small models and measure each on each task",
    "import": "bring in published tables of fine-tunes",
    "embed": "make tokens of data sets and fingerprints of models, and run the probes",
    "train": "train the auto-encoder, the ranker and the stack",
    "bench": "compare all methods on held-out tasks and families",
    "recommend": "rank the models for a data set",
    "feedback": "tell what a model reached on a data set",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    made = {}
    for name, text in ACTIONS.items():
        made[name] = action = actions.add_parser(name, help=text, description=text[:1].upper() + text[1:] + ".")
        action.add_argument("--folder", default=FOLDER, metavar="DIR", help=f"the shelf ({FOLDER})")
        action.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
        if name not in ("import", "feedback"):
            add_config_arguments(action)
            action.add_argument("--quiet", action="store_true", help="print results and warnings only")
    made["build"].add_argument("--preset", choices=("full", "ci"), default="full", help="how large (full)")
    made["import"].add_argument("tables", nargs="+", metavar="TABLE", help="CSV or Parquet, recognised by its columns")
    made["train"].add_argument("--stage", choices=STAGES, help="only this one; left out: all, what is up to date stays")
    made["bench"].add_argument(
        "--protocol", choices=PROTOCOLS, nargs="+", default=list(PROTOCOLS), help="what is hidden"
    )
    for name in ("train", "bench", "recommend"):
        made[name].add_argument("--split", help="of the outcomes, where a table has several, such as eval")
    for name in ("bench", "recommend"):
        made[name].add_argument("-o", "--output", metavar="FILE", help="the report, .html or .md")
        made[name].add_argument("--json", metavar="FILE", help="all figures")
    recommend = made["recommend"]
    recommend.add_argument(
        "--data", required=True, metavar="DATA", help="a folder of images, an .npz, or a task's name"
    )
    recommend.add_argument("--top", type=int, default=5, metavar="K", help="how many models to name (5)")
    recommend.add_argument("--budget", metavar="LIMITS", help="such as params<=30e6,latency<=20ms")
    recommend.add_argument("--probe", action="store_true", help="look at the data through every model")
    recommend.add_argument(
        "--on-unreadable", choices=("skip", "refuse"), default="skip", help="images that are damaged"
    )
    feedback = made["feedback"]
    feedback.add_argument("verb", choices=("add",), metavar="add", help="add")
    feedback.add_argument("--model", required=True, help="of the catalogue")
    feedback.add_argument("--dataset", required=True, metavar="NAME", help="as recommend called it")
    feedback.add_argument("--value", required=True, type=float, help="the accuracy that was reached, 0 to 1")


def run(args: argparse.Namespace) -> int:
    """Do one of the seven."""
    from deepfm.utils.logging import configure_console

    configure_console(quiet=getattr(args, "quiet", True))
    handlers = {
        **{"build": _build, "import": _import, "embed": _embed, "train": _train, "bench": _bench},
        **{"recommend": _recommend, "feedback": _feedback},
    }
    return handlers[args.action](args)


def _build(args: argparse.Namespace) -> int:
    import time

    from deepfm.model_selection.settings import load_wing_settings
    from deepfm.model_selection.zoo import build_zoo

    settings = load_wing_settings(args.config, args.override, args.preset)
    started = time.process_time()
    zoo = build_zoo(settings.build, args.folder, seed=settings.seed, on_progress=_progress(args))
    _keep(args, settings)
    print(
        f"{len(zoo.catalogue)} models, {len(zoo.tasks)} tasks, {len(zoo.outcomes):,} fine-tunes in {zoo.folder}; "
        f"{time.process_time() - started:.0f} s of processor time"
    )
    return 0


def _import(args: argparse.Namespace) -> int:
    from deepfm.model_selection.imports import import_table
    from deepfm.model_selection.shelf import put_on_shelf

    for path in args.tables:
        table = import_table(path)
        shelf = put_on_shelf(args.folder, table)
        for note in table.notes:
            print(f"{path}: {note}")
        print(
            f"{path}: {len(table.catalogue)} models, {len(table.outcomes):,} outcomes, "
            f"{len(table.probe_scores):,} probe scores; {args.folder} has {len(shelf.catalogue)} models now"
        )
    return 0


def _embed(args: argparse.Namespace) -> int:
    from deepfm.model_selection.embedding import embed
    from deepfm.model_selection.shelf import Shelf

    settings = _settings(args)
    shelf = embed(Shelf.open(args.folder), settings, _progress(args))
    _keep(args, settings)
    if shelf.zoo is None:
        print(f"{args.folder} holds imported tables: there are no weights and no images to embed")
        return 0
    print(f"{len(shelf.tokens)} data sets and {len(shelf.catalogue)} models embedded in {args.folder}")
    return 0


def _train(args: argparse.Namespace) -> int:
    from deepfm.model_selection.embedding import embed
    from deepfm.model_selection.shelf import Shelf
    from deepfm.model_selection.training import train

    settings = _settings(args)
    shelf = embed(Shelf.open(args.folder), settings, _progress(args))
    train(shelf, settings, args.stage, split=args.split, watch=_say(args))
    _keep(args, settings)
    print(f"trained; artefacts in {shelf.folder.networks}")
    return 0


def _bench(args: argparse.Namespace) -> int:
    from deepfm.model_selection.bench import bench
    from deepfm.model_selection.shelf import Shelf
    from deepfm.model_selection.wing_reports import bench_document
    from deepfm.reporting import print_table

    _check_output(args)
    shelf = Shelf.open(args.folder)
    found = bench(shelf, _settings(args), args.protocol, split=args.split, watch=_say(args))
    for board in found.boards:
        print_table(board.table())
    if found.ceiling is not None:
        print(f"seed ceiling {found.ceiling:.3f}")
    if found.shares is not None:
        print(found.shares.sentence())
    if found.intervals is not None:
        print(found.intervals.sentence())
    _write(args, bench_document(found), found.to_dict(), shelf.folder.reports / "bench.html")
    return 0


def _recommend(args: argparse.Namespace) -> int:
    from deepfm.model_selection.recommendation import recommend
    from deepfm.model_selection.shelf import ShelfFolder
    from deepfm.model_selection.wing_reports import recommendation_document, recommendation_table, sentences
    from deepfm.reporting import print_table

    _check_output(args)
    found = recommend(
        args.folder,
        _settings(args),
        args.data,
        top=args.top,
        budget=args.budget,
        probe=args.probe,
        split=args.split,
        on_unreadable=args.on_unreadable,
    )
    print_table(recommendation_table(found))
    for line in (*sentences(found), *found.reasons, *(f"would change it: {line}" for line in found.changes)):
        print(line)
    for note in found.notes:
        print(f"note: {note}")
    place = ShelfFolder(_path(args.folder)).reports / f"{found.data}.html"
    _write(args, recommendation_document(found), found.to_dict(), place)
    return 0


def _feedback(args: argparse.Namespace) -> int:
    from deepfm.model_selection.feedback import add_feedback

    shelf = add_feedback(args.folder, args.model, args.dataset, args.value)
    known = shelf.folder.asked()
    if shelf.zoo is not None and args.dataset not in known:
        print(
            f"note: nobody has asked this shelf about {args.dataset} yet (asked so far: {', '.join(known) or 'none'}); "
            "the outcome counts for a data set of this very name"
        )
    print(
        f"{args.model} reached {args.value:g} on {args.dataset}; {args.folder} has {len(shelf.outcomes):,} outcomes now"
    )
    return 0


def _settings(args: argparse.Namespace) -> "ModelSelectionSettings":
    from deepfm.model_selection.settings import above, load_wing_settings
    from deepfm.model_selection.shelf import ShelfFolder

    kept = ShelfFolder(_path(args.folder)).settings
    if not kept.exists():
        return load_wing_settings(args.config, args.override)
    return above(load_wing_settings(kept), args.config, args.override)


def _keep(args: argparse.Namespace, settings: "ModelSelectionSettings") -> None:
    """Later stages of the folder begin with these settings."""
    import yaml

    from deepfm.engine.settings import settings_to_dict
    from deepfm.model_selection.shelf import ShelfFolder
    from deepfm.utils.io import write_text

    write_text(ShelfFolder(_path(args.folder)).settings, yaml.safe_dump(settings_to_dict(settings), sort_keys=False))


def _write(args: argparse.Namespace, document: "Document", figures: dict[str, Any], default: Any) -> None:
    from pathlib import Path

    from deepfm.reporting import write_document
    from deepfm.utils.io import write_json

    place = Path(args.output or default)
    write_document(document, place)
    if args.json:
        write_json(args.json, figures)
    print(f"report {place}")


def _check_output(args: argparse.Namespace) -> None:
    from deepfm.reporting import refuse_report_name

    if args.output:
        refuse_report_name(args.output)


def _progress(args: argparse.Namespace) -> Any:
    shown: set[str] = set()

    def progress(stage: str, *_: int) -> None:
        if not args.quiet and stage not in shown:
            shown.add(stage)
            print(f"{stage} …", flush=True)

    return progress


def _say(args: argparse.Namespace) -> Any:
    return lambda what: None if args.quiet else print(f"{what} …", flush=True)


def _path(folder: str) -> Any:
    from pathlib import Path

    return Path(folder)
