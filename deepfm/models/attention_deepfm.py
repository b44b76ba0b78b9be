"""AttentionDeepFM: DeepFM whose deep tower also sees fields that have attended to each other."""

from torch import Tensor, nn

from deepfm.models.base import BaseCTRModel
from deepfm.models.layers import FMInteraction, MultiHeadSelfAttention


class AttentionDeepFM(BaseCTRModel):
    """logit = first order + FM(fields) + linear(DNN(flatten(attention(fields)) ⊕ flat)).

    The attention over fields is AutoInt's (Song et al., 2019); the rest is DeepFM (Guo et al., 2017).
    """

    def _build_components(self) -> None:
        attention, width = self.config.attention, self.config.feature.fm_embed_dim
        self.fm = FMInteraction()
        self.attention = MultiHeadSelfAttention(
            width, attention.num_heads, attention.attention_dim, attention.num_layers, attention.use_residual
        )
        self.dnn = self._dnn(self.schema.num_fields * width + self.schema.total_embedding_dim)
        self.dnn_output = nn.Linear(self.dnn.output_dim, 1)

    def _forward_components(self, first_order: Tensor, field_embeddings: Tensor, flat_embeddings: Tensor) -> Tensor:
        attended = self.attention(field_embeddings).flatten(1)  # (B, F·D)
        logit: Tensor = self.dnn_output(self.dnn(attended, flat_embeddings))  # (B, 1)
        if self.config.fm.use_first_order:
            logit = logit + first_order
        if self.config.fm.use_second_order:
            logit = logit + self.fm(field_embeddings)
        return logit
