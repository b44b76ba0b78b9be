"""What docs/adapters.md shows is run as it stands there."""

import re
import sys
from pathlib import Path

import numpy as np
import pytest

from deepfm.cli import main
from deepfm.config import load_config
from deepfm.data.adapters import dataset_names
from deepfm.data.grouplens.archive import ARCHIVES
from deepfm.engine.run import RunFolder
from deepfm.training.experiment import evaluate_run, resume_experiment, train_experiment

pytestmark = pytest.mark.usefixtures("one_thread")
TEXT = (Path(__file__).resolve().parents[3] / "docs" / "adapters.md").read_text(encoding="utf-8")
SMALL = ["device=cpu", "feature.fm_embed_dim=4", "dnn.hidden_units=[8]", "training.num_epochs=1", "training.metric=auc"]


@pytest.fixture
def written(tmp_path, monkeypatch):
    """The document's modules where Python finds them, and rows for the second."""
    blocks = re.findall(r"^```python\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
    names = ("visits", "clicks")
    for name, block in zip(names, blocks, strict=True):
        (tmp_path / f"{name}.py").write_text(block, encoding="utf-8")
    draw = np.random.default_rng(0)
    columns = {name: draw.integers(0, 20, 500) for name in ("user", "item")}
    np.savez(tmp_path / "clicks.npz", click=draw.random(500) < 0.4, **columns)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    yield dict(zip(names, blocks, strict=True))
    for name in names:
        sys.modules.pop(name, None)


def test_an_adapter_takes_fewer_than_forty_lines(written):
    for block in written.values():
        assert len([line for line in block.splitlines() if line.strip()]) < 40


@pytest.mark.parametrize("name", ["visits:open_visits", "clicks:ClicksAdapter"])
def test_it_trains_resumes_and_is_evaluated(written, tmp_path, name):
    config = load_config(None, [*SMALL, f"data.dataset_name={name}", f"data.data_dir={tmp_path}"])
    run = RunFolder(tmp_path / "run")
    results = train_experiment(config, run)
    assert 0 <= results["test"]["auc"] <= 1
    assert evaluate_run(run)["test"].metrics == pytest.approx(results["test"])
    assert resume_experiment(run)["test"] == pytest.approx(results["test"])


def test_the_command_of_the_document(written, capsys):
    command = re.search(r"^PYTHONPATH=\. deepfm (train --override data\.dataset_name=clicks.*)$", TEXT, re.MULTILINE)
    assert main([*command[1].split(), *SMALL, "output_dir=run"]) == 0
    assert "auc" in capsys.readouterr().out.lower()


def test_rows_alone_have_no_ranking_metric(written, capsys):
    arguments = ["train", "--override", *SMALL, "data.dataset_name=clicks:ClicksAdapter", "training.metric=ndcg@10"]
    assert main(arguments) == 2
    assert "ranks candidates" in capsys.readouterr().err


def test_the_document_names_every_data_set():
    rows = "".join(line for line in TEXT.splitlines() if line.startswith("| `"))
    named = set(re.findall(r"`([a-z0-9_]+)`", rows))
    assert set(dataset_names()) - {"table"} <= named
    assert all(archive.folder.startswith("data/ml-") for archive in ARCHIVES.values())
