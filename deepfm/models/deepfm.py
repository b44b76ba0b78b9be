"""DeepFM: a factorisation machine and a deep tower on one set of embeddings."""

from torch import Tensor, nn

from deepfm.models.base import BaseCTRModel
from deepfm.models.layers import FMInteraction


class DeepFM(BaseCTRModel):
    """logit = first order + FM(fields) + linear(DNN(flat)) (Guo et al., 2017, equation 1)."""

    def _build_components(self) -> None:
        self.fm = FMInteraction()
        self.dnn = self._dnn(self.schema.total_embedding_dim)
        self.dnn_output = nn.Linear(self.dnn.output_dim, 1)

    def _forward_components(self, first_order: Tensor, field_embeddings: Tensor, flat_embeddings: Tensor) -> Tensor:
        logit: Tensor = self.dnn_output(self.dnn(flat_embeddings))  # (B, 1)
        if self.config.fm.use_first_order:
            logit = logit + first_order
        if self.config.fm.use_second_order:
            logit = logit + self.fm(field_embeddings)
        return logit
