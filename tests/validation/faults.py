"""Small data that can be learned, with and without a history, and models with one fault each."""

import dataclasses

import numpy as np
import torch
from torch import nn

from deepfm.data.dataset import TabularDataset
from deepfm.data.schema import DatasetSchema, FeatureType, FieldSchema
from tests.clicks import config_of, dense, sparse

ITEMS, LENGTH = 20, 6
CONFIG = config_of("bst.num_heads=2", "sin.num_heads=2", "sin.fusion_dim=8", "din.hidden_units=[8]", "dnn.dropout=0.5")


def schema_of_rows(history=True):
    """A user, an item, a number and a column of noise, and what the user did before."""
    fields = [sparse("user", 30), sparse("item", ITEMS), dense("price"), sparse("noise", 10)]
    if history:
        fields.append(
            FieldSchema(
                "history",
                FeatureType.SEQUENCE,
                ITEMS,
                4,
                max_length=LENGTH,
                combiner="none",
                shares_embedding_with="item",
            )
        )
    return DatasetSchema({field.name: field for field in fields}, "click", user_field="user", item_field="item")


def columns_of_rows(rows=2000, history=True, seed=0):
    """Arrays by field, and the label, which follows user, item and number."""
    rng = np.random.default_rng(seed)
    columns = {
        "user": rng.integers(1, 30, rows),
        "item": rng.integers(1, ITEMS, rows),
        "price": rng.normal(size=rows).astype(np.float32),
        "noise": rng.integers(1, 10, rows),
    }
    if history:
        columns["history"] = rng.integers(0, ITEMS, (rows, LENGTH))
        columns["history"][0] = 0
    liking = np.sin(2.0 * columns["item"]) + 2.0 * np.sin(3.0 * columns["user"]) + columns["price"]
    columns["click"] = (rng.random(rows) < 1 / (1 + np.exp(-2.0 * liking))).astype(np.float32)
    return columns


def sets(history=True, rows=2000, change=None):
    """The schema, and training and validation rows; `change` may spoil the columns of either."""
    parts = []
    for seed, count in ((0, rows), (1, 600)):
        columns = columns_of_rows(count, history, seed)
        if change is not None:
            change(columns, np.random.default_rng(seed + 7))
        parts.append(TabularDataset({name: columns[name] for name in columns if name != "click"}, columns["click"]))
    return schema_of_rows(history), *parts


def without_item_field(schema):
    return dataclasses.replace(schema, item_field=None)


class Linear(nn.Module):
    """Sound: one weight an id and a factor for the number; logits `(B,)`."""

    fields = ("user", "item")

    def __init__(self, schema, config):
        super().__init__()
        names = self.fields
        self.tables = nn.ModuleDict({name: nn.Embedding(schema.fields[name].vocabulary_size, 8) for name in names})
        self.tower = nn.Sequential(nn.Linear(8 * len(names) + 1, 32), nn.ReLU(), nn.Dropout(0.5))
        self.output = nn.Linear(32, 1)

    def vectors(self, batch):
        tables = [table(batch[name]) for name, table in self.tables.items()]
        return torch.cat([*tables, batch["price"].unsqueeze(1)], dim=1)

    def forward(self, batch):
        return self.output(self.tower(self.vectors(batch))).squeeze(1)


class Detached(Linear):
    """Its output belongs to no graph."""

    def forward(self, batch):
        return super().forward(batch).detach()


class DetachedTower(Linear):
    """Its tower is cut off, the output layer learns alone."""

    def forward(self, batch):
        return self.output(self.tower(self.vectors(batch)).detach()).squeeze(1)


class Constant(Linear):
    """Computes everything and uses none of it."""

    def forward(self, batch):
        return super().forward(batch) * 0.0 + self.output.bias


class Sigmoid(Linear):
    """Gives probabilities."""

    def forward(self, batch):
        return torch.sigmoid(super().forward(batch))


class Biased(Linear):
    """Is sure of clicks from the start."""

    def forward(self, batch):
        return super().forward(batch) + 4.0


class Wide(Linear):
    """Starts with logits far from 0 on both sides."""

    def forward(self, batch):
        return super().forward(batch) + 4.0 * batch["price"]


class OnlyNoise(Linear):
    """Reads a column that says nothing, and never the item."""

    fields = ("noise",)

    def vectors(self, batch):
        vectors = self.tables["noise"](batch["noise"])
        return torch.cat([vectors, torch.zeros(len(vectors), 1)], dim=1)


class TwoLogits(Linear):
    """Gives two logits a row."""

    def forward(self, batch):
        return super().forward(batch).unsqueeze(1).repeat(1, 2)


class NotANumber(Linear):
    """Divides by zero."""

    def forward(self, batch):
        return super().forward(batch) / 0.0


class NotANumberInTraining(Linear):
    """Goes wrong in training mode alone."""

    def forward(self, batch):
        return super().forward(batch) / (0.0 if self.training else 1.0)


class WrongWidth(Linear):
    """Fails between its tower and its output."""

    def forward(self, batch):
        return self.output(self.tower(self.vectors(batch))[:, :3])


class Unbuildable(Linear):
    """Takes an argument that nobody gives."""

    def __init__(self, schema, config, width):
        super().__init__(schema, config)
