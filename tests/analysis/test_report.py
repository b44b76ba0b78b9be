"""The report: seven headings in order, plain data, one page, and what changed since the last."""

import json

import pytest
import torch
from torch import nn

from deepfm.analysis.analyse import analyze, analyze_subject
from deepfm.cli import main
from deepfm.errors import AnalysisError
from deepfm.reporting import render_html
from tests.analysis.conftest import subject_of
from tests.analysis.faulty import FAULTS
from tests.analysis.healthy import HEALTHY

pytestmark = pytest.mark.usefixtures("one_thread")
HEADINGS = [
    "## Model Analysis: Tower",
    "### Architecture Overview",
    "### I/O Specification",
    "### Gradient Flow Analysis",
    "### Training Configuration Recommendation",
    "### Identified Issues & Recommendations",
    "### Memory & Performance Estimates",
    "### Implementation Checklist",
]
SWITCHES = ("scaling", "precision", "quantize", "profile")


@pytest.fixture(scope="module")
def report():
    return analyze_subject(subject_of(HEALTHY["tower for clicks"]), budget=6, switches=SWITCHES)


def headings(text):
    return [line for line in text.splitlines() if line.startswith("#")]


def test_headings_and_their_order(report):
    found = headings(report.to_markdown())
    assert found[: len(HEADINGS)] == HEADINGS
    assert found[len(HEADINGS) :] == ["### Scaling", "### Precision", "### Quantization", "### Profile"]


def test_a_healthy_model_is_stable_and_gets_advice(report):
    assert report.assessment == "STABLE"
    assert report.failed == {}
    assert report.recommendation.proven in ("better", "no worse")
    text = report.to_markdown()
    assert "Stability Assessment: STABLE" in text
    assert "training:\n  optimizer: adam" in text
    assert "1,633 |" in text  # 16 · 32 + 32, 32 · 32 + 32, 32 + 1


def test_plain_data_say_where_they_come_from(report, tmp_path):
    report.save_json(tmp_path / "r.json")
    plain = json.loads((tmp_path / "r.json").read_text())
    assert plain == report.to_dict()
    assert plain["measured"]["counts"]["total"] == 1633
    words = [text for part in plain["sources"].values() for text in part.values()]
    assert len(words) > 40
    assert all(text.startswith(("measured", "derived", "assumed")) for text in words)


def test_one_page_with_plots_that_asks_no_network(report):
    page = render_html(report.to_document())
    assert page.count("<svg") >= 5
    for title in (
        "Gradient norms by layer",
        "Parameters by module",
        "Learning-rate range test",
        "Activations by module",
        "Peak of a training step by what holds it",
    ):
        assert title in page
    assert "http" not in page.replace("http://www.w3.org", "")


def test_a_risk_stands_first_with_all_that_belongs_to_it():
    report = analyze_subject(subject_of(FAULTS["detach"].build), budget=1)
    assert report.assessment == "RISK"
    issues = report.to_markdown().split("### Identified Issues")[1]
    assert issues.index("RISK") < issues.index("Current State")
    for words in ("Priority 1 (Critical)", "graph-cut", "faulty.py:", "Impact", "Fix", "Measured", "Threshold"):
        assert words in issues


def test_what_changed(report):
    other = analyze_subject(subject_of(FAULTS["unused head"].build), budget=1)
    rows = {row[0]: row[1:] for row in other.diff(report.to_dict()).rows}
    assert rows["parameters"] == ("1,633", "1,765")
    assert rows["assessment"] == ("STABLE", "RISK")
    assert "unreached-parameters at second_head" in rows["finding"]
    assert "no figure and no finding changed" in report.diff(report.to_dict()).caption
    with pytest.raises(AnalysisError, match="is no analysis report of version 1"):
        report.diff({"version": 9})


@pytest.mark.parametrize(
    ("model", "batch"),
    [
        (nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 2, 32), 1), torch.randn(5, 6, 16)),
        (nn.LSTM(8, 4), torch.randn(5, 6, 8)),
        (nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 2)), torch.randn(6, 3, 8, 8)),
    ],
)
def test_foreign_modules_without_a_loss(model, batch):
    report = analyze(model, batch, "probe", budget=1)
    assert report.failed == {}
    assert not [one for one in report.findings if one.priority == 1]
    assert report.recommendation is None
    assert "not measured" in report.to_markdown()


