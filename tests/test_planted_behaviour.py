"""A planted Markov chain: what a user does next follows from what the user did last, and a model finds it."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from deepfm.data.history import Histories, histories_before
from deepfm.data.interactions import InteractionDataset, TrainingInteractions
from deepfm.data.negatives import NegativeSampler, draw_candidates
from deepfm.data.schema import DatasetSchema, FeatureType, FieldSchema
from deepfm.engine.loop import fit
from deepfm.models import create_model
from deepfm.training.evaluation import evaluate_scores, score_rows
from deepfm.training.task import CTRTask
from tests.clicks import CPU, config_of

USERS, ITEMS, LENGTH, WIDTH = 240, 40, 10, 8
FOLLOWS = 0.9  # the chance that the next item is the one that follows the last
CHANCE = sum(1 / np.log2(1 + rank) for rank in range(1, 11)) / (ITEMS - LENGTH + 1)  # NDCG@10 of a random order
SCHEMA = DatasetSchema(  # without the user's id, which would tell what else the user did
    {
        "weekday": FieldSchema("weekday", FeatureType.SPARSE, 8, WIDTH),
        "item": FieldSchema("item", FeatureType.SPARSE, ITEMS + 1, WIDTH),
        "history": FieldSchema(
            "history", FeatureType.SEQUENCE, ITEMS + 1, WIDTH, max_length=LENGTH, combiner="none",
            shares_embedding_with="item",
        ),
    },
    "label",
    item_field="item",
)  # fmt: skip
SMALL = (
    f"feature.fm_embed_dim={WIDTH}",
    "dnn.hidden_units=[32]",
    "dnn.dropout=0",
    "cin.layer_sizes=[8]",
    "bst.dropout=0",
    "sin.dropout=0",
    "training.metric=ndcg@10",
    "training.batch_size=300",
    "training.lr=0.02",
)
RUNS = {
    "sin": ("sin.fusion_dim=16", "training.loss=softmax", "training.num_epochs=5"),
    "bst": ("bst.norm_first=true", "training.loss=softmax", "training.num_epochs=6"),
    "din": ("din.recency=true", "din.normalize=true", "training.loss=softmax", "training.num_epochs=6"),
}


def chains(seed=0):
    """`(USERS, LENGTH)` different items of each user, of which each mostly follows from the one before."""
    rng = np.random.default_rng(seed)
    following = np.roll(rng.permutation(ITEMS), 1)
    order = rng.permutation(ITEMS)
    following[order] = np.roll(order, -1)  # one cycle through all items
    rows = np.zeros((USERS, LENGTH), np.int64)
    for row in rows:
        row[0] = rng.integers(ITEMS)
        for place in range(1, LENGTH):
            free = np.setdiff1d(np.arange(ITEMS), row[:place])
            wanted = following[row[place - 1]]
            row[place] = wanted if wanted in free and rng.random() < FOLLOWS else rng.choice(free)
    return rows


def data_sets(shuffled=False):
    """Training on all but the last item of each user, evaluation on the last; histories to the moment, or anyone's."""
    rows = chains()
    users = np.repeat(np.arange(USERS), LENGTH)
    numbers = np.tile(np.arange(LENGTH), USERS)
    last = numbers == LENGTH - 1
    events = users[~last], numbers[~last], rows.reshape(-1)[~last] + 1
    sampler = NegativeSampler(users, rows.reshape(-1), USERS, ITEMS)
    tables = ({"weekday": np.arange(USERS) % 7 + 1}, {"item": np.arange(1, ITEMS + 1)})
    histories = {
        "train": histories_before(events, users[~last], numbers[~last], LENGTH),
        "test": histories_before(events, users[last], numbers[last], LENGTH),
    }
    if shuffled:
        histories = {name: _of_anyone(history) for name, history in histories.items()}
    train = TrainingInteractions(
        tables, users[~last], rows.reshape(-1)[~last], sampler=sampler, num_negatives=4, seed=0,
        histories={"history": histories["train"]},
    )  # fmt: skip
    candidates = draw_candidates(users[last], rows[:, -1], sampler, ITEMS, np.random.default_rng(1))
    return train, InteractionDataset.from_candidates(tables, candidates, {"history": histories["test"]})


def _of_anyone(history):
    """The same histories, each at another moment."""
    order = torch.randperm(len(history), generator=torch.Generator().manual_seed(0))
    rows = history.latest(order).numpy()
    return Histories(
        rows[rows > 0].astype(np.int64), *_bounds((rows > 0).sum(axis=1)), max_length=history.max_length
    )  # fmt: skip


def _bounds(lengths):
    ends = np.cumsum(lengths)
    return ends - lengths, ends


def learned(name, train, test):
    torch.manual_seed(0)
    config = config_of(*SMALL, *RUNS[name])
    task = CTRTask(create_model(name, SCHEMA, config), config, train, test)
    fit(task, config.training, device=CPU)
    return evaluate_scores(score_rows(task.model, test), test, (10,)).metrics["ndcg@10"]


def popularity(train, test):
    counts = np.bincount(train.items[train.labels > 0].numpy(), minlength=ITEMS)
    scores = counts[test.items.numpy()].astype(np.float32)
    return evaluate_scores(scores, test, (10,), are_logits=False).metrics["ndcg@10"]


def test_popularity_knows_nothing_of_the_chain():
    assert popularity(*data_sets()) < CHANCE + 0.08


def test_the_chain_is_there_and_shuffled_histories_do_not_hold_it():
    for shuffled, share in ((False, 0.6), (True, 0.2)):
        train, test = data_sets(shuffled)
        following = {}
        for row in chains():
            for one, other in pairwise(row.tolist()):
                following.setdefault(one + 1, []).append(other)
        most = {one: max(set(others), key=others.count) for one, others in following.items()}
        last = test.histories["history"].latest(torch.arange(USERS))[:, -1].tolist()
        positives = test.items[test.labels > 0].tolist()
        hits = np.mean([most[one] == positive for one, positive in zip(last, positives, strict=True)])
        assert (hits > share) != shuffled
        assert len(train.histories["history"]) == USERS * (LENGTH - 1)


@pytest.mark.parametrize("name", RUNS)
def test_a_model_of_behaviour_learns_the_chain(name):
    train, test = data_sets()
    assert learned(name, train, test) > max(0.5, 2 * popularity(train, test))


@pytest.mark.parametrize("name", RUNS)
def test_from_histories_of_others_it_learns_nothing(name):
    assert learned(name, *data_sets(shuffled=True)) < CHANCE + 0.08
