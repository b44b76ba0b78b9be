"""FuxiCTR itself on an experiment: run by the Python that has it, from the weights and in the row order of a folder.

The wheel has the layers, the encoders and the loop; xDeepFM and DIN stand in the repository only and are put together
here from the same layers, as they are there.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from fuxictr.features import FeatureMap
from fuxictr.preprocess.feature_processor import FeatureProcessor
from fuxictr.pytorch.layers import (
    CompressedInteractionNet,
    DIN_Attention,
    FeatureEmbedding,
    FeatureEmbeddingDict,
    LogisticRegression,
    MLP_Block,
)
from fuxictr.pytorch.models import BaseModel
from fuxictr.utils import load_config
from torch import nn

TYPES = {str: pl.String, float: pl.Float64, int: pl.Int64}


class Peer(BaseModel):
    def __init__(self, feature_map, params):
        super().__init__(feature_map, **params)
        self.params, self.seen = params, []
        self.build(feature_map)
        self.compile(params["optimizer"], params["loss"], params["learning_rate"])

    def tower(self, width):
        return MLP_Block(
            input_dim=width,
            output_dim=1,
            hidden_units=self.params["dnn_hidden_units"],
            hidden_activations=self.params["dnn_activations"],
            dropout_rates=self.params["net_dropout"],
            batch_norm=self.params["batch_norm"],
        )

    def forward(self, inputs):
        return {"y_pred": self.output_activation(self.logit(self.get_inputs(inputs)))}

    def checkpoint_and_earlystop(self, logs, min_delta=1e-6):
        self.seen.append((logs["AUC"], self.optimizer.param_groups[0]["lr"]))
        super().checkpoint_and_earlystop(logs, min_delta)


class xDeepFM(Peer):
    def build(self, feature_map):
        self.embedding_layer = FeatureEmbedding(feature_map, self.params["embedding_dim"])
        self.dnn = self.tower(feature_map.sum_emb_out_dim())
        self.lr_layer = LogisticRegression(feature_map, use_bias=False)
        self.cin = CompressedInteractionNet(feature_map.num_fields, self.params["cin_hidden_units"], output_dim=1)

    def logit(self, batch):
        fields = self.embedding_layer(batch)
        return self.lr_layer(batch) + self.cin(fields) + self.dnn(fields.flatten(start_dim=1))

    def load(self, start):
        self.load_tables(self.embedding_layer.embedding_layer, start, "second")
        self.load_tables(self.lr_layer.embedding_layer.embedding_layer, start, "first")
        load_tower(self.dnn, start)
        maps = fields = self.feature_map.num_fields
        for number, convolution in enumerate(self.cin.cin_layer.values()):
            weight = start[f"cin.compressions.{number}.weight"]  # (H', H·F), and there (H', F·H)
            weight = weight.reshape(-1, maps, fields).transpose(0, 2, 1).reshape(len(weight), -1)
            put(convolution.weight, weight[:, :, None])
            put(convolution.bias, start[f"cin.compressions.{number}.bias"])
            maps = len(weight)
        put(self.cin.fc.weight, start["cin_output.weight"])
        put(self.cin.fc.bias, start["cin_output.bias"])

    def load_tables(self, layer, start, order):
        load_tables(layer, self.vocabularies, start, order)


class DIN(Peer):
    def build(self, feature_map):
        width = self.params["embedding_dim"]
        self.embedding_layer = FeatureEmbeddingDict(feature_map, width)
        self.attention = DIN_Attention(
            width,
            attention_units=self.params["attention_hidden_units"],
            hidden_activations=self.params["attention_hidden_activations"],
            use_softmax=self.params["din_use_softmax"],
        )
        self.dnn = self.tower(feature_map.sum_emb_out_dim())

    def logit(self, batch):
        target, sequence = self.params["din_target_field"], self.params["din_sequence_field"]
        vectors = self.embedding_layer(batch)
        mask = batch[sequence].long() != 0
        vectors[sequence] = self.attention(vectors[target], vectors[sequence], mask)
        return self.dnn(self.embedding_layer.dict2tensor(vectors, flatten_emb=True))

    def load(self, start):
        load_tables(self.embedding_layer, self.vocabularies, start, "second")
        load_tower(self.dnn, start)
        field = self.params["din_sequence_field"]
        linear = [part for part in self.attention.modules() if isinstance(part, nn.Linear)]
        names = [f"attention.{field}.unit.hidden.{number}" for number in range(len(linear) - 1)]
        for part, name in zip(linear, [*names, f"attention.{field}.unit.weight"], strict=True):
            put(part.weight, start[f"{name}.weight"])
            put(part.bias, start[f"{name}.bias"])


def put(parameter, value):
    with torch.no_grad():
        parameter.copy_(torch.from_numpy(np.ascontiguousarray(value)).view_as(parameter))


def load_tables(layer, vocabularies, start, order):
    """The rows of our tables where FuxiCTR has the same value, padding and unknown included."""
    for name, part in layer.embedding_layers.items():
        rows = start[f"{order}.{name}"]
        if isinstance(part, nn.Linear):
            put(part.weight, rows[0][:, None])
            continue
        values, vocabulary = start[f"values.{name}"].tolist(), vocabularies[name]
        assert set(vocabulary) == {*values, "__PAD__", "__OOV__"}, (name, set(vocabulary) ^ set(values))
        table = np.zeros(tuple(part.weight.shape), np.float32)
        assert table.shape == rows.shape, (name, table.shape, rows.shape)
        for row, value in enumerate(["__PAD__", *values, "__OOV__"]):
            table[vocabulary[value]] = rows[row]
        put(part.weight, table)


def load_tower(dnn, start):
    linear = [part for part in dnn.modules() if isinstance(part, nn.Linear)]
    names = [f"dnn.layers.{number}.linear" for number in range(len(linear) - 1)]
    for part, name in zip(linear, [*names, "dnn_output"], strict=True):
        put(part.weight, start[f"{name}.weight"])
        put(part.bias, start[f"{name}.bias"])


class Batches:
    """Rows in batches; a pass over them takes the next order."""

    def __init__(self, columns, size, orders=None):
        self.columns, self.size, self.orders = columns, size, iter([]) if orders is None else iter(orders)
        self.rows = len(next(iter(columns.values())))

    def __len__(self):
        return -(-self.rows // self.size)

    def __iter__(self):
        order = torch.as_tensor(next(self.orders, np.arange(self.rows)), dtype=torch.int64)
        for start in range(0, self.rows, self.size):
            chosen = order[start : start + self.size]
            yield {name: column[chosen] for name, column in self.columns.items()}


def encoded(params: dict[str, Any], folder: Path):
    """FuxiCTR's encoders and the encoded rows; its own reading of CSV calls polars as it no longer can be called."""
    processor = FeatureProcessor(**{**params, "data_root": str(folder / "encoded")})
    tables = {}
    for part in ("train", "valid", "test"):
        types = {name: TYPES[kind] for name, kind in processor.dtype_dict.items()}
        tables[part] = processor.preprocess(pl.scan_csv(params[f"{part}_data"], schema_overrides=types))
    processor.fit(tables["train"], min_categr_count=params["min_categr_count"])
    feature_map = FeatureMap(params["dataset_id"], processor.data_dir)
    feature_map.load(processor.json_file, params)
    rows = {}
    for part, table in tables.items():
        columns = processor.transform(table.collect().to_dict(as_series=False))
        rows[part] = {name: torch.as_tensor(np.asarray(column)) for name, column in columns.items()}
    vocabularies = {
        name: processor.processor_dict[f"{name}::tokenizer"].vocab
        for name, spec in feature_map.features.items()
        if spec["type"] != "numeric"
    }
    return feature_map, rows, vocabularies


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    for model in (xDeepFM, DIN):
        params = load_config(str(folder / "config"), model.__name__)
        params |= {"gpu": -1, "verbose": 0, "model_root": str(folder / "checkpoints")}
        Path(params["model_root"], params["dataset_id"]).mkdir(parents=True, exist_ok=True)
        feature_map, rows, vocabularies = encoded(params, folder)
        peer = model(feature_map, params)
        peer.vocabularies = vocabularies
        with np.load(folder / f"{model.__name__}_start.npz") as start:
            peer.load(dict(start))
            orders = start["orders"]
        size = params["batch_size"]
        peer.fit(
            Batches(rows["train"], size, orders),
            epochs=params["epochs"],
            validation_data=Batches(rows["valid"], size),
            max_gradient_norm=params.get("max_gradient_norm", 10.0),
        )
        predicted = peer.predict(Batches(rows["test"], size))
        parameters = sum(weight.numel() for weight in peer.parameters() if weight.requires_grad)
        np.savez(folder / f"{model.__name__}_end.npz", seen=peer.seen, predicted=predicted, parameters=parameters)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
