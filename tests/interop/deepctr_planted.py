"""Clicks whose probabilities are known, for models of histories written for either package."""

import numpy as np

ITEMS, CATEGORIES, LENGTH, WIDTH = 48, 8, 6, 8
FITTED = {"batch_size": 64, "epochs": 12, "verbose": 0}
SIN_OPTIONS = {
    "cin_layer_size": (8, 8), "fusion_dim": 8, "dnn_hidden_units": (32, 16), "init_std": 0.1, "att_head_num": 2,
}  # fmt: skip


def columns(inputs):
    """A user's gender, a candidate with its category, a price, and what the user clicked before."""
    sparse, several = inputs.SparseFeat, inputs.VarLenSparseFeat
    return [
        sparse("gender", 2, WIDTH),
        sparse("item", ITEMS, WIDTH),
        sparse("cat", CATEGORIES, WIDTH),
        inputs.DenseFeat("price"),
        several(sparse("hist_item", ITEMS, WIDTH, embedding_name="item"), LENGTH, length_name="seq_length"),
        several(sparse("hist_cat", CATEGORIES, WIDTH, embedding_name="cat"), LENGTH, length_name="seq_length"),
    ]


def clicks(rows, seed):
    """Inputs, labels, and the probabilities that the labels were drawn with.

    A click is likely where the candidate's category is in the history, and depends on gender and category together.
    """
    rng = np.random.default_rng(seed)
    category = np.arange(ITEMS) % CATEGORIES
    item, gender = rng.integers(0, ITEMS, rows), rng.integers(0, 2, rows)
    lengths = rng.integers(0, LENGTH + 1, rows)
    favourites = rng.integers(0, CATEGORIES, (rows, 2))
    liked = np.take_along_axis(favourites, rng.integers(0, 2, (rows, LENGTH)), axis=1)
    hist = liked + CATEGORIES * rng.integers(0, ITEMS // CATEGORIES, (rows, LENGTH))
    events = np.arange(LENGTH) < lengths[:, None]
    price = rng.normal(size=rows)
    cat = category[item]
    seen = ((category[hist] == cat[:, None]) & events).any(axis=1)
    logit = -2.0 + 4.0 * seen + 2.0 * ((gender + cat) % 2) + 0.5 * price
    probability = 1 / (1 + np.exp(-logit))
    x = {
        "gender": gender, "item": item, "cat": cat, "price": price.astype(np.float32),
        "hist_item": np.where(events, hist, 0), "hist_cat": np.where(events, category[hist], 0), "seq_length": lengths,
    }  # fmt: skip
    return x, (rng.random(rows) < probability).astype(np.float32), probability


def auc(labels, scores):
    """The share of pairs of a click and no click that are in order."""
    clicked, other = scores[labels > 0], scores[labels == 0]
    return float((clicked[:, None] > other).mean() + 0.5 * (clicked[:, None] == other).mean())
