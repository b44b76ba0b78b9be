"""One logger for the package: stdout for people, and a file where a run wants one."""

import logging
import sys
from pathlib import Path

ROOT = "deepfm"


def get_logger(name: str = ROOT, file: str | Path | None = None) -> logging.Logger:
    """The logger `name`, below the package's own, which writes to stdout.

    Args:
        name: usually `__name__`; a name outside the package is put below it.
        file: also append to this file from now on (asking twice for one file adds it once).
    """
    root = logging.getLogger(ROOT)
    if not root.handlers:
        root.addHandler(_StdoutHandler())
        root.setLevel(logging.INFO)
        root.propagate = False
    logger = logging.getLogger(name if name == ROOT or name.startswith(ROOT + ".") else f"{ROOT}.{name}")
    if file is not None:
        wanted = str(Path(file).absolute())
        if not any(getattr(handler, "baseFilename", None) == wanted for handler in logger.handlers):
            handler = logging.FileHandler(wanted, encoding="utf-8")
            handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
            logger.addHandler(handler)
    return logger


def close_log_file(logger: logging.Logger, file: str | Path) -> None:
    """Stop writing `logger`'s lines to `file`."""
    wanted = str(Path(file).absolute())
    for handler in list(logger.handlers):
        if getattr(handler, "baseFilename", None) == wanted:
            logger.removeHandler(handler)
            handler.close()


class _StdoutHandler(logging.Handler):
    """Plain lines on whatever stdout is at the time (tests and progress bars exchange it)."""

    def emit(self, record: logging.LogRecord) -> None:
        prefix = "" if record.levelno < logging.WARNING else f"{record.levelname}: "
        sys.stdout.write(prefix + self.format(record) + "\n")
        sys.stdout.flush()
