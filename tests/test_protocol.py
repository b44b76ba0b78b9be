"""The protocol, before any model is tuned: hand-counted facts, a planted future, shuffled labels."""

import dataclasses

import numpy as np
import pytest
import torch

from deepfm.config import DataConfig, load_config
from deepfm.data.movielens import MovieLensAdapter
from deepfm.models import create_model
from deepfm.training.trainer import Trainer


@pytest.fixture(scope="module")
def real(movielens_dir):
    adapter = MovieLensAdapter(movielens_dir, DataConfig(source="files"))
    return adapter, adapter.build()


@pytest.mark.slow
def test_hand_counted_facts_of_movielens_100k(real):
    adapter, (schema, train, validation, test) = real
    raw, split = adapter.raw, adapter.split
    likes = raw.ratings >= 4
    assert likes.sum() == 55_375
    users, counts = np.unique(raw.user_ids[likes], return_counts=True)
    assert len(users) == 942
    assert counts.min() >= 3
    assert len(split.train) == 53_491
    assert len(np.unique(raw.movie_ids[split.train])) == 1_427
    assert len(train) == 53_491 * 5
    assert (adapter.num_cold("test"), adapter.num_cold("validation")) == (15, 5)
    for part in (validation, test):
        assert len(part.group_offsets) == 943
        sizes = np.diff(part.group_offsets)
        assert (sizes == 1000).sum() == 940
        assert sorted(sizes)[:2] == [946, 998]  # the two short pools of 945 and 997, each with its positive
    by_user = dict(zip(raw.user_ids[split.validation], raw.timestamps[split.validation], strict=True))
    shared = sum(
        by_user[user] == time for user, time in zip(raw.user_ids[split.test], raw.timestamps[split.test], strict=True)
    )
    assert shared == 305
    assert (schema.num_fields, schema.total_embedding_dim) == (7, 64)
    assert schema.fields["movie_id"].vocabulary_size == 1_428
    assert schema.fields["age"].vocabulary_size == 8


@pytest.mark.slow
def test_sixty_five_percent_of_likes_share_a_second(real):
    adapter, _ = real
    likes = adapter.raw.ratings >= 4
    pairs = np.stack([adapter.raw.user_ids[likes], adapter.raw.timestamps[likes]], axis=1)
    _, inverse, counts = np.unique(pairs, axis=0, return_inverse=True, return_counts=True)
    assert (counts[inverse.reshape(-1)] > 1).mean() == pytest.approx(0.65, abs=0.01)


@pytest.mark.slow
def test_the_last_like_is_held_out_by_a_plain_count(real):
    """The split against a loop over the file that knows nothing of the package's."""
    adapter, _ = real
    raw, last = adapter.raw, {}
    rows = sorted(range(len(raw.ratings)), key=lambda row: (raw.timestamps[row], row))
    for row in rows:
        if raw.ratings[row] >= 4:
            last.setdefault(raw.user_ids[row], []).append(row)
    assert sorted(adapter.split.test) == sorted(own[-1] for own in last.values())
    assert sorted(adapter.split.validation) == sorted(own[-2] for own in last.values())


def _with_planted_future(adapter: MovieLensAdapter) -> None:
    """Every user's test like becomes another movie, one that the user has never rated."""
    raw = adapter.raw
    movies = raw.movie_ids.copy()
    for row in adapter.split.test:
        rated = raw.movie_ids[raw.user_ids == raw.user_ids[row]]
        movies[row] = np.setdiff1d(raw.movies["movie_id"], rated)[-1]
    adapter.raw = dataclasses.replace(raw, movie_ids=movies)


def test_a_planted_future_changes_nothing_that_training_sees(small_dir, monkeypatch):
    """Under `unseen`, training is blind to what each user liked last."""
    config = DataConfig(source="files", num_neg_eval=20, train_negatives="unseen")
    plain = MovieLensAdapter(small_dir, config)
    planted_raw = MovieLensAdapter(small_dir, config)
    _with_planted_future(planted_raw)
    monkeypatch.setattr("deepfm.data.movielens.load_movielens", lambda *_: planted_raw.raw)
    planted = MovieLensAdapter(small_dir, config)
    _, train, _, test = plain.build()
    _, train_planted, _, test_planted = planted.build()
    assert not torch.equal(test.items[test.labels > 0], test_planted.items[test_planted.labels > 0])
    for name, column in train.user_table.items():
        assert torch.equal(column, train_planted.user_table[name])
    for name, column in train.item_table.items():
        assert torch.equal(column, train_planted.item_table[name])
    assert torch.equal(train.users, train_planted.users)
    for epoch in (1, 2):
        train.resample(epoch)
        train_planted.resample(epoch)
        assert torch.equal(train.items, train_planted.items)


def test_unrated_negatives_do_let_the_future_in(small_dir):
    """What the documentation says of the two rules: only `unseen` ever shows a held-out like as a negative."""
    shown = {}
    for rule in ("unrated", "unseen"):
        adapter = MovieLensAdapter(small_dir, DataConfig(source="files", num_neg_eval=20, train_negatives=rule))
        _, train, _, _ = adapter.build()
        held_out = {
            (user, item)
            for part in adapter.candidates.values()
            for user, item in zip(
                np.repeat(part.users, part.sizes)[part.labels > 0], part.items[part.labels > 0], strict=True
            )
        }
        drawn = set()
        for epoch in range(1, 30):
            train.resample(epoch)
            negative = train.labels == 0
            drawn |= set(zip(train.users[negative].tolist(), train.items[negative].tolist(), strict=True))
        shown[rule] = len(drawn & held_out) / len(held_out)
    assert shown["unrated"] == 0
    assert shown["unseen"] > 0.9


def test_shuffled_labels_teach_nothing_and_real_ones_do(small_dir):
    """AUC on untouched validation candidates: about ½ after training on shuffled labels, well above on real ones."""
    overrides = [
        "training.num_epochs=6",
        "training.batch_size=256",
        "training.metric=auc",
        "training.lr=0.005",
    ]
    config = load_config(None, [*overrides, "data.num_neg_eval=100", "device=cpu"])
    auc = {}
    for shuffled in (False, True):
        scores = []
        for seed in range(3):
            torch.manual_seed(seed)
            adapter = MovieLensAdapter(
                small_dir, DataConfig(source="files", num_neg_eval=100, train_negatives="unseen")
            )
            schema, train, validation, test = adapter.build()
            if shuffled:
                train.labels = train.labels[torch.randperm(len(train))]
            trainer = Trainer(create_model("deepfm", schema, config), schema, config, train, validation, test)
            scores.append(trainer.train().history[-1]["auc"])
        auc[shuffled] = np.mean(scores)
    assert auc[False] > 0.65
    assert auc[True] == pytest.approx(0.5, abs=0.06)
