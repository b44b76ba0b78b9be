"""The analyser looks at the network before it is trained, and at a configuration when it is asked to."""

import json
from pathlib import Path

import pytest
import torch

from deepfm.analysis import analyse
from deepfm.cli import main
from deepfm.equities.experiment import examine, ranker, walk
from deepfm.equities.network import ATFT
from deepfm.equities.panels.files import save_panel
from deepfm.equities.panels.synthetic import SIGNALS, PlantedSettings, planted_panel

ROOT = Path(__file__).resolve().parents[2]
SMALLEST = ROOT / "configs" / "atft" / "smoke.yaml"
SIZES = PlantedSettings(num_sessions=280, num_stocks=12, **dict.fromkeys(SIGNALS, 0.0))
SMALL = (
    "data.path=panel.parquet", "device=cpu", "model.hidden_size=8", "split.n_splits=1", "training.max_epochs=1",
    "data.train_every=20", "evaluation.baselines=[]", "analysis_seconds=0.1",
)  # fmt: skip


class Collapsed(ATFT):
    """All stocks get the same score."""

    def __init__(self, *args):
        super().__init__(*args)
        with torch.no_grad():
            for head in self.heads:
                head.score.weight.zero_()
                head.spread.weight.zero_()


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("examine")
    save_panel(planted_panel(SIZES, 1).panel, folder / "panel.parquet")
    return folder


@pytest.fixture
def here(place, monkeypatch, one_thread):
    monkeypatch.chdir(place)


def test_the_smallest_configuration_has_no_critical_risk(here, monkeypatch, capsys):
    """Trials of learning rates change nothing of what is critical, and take most of the time."""
    monkeypatch.setattr(analyse, "_training", lambda measured, *_: (measured, None, None))
    monkeypatch.setattr(examine, "BATCHES", 2)
    overrides = ["--override", *SMALL, "training.quantile_weight=0"]  # the quantiles then learn nothing, on purpose
    assert main(["analyze", str(SMALLEST), *overrides, "--budget", "0.1", "--json", "found.json", "--quiet"]) == 0
    found = json.loads(Path("found.json").read_text())
    assert [one for one in found["findings"] if one["priority"] == 1] == []
    assert found["measured"]["about"]["name"] == "ATFT of smoke"
    assert "no weight of the loss trains it: offset, log_scale, spread" in found["measured"]["about"]["notes"][0]
    assert found["measured"]["about"]["dataset_rows"] > 0


def test_options_of_a_person_s_own_models_are_refused(here, capsys):
    assert main(["analyze", str(SMALLEST), "--loss", "mse"]) == 2
    assert "--loss goes with module:name" in capsys.readouterr().err


def test_a_network_with_a_critical_risk_is_not_trained(here, monkeypatch, capsys):
    monkeypatch.setattr(analyse, "_cost", lambda measured, *_: measured)
    train = ["equities", "train", "--quiet", "--config", str(SMALLEST), "--override", *SMALL, "output_dir=run"]
    with monkeypatch.context() as patch:
        patch.setattr(ranker, "ATFT", Collapsed)
        assert main(train) == 2
        said = capsys.readouterr().err
        assert said.startswith("deepfm: ATFT was not trained: ")
        assert said.count("\n") == 1
    assert not list(Path("run").glob("fold-*"))
    assert "all rows get the same output" in Path("run/analysis.md").read_text()
    monkeypatch.setattr(walk, "train_fold", lambda *_: None)
    assert main(["equities", "train", "--quiet", "--resume", "run"]) == 0
    assert "all rows get the same output" not in Path("run/analysis.md").read_text()  # looked at again
