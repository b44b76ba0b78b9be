"""`deepfm explain`."""

import argparse
from pathlib import Path

from deepfm.commands.arguments import (
    add_override_argument,
    add_quiet_argument,
    add_table_arguments,
    read_options,
)

HELP = "Show what a finished run's model does with its inputs: importance, pairs, attention, single logits."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("run", metavar="RUN", help="the folder of a model's finished run")
    parser.add_argument(
        "--fields",
        metavar="NAME,…",
        help="whose importance is measured, groups of fields as group:NAME; left out: all fields and groups",
    )
    parser.add_argument("--rows", type=int, help="about how many validation rows are looked at (50000)")
    parser.add_argument("--repeats", type=int, help="permutations of each field (5)")
    parser.add_argument("--seed", type=int, default=0, help="of the choice of rows and the permutations (0)")
    parser.add_argument(
        "--row", metavar="N", type=int, nargs="+", action="extend", default=[], help="validation rows, from 0, whose "
        "logits are taken apart",
    )  # fmt: skip
    parser.add_argument(
        "--rows-file",
        metavar="FILE",
        help="a few raw rows of your own whose logits are taken apart; works without the run's data",
    )
    parser.add_argument("-o", "--output", metavar="FILE", help="the report; left out: explain.html in the run's folder")
    parser.add_argument("--json", metavar="FILE", help="also write all figures as JSON")
    parser.add_argument("--device", default="auto")
    add_override_argument(parser)
    add_quiet_argument(parser)
    add_table_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Explain, print, and write the report."""
    from deepfm.utils.logging import configure_console

    configure_console(quiet=args.quiet)
    from deepfm.engine.progress import evaluation_bar
    from deepfm.engine.run import RunFolder
    from deepfm.explain import REPEATS, ROWS, explain
    from deepfm.explain.report import build_report
    from deepfm.explain.text import print_explanation
    from deepfm.reporting import write_html
    from deepfm.utils.io import write_json

    folder = RunFolder(args.run)
    report = Path(args.output or folder.explanation)
    _refuse_other_files(folder.path, report, args.json)
    with evaluation_bar(args.quiet) as on_progress:
        found = explain(
            folder,
            fields=_names(args.fields),
            rows=ROWS if args.rows is None else args.rows,
            repeats=REPEATS if args.repeats is None else args.repeats,
            seed=args.seed,
            row_numbers=args.row,
            raw_rows=args.rows_file,
            options=read_options(args),
            device=args.device,
            overrides=args.override,
            on_progress=on_progress,
        )
    write_html(build_report(found), report)
    if args.json is not None:
        write_json(args.json, found.to_dict())
    print_explanation(found)
    print(f"report {report}" + ("" if args.json is None else f", figures {args.json}"))
    return 0


def _names(listed: str | None) -> list[str] | None:
    from deepfm.errors import ConfigError

    if listed is None:
        return None
    names = [name.strip() for name in listed.split(",")]
    if not all(names):
        raise ConfigError(f"--fields {listed!r} has an empty name; expected names with commas between them")
    return names


def _refuse_other_files(run: Path, report: Path, figures: str | None) -> None:
    """Refuse to write over what the run is made of, or to write the report where a person will not find HTML."""
    from deepfm.engine.run import FILES
    from deepfm.errors import ConfigError

    if report.suffix not in (".html", ".htm"):
        raise ConfigError(f"output {report} is no .html file; name such a file, and one for --json beside it")
    kept = {(run / file).resolve() for name, file in FILES.items() if name != "explanation"}
    for path in (report, *([] if figures is None else [Path(figures)])):
        if path.resolve() in kept or path.is_dir():
            raise ConfigError(f"{path} is a folder or one of the run's own files; name another file")
