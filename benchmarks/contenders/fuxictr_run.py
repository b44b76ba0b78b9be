"""FuxiCTR: its `NpzDataLoader` without worker processes, its `BaseModel.fit` and `predict`, quiet.

The wheel has the layers and the loop; DeepFM, xDeepFM, DIN and BST are in the repository's model zoo only, and are put
together here from the same layers. Its loop clips gradients at norm 10. A dense number has a vector, as it has with us.
BST's positions are appended to the tokens, and its feed-forward part is as wide as both; `--override positions=none`
leaves them out, as its `use_position_emb` does.
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
    DIN_Attention,
    FactorizationMachine,
    FeatureEmbedding,
    FeatureEmbeddingDict,
    LogisticRegression,
    MLP_Block,
)
from fuxictr.pytorch.models import BaseModel
from numpy.typing import NDArray
from torch import Tensor, nn
from worker import Contender, main
from workload import Rows, Workload

KINDS = {"sparse": "categorical", "dense": "numeric", "sequence": "sequence"}


class _Timed(BaseModel):
    """A model whose `fit` ends with its last batch: no validation, no checkpoint."""

    def __init__(self, feature_map: FeatureMap, workload: Workload, overrides: dict[str, str]) -> None:
        super().__init__(
            feature_map, embedding_regularizer=None, net_regularizer=None, verbose=0, model_root="", metrics=["AUC"]
        )
        self.losses: list[Tensor] = []
        self.build(feature_map, workload, overrides)
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
    def build(self, feature_map: FeatureMap, workload: Workload, overrides: dict[str, str]) -> None:
        self.embedding_layer = FeatureEmbedding(feature_map, workload.embedding_dim)
        self.tower = _tower(feature_map.sum_emb_out_dim(), workload)
        self.fm = FactorizationMachine(feature_map)  # first and second order

    def forward(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        batch = self.get_inputs(inputs)
        fields = self.embedding_layer(batch)  # (B, F, D)
        logit = self.fm(batch, fields) + self.tower(fields.flatten(start_dim=1))
        return {"y_pred": self.output_activation(logit)}


class xDeepFM(_Timed):
    def build(self, feature_map: FeatureMap, workload: Workload, overrides: dict[str, str]) -> None:
        if workload.cin_split_half or workload.cin_activation != "linear":
            raise SystemExit("FuxiCTR's CIN is linear and has no split")
        self.embedding_layer = FeatureEmbedding(feature_map, workload.embedding_dim)
        self.tower = _tower(feature_map.sum_emb_out_dim(), workload)
        self.first_order = LogisticRegression(feature_map, use_bias=False)
        self.cin = CompressedInteractionNet(feature_map.num_fields, list(workload.cin_layers), output_dim=1)

    def forward(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        batch = self.get_inputs(inputs)
        fields = self.embedding_layer(batch)  # (B, F, D)
        logit = self.first_order(batch) + self.cin(fields) + self.tower(fields.flatten(start_dim=1))
        return {"y_pred": self.output_activation(logit)}


class _Behaviour(_Timed):
    """A model that makes one vector of the history `(B, L, D)` and the candidate `(B, D)`."""

    def build(self, feature_map: FeatureMap, workload: Workload, overrides: dict[str, str]) -> None:
        self.history, self.candidate = workload.behaviour.name, workload.behaviour.shares_table_with
        self.embedding_layer = FeatureEmbeddingDict(feature_map, workload.embedding_dim)
        width = self.build_interest(workload, overrides)
        self.tower = _tower(feature_map.sum_emb_out_dim() - workload.embedding_dim + width, workload)

    def forward(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        batch = self.get_inputs(inputs)
        vectors = self.embedding_layer(batch)
        history, seen = vectors.pop(self.history), batch[self.history].long() != 0
        interest = self.interest(vectors[self.candidate], history, seen)
        logit = self.tower(torch.cat([*vectors.values(), interest], dim=-1))
        return {"y_pred": self.output_activation(logit)}


class DIN(_Behaviour):
    def build_interest(self, workload: Workload, overrides: dict[str, str]) -> int:
        self.attention = DIN_Attention(
            workload.embedding_dim, attention_units=list(workload.attention_units), hidden_activations="ReLU"
        )
        return workload.embedding_dim

    def interest(self, candidate: Tensor, history: Tensor, seen: Tensor) -> Tensor:
        pooled: Tensor = self.attention(candidate, history, seen)
        return pooled


class BST(_Behaviour):
    """One layer, normalised after each part, of which the candidate's place goes out (`seq_pooling_type="target"`)."""

    def build_interest(self, workload: Workload, overrides: dict[str, str]) -> int:
        self.num_heads, tokens = workload.num_heads, workload.behaviour.max_length + 1
        appended = 0 if overrides.get("positions") == "none" else workload.embedding_dim
        self.positions = nn.Parameter(_waves(tokens, appended))
        width = workload.embedding_dim + appended
        self.attention = nn.MultiheadAttention(width, self.num_heads, dropout=workload.dropout, batch_first=True)
        self.feed = nn.Sequential(nn.Linear(width, width), nn.LeakyReLU(), nn.Linear(width, width))
        self.dropouts = nn.ModuleList(nn.Dropout(workload.dropout) for _ in range(2))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        return width

    def interest(self, candidate: Tensor, history: Tensor, seen: Tensor) -> Tensor:
        x = torch.cat([history, candidate.unsqueeze(1)], dim=1)  # (B, L + 1, D)
        if self.positions.shape[1]:
            x = torch.cat([x, self.positions.expand(len(x), -1, -1)], dim=-1)
        hidden = torch.cat([~seen, seen.new_zeros(len(seen), 1)], dim=1)  # (B, L + 1)
        tokens = hidden.shape[1]
        others = ~torch.eye(tokens, dtype=torch.bool)  # a token may always see itself
        masks = hidden.unsqueeze(1) & others  # (B, L + 1, L + 1)
        masks = masks.unsqueeze(1).expand(-1, self.num_heads, -1, -1).flatten(end_dim=1)
        attended, _ = self.attention(x, x, x, attn_mask=masks)
        x = self.norms[0](x + self.dropouts[0](attended))
        x = self.norms[1](x + self.dropouts[1](self.feed(x)))
        return x[:, -1]


