"""Small trained runs, with the scores that training gave their test rows."""

import numpy as np
import polars as pl

from deepfm.config import load_config
from deepfm.engine.run import RunFolder
from deepfm.training import experiment

SMALL = ["device=cpu", "training.num_epochs=2", "training.batch_size=128", "training.lr=0.01", "dnn.hidden_units=[8]"]
SMALL += ["feature.fm_embed_dim=4", "din.hidden_units=[4]"]
TABLE_SCHEMA = """
label: click
user: user
item: item
title: name
columns:
  user: {min_count: 2}
  item: {}
  price: {type: dense, group: item}
  hour: {type: dense}
  tags: {type: sequence, max_length: 3, group: item}
"""


def table_rows(count, seed, known=20):
    """Clicks of users on items, each of which has a price, tags and a name of its own."""
    rng = np.random.default_rng(seed)
    user, item = rng.integers(0, known, count), rng.integers(0, 15, count)
    chance = 1 / (1 + np.exp(-4 * np.sin(user + 2 * item)))
    return pl.DataFrame(
        {
            "click": (rng.random(count) < chance).astype(int),
            "user": user,
            "item": item,
            "price": np.round(np.cos(item) * 9, 3),
            "hour": rng.integers(0, 24, count),
            "tags": ["|".join(f"t{number % 6}" for number in range(one % 5)) for one in item],
            "name": [f"item number {one}" for one in item],
        }
    )


def train(run_path, *overrides):
    """A finished run, and its trainer's test logits."""
    kept = []
    original = experiment._finish

    def finish(trainer, *rest, **options):
        kept.append(trainer)
        return original(trainer, *rest, **options)

    experiment._finish = finish
    try:
        experiment.train_experiment(load_config(None, [*SMALL, *overrides]), RunFolder(run_path))
    finally:
        experiment._finish = original
    return kept[0].evaluations["test"].scores
