"""A document as Markdown, its figures as SVG files beside it."""

import re
from pathlib import Path

from deepfm.reporting.document import Block, Code, Document, Figure, Note, Paragraph
from deepfm.reporting.tables import escape_markdown
from deepfm.utils.io import write_text


def write_markdown(document: Document, path: str | Path) -> None:
    """Write Markdown at `path` and each figure beside it as `<stem>-<number>.svg`, no file in part.

    Raises:
        RunError: the disk refuses a file.
    """
    path = Path(path)
    for number, figure in enumerate(_figures(document), start=1):
        write_text(path.with_name(_figure_name(path.stem, number)), figure.svg + "\n")
    write_text(path, render_markdown(document, path.stem))


def render_markdown(document: Document, stem: str = "report", level: int = 1) -> str:
    """The document as Markdown; figures are linked as `<stem>-<number>.svg`, numbered from 1.

    Args:
        level: of the title's heading.
    """
    parts = [f"{'#' * level} {escape_markdown(document.title)}"]
    if document.subtitle:
        parts.append(escape_markdown(document.subtitle))
    figures = 0
    for section in document.sections:
        parts.append(f"{'#' * (level + 1)} {escape_markdown(section.title)}")
        for block in section.blocks:
            figures += isinstance(block, Figure)
            parts.append(_render(block, _figure_name(stem, figures)))
    return "\n\n".join(parts) + "\n"


def _render(block: Block, figure_name: str) -> str:
    if isinstance(block, Paragraph):
        return escape_markdown(block.text)
    if isinstance(block, Note):
        return f"> **{'Warning' if block.level == 'warning' else 'Note'}:** {escape_markdown(block.text)}"
    if isinstance(block, Code):
        longest = max((len(run) for run in re.findall("`+", block.text)), default=0)
        fence = "`" * max(3, longest + 1)
        return f"{fence}{block.language}\n{block.text.rstrip()}\n{fence}"
    if isinstance(block, Figure):
        image = f"![{escape_markdown(block.title)}](<{figure_name}>)"
        return f"{image}\n\n{escape_markdown(block.caption)}" if block.caption else image
    return block.table.to_markdown()


def _figures(document: Document) -> list[Figure]:
    return [block for section in document.sections for block in section.blocks if isinstance(block, Figure)]


def _figure_name(stem: str, number: int) -> str:
    return f"{stem}-{number}.svg"
