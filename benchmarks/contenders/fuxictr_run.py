"""FuxiCTR: its `NpzDataLoader` without worker processes, its `BaseModel.fit` and `predict`, quiet.

The wheel has the layers and the loop; DeepFM and xDeepFM are in the repository's model zoo only, and are put together
here from the same layers. Its loop clips gradients at norm 10. A dense number has a vector, as it has with us.
"""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fuxictr.features import FeatureMap
from fuxictr.pytorch.dataloaders.npz_dataloader import NpzDataLoader
from fuxictr.pytorch.layers import (
    CompressedInteractionNet,
    FactorizationMachine,
    FeatureEmbedding,
    LogisticRegression,
    MLP_Block,
)
from fuxictr.pytorch.models import BaseModel
from numpy.typing import NDArray
from torch import Tensor
from worker import Contender, main
from workload import Rows, Workload

KINDS = {"sparse": "categorical", "dense": "numeric", "sequence": "sequence"}


class _Timed(BaseModel):
    """A model whose `fit` ends with its last batch: no validation, no checkpoint."""

    def __init__(self, feature_map: FeatureMap, workload: Workload) -> None:
        super().__init__(
            feature_map, embedding_regularizer=None, net_regularizer=None, verbose=0, model_root="", metrics=["AUC"]
        )
        self.losses: list[Tensor] = []
        self.embedding_layer = FeatureEmbedding(feature_map, workload.embedding_dim)
        self.tower = MLP_Block(
            input_dim=feature_map.sum_emb_out_dim(),
            output_dim=1,
            hidden_units=list(workload.hidden_units),
            hidden_activations="ReLU",
            dropout_rates=workload.dropout,
            batch_norm=workload.batch_norm,
        )
        self.add_interactions(feature_map, workload)
        self.compile("adam", "binary_crossentropy", workload.lr)
        self.reset_parameters()
        self.model_to_device()

    def add_loss(self, return_dict: dict[str, Tensor], y_true: Tensor) -> Tensor:
        loss: Tensor = super().add_loss(return_dict, y_true)
        self.losses.append(loss.detach())
        return loss

    def eval_step(self) -> None:
        pass

    def load_weights(self, checkpoint: str) -> None:
        pass


class DeepFM(_Timed):
    def add_interactions(self, feature_map: FeatureMap, workload: Workload) -> None:
        self.fm = FactorizationMachine(feature_map)  # first and second order

    def forward(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        batch = self.get_inputs(inputs)
        fields = self.embedding_layer(batch)  # (B, F, D)
        logit = self.fm(batch, fields) + self.tower(fields.flatten(start_dim=1))
        return {"y_pred": self.output_activation(logit)}


class xDeepFM(_Timed):
    def add_interactions(self, feature_map: FeatureMap, workload: Workload) -> None:
        if workload.cin_split_half or workload.cin_activation != "linear":
            raise SystemExit("FuxiCTR's CIN is linear and has no split")
        self.first_order = LogisticRegression(feature_map, use_bias=False)
        self.cin = CompressedInteractionNet(feature_map.num_fields, list(workload.cin_layers), output_dim=1)

    def forward(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        batch = self.get_inputs(inputs)
        fields = self.embedding_layer(batch)  # (B, F, D)
        logit = self.first_order(batch) + self.cin(fields) + self.tower(fields.flatten(start_dim=1))
        return {"y_pred": self.output_activation(logit)}


class FuxiCTR(Contender):
    distribution = "fuxictr"

    def __init__(self, workload: Workload, overrides: dict[str, str]) -> None:
        super().__init__(workload, overrides)
        self.workers = int(overrides.get("num_workers", 0))
        self.feature_map = _feature_map(workload)
        self.model = (xDeepFM if workload.model == "xdeepfm" else DeepFM)(self.feature_map, workload)

    def load(self, rows: Rows, shuffle: bool) -> NpzDataLoader:
        size = self.workload.batch_size if shuffle else self.workload.scoring_rows
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "rows.npz"
            np.savez(path, **rows.columns, label=rows.labels)
            return NpzDataLoader(
                self.feature_map, str(path), batch_size=size, shuffle=shuffle, num_workers=self.workers
            )

    def train(self, data: NpzDataLoader) -> float:
        self.model.losses.clear()
        self.model.fit(data, epochs=1, max_gradient_norm=self.workload.clip_norm)
        return float(torch.stack(self.model.losses).mean())

    def score(self, data: Any) -> NDArray[Any]:
        return self.model.predict(data)

    def score_user(self, rows: Rows) -> NDArray[Any]:
        """One batch that is in memory; its loader would want a file a user."""
        batch = {name: torch.from_numpy(column) for name, column in rows.columns.items()}
        return self.score([batch])


def _feature_map(workload: Workload) -> FeatureMap:
    feature_map = FeatureMap("benchmark", "")
    for field in workload.fields:
        spec: dict[str, Any] = {"source": "", "type": KINDS[field.kind]}
        if field.kind != "dense":
            spec |= {"vocab_size": field.vocabulary_size, "padding_idx": 0}
        if field.kind == "sequence":
            spec |= {"max_len": field.max_length, "feature_encoder": "layers.MaskedAveragePooling()"}
        feature_map.features[field.name] = spec
    feature_map.labels = ["label"]
    feature_map.default_emb_dim = workload.embedding_dim
    feature_map.num_fields = feature_map.get_num_fields()
    feature_map.set_column_index()
    return feature_map


if __name__ == "__main__":
    main(FuxiCTR)
