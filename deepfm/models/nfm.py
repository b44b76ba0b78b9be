"""NFM: a deep tower on the pairs of a factorisation machine."""

from torch import Tensor, nn

from deepfm.models.base import WideModel
from deepfm.models.layers import BiInteraction
from deepfm.models.layers.dnn import Dropout


class NFM(WideModel):
    """logit = first order + linear(DNN(Σ over pairs of fields of x_i ∘ x_j)) (He and Chua, 2017, equations 2 and 3).

    One field alone has no pair: the tower then sees zeros, and the model is logistic regression.
    """

    def _build_components(self) -> None:
        self.pairs = BiInteraction()
        self.dropout = Dropout(self.config.nfm.dropout)
        self.dnn = self._dnn(self.config.feature.fm_embed_dim)
        self.dnn_output = nn.Linear(self.dnn.output_dim, 1)

    def _forward_components(self, first_order: Tensor, field_embeddings: Tensor, flat_embeddings: Tensor) -> Tensor:
        pooled = self.dropout(self.pairs(field_embeddings))  # (B, D)
        logit: Tensor = first_order + self.dnn_output(self.dnn(pooled))  # (B, 1)
        return logit
