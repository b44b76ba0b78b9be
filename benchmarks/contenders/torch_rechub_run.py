"""torch-rechub: `DataGenerator`, `CTRTrainer.train_one_epoch` and `predict`, without its default weight decay.

Its towers, DIN's attention network among them, always have BatchNorm, its first order is a linear layer on the
embeddings, and dense numbers go to the tower only. DIN's tower always has its Dice. BST's feed-forward part is always
2,048 wide; here it is replaced by one of the workload's width, and `--override feedforward=own` leaves it. Its release
has no xDeepFM.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn
from torch.utils.data import DataLoader
from torch_rechub.basic.features import DenseFeature, SequenceFeature, SparseFeature
from torch_rechub.models.ranking import BST, DIN, DeepFM
from torch_rechub.trainers import CTRTrainer
from torch_rechub.utils.data import DataGenerator
from worker import Contender, main
from workload import Field, Rows, Workload


class TorchRecHub(Contender):
    distribution = "torch-rechub"

    def __init__(self, workload: Workload, overrides: dict[str, str]) -> None:
        super().__init__(workload, overrides)
        if workload.model == "deepfm":
            self.model = _deepfm(workload)
        elif workload.model == "din":
            self.model = _din(workload)
        elif workload.model == "bst":
            self.model = _bst(workload, own_width="feedforward" in overrides)
        else:
            raise SystemExit(f"torch-rechub has no {workload.model}")
        adam = {"lr": workload.lr} | ({"fused": True} if overrides.get("optimizer") == "fused" else {})
        self.trainer = CTRTrainer(self.model, optimizer_params=adam, n_epoch=1)

    def load(self, rows: Rows, shuffle: bool) -> DataLoader[Any]:
        size = self.workload.batch_size if shuffle else self.workload.scoring_rows
        train, validation, _ = DataGenerator(rows.columns, rows.labels).generate_dataloader(
            x_val=rows.columns, y_val=rows.labels, batch_size=size
        )
        return train if shuffle else validation

    def train(self, data: DataLoader[Any]) -> float:
        return float(self.trainer.train_one_epoch(data))

    def score(self, data: DataLoader[Any]) -> NDArray[Any]:
        return np.asarray(self.trainer.predict(self.model, data))


def _deepfm(workload: Workload) -> nn.Module:
    features = {field.name: _feature(field, workload) for field in workload.fields}
    crossed = [features[field.name] for field in workload.fields if field.kind != "dense"]
    return DeepFM(
        deep_features=list(features.values()),
        fm_features=crossed,
        mlp_params={**_tower(workload), "activation": "relu"},
    )


def _din(workload: Workload) -> nn.Module:
    attention = {"dims": list(workload.attention_units), "activation": "relu"}
    return DIN(*_behaviour(workload), mlp_params=_tower(workload), attention_mlp_params=attention)


def _bst(workload: Workload, own_width: bool) -> nn.Module:
    model = BST(
        *_behaviour(workload),
        mlp_params={**_tower(workload), "activation": "relu"},
        nhead=workload.num_heads,
        dropout=workload.dropout,
        num_layers=1,
        max_seq_len=workload.behaviour.max_length + 1,
    )
    if not own_width:
        layer = nn.TransformerEncoderLayer(
            workload.embedding_dim,
            workload.num_heads,
            workload.feedforward_dim,
            workload.dropout,
            activation=nn.LeakyReLU(),
            batch_first=True,
        )
        model.transformer_layers = nn.TransformerEncoder(layer, num_layers=1)
    return model


def _behaviour(workload: Workload) -> tuple[list[Any], list[Any], list[Any]]:
    """Features of user and context, the history, and the candidate."""
    history = workload.behaviour
    apart = {history.name, history.shares_table_with}
    features = {field.name: _feature(field, workload) for field in workload.fields}
    others = [feature for name, feature in features.items() if name not in apart]
    return others, [features[history.name]], [features[history.shares_table_with]]


def _tower(workload: Workload) -> dict[str, Any]:
    return {"dims": list(workload.hidden_units), "dropout": workload.dropout}


def _feature(field: Field, workload: Workload) -> Any:
    if field.kind == "dense":
        return DenseFeature(field.name)
    size, width = field.vocabulary_size, workload.embedding_dim
    if field.shares_table_with:
        return SequenceFeature(
            field.name, size, width, pooling="concat", shared_with=field.shares_table_with, padding_idx=0
        )
    if field.kind == "sequence":
        return SequenceFeature(field.name, size, width, pooling="mean", padding_idx=0)
    shared = any(other.shares_table_with == field.name for other in workload.fields)  # its padding has to be zeros
    return SparseFeature(field.name, size, width, padding_idx=0 if shared else None)


if __name__ == "__main__":
    main(TorchRecHub)
