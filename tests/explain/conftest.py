"""Runs to explain, trained once: a table in which one field and one pair decide, and MovieLens with histories."""

import numpy as np
import polars as pl
import pytest

from deepfm.config import load_config
from deepfm.data.sample import write_sample
from deepfm.engine.device import single_thread
from deepfm.engine.run import RunFolder
from deepfm.training.experiment import train_experiment
from tests.conftest import SMALL

SCHEMA = """
label: click
columns:
  signal: {}
  left: {}
  right: {}
  noise: {}
  price: {type: dense}
"""
TINY = ("device=cpu", "feature.fm_embed_dim=4", "feature.embedding_dim=4", "dnn.hidden_units=[8]", "dnn.dropout=0")


@pytest.fixture(autouse=True, scope="package")
def _one_thread():
    with single_thread():
        yield


def planted_rows(count, seed):
    """Clicks that `signal` decides, and whether `left` and `right` agree; `noise` and `price` say nothing."""
    rng = np.random.default_rng(seed)
    signal, left, right = rng.integers(0, 4, count), rng.integers(0, 2, count), rng.integers(0, 2, count)
    logit = 2.0 * (signal - 1.5) + 1.5 * np.where(left == right, 1.0, -1.0)
    return pl.DataFrame(
        {
            "click": (rng.random(count) < 1 / (1 + np.exp(-logit))).astype(int),
            "signal": signal,
            "left": left,
            "right": right,
            "noise": rng.integers(0, 6, count),
            "price": np.round(rng.normal(size=count), 3),
        }
    )


def write_table(folder):
    folder.mkdir()
    (folder / "schema.yaml").write_text(SCHEMA)
    for seed, (part, count) in enumerate({"train": 2000, "valid": 800, "test": 200}.items()):
        planted_rows(count, seed).write_csv(folder / f"{part}.csv")


def train_on_table(path, data, *overrides):
    settings = ["data.dataset_name=table", f"data.data_dir={data}", "training.metric=auc", "training.num_epochs=8"]
    settings += ["training.batch_size=128", "training.lr=0.03", *overrides]
    train_experiment(load_config(None, [*TINY, *settings]), RunFolder(path))
    return RunFolder(path)


@pytest.fixture(scope="package")
def planted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("planted")
    write_table(folder / "data")
    return train_on_table(folder / "run", folder / "data", "model_name=fm")


@pytest.fixture(scope="package")
def films(tmp_path_factory):
    folder = tmp_path_factory.mktemp("films")
    write_sample(folder / "data", seed=1, **SMALL)
    settings = ["model_name=sin", "data.source=files", f"data.data_dir={folder / 'data'}", "data.num_neg_eval=70"]
    settings += ["feature.max_history=6", "sin.num_heads=2", "sin.fusion_dim=4", "cin.layer_sizes=[6,4]"]
    settings += ["training.num_epochs=2", "training.batch_size=256", "training.lr=0.02", "training.loss=softmax"]
    train_experiment(load_config(None, [*TINY, *settings]), RunFolder(folder / "run"))
    return RunFolder(folder / "run")
