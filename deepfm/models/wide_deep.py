"""Wide & Deep: logistic regression beside a deep tower."""

from torch import Tensor, nn

from deepfm.config import ExperimentConfig
from deepfm.models.base import WideModel


class WideDeep(WideModel):
    """logit = first order + linear(DNN(flat)) (Cheng et al., 2016, equation 3).

    The paper's wide part also has products of fields that a person chose; write those into the data as fields.
    """

    def _build_components(self) -> None:
        self.dnn = self._dnn(self.schema.total_embedding_dim)
        self.dnn_output = nn.Linear(self.dnn.output_dim, 1)

    def _forward_components(self, first_order: Tensor, field_embeddings: Tensor, flat_embeddings: Tensor) -> Tensor:
        logit: Tensor = first_order + self.dnn_output(self.dnn(flat_embeddings))  # (B, 1)
        return logit

    def _reads_fields(self, config: ExperimentConfig) -> bool:
        return False
