"""The command line: one verb a file in `deepfm.commands`, errors as one sentence, exit codes."""

import argparse
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, NoReturn

from deepfm import __version__
from deepfm.commands import COMMANDS
from deepfm.errors import DeepFMError

if TYPE_CHECKING:
    import torch

EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 130


def resolve_device(name: str = "auto") -> "torch.device":
    """The device of a name; `auto` takes MPS, then CUDA, then CPU.

    Raises:
        DeviceError: the name is no device, or one that this machine has not.
    """
    from deepfm.engine.device import resolve_device as resolve

    return resolve(name)


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one sentence, as all errors here."""

    def error(self, message: str) -> NoReturn:
        self.exit(EXIT_BAD_INPUT, f"deepfm: {message}; see {self.prog} --help\n")


def build_parser() -> argparse.ArgumentParser:
    """The parser of all verbs."""
    parser = _Parser(prog="deepfm", description="Train, evaluate and compare click models.")
    parser.add_argument("--version", action="version", version=f"deepfm {__version__}")
    common = _Parser(add_help=False)
    common.add_argument("--debug", action="store_true", help="show the traceback of an error")
    verbs = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, command in COMMANDS.items():
        verb = verbs.add_parser(name, parents=[common], help=command.HELP, description=command.HELP)
        command.add_arguments(verb)
        verb.set_defaults(handler=command.run)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        0; 2 for bad input, after one sentence on stderr; 130 after Ctrl-C.
    """
    args = build_parser().parse_args(argv)
    try:
        code: int = args.handler(args)
        return code
    except (DeepFMError, KeyboardInterrupt) as error:
        if args.debug:
            raise
        interrupted = isinstance(error, KeyboardInterrupt)
        print(f"deepfm: {str(error) or 'interrupted'}", file=sys.stderr)
        return EXIT_INTERRUPTED if interrupted else EXIT_BAD_INPUT
    except BrokenPipeError:  # the reader of a pipe, such as head, has gone; nothing is left to be flushed to it
        with suppress(AttributeError, OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
