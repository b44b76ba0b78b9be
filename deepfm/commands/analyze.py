"""`deepfm analyze`."""

import argparse
import sys
from typing import TYPE_CHECKING

from deepfm.commands.arguments import add_override_argument, add_quiet_argument

if TYPE_CHECKING:
    from deepfm.analysis.report import ModelReport

HELP = "Measure any PyTorch model, and say what is wrong with it and how to train it."
FAIL_ON = {"risk": ("RISK",), "caution": ("RISK", "CAUTION")}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "model", metavar="MODEL", help="a run's folder, a configuration (.yaml), module:name or file.py:name"
    )
    parser.add_argument("--loss", help="bce, ce, mse, mae, huber, nll, probe, module:function or file.py:function")
    parser.add_argument("--init", metavar="JSON", help="a class's arguments, such as '{\"width\": 64}'")
    parser.add_argument("--spec", help="a class's inputs, such as 'tokens:f32[8,20,512], mask:bool[8,20]'")
    parser.add_argument("--batch-dim", type=int, metavar="DIM", help="the dimension of rows; left out: 0")
    parser.add_argument("--name", help="what the report calls the model")
    parser.add_argument("--budget", type=float, default=60.0, metavar="SECONDS", help="for all measures; left out: 60")
    parser.add_argument("--scaling", action="store_true", help="also batch sizes, checkpointing, several devices")
    parser.add_argument("--precision", action="store_true", help="also numerics under bf16 and fp16")
    parser.add_argument("--quantize", action="store_true", help="also int8 weights")
    parser.add_argument("--profile", action="store_true", help="also where a training step's time goes")
    parser.add_argument("-o", "--output", metavar="FILE", help="write the report as .md or .html")
    parser.add_argument("--json", metavar="FILE", help="write the report as JSON")
    parser.add_argument("--diff", metavar="OLD.json", help="compare with an earlier report")
    parser.add_argument("--fail-on", choices=sorted(FAIL_ON), help="exit with 1 where the assessment is that or worse")
    parser.add_argument("--device", default="cpu", help="cpu (the default), cuda, mps or auto")
    add_override_argument(parser)
    add_quiet_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Analyse, print a summary, and write what is asked for."""
    from deepfm.analysis.analyse import analyze_subject
    from deepfm.analysis.report import read_report
    from deepfm.analysis.sources import open_source, refuse_options
    from deepfm.errors import AnalysisError
    from deepfm.reporting import print_table, refuse_report_name
    from deepfm.utils.logging import configure_console

    configure_console(quiet=True, to_stderr=True)
    if args.output is not None:
        refuse_report_name(args.output)
    if not args.budget > 0:
        raise AnalysisError(f"--budget {args.budget} leaves no time; expected seconds above 0")
    earlier = None if args.diff is None else read_report(args.diff)
    if _ranks_stocks(args.model):
        from deepfm.equities.experiment.examine import network_source

        refuse_options(args.model, args.loss, args.init, args.spec)
        source = network_source(args.model, args.override, args.device, args.name)
    else:
        source = open_source(
            args.model,
            loss=args.loss,
            init=args.init,
            spec=args.spec,
            overrides=args.override,
            device=args.device,
            batch_dim=args.batch_dim,
            name=args.name,
        )
    report = analyze_subject(
        source.subject,
        budget=args.budget,
        switches=tuple(name for name in ("scaling", "precision", "quantize", "profile") if getattr(args, name)),
        promises=source.promises,
        dataset_rows=source.dataset_rows,
        random_inputs=source.random_inputs,
        on_stage=_silent if args.quiet else _tell,
    )
    _print_summary(report)
    if earlier is not None:
        print_table(report.diff(earlier))
    if args.json is not None:
        report.save_json(args.json)
        print(f"wrote {args.json}")
    if args.output is not None:
        _write(report, args.output)
    return int(args.fail_on is not None and report.assessment in FAIL_ON[args.fail_on])


def _ranks_stocks(model: str) -> bool:
    """Whether a configuration's, or a run's, `task` is `deepfm equities`."""
    from pathlib import Path

    from deepfm.engine.run import RunFolder
    from deepfm.engine.settings import read_settings

    path = Path(model)
    config = RunFolder(path).config if path.is_dir() else path
    return config.suffix in (".yaml", ".yml") and config.is_file() and read_settings(config).get("task") == "equities"


def _tell(stage: str) -> None:
    end = "\x1b[K\r" if sys.stderr.isatty() else "\n"
    print(f"measuring {stage} …", end=end, file=sys.stderr, flush=True)


def _silent(stage: str) -> None:
    """Say nothing."""


def _write(report: "ModelReport", path: str) -> None:
    from deepfm.reporting import write_html
    from deepfm.utils.io import write_text

    if path.endswith(".html"):
        write_html(report.to_document(), path)
    else:
        write_text(path, report.to_markdown())
    print(f"wrote {path}")


def _print_summary(report: "ModelReport") -> None:
    from deepfm.analysis.summary import summary_tables
    from deepfm.reporting import print_table

    for table in summary_tables(report):
        print_table(table)