class TestCommand:
    FACTORY = """
import torch
from torch import nn
def healthy():
    torch.manual_seed(0)
    x = torch.randn(32, 4)
    return nn.Linear(4, 1), [(x, (x[:, 0] > 0).float())] * 2, "bce"
class Frozen(nn.Module):
    def __init__(self, width=3):
        super().__init__()
        self.used, self.unused = nn.Linear(4, width), nn.Linear(4, 1)
    def forward(self, x):
        return self.used(x)
def on_meta():
    return nn.Linear(4, 1, device="meta"), torch.ones(2, 4), "probe"
class NoWayBack(torch.autograd.Function):
    @staticmethod
    def forward(context, x):
        return x * 2
    @staticmethod
    def backward(context, gradient):
        raise ValueError("no way back")
class Breaks(nn.Linear):
    def forward(self, x):
        return NoWayBack.apply(super().forward(x))
def breaks():
    return Breaks(4, 1), torch.ones(2, 4), "probe"
def three():
    return 1, 2, 3, 4, 5
"""

    @pytest.fixture
    def factory(self, tmp_path):
        (tmp_path / "models.py").write_text(self.FACTORY)
        return str(tmp_path / "models.py")

    def test_a_factory(self, factory, tmp_path, capsys):
        files = {kind: str(tmp_path / f"r.{kind}") for kind in ("md", "json")}
        argv = ["analyze", f"{factory}:healthy", "--budget", "1", "--quiet"]
        assert main([*argv, "-o", files["md"], "--json", files["json"], "--fail-on", "caution"]) == 0
        out = capsys.readouterr().out
        assert "STABLE" in out
        assert "healthy" in out
        assert main([*argv, "--diff", files["json"]]) == 0
        assert "before" in capsys.readouterr().out

    def test_a_class_fails_on_a_risk(self, factory, tmp_path, capsys):
        argv = ["analyze", f"{factory}:Frozen", "--init", '{"width": 2}', "--loss", "mse", "--budget", "1", "--quiet"]
        argv += ["--spec", "x:f32[16,4], target:f32[16,2]", "--fail-on", "risk", "-o", str(tmp_path / "r.html")]
        assert main(argv) == 1
        assert "unreached-parameters" in capsys.readouterr().out
        assert "Inputs were drawn at random (assumed)" in (tmp_path / "r.html").read_text()

    @pytest.mark.parametrize(
        ("argv", "words"),
        [
            (["nothing"], "is no run folder, no configuration (.yaml), no module:name and no file.py:name"),
            (["{f}:nothing"], "has no 'nothing'"),
            (["{f}:three"], "returns a tuple; expected (model, batches)"),
            (["{f}:Frozen"], "say what it takes with --spec"),
            (["{f}:Frozen", "--spec", "x:f33[2]"], "--spec holds 'x:f33[2]'"),
            (["{f}:Frozen", "--spec", "x:i64[2,4]"], "whole numbers without a bound"),
            (["{f}:Frozen", "--spec", "x:f32[2,5]"], "module 'used' (Linear, weight (3, 4)"),
            (["{f}:Frozen", "--spec", "x:f32[2,4]"], "name one with --loss"),
            (["{f}:Frozen", "--spec", "x:f32[2,4]", "--init", "{{"], "is no JSON"),
            (["{f}:Frozen", "--spec", "x:f32[2,4]", "--init", '{{"wide": 2}}'], "cannot be made with --init"),
            (["{f}:healthy", "--spec", "x:f32[2,4]"], "--spec goes with a module class and"),
            (["{f}:healthy", "-o", "r.txt"], "neither .md nor .html"),
            (["{f}:healthy", "--budget", "0"], "leaves no time"),
            (["{f}:healthy", "--override", "training.lr=1"], "--override goes with a run or a configuration"),
            (["{f}:healthy", "--diff", "none.json"], "expected a file that deepfm analyze --json writes"),
            (["{f}:Frozen", "--spec", "x:i64[2,4]<0"], "no number from 0 is below that; expected 1 or more"),
            (["{f}:on_meta"], "'weight' is on the meta device"),
            (["{f}:breaks", "--quiet"], "fails in its backward pass: ValueError: no way back"),
        ],
    )
    def test_refused_in_one_sentence(self, factory, capsys, argv, words):
        given = [part.format(f=factory) for part in argv]
        assert main(["analyze", *given]) == 2
        err = capsys.readouterr().err.strip().splitlines()
        assert words in err[-1]
        assert len(err) == 1
