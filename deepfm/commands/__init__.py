"""The verbs of the command line: arguments here, heavy imports inside `run`."""

import argparse
from typing import Protocol

from deepfm.commands import (
    analyze,
    baseline,
    compare,
    data,
    equities,
    evaluate,
    explain,
    import_fuxictr,
    predict,
    recommend,
    schema,
    train,
    tune,
    validate,
    zoo,
)


class Command(Protocol):
    """What a verb's module offers."""

    HELP: str

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the arguments."""

    def run(self, args: argparse.Namespace) -> int:
        """Do the work; the exit code."""


COMMANDS: dict[str, Command] = {
    "train": train,
    "tune": tune,
    "evaluate": evaluate,
    "predict": predict,
    "recommend": recommend,
    "explain": explain,
    "compare": compare,
    "baseline": baseline,
    "data": data,
    "schema": schema,
    "validate": validate,
    "analyze": analyze,
    "zoo": zoo,
    "equities": equities,
    "import-fuxictr": import_fuxictr,
}
