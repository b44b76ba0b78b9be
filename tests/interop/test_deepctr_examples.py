"""Scripts written for DeepCTR-Torch run here with the package's name changed in their import lines, and learn.

Each names in its last line what it found, beside what the planted truth allows and what chance gives. One test runs the
same files, unchanged, where DeepCTR-Torch is installed.
"""

import json
import runpy
import sys

import pytest

from tests.interop.deepctr_env import ROOT, run_with_deepctr_torch

SCRIPTS = ROOT / "tests" / "interop" / "examples"
MODELS = ["DeepFM", "WDL", "xDeepFM", "AutoInt", "DCN"]


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """What a script finds here, after its one change."""

    def run_here(name, *arguments):
        text = (SCRIPTS / name).read_text(encoding="utf-8")
        changed = text.replace("from deepctr_torch.", "from deepfm.interop.deepctr.")
        assert changed.count("from deepfm.interop.deepctr.") == 2
        assert "deepctr_torch" not in changed
        (tmp_path / name).write_text(changed, encoding="utf-8")
        monkeypatch.setattr(sys, "argv", [name, *arguments])
        runpy.run_path(str(tmp_path / name), run_name="__main__")
        return json.loads(capsys.readouterr().out.splitlines()[-1])

    return run_here


def check_classification(found, models):
    assert found["best"] == pytest.approx(0.9086, abs=1e-3)
    for name in models:
        assert found["best"] - 0.06 < found[name]["auc"] < found["best"] + 0.01, name
        assert found[name]["evaluated"] == ["auc", "binary_crossentropy"]
        lengths = found[name]["history"]
        assert set(lengths) >= {"loss", "binary_crossentropy", "auc", "val_binary_crossentropy", "val_auc"}
        assert set(lengths.values()) == {5}


def check_regression(found):
    assert found["chance"] > 5 * found["best"]
    assert found["best"] * 0.85 < found["mse"] < found["best"] * 1.25
    assert found["history"]["val_mse"] == 12


def check_multivalue(found):
    assert found["names"] == ["user_id", "genres"]
    assert found["chance"] > 12 * found["best"]
    assert found["best"] * 0.85 < found["mse"] < found["best"] * 1.35


def check_din(found):
    losses = found["documented"]
    assert len(losses) == 10
    assert losses[-1] < 0.6 < 0.68 < losses[0] < 0.71
    assert found["best"] - 0.1 < found["auc"] < found["best"] + 0.02


@pytest.mark.parametrize("model", MODELS)
def test_classification(run, model):
    found = run("classification.py", model)
    check_classification(found, [model])
    assert found[model]["loss"] < 0.5  # the entropy of the labels is above 0.69


def test_regression(run):
    check_regression(run("regression.py"))


def test_multivalue(run):
    check_multivalue(run("multivalue.py"))


def test_din(run):
    check_din(run("din.py"))


def test_the_same_files_are_deepctr_torchs():
    """One runs there as it is, and finds as much."""
    out = run_with_deepctr_torch(SCRIPTS / "classification.py", "DeepFM")
    check_classification(json.loads(out.splitlines()[-1]), ["DeepFM"])
