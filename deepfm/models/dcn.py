"""DCN: a cross network beside a deep tower."""

import torch
from torch import Tensor, nn

from deepfm.config import ExperimentConfig
from deepfm.models.base import WideModel
from deepfm.models.layers import CrossNet


class DCN(WideModel):
    """logit = first order + linear(cross(flat) ⊕ DNN(flat)), cross: x' = x0·(w·x) + b + x (Wang et al., 2017).

    The paper has no first order, which `fm.use_first_order` adds.
    """

    def _build_components(self) -> None:
        width = self.schema.total_embedding_dim
        self.cross = CrossNet(width, self.config.dcn.num_layers)
        self.dnn = self._dnn(width)
        self.output = nn.Linear(width + self.dnn.output_dim, 1)

    def _forward_components(self, first_order: Tensor, field_embeddings: Tensor, flat_embeddings: Tensor) -> Tensor:
        crossed = self.cross(flat_embeddings.contiguous())  # (B, T), of rows that are written out once
        logit: Tensor = self.output(torch.cat([crossed, self.dnn(flat_embeddings)], dim=1))  # (B, 1)
        return logit + first_order

    def _reads_fields(self, config: ExperimentConfig) -> bool:
        return False
