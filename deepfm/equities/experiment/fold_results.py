"""What the results of a finished fold say of its training; damaged ones get a sentence."""

from typing import Any

from deepfm.engine.run import RunFolder
from deepfm.errors import RunError

AGAIN = "restore it, or remove {results} and let the same training go on, which writes it again"


def train_again(run: RunFolder) -> str:
    """What to do about a damaged file of a fold."""
    return AGAIN.format(results=run.results)


def recorded(run: RunFolder, name: str) -> Any:
    """An entry of the protocol of a fold's results, such as `identity`.

    Raises:
        RunError: there are no results, or none with it.
    """
    protocol = run.read_results()["protocol"]
    if not isinstance(protocol, dict) or name not in protocol:
        raise RunError(f"{run.results} has no protocol.{name}; {train_again(run)}")
    return protocol[name]


def learned_until(run: RunFolder) -> str:
    """The last session of a finished fold's training and validation, as ISO text.

    Raises:
        RunError: as of `recorded`.
    """
    return max(dates[1] for part in ("train", "validation") if (dates := _dates(run, part)) is not None)


def tested_from(run: RunFolder) -> str:
    """The first session of a finished fold's test, as ISO text; empty where it tests none.

    Raises:
        RunError: as of `recorded`.
    """
    dates = _dates(run, "test")
    return "" if dates is None else dates[0]


def _dates(run: RunFolder, part: str) -> tuple[str, str] | None:
    """The first and the last date of a part of the split; None where it has no session, which training always has."""
    split = recorded(run, "split")
    try:
        found = split[0][part]
        if found is None and part != "train":
            return None
        return str(found[0]), str(found[1])
    except (LookupError, TypeError) as error:
        raise RunError(f"{run.results} has no dates of {part} in protocol.split; {train_again(run)}") from error
