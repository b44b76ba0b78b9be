"""The bar: a score that knows the item and nobody who asks for it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deepfm.data.dataset import TabularDataset
from deepfm.data.interactions import InteractionDataset, TrainingInteractions
from deepfm.data.schema import DatasetSchema
from deepfm.training.evaluation import Evaluation, evaluate_scores

PRIOR_ROWS = 10.0  # rows at the overall rate that every item has before its own are counted
RANKING_KS = (10,)


@dataclass(frozen=True, eq=False)
class Popularity:
    """A score per id of the item field `(vocabulary_size,)`, None without such a field; and what it is, in words."""

    scores: NDArray[np.float64] | None
    rule: str


def fit_popularity(schema: DatasetSchema, train: TabularDataset) -> Popularity:
    """Likes of each item where negatives were sampled, else the share of its rows that are clicks."""
    ids = item_ids(schema, train)
    if ids is None or schema.item_field is None:
        return Popularity(None, "the same score for every row, as the schema names no item_field")
    labels = train.labels.cpu().numpy().astype(np.float64)
    size = schema.fields[schema.item_field].vocabulary_size
    clicks = np.bincount(ids, weights=labels, minlength=size).astype(np.float64)
    if isinstance(train, TrainingInteractions):
        return Popularity(clicks, f"how many training likes an item has ({schema.item_field})")
    shown = np.bincount(ids, minlength=size)
    rates = (clicks + PRIOR_ROWS * labels.mean()) / (shown + PRIOR_ROWS)
    return Popularity(rates, f"the share of an item's training rows that are clicks ({schema.item_field})")


def evaluate_popularity(popularity: Popularity, schema: DatasetSchema, dataset: TabularDataset) -> Evaluation:
    """Its metrics on the rows, or candidates, that the models are measured on."""
    ids = item_ids(schema, dataset)
    scores = np.zeros(len(dataset)) if ids is None or popularity.scores is None else popularity.scores[ids]
    return evaluate_scores(scores.astype(np.float32), dataset, RANKING_KS, are_logits=False)


def item_ids(schema: DatasetSchema, dataset: TabularDataset) -> NDArray[np.int64] | None:
    """The item field's id `(N,)` of every row; None where the schema names no such field."""
    name = schema.item_field
    if name is None:
        return None
    if isinstance(dataset, InteractionDataset):
        of_users = name in dataset.user_table
        table = (dataset.user_table if of_users else dataset.item_table)[name]
        column = table.index_select(0, dataset.users if of_users else dataset.items)
    else:
        column = dataset.features[name]
    return column.cpu().numpy().astype(np.int64)
