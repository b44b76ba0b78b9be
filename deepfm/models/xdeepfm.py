"""xDeepFM: a compressed interaction network and a deep tower."""

from torch import Tensor, nn

from deepfm.models.base import BaseCTRModel
from deepfm.models.layers import CIN


class xDeepFM(BaseCTRModel):
    """logit = first order + linear(CIN(fields)) + linear(DNN(flat)) (Lian et al., 2018, equation 9)."""

    def _build_components(self) -> None:
        cin = self.config.cin
        self.cin = CIN(
            self.schema.num_fields,
            self.config.feature.fm_embed_dim,
            cin.layer_sizes,
            cin.split_half,
            cin.activation,
        )
        self.cin_output = nn.Linear(self.cin.output_dim, 1, bias=cin.output_bias)  # the tower's output has one
        self.dnn = self._dnn(self.schema.total_embedding_dim)
        self.dnn_output = nn.Linear(self.dnn.output_dim, 1)

    def _forward_components(self, first_order: Tensor, field_embeddings: Tensor, flat_embeddings: Tensor) -> Tensor:
        logit: Tensor = self.cin_output(self.cin(field_embeddings)) + self.dnn_output(self.dnn(flat_embeddings))
        return logit + first_order if self.config.fm.use_first_order else logit  # (B, 1)
