"""FinalMLP: two deep towers that select their features and meet in a bilinear form."""

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from deepfm.config import ExperimentConfig
from deepfm.data.schema import DatasetSchema
from deepfm.engine.settings import nearest
from deepfm.errors import ConfigError
from deepfm.models.base import WideModel
from deepfm.models.layers import DNN, BilinearFusion, FeatureGate

Contexts = Sequence[Sequence[str]]  # the fields that each tower's selection depends on


class FinalMLP(WideModel):
    """logit = first order + fusion(DNN_1(gate_1 ∘ flat), DNN_2(gate_2 ∘ flat)) (Mao et al., 2023).

    The fusion is b + w1·x + w2·y + Σ x_h·W_h·y_h over heads. A gate is 2·σ(MLP(context)), its context a learned vector,
    or fields embedded anew for it: their tables, and the model's `schema`, have further columns. The paper has no first
    order, which `fm.use_first_order` adds.

    Raises:
        ConfigError: a context is no field of the schema.
    """

    features: Tensor

    def __init__(self, schema: DatasetSchema, config: ExperimentConfig) -> None:
        chosen = config.final_mlp
        self._contexts = (chosen.context_1, chosen.context_2) if chosen.use_feature_selection else ((), ())
        names = [field.name for field in schema.interacting_fields]
        for number, context in enumerate(self._contexts, start=1):
            for name in context:
                if name not in names:
                    raise ConfigError(f"final_mlp.context_{number} names {name!r}, no field; {nearest(name, names)}")
        self._own_schema = schema
        super().__init__(_with_contexts(schema, self._contexts), config)

    def _build_components(self) -> None:
        config, width = self.config.final_mlp, self._own_schema.total_embedding_dim
        features, *contexts = _columns(self._own_schema, self._contexts)
        self.register_buffer("features", torch.tensor(features), persistent=False)
        if config.use_feature_selection:
            self.gates = nn.ModuleList(_Gate(columns, self.config, width) for columns in contexts)
        activation = self.config.dnn.activation
        self.tower_1 = DNN(width, config.hidden_units_1, activation, config.dropout_1, config.use_batch_norm_1)
        self.tower_2 = DNN(width, config.hidden_units_2, activation, config.dropout_2, config.use_batch_norm_2)
        self.fusion = BilinearFusion(self.tower_1.output_dim, self.tower_2.output_dim, config.num_heads)

    def _forward_components(self, first_order: Tensor, field_embeddings: Tensor, flat_embeddings: Tensor) -> Tensor:
        if self.config.final_mlp.use_feature_selection:
            flat = flat_embeddings.contiguous()  # rows that are written out once
            features = flat.index_select(1, self.features) if any(self._contexts) else flat  # (B, T)
            seen_1, seen_2 = (features * gate(flat) for gate in self.gates)
        else:
            seen_1 = seen_2 = flat_embeddings
        logit: Tensor = first_order + self.fusion(self.tower_1(seen_1), self.tower_2(seen_2))  # (B, 1)
        return logit

    def _reads_fields(self, config: ExperimentConfig) -> bool:
        return False


class _Gate(nn.Module):
    """A gate with its context: columns of the flat embeddings, or a learned vector."""

    columns: Tensor

    def __init__(self, columns: list[int], config: ExperimentConfig, output_dim: int) -> None:
        super().__init__()
        width = len(columns) or config.feature.fm_embed_dim
        self.register_buffer("columns", torch.tensor(columns, dtype=torch.int64), persistent=False)
        self.vector = None if columns else nn.Parameter(torch.zeros(1, width))
        self.gate = FeatureGate(width, config.final_mlp.selection_hidden_units, output_dim)

    def forward(self, flat: Tensor) -> Tensor:
        """`(B, T + contexts)` → `(B, T)`, or `(1, T)` from a learned vector."""
        gate: Tensor = self.gate(flat.index_select(1, self.columns) if self.vector is None else self.vector)
        return gate


def _slots(schema: DatasetSchema, contexts: Contexts, name: str) -> list[int]:
    """The contexts for which a field's table has further columns."""
    owner = schema.table_owner(name)
    return [k for k, context in enumerate(contexts) if owner in map(schema.table_owner, context)]


def _with_contexts(schema: DatasetSchema, contexts: Contexts) -> DatasetSchema:
    """The schema with each field as wide as itself and its context embeddings."""
    fields = {
        name: dataclasses.replace(field, embedding_dim=field.embedding_dim * (1 + len(_slots(schema, contexts, name))))
        for name, field in schema.fields.items()
    }
    return dataclasses.replace(schema, fields=fields)


def _columns(schema: DatasetSchema, contexts: Contexts) -> list[list[int]]:
    """Where the features, and then each context, stand in the flat embeddings of `_with_contexts`."""
    places: list[list[int]] = [[] for _ in range(1 + len(contexts))]
    start = 0
    for field in schema.interacting_fields:
        slots = _slots(schema, contexts, field.name)
        for position, slot in enumerate([None, *slots]):
            first = start + position * field.embedding_dim
            if slot is None or field.name in contexts[slot]:
                places[0 if slot is None else 1 + slot] += range(first, first + field.embedding_dim)
        start += (1 + len(slots)) * field.embedding_dim
    return places
