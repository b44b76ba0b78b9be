"""AutoInt: fields that attend to each other, layer upon layer; with a deep tower, AutoInt+."""

import math

import torch
from torch import Tensor, nn

from deepfm.config import AutoIntConfig
from deepfm.models.base import WideModel
from deepfm.models.layers.attention import FieldAttention, attend, attention_weights


class AutoInt(WideModel):
    """logit = first order + linear(flatten(layers(fields))) + linear(DNN(flat)) (Song et al., 2019).

    A layer is relu(heads ⊕ … ⊕ heads + W·x), each head softmax(Q·Kᵀ)·V (equations 5 to 8). Without the tower
    (`autoint.use_dnn`) it is AutoInt, with it AutoInt+ (section 5.5). The paper has no first order, which
    `fm.use_first_order` adds.
    """

    def _build_components(self) -> None:
        autoint = self.config.autoint
        widths = [self.config.feature.fm_embed_dim, *[autoint.attention_dim] * (autoint.num_layers - 1)]
        self.layers = nn.Sequential(*(_InteractingLayer(width, autoint) for width in widths))
        self.attention_output = nn.Linear(self.schema.num_fields * autoint.attention_dim, 1)
        if autoint.use_dnn:
            self.dnn = self._dnn(self.schema.total_embedding_dim)
            self.dnn_output = nn.Linear(self.dnn.output_dim, 1)  # both outputs have a bias, as published

    def _forward_components(self, first_order: Tensor, field_embeddings: Tensor, flat_embeddings: Tensor) -> Tensor:
        attended = self.layers(field_embeddings).flatten(1)  # (B, F·A)
        logit: Tensor = first_order + self.attention_output(attended)  # (B, 1)
        return logit + self.dnn_output(self.dnn(flat_embeddings)) if self.config.autoint.use_dnn else logit


class _InteractingLayer(FieldAttention):
    """One layer: every head of every field attends to all fields, and the field itself is added."""

    def __init__(self, embed_dim: int, config: AutoIntConfig) -> None:
        super().__init__()
        width = config.attention_dim
        self.config = config
        self.scale = 1.0 / math.sqrt(width / config.num_heads) if config.scale else 1.0
        self.query_key_value = nn.Linear(embed_dim, 3 * width, bias=False)
        projected = config.residual_projection == "always" or embed_dim != width
        self.residual = nn.Linear(embed_dim, width, bias=False) if config.use_residual and projected else None
        self.norm = nn.LayerNorm(width) if config.layer_norm else None

    def forward(self, x: Tensor) -> Tensor:
        """`(B, F, D)` → `(B, F, A)`."""
        dropout = self.config.dropout if self.training else 0.0
        mixed = attend(self.query_key_value(x), self.config.num_heads, self.scale, dropout)  # (B, F, A)
        if self.config.use_residual:
            mixed = mixed + (x if self.residual is None else self.residual(x))
        return torch.relu(mixed if self.norm is None else self.norm(mixed))

    def weights(self, x: Tensor) -> Tensor:
        """`(B, F, D)` → `(B, heads, F, F)`."""
        return attention_weights(self.query_key_value(x), self.config.num_heads, self.scale)
