"""A document in the form that its file's name asks for."""

from pathlib import Path

from deepfm.errors import ConfigError
from deepfm.reporting.document import Document
from deepfm.reporting.html import write_html
from deepfm.reporting.markdown import write_markdown

WRITERS = {".html": write_html, ".md": write_markdown}


def refuse_report_name(path: str | Path) -> None:
    """Make sure that a report can be written there, before the work that it is of.

    Raises:
        ConfigError: the name ends in neither `.md` nor `.html`.
    """
    if Path(path).suffix not in WRITERS:
        raise ConfigError(f"output {path} is neither .md nor .html; name such a file with -o")


def write_document(document: Document, path: str | Path) -> None:
    """Write HTML, or Markdown with its figures beside it.

    Raises:
        ConfigError: the name ends in neither `.md` nor `.html`.
        RunError: the disk refuses a file.
    """
    refuse_report_name(path)
    WRITERS[Path(path).suffix](document, path)
