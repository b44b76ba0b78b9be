"""DeepCTR-Torch: `compile("adam", "binary_crossentropy")`, `fit` and `predict`, quiet, without metrics a batch.

Dense numbers go to the linear part and straight to the tower, as its documentation has them, and not to the
interactions. Its DIN wants a history named after its candidate, events first, and a column of lengths.
`--override optimizer=fused` hands it a fused Adam instead of its own.
"""

from typing import Any

import numpy as np
import requests
import torch
from numpy.typing import NDArray
from worker import Contender, main
from workload import Columns, Field, Rows, Workload


def _offline(*_: Any, **__: Any) -> None:
    raise OSError("the benchmark asks no server")


requests.get = _offline  # importing the package asks PyPI for newer versions, in a thread

from deepctr_torch.inputs import DenseFeat, SparseFeat, VarLenSparseFeat  # noqa: E402
from deepctr_torch.models import DIN, DeepFM, xDeepFM  # noqa: E402


class DeepCTRTorch(Contender):
    distribution = "deepctr-torch"

    def __init__(self, workload: Workload, overrides: dict[str, str]) -> None:
        super().__init__(workload, overrides)
        read = [field for field in workload.fields if workload.model == "din" or not field.shares_table_with]
        columns = [_feature(field, workload.embedding_dim) for field in read]
        tower = {
            "dnn_hidden_units": workload.hidden_units,
            "dnn_dropout": workload.dropout,
            "dnn_use_bn": workload.batch_norm,
            "l2_reg_embedding": 0.0,
            "seed": workload.seed,
        }
        if workload.model == "xdeepfm":
            self.model = xDeepFM(
                columns,
                columns,
                l2_reg_linear=0.0,
                cin_layer_size=workload.cin_layers,
                cin_split_half=workload.cin_split_half,
                cin_activation=workload.cin_activation,
                **tower,
            )
        elif workload.model == "din":
            candidate = [workload.behaviour.shares_table_with]
            attention = {"att_hidden_size": workload.attention_units, "att_activation": "relu"}
            self.model = DIN(columns, candidate, **attention, **tower)
        elif workload.model == "deepfm":
            self.model = DeepFM(columns, columns, l2_reg_linear=0.0, **tower)
        else:
            raise SystemExit(f"DeepCTR-Torch has no {workload.model}")
        if workload.lr != 1e-3:
            raise SystemExit(f"lr = {workload.lr}; expected 1e-3, the rate of DeepCTR-Torch's own adam")
        optimizer: Any = "adam"
        if overrides.get("optimizer") == "fused":
            optimizer = torch.optim.Adam(self.model.parameters(), lr=workload.lr, fused=True)
        self.model.compile(optimizer, "binary_crossentropy", metrics=None)

    def load(self, rows: Rows, shuffle: bool) -> tuple[Columns, NDArray[np.float32]]:
        columns = dict(rows.columns)
        for field in self.workload.fields:
            if field.shares_table_with:
                columns |= _left_aligned(field, columns.pop(field.name))
        return columns, rows.labels

    def train(self, data: tuple[Columns, NDArray[np.float32]]) -> float:
        history = self.model.fit(*data, batch_size=self.workload.batch_size, epochs=1, verbose=0)
        return float(history.history["loss"][-1])

    def score(self, data: tuple[Columns, NDArray[np.float32]]) -> NDArray[Any]:
        return self.model.predict(data[0], batch_size=self.workload.scoring_rows).reshape(-1)


def _left_aligned(field: Field, ids: NDArray[Any]) -> Columns:
    """A history `(N, L)` with its padding behind it, and its lengths."""
    name, none = _history(field), ids == 0
    order = np.argsort(none, axis=1, kind="stable")
    return {name: np.take_along_axis(ids, order, axis=1), f"{name}_length": (~none).sum(axis=1)}


def _history(field: Field) -> str:
    return f"hist_{field.shares_table_with}"


def _feature(field: Field, width: int) -> Any:
    if field.kind == "dense":
        return DenseFeat(field.name, 1)
    if field.shares_table_with:
        name = _history(field)
        feature = SparseFeat(name, field.vocabulary_size, embedding_dim=width, embedding_name=field.shares_table_with)
        return VarLenSparseFeat(feature, maxlen=field.max_length, combiner="mean", length_name=f"{name}_length")
    feature = SparseFeat(field.name, field.vocabulary_size, embedding_dim=width)
    return VarLenSparseFeat(feature, maxlen=field.max_length, combiner="mean") if field.kind == "sequence" else feature


if __name__ == "__main__":
    main(DeepCTRTorch)
