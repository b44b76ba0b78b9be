"""`deepfm equities report`: the report as HTML in the folder and as Markdown elsewhere, as it is asked to be traded."""

import pytest

from deepfm.cli import main
from tests.equities.small_experiment import copied

pytestmark = pytest.mark.usefixtures("one_thread")


def test_the_report_is_written_again_and_as_markdown_with_its_plots(trained, tmp_path, capsys):
    copy = copied(trained[0], tmp_path / "copy")
    copy.report.write_text("gone")
    page = tmp_path / "page.md"
    other = ["--override", "evaluation.share=0.2", "evaluation.costs=[5,20]"]
    assert main(["equities", "report", str(copy.path), "-o", str(page), *other]) == 0
    assert str(page) in capsys.readouterr().out
    text = page.read_text()
    assert "the best 20% of a day's stocks bought, the worst 20% sold" in text
    assert "Sharpe at 5 bp" in text
    assert "RankICIR" in text
    plots = sorted(tmp_path.glob("page-*.svg"))
    assert len(plots) == text.count("](<page-") >= 6
    assert "<svg" in copy.report.read_text()


def test_a_report_of_another_kind_is_refused_before_anything_is_measured(trained, tmp_path, capsys):
    folder = trained[0]
    before = folder.results.read_bytes()
    assert main(["equities", "report", str(folder.path), "-o", str(tmp_path / "page.pdf")]) == 2
    assert "neither .md nor .html" in capsys.readouterr().err
    assert folder.results.read_bytes() == before
