"""DIN: the history weighted anew for each candidate."""

from collections.abc import Mapping

from torch import Tensor, nn

from deepfm.config import DINConfig, ExperimentConfig
from deepfm.data.schema import FieldSchema
from deepfm.models.layers import ActivationUnit, RecencyBias
from deepfm.models.layers.embedding import module_key
from deepfm.models.layers.kernels import remembered
from deepfm.models.sequence import NO_BEHAVIOUR, Behaviour, InterestFM, SequenceModel


class DIN(SequenceModel):
    """logit = linear(DNN(flat ⊕ Σ weight(event, candidate)·event)) (Zhou et al., 2018, equation 3).

    The paper's Dice activation and adaptive regularisation are left out. It has no first order, which
    `fm.use_first_order` adds, and no pairs of fields and interest, which `din.second_order` adds.
    """

    def _build_components(self) -> None:
        fields = self.schema.behaviour_fields
        self.attention = nn.ModuleDict({module_key(field.name): _Attention(field, self.config.din) for field in fields})
        widths = [field.embedding_dim for field in fields]
        self.dnn = self._dnn(self.schema.total_embedding_dim + sum(widths))
        self.dnn_output = nn.Linear(self.dnn.output_dim, 1)
        self.fm = InterestFM(widths, self.config.feature.fm_embed_dim) if self.config.din.second_order else None

    def _forward_components(
        self,
        first_order: Tensor,
        field_embeddings: Tensor,
        flat_embeddings: Tensor,
        behaviour: Mapping[str, Behaviour] = NO_BEHAVIOUR,
    ) -> Tensor:
        interests = [self.attention[module_key(name)](history) for name, history in behaviour.items()]  # (B, E)
        logit: Tensor = self.dnn_output(self.dnn(flat_embeddings, *interests))  # (B, 1)
        if self.fm is not None:
            logit = logit + self.fm(field_embeddings, interests)
        return logit + first_order if self.config.fm.use_first_order else logit

    def _reads_fields(self, config: ExperimentConfig) -> bool:
        return config.din.second_order


class _Attention(nn.Module):
    """One behaviour sequence to one vector a row."""

    def __init__(self, field: FieldSchema, config: DINConfig) -> None:
        super().__init__()
        self.unit = ActivationUnit(field.embedding_dim, config.hidden_units, config.normalize)
        self.recency = RecencyBias(1, field.max_length) if config.recency else None

    def forward(self, behaviour: Behaviour) -> Tensor:
        """`(B, E)`."""
        bias = None if self.recency is None else self.recency(behaviour.mask).squeeze(1)  # (U, L)
        origins = behaviour.origins
        if origins is None:
            interest: Tensor = self.unit(behaviour.candidates, behaviour.tokens, behaviour.mask, bias)
            return interest.flatten(0, 1)
        weights = remembered(self, lambda: self.unit.table(origins.candidate_table, origins.token_table))  # (V, N)
        weights = weights[origins.tokens.unsqueeze(2), origins.candidates.unsqueeze(1)].transpose(1, 2)  # (U, W, L)
        return self.unit.combine(weights, behaviour.tokens, behaviour.mask, bias).flatten(0, 1)