class FuxiCTR(Contender):
    distribution = "fuxictr"

    def __init__(self, workload: Workload, overrides: dict[str, str]) -> None:
        super().__init__(workload, overrides)
        self.workers = int(overrides.get("num_workers", 0))
        self.feature_map = _feature_map(workload)
        models = {"deepfm": DeepFM, "xdeepfm": xDeepFM, "din": DIN, "bst": BST}
        if workload.model not in models:
            raise SystemExit(f"FuxiCTR has no {workload.model}")
        self.model = models[workload.model](self.feature_map, workload, overrides)

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


def _tower(inputs: int, workload: Workload) -> MLP_Block:
    return MLP_Block(
        input_dim=inputs,
        output_dim=1,
        hidden_units=list(workload.hidden_units),
        hidden_activations="ReLU",
        dropout_rates=workload.dropout,
        batch_norm=workload.batch_norm,
    )


def _waves(places: int, width: int) -> Tensor:
    """Sines and cosines `(places, width)` in turns, ever slower."""
    speeds = 10_000.0 ** (-torch.arange(0, width, 2) / max(1, width))
    angles = torch.arange(places).unsqueeze(1) * speeds
    return torch.stack([angles.sin(), angles.cos()], dim=2).flatten(1)


def _feature_map(workload: Workload) -> FeatureMap:
    feature_map = FeatureMap("benchmark", "")
    for field in workload.fields:
        spec: dict[str, Any] = {"source": "", "type": KINDS[field.kind]}
        if field.kind != "dense":
            spec |= {"vocab_size": field.vocabulary_size, "padding_idx": 0}
        if field.kind == "sequence":
            spec["max_len"] = field.max_length
        if field.shares_table_with:
            spec["share_embedding"] = field.shares_table_with
        elif field.kind == "sequence":
            spec["feature_encoder"] = "layers.MaskedAveragePooling()"
        feature_map.features[field.name] = spec
    feature_map.labels = ["label"]
    feature_map.default_emb_dim = workload.embedding_dim
    feature_map.num_fields = feature_map.get_num_fields()
    feature_map.set_column_index()
    return feature_map


if __name__ == "__main__":
    main(FuxiCTR)
