import subprocess
import sys

import pytest

from deepfm.errors import DataError
from deepfm.reporting import Code, Document, Figure, Note, Paragraph, Section, TableBlock, write_markdown
from deepfm.reporting.tables import Column, Table

pytestmark = pytest.mark.plots

SVG = '<svg xmlns="http://www.w3.org/2000/svg"><path d="M0 0"/></svg>'


def test_importing_the_package_loads_no_heavy_library():
    code = (
        "import sys, deepfm.reporting\n"
        "print([name for name in ('torch', 'matplotlib', 'jinja2', 'rich') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_plots_leave_the_global_state_of_matplotlib_alone():
    code = (
        "import sys, matplotlib\n"
        "before = matplotlib.rcParams.copy()\n"
        "from deepfm.reporting import line_plot\n"
        "line_plot({'a': ([1, 2], [1, 2])}, 't', 'x', 'y')\n"
        "print('matplotlib.pyplot' in sys.modules, matplotlib.rcParams.copy() == before)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False True"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Paragraph(" "), "a paragraph is ' '"),
        (lambda: Note("text", "fatal"), "level 'fatal'"),
        (lambda: TableBlock("text"), "holds a str"),
        (lambda: Code("a: 1", "ya ml"), "'ya ml'"),
        (lambda: Section("", []), "a section's title"),
        (lambda: Section("a", ["text"]), "'a' holds a str"),
        (lambda: Document("a", "", ["text"]), "'a' holds a str"),
        (lambda: Figure("a", "<p>no</p>"), "not an SVG element"),
        (lambda: Figure("a", "<svg><script>1</script></svg>"), "without scripts"),
        (lambda: Figure("a", '<svg><path onclick="f()"/></svg>'), "without scripts"),
        (lambda: Figure("a", '<svg><image href="https://example.org/x.png"/></svg>'), "outside itself"),
        (lambda: Figure("a", "<svg><path fill='url(http://example.org)'/></svg>"), "outside itself"),
    ],
)
def test_values_check_themselves_where_they_are_made(make, message):
    with pytest.raises(DataError, match=message):
        make()


def test_a_figure_may_refer_to_itself():
    svg = """<svg><path id="a"/><use href="#a" xlink:href='#a' clip-path="url(#a)" mask="url('#a')"/></svg>"""
    assert Figure("a", svg).svg == svg


def test_markdown_is_written_with_its_figures_beside_it(tmp_path):
    table = Table([Column("a|b")], [["c|d"]])
    blocks = [Paragraph("1 < 2 | *x*"), Note("careful", "warning"), TableBlock(table)]
    figures = [Figure("First", SVG, "A caption"), Figure("Second", SVG), Code("a: `1`\nb: ```x```\n", "yaml")]
    document = Document("Run", "of a model", [Section("One", blocks), Section("Two", figures)])
    write_markdown(document, tmp_path / "report.md")
    assert (tmp_path / "report.md").read_text(encoding="utf-8") == (
        "# Run\n\nof a model\n\n"
        "## One\n\n1 &lt; 2 \\| \\*x\\*\n\n> **Warning:** careful\n\n"
        "| a\\|b |\n| :--- |\n| c\\|d |\n\n"
        "## Two\n\n![First](<report-1.svg>)\n\nA caption\n\n![Second](<report-2.svg>)\n\n"
        "````yaml\na: `1`\nb: ```x```\n````\n"
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report-1.svg", "report-2.svg", "report.md"]
    assert (tmp_path / "report-1.svg").read_text(encoding="utf-8") == SVG + "\n"
