"""`deepfm explain` from end to end: tables, JSON, the report, and what is refused."""

import json

import pytest

from deepfm.cli import main
from tests.explain.conftest import planted_rows


@pytest.mark.plots
def test_explain_prints_writes_json_and_a_report(planted, tmp_path, capsys):
    rows, figures, report = tmp_path / "rows.csv", tmp_path / "figures.json", tmp_path / "why.html"
    planted_rows(1, 3).write_csv(rows)
    command = ["explain", str(planted.path), "--rows", "300", "--repeats", "2", "--device", "cpu", "--quiet"]
    command += ["--row", "0", "5", "--rows-file", str(rows), "--json", str(figures), "-o", str(report)]
    assert main(command) == 0
    out, _ = capsys.readouterr()
    for words in ("as the run recorded it", "permutation importance", "parts of the logit", "pair strengths"):
        assert words in out
    for words in ("the logit of validation row 5", "the logit of row 1", "left out attention over fields", str(report)):
        assert words in out
    plain = json.loads(figures.read_text())
    assert plain["importance"][0]["name"] == "signal"
    assert len(plain["contributions"]) == 3
    assert plain["sample"] == {"rows": 300, "of_rows": 800, "groups": 0, "of_groups": 0, "seed": 0}
    assert "<svg" in report.read_text()
    assert not planted.explanation.exists()


def test_the_report_stands_in_the_run_s_folder(planted, capsys):
    command = ["explain", str(planted.path), "--rows", "200", "--repeats", "1", "--fields", "noise,left", "--quiet"]
    assert main([*command, "--device", "cpu"]) == 0
    assert planted.explanation.name == "explain.html"
    assert planted.explanation.exists()
    planted.explanation.unlink()
    out, _ = capsys.readouterr()
    assert "signal " not in out.partition("parts of the logit")[0]


def test_what_explain_refuses_is_a_sentence(planted, tmp_path, capsys):
    run = str(planted.path)
    for more, said in (
        (["--repeats", "0"], "repeats is 0"),
        (["--row", "90000"], "row 90000 is not there"),
        (["--fields", "nobody"], "'nobody'"),
        (["--fields", "left,,right"], "empty name"),
        (["--device", "nowhere"], "nowhere"),
        (["-o", str(tmp_path / "why.txt")], "no .html file"),
        (["-o", str(planted.report)], "one of the run's own files"),
        (["--json", str(planted.results)], "one of the run's own files"),
        (["--rows-file", str(tmp_path / "none.csv")], "none.csv"),
    ):
        capsys.readouterr()
        assert main(["explain", run, "--quiet", "--device", "cpu", *more]) == 2, more
        out, err = capsys.readouterr()
        assert out == ""
        assert err.count("\n") == 1
        assert said in err
    assert not planted.explanation.exists()


@pytest.mark.parametrize("name", ["explain"])
def test_help_loads_no_torch(name):
    import subprocess
    import sys

    code = "import sys; from deepfm.cli import build_parser; build_parser(); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
