"""One logger for the package: a console for people, and a file where a run wants one."""

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from logging.handlers import MemoryHandler
from pathlib import Path

from deepfm.utils.io import cannot_write

ROOT = "deepfm"
FILE_FORMAT = "%(asctime)s %(levelname)s %(message)s"


def get_logger(name: str = ROOT, file: str | Path | None = None) -> logging.Logger:
    """The logger `name`, below the package's own, which writes to stdout.

    Args:
        name: usually `__name__`; a name outside the package is put below it.
        file: also append to this file from now on (asking twice for one file adds it once).

    Raises:
        RunError: the file cannot be opened.
    """
    root = logging.getLogger(ROOT)
    if not root.handlers:
        root.addHandler(_Console())
        root.setLevel(logging.INFO)
        root.propagate = False
    logger = logging.getLogger(name if name == ROOT or name.startswith(ROOT + ".") else f"{ROOT}.{name}")
    if file is not None:
        wanted = str(Path(file).absolute())
        if not any(getattr(handler, "baseFilename", None) == wanted for handler in logger.handlers):
            logger.addHandler(_file_handler(file))
    return logger


def configure_console(*, quiet: bool = False, to_stderr: bool = False) -> None:
    """What people see: warnings only under `quiet`, and on which stream; a run's file keeps everything."""
    for handler in get_logger().handlers:
        if isinstance(handler, _Console):
            handler.setLevel(logging.WARNING if quiet else logging.NOTSET)
            handler.to_stderr = to_stderr


@contextmanager
def run_log() -> Iterator[Callable[[str | Path], None]]:
    """Keep the package's log from here on for a file that is named later.

    Yields:
        a function that takes the file; what has been logged so far goes there too, and all that follows.
    """
    logger = get_logger()
    kept = MemoryHandler(capacity=100_000, flushLevel=logging.CRITICAL + 1, flushOnClose=False)
    logger.addHandler(kept)

    def write_to(file: str | Path) -> None:
        kept.setTarget(_file_handler(file))
        kept.flush()
        kept.flushLevel = logging.NOTSET

    try:
        yield write_to
    finally:
        logger.removeHandler(kept)
        if kept.target is not None:
            kept.target.close()
        kept.close()


class _Console(logging.Handler):
    """Plain lines on whatever stdout (or stderr) is at the time: tests and progress bars exchange it."""

    to_stderr = False

    def emit(self, record: logging.LogRecord) -> None:
        prefix = "" if record.levelno < logging.WARNING else f"{record.levelname}: "
        stream = sys.stderr if self.to_stderr else sys.stdout
        stream.write(prefix + self.format(record) + "\n")
        stream.flush()


class _LogFile(logging.FileHandler):
    """A log whose own trouble (a full disk) never hides the error that is being reported."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """Say nothing: the files that matter raise errors of their own."""

    def close(self) -> None:
        """Close what can be closed."""
        with suppress(OSError):
            super().close()


def _file_handler(file: str | Path) -> logging.FileHandler:
    try:
        handler = _LogFile(Path(file).absolute(), encoding="utf-8")
    except OSError as error:
        raise cannot_write(file, error) from error
    handler.setFormatter(logging.Formatter(FILE_FORMAT))
    return handler
