import re
from html.parser import HTMLParser

import pytest

from deepfm.errors import RunError
from deepfm.reporting import (
    Code,
    Column,
    Document,
    Figure,
    Note,
    Paragraph,
    Section,
    Table,
    TableBlock,
    bar_plot,
    line_plot,
    render_html,
    write_html,
)

pytestmark = pytest.mark.plots

EVIL = "<script>alert('x')</script>"
VOID = {"meta", "br", "link", "img"}


class Page(HTMLParser):
    """Collects the tags of a page and checks that they nest."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.open: list[str] = []
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def named(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]


def document(sections: int = 5, text: str = "text") -> Document:
    columns = [Column(f"model {text}"), Column("auc", format=".2f", better="high")]
    table = Table(columns, [[text, 0.5], ["b", 0.9], ["c", None]], caption=f"caption {text}")
    line = line_plot({text: ([1, 2], [1, 2]), "b": ([1, 2], [2, 1])}, f"line {text}", text, text)
    bars = bar_plot({text: 1.0}, f"bars {text}", text)
    blocks = [
        Paragraph(text),
        Note(text, "warning"),
        Note(text),
        TableBlock(table),
        Figure(f"line {text}", line, text),
        Figure(f"bars {text}", bars),
        Code(f"a: {text}", "yaml"),
    ]
    rest = [Section(f"{n} {text}", [Paragraph("more")]) for n in range(sections - 1)]
    return Document(f"Title {text}", text, [Section(f"First {text}", blocks), *rest])


def test_user_text_never_becomes_markup():
    html = render_html(document(text=EVIL))
    page = Page(html)
    assert not page.named("script")
    assert EVIL not in html
    assert html.count("&lt;script&gt;") >= 12


def test_the_page_asks_nothing_of_a_network():
    html = render_html(document())
    for _, attrs in Page(html).tags:
        for name, value in attrs.items():
            if name in ("href", "xlink:href", "src", "srcset", "action", "data", "poster"):
                assert value.startswith("#")
            elif not name.startswith("xmlns"):
                assert "//" not in (value or "")
    assert not re.search(r"@import|@font-face|<link|<base|<iframe|url\((?!#)", html)


def test_the_same_document_gives_the_same_bytes(tmp_path):
    write_html(document(), tmp_path / "a.html")
    write_html(document(), tmp_path / "b.html")
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.html", "b.html"]


def test_a_page_is_accessible_and_printable():
    html = render_html(document())
    page = Page(html)
    assert html.startswith("<!DOCTYPE html>\n")
    assert page.named("html")[0]["lang"] == "en"
    assert {"charset": "utf-8"} in page.named("meta")
    assert any(meta.get("name") == "viewport" for meta in page.named("meta"))
    assert "prefers-color-scheme: dark" in html
    assert "@media print" in html
    assert all(figure["aria-label"] for figure in page.named("figure"))
    assert all(svg["role"] == "img" for svg in page.named("svg"))
    assert all(head["scope"] == "col" for head in page.named("th"))


def test_ids_are_unique_and_contents_lead_to_sections():
    page = Page(render_html(document()))
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    links = [link["href"][1:] for link in page.named("a")]
    assert len(links) == 5
    assert set(links) <= set(ids)


def test_contents_stand_only_above_more_than_three_sections():
    assert not Page(render_html(document(sections=3))).named("nav")
    assert Page(render_html(document(sections=4))).named("nav")


def test_only_the_best_cell_is_highlighted():
    html = render_html(document())
    assert re.findall(r'<td class="[^"]*best[^"]*">([^<]*)</td>', html) == ["0.90"]


def test_a_refusing_disk_is_a_run_error(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(RunError, match="cannot write"):
        write_html(document(1), tmp_path / "file" / "report.html")
