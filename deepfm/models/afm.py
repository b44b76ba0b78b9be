"""AFM: a factorisation machine whose pairs have weights."""

from torch import Tensor, nn

from deepfm.models.base import WideModel
from deepfm.models.layers import PairAttention
from deepfm.models.layers.dnn import Dropout


class AFM(WideModel):
    """logit = b + first order + p·Σ weight·(x_i ∘ x_j), weights by attention over the pairs (Xiao et al., 2017).

    One field alone has no pair: the model is then logistic regression.
    """

    def _build_components(self) -> None:
        width = self.config.feature.fm_embed_dim
        self.attention = PairAttention(self.schema.num_fields, width, self.config.afm.attention_dim)
        self.dropout = Dropout(self.config.afm.dropout)
        self.output = nn.Linear(width, 1)  # p and b

    def _forward_components(self, first_order: Tensor, field_embeddings: Tensor, flat_embeddings: Tensor) -> Tensor:
        pooled = self.dropout(self.attention(field_embeddings))  # (B, D)
        logit: Tensor = first_order + self.output(pooled)  # (B, 1)
        return logit
