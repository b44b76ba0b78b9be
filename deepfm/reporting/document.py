"""What a report says, free of how it is drawn: a document of sections of blocks."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

from deepfm.errors import DataError
from deepfm.reporting.tables import Table

NoteLevel = Literal["info", "warning"]

# What would let a drawing run code or ask a network: scripts, foreign HTML, handlers, outside references.
_ACTIVE_SVG = re.compile(
    r"<\s*(?:script|foreignObject|iframe|style)\b"
    r"|<[^>]*\son\w+\s*="
    r"|<[^>]*\b(?:href|src)\s*=(?!\s*[\"']?#)"
    r"|<[^>]*url\((?!\s*[\"']?#)",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Paragraph:
    """Plain text; no markup in it is interpreted."""

    text: str
    kind: ClassVar[str] = "paragraph"

    def __post_init__(self) -> None:
        _require_text("a paragraph", self.text)


@dataclass(frozen=True)
class Note:
    """A remark that stands out; a warning is one that changes how the numbers may be read."""

    text: str
    level: NoteLevel = "info"
    kind: ClassVar[str] = "note"

    def __post_init__(self) -> None:
        _require_text("a note", self.text)
        if self.level not in get_args(NoteLevel):
            raise DataError(f"a note has the level {self.level!r}; expected one of {', '.join(get_args(NoteLevel))}")


@dataclass(frozen=True)
class TableBlock:
    """A table in a section."""

    table: Table
    kind: ClassVar[str] = "table"

    def __post_init__(self) -> None:
        if not isinstance(self.table, Table):
            raise DataError(f"a table block holds a {type(self.table).__name__}; expected a deepfm.reporting.Table")


@dataclass(frozen=True)
class Figure:
    """A drawing as inline SVG (what `deepfm.reporting.plots` returns).

    `title` is its name for readers who cannot see it; `caption` is printed below it.

    Raises:
        DataError: the SVG is none, runs code, or refers to anything outside itself.
    """

    title: str
    svg: str
    caption: str = ""
    kind: ClassVar[str] = "figure"

    def __post_init__(self) -> None:
        _require_text("a figure's title", self.title)
        if not isinstance(self.svg, str) or not self.svg.startswith("<svg") or not self.svg.rstrip().endswith("</svg>"):
            raise DataError(f"figure {self.title!r} is not an SVG element; expected text from '<svg' to '</svg>'")
        if found := _ACTIVE_SVG.search(self.svg):
            raise DataError(
                f"figure {self.title!r} holds {found.group()[-40:]!r}; expected a drawing without scripts, "
                "style sheets or references outside itself, as deepfm.reporting.plots makes"
            )


@dataclass(frozen=True)
class Code:
    """Text that is shown as it stands, such as a configuration; `language` names it ("yaml")."""

    text: str
    language: str = ""
    kind: ClassVar[str] = "code"

    def __post_init__(self) -> None:
        if not isinstance(self.text, str):
            raise DataError(f"a code block holds a {type(self.text).__name__}; expected text")
        if not re.fullmatch(r"[\w+-]*", self.language):
            raise DataError(f"a code block has the language {self.language!r}; expected one word such as 'yaml'")


Block = Paragraph | Note | TableBlock | Figure | Code


@dataclass(frozen=True)
class Section:
    """A heading and the blocks under it, in order."""

    title: str
    blocks: Sequence[Block]

    def __post_init__(self) -> None:
        _require_text("a section's title", self.title)
        object.__setattr__(self, "blocks", tuple(self.blocks))
        for block in self.blocks:
            if not isinstance(block, Block):
                raise DataError(
                    f"section {self.title!r} holds a {type(block).__name__}; "
                    "expected Paragraph, Note, TableBlock, Figure or Code"
                )


@dataclass(frozen=True)
class Document:
    """A whole report; an empty `subtitle` is left out."""

    title: str
    subtitle: str
    sections: Sequence[Section]

    def __post_init__(self) -> None:
        _require_text("a document's title", self.title)
        object.__setattr__(self, "sections", tuple(self.sections))
        for section in self.sections:
            if not isinstance(section, Section):
                raise DataError(f"document {self.title!r} holds a {type(section).__name__}; expected a Section")

    def __repr__(self) -> str:
        return f"Document({self.title!r}, sections={[section.title for section in self.sections]})"


def _require_text(what: str, text: object) -> None:
    if not isinstance(text, str) or not text.strip():
        raise DataError(f"{what} is {text!r}; expected text that is not empty")
