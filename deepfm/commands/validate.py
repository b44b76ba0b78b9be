"""`deepfm validate`."""

import argparse
import json
from typing import TYPE_CHECKING

from deepfm.commands.arguments import add_config_arguments, add_quiet_argument, load_experiment

if TYPE_CHECKING:
    from deepfm.validation import ValidationReport

HELP = "Check that data and models are sound: shapes, first loss, one batch learned by heart, brief training."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add_config_arguments(parser)
    parser.add_argument(
        "--models",
        metavar="NAME,…",
        help="registered models, with commas between them (deepfm,xdeepfm,attention_deepfm,bst,din,sin)",
    )
    parser.add_argument(
        "--model",
        metavar="PACKAGE.MODULE:CLASS",
        action="append",
        default=[],
        help="also a class of your own, called with (schema, config); may be given several times",
    )
    parser.add_argument("--epochs", type=int, help="of the brief training; left out: 1, and more on data of few rows")
    parser.add_argument("--schema", metavar="FILE", help="with --rows: their schema, as DatasetSchema.save writes it")
    parser.add_argument("--rows", metavar="NPZ", help="your own encoded rows: one array per field, and the label")
    parser.add_argument(
        "--validation-rows", metavar="NPZ", help="rows to validate on; left out: the last tenth of --rows"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    add_quiet_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Check, print, and say by the exit code whether every check passed: 0 or 1."""
    from deepfm.utils.logging import configure_console
    from deepfm.validation import print_report

    configure_console(quiet=args.quiet, to_stderr=args.json)
    report = _validate(args)
    if args.json:
        print(json.dumps(report.to_dict(), indent=2))
    else:
        print_report(report)
    return 0 if report.passed else 1


def _validate(args: argparse.Namespace) -> "ValidationReport":
    from dataclasses import replace

    from deepfm.data.schema import DatasetSchema
    from deepfm.validation import DEFAULT_MODELS, hold_out, load_rows, validate, validate_experiment

    _check_arguments(args)
    config = load_experiment(args)
    named = DEFAULT_MODELS if args.models is None else [name.strip() for name in args.models.split(",") if name.strip()]
    models = [*named, *args.model]
    if args.rows is None:
        return validate_experiment(config, models, epochs=args.epochs)
    schema = DatasetSchema.load(args.schema)
    note = f"data: {args.rows}"
    if args.validation_rows is None:
        train, validation = hold_out(args.rows, schema)
        note += ", of which the last tenth was held out for validation (--validation-rows gives other rows)"
    else:
        train, validation = load_rows(args.rows, schema), load_rows(args.validation_rows, schema)
        note += f", validated on {args.validation_rows}"
    report = validate(schema, train, validation, models, config, epochs=args.epochs)
    return replace(report, notes=(note, *report.notes))


def _check_arguments(args: argparse.Namespace) -> None:
    from deepfm.errors import ConfigError

    if (args.rows is None) != (args.schema is None):
        given, other = ("--schema", "--rows") if args.rows is None else ("--rows", "--schema")
        raise ConfigError(f"{given} is given without {other}; expected both, to validate on rows of your own")
    if args.validation_rows is not None and args.rows is None:
        raise ConfigError("--validation-rows is given without --rows; expected both, and --schema")
    for name in args.model:
        if ":" not in name:
            raise ConfigError(f"--model {name!r} names no class; expected package.module:ClassName, or --models {name}")
