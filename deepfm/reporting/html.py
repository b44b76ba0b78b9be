"""A document as one HTML file that asks no network for anything."""

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from deepfm.reporting.document import Block, Document
from deepfm.utils.io import write_text


def write_html(document: Document, path: str | Path) -> None:
    """Write the document as one self-contained HTML file, whole or not at all.

    Raises:
        RunError: the disk refuses the file.
    """
    write_text(path, render_html(document))


def render_html(document: Document) -> str:
    """The document as an HTML page: styles and plots inside, text escaped, always the same bytes."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("deepfm.reporting"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    sections = [(section.title, _groups(section.blocks)) for section in document.sections]
    template = environment.get_template("document.html.jinja")
    return template.render(document=document, sections=sections) + "\n"


def _groups(blocks: Sequence[Block]) -> list[tuple[str, list[Block]]]:
    """Blocks with their kind; figures that follow each other share one group, to stand side by side."""
    return [(kind, list(group)) for kind, group in groupby(blocks, key=lambda block: block.kind)]
