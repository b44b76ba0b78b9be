"""DCN V2: a cross network with matrices, beside or before a deep tower."""

import torch
from torch import Tensor, nn

from deepfm.config import ExperimentConfig
from deepfm.models.base import WideModel
from deepfm.models.layers import CrossNetV2


class DCNv2(WideModel):
    """logit = first order + linear(cross(flat) ⊕ DNN(flat)), cross: x' = x0 ∘ (W·x + b) + x (Wang et al., 2021).

    Stacked, it is linear(DNN(cross(flat))). `dcn_v2.low_rank` makes W = U·Vᵀ, and `dcn_v2.num_experts` a mixture of
    such (DCN V2, equations 1 to 4). The paper has no first order, which `fm.use_first_order` adds.
    """

    def _build_components(self) -> None:
        cross, width = self.config.dcn_v2, self.schema.total_embedding_dim
        self.cross = CrossNetV2(width, cross.num_layers, cross.low_rank, cross.num_experts)
        self.dnn = self._dnn(width)
        beside = width if cross.structure == "parallel" else 0
        self.output = nn.Linear(beside + self.dnn.output_dim, 1)

    def _forward_components(self, first_order: Tensor, field_embeddings: Tensor, flat_embeddings: Tensor) -> Tensor:
        crossed = self.cross(flat_embeddings.contiguous())  # (B, T), of rows that are written out once
        if self.config.dcn_v2.structure == "stacked":
            logit: Tensor = self.output(self.dnn(crossed))  # (B, 1)
        else:
            logit = self.output(torch.cat([crossed, self.dnn(flat_embeddings)], dim=1))
        return logit + first_order

    def _reads_fields(self, config: ExperimentConfig) -> bool:
        return False
