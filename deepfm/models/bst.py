"""BST: a Transformer over the behaviour and the candidate."""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deepfm.config import BSTConfig, ExperimentConfig
from deepfm.data.schema import FieldSchema
from deepfm.models.layers import EncoderLayer, TransformerEncoder
from deepfm.models.layers.embedding import module_key
from deepfm.models.layers.transformer import Positions, ages
from deepfm.models.sequence import NO_BEHAVIOUR, Behaviour, InterestFM, SequenceModel


class BST(SequenceModel):
    """logit = linear(DNN(flat ⊕ Transformer(history, candidate))) (Chen et al., 2019, Behavior Sequence Transformer).

    The candidate is the last token of the sequence. The paper has no first order, which `fm.use_first_order` adds, and
    no pairs of fields and interest, which `bst.second_order` adds.
    """

    def _build_components(self) -> None:
        fields = self.schema.behaviour_fields
        self.encoders = nn.ModuleDict({module_key(field.name): _Encoder(field, self.config.bst) for field in fields})
        widths = [field.embedding_dim * self._places(field) for field in fields]
        self.dnn = self._dnn(self.schema.total_embedding_dim + sum(widths))
        self.dnn_output = nn.Linear(self.dnn.output_dim, 1)
        self.fm = InterestFM(widths, self.config.feature.fm_embed_dim) if self.config.bst.second_order else None

    def _forward_components(
        self,
        first_order: Tensor,
        field_embeddings: Tensor,
        flat_embeddings: Tensor,
        behaviour: Mapping[str, Behaviour] = NO_BEHAVIOUR,
    ) -> Tensor:
        encoded = [self.encoders[module_key(name)](history) for name, history in behaviour.items()]  # (B, E·places)
        logit: Tensor = self.dnn_output(self.dnn(flat_embeddings, *encoded))  # (B, 1)
        if self.fm is not None:
            logit = logit + self.fm(field_embeddings, encoded)
        return logit + first_order if self.config.fm.use_first_order else logit

    def _reads_fields(self, config: ExperimentConfig) -> bool:
        return config.bst.second_order

    def _places(self, field: FieldSchema) -> int:
        return field.max_length + 1 if self.config.bst.pooling == "all" else 1


class _Encoder(nn.Module):
    """One behaviour sequence, with the candidate behind it, to one vector a row."""

    def __init__(self, field: FieldSchema, config: BSTConfig) -> None:
        super().__init__()
        self.max_length, self.pooling = field.max_length, config.pooling
        self.positions = Positions(field.max_length + 1, field.embedding_dim)
        layer = EncoderLayer(
            field.embedding_dim, config.num_heads, config.feedforward_dim, config.dropout, config.norm_first
        )
        self.encoder = TransformerEncoder(layer, config.num_layers)

    def forward(self, behaviour: Behaviour) -> Tensor:
        """`(B, E)`, or `(B, (L + 1)·E)` where every place goes out."""
        tokens, mask = behaviour.tokens + self.positions(ages(behaviour.mask) + 1), behaviour.mask
        candidates = behaviour.candidates + self.positions.weight[0]
        if self.pooling == "target":
            return self.encoder.last(tokens, mask, candidates).flatten(0, 1)
        copies = candidates.shape[1]
        history = tokens.repeat_interleave(copies, dim=0)  # (B, L, E)
        mask = F.pad(mask.repeat_interleave(copies, dim=0), (0, 1), value=True)  # (B, L + 1)
        encoded = self.encoder(torch.cat([history, candidates.flatten(0, 1).unsqueeze(1)], dim=1), mask)
        encoded = encoded * mask.unsqueeze(2)
        if self.pooling == "mean":
            mean: Tensor = encoded.sum(dim=1) / mask.sum(dim=1, keepdim=True)
            return mean
        return self._by_age(encoded, mask).flatten(1)

    def _by_age(self, encoded: Tensor, mask: Tensor) -> Tensor:
        """Every token at the place of its age `(B, L + 1, E)`, the candidate first, wherever padding stood."""
        places = ages(mask).masked_fill(~mask, self.max_length).clamp(max=self.max_length)  # (B, L' + 1)
        out = encoded.new_zeros(encoded.shape[0], self.max_length + 1, encoded.shape[2])
        return out.scatter_add(1, places.unsqueeze(2).expand_as(encoded), encoded)
