"""A tiny data set, tiny models, and `deepfm tune` on them."""

import json
from pathlib import Path

import pytest
import yaml

from deepfm.cli import main
from deepfm.reporting import Document
from deepfm.training import experiment as training_experiment
from deepfm.tuning import experiment

TINY = {
    "model_name": "lr",
    "device": "cpu",
    "data": {"source": "files", "num_neg_eval": 20, "num_neg_train": 1},
    "training": {"num_epochs": 1, "batch_size": 256, "metric": "auc", "scheduler": "none"},
}
GOOD, HOPELESS = 0.05, 1e-9  # learning rates


class Studies:
    """Writes configurations and tunes them through the command line."""

    def __init__(self, data_dir):
        self.data_dir = data_dir

    def write(self, tune=None, name="tiny", **sections):
        """A YAML in the current folder; sections replace or extend those of `TINY`."""
        tree = {**TINY, "data": {**TINY["data"], "data_dir": str(self.data_dir)}}
        for section, values in sections.items():
            tree[section] = {**tree.get(section, {}), **values} if isinstance(values, dict) else values
        if tune is not None:
            tree["tune"] = tune
        Path(f"{name}.yaml").write_text(yaml.safe_dump(tree, sort_keys=False))
        return f"{name}.yaml"

    def tune(self, path, *argv, code=0):
        """Run `deepfm tune`; what its study.json holds."""
        assert main(["tune", path, "--quiet", *map(str, argv)]) == code
        return self.read(Path(path).stem)

    @staticmethod
    def read(study):
        return json.loads(Path("outputs", "tune", study, "study.json").read_text())


@pytest.fixture
def studies(small_dir, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(training_experiment, "build_run_report", lambda *_: Document("report", "", []))
    monkeypatch.setattr(experiment, "build_study_report", lambda *_: Document("report", "", []))
    return Studies(small_dir)
