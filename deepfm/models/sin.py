"""SIN: a CIN over the fields and a Transformer over the behaviour, joined by a learned gate."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from deepfm.config import ExperimentConfig, SINConfig
from deepfm.data.schema import FieldSchema
from deepfm.errors import ConfigError
from deepfm.models.layers import CIN, EncoderLayer, GatedFusion, TargetAttention, TransformerEncoder
from deepfm.models.layers.embedding import module_key
from deepfm.models.layers.transformer import Positions, ages
from deepfm.models.sequence import NO_BEHAVIOUR, Behaviour, SequenceModel


class SIN(SequenceModel):
    """logit = first order + linear(fused) + linear(DNN(flat ⊕ fused)), fused = gate ∘ cin + (1 - gate) ∘ transformer.

    This package's own. The CIN is xDeepFM's (Lian et al., 2018), the encoder is Vaswani et al.'s (2017), and the
    candidate meets the history as `sin.candidate` says. `sin.fusion` gives the ablations: the plain sum, or one side.
    """

    def _build_components(self) -> None:
        sin, width = self.config.sin, self.config.sin.fusion_dim
        if sin.fusion != "transformer":
            cin = self.config.cin
            self.cin = CIN(
                self.schema.num_fields,
                self.config.feature.fm_embed_dim,
                cin.layer_sizes,
                cin.split_half,
                cin.activation,
            )
            self.cin_output = nn.Linear(self.cin.output_dim, width)
        if sin.fusion != "cin":
            fields = self.schema.behaviour_fields
            self.behaviours = nn.ModuleDict({module_key(field.name): _BehaviourSide(field, sin) for field in fields})
            self.transformer_output = nn.Linear(2 * sum(field.embedding_dim for field in fields), width)
        self.fusion = GatedFusion(width) if sin.fusion == "gate" else None
        self.fused_output = nn.Linear(width, 1)
        if sin.use_dnn:
            self.dnn = self._dnn(self.schema.total_embedding_dim + width)
            self.dnn_output = nn.Linear(self.dnn.output_dim, 1, bias=False)  # the fused output has the bias

    def _forward_components(
        self,
        first_order: Tensor,
        field_embeddings: Tensor,
        flat_embeddings: Tensor,
        behaviour: Mapping[str, Behaviour] = NO_BEHAVIOUR,
    ) -> Tensor:
        fused = self._fused(field_embeddings, behaviour)  # (B, G)
        logit: Tensor = self.fused_output(fused)  # (B, 1)
        if self.config.sin.use_dnn:
            logit = logit + self.dnn_output(self.dnn(flat_embeddings, fused))
        return logit + first_order if self.config.fm.use_first_order else logit

    def _reads_fields(self, config: ExperimentConfig) -> bool:
        return config.sin.fusion != "transformer"

    def _fused(self, field_embeddings: Tensor, behaviour: Mapping[str, Behaviour]) -> Tensor:
        fusion = self.config.sin.fusion
        if fusion == "cin":
            return self._cin_side(field_embeddings)
        if fusion == "transformer":
            return self._transformer_side(behaviour)
        sides = self._cin_side(field_embeddings), self._transformer_side(behaviour)
        return sides[0] + sides[1] if self.fusion is None else self.fusion(*sides)

    def _cin_side(self, field_embeddings: Tensor) -> Tensor:
        output: Tensor = self.cin_output(self.cin(field_embeddings))  # (B, G)
        return output

    def _transformer_side(self, behaviour: Mapping[str, Behaviour]) -> Tensor:
        seen = [self.behaviours[module_key(name)](history) for name, history in behaviour.items()]  # (B, 2·E)
        output: Tensor = self.transformer_output(torch.cat(seen, dim=1))  # (B, G)
        return output

    def monitors(self) -> dict[str, nn.Module]:
        """The gate, whose values are the share of the CIN's side."""
        return {} if self.fusion is None else {"gate": self.fusion.values}

    def require_catalogue(self) -> None:
        """Make sure that this form of the model is an inner product.

        Raises:
            ConfigError: it is none.
        """
        sin = self.config.sin
        if (sin.fusion, sin.candidate, sin.use_dnn) != ("transformer", "product", False):
            raise ConfigError(
                "training.loss = 'full_softmax' needs a logit that is an inner product; expected sin.fusion="
                "transformer, sin.candidate=product and sin.use_dnn=false, "
                f"got {sin.fusion}, {sin.candidate} and {sin.use_dnn}"
            )

    def catalogue_logits(self, batch: dict[str, Tensor], catalogue: dict[str, Tensor]) -> Tensor:
        """Logits of each row's history with every item, as inner products.

        Args:
            batch: `{field: (P, …)}`, histories `(P, L)`.
            catalogue: the item fields `{field: (C, …)}`.

        Returns:
            `(P, C)`, without what the users' own fields add alike to all items.

        Raises:
            ConfigError: this form of the model is no inner product.
        """
        self.require_catalogue()
        size = len(next(iter(catalogue.values())))
        nobody = {
            name: column.new_zeros(size, *column.shape[1:])
            for name, column in batch.items()
            if name not in catalogue and name not in self.behaviour_columns
        }
        first_order, _, flat = self.embedding({**nobody, **catalogue})
        weight = (self.fused_output.weight @ self.transformer_output.weight).squeeze(0)  # (2·E,) of each behaviour
        logits = first_order.t() if self.config.fm.use_first_order else torch.zeros_like(first_order.t())  # (1, C)
        start = 0
        for name, (tokens, mask) in self.embedding.shared_sequences(batch).items():
            side = self.behaviours[module_key(name)]
            assert isinstance(side, _BehaviourSide)
            pooled, items = side.vectors(tokens, mask, flat[:, self.behaviour_columns[name]])  # (P, E), (C, E)
            width = pooled.shape[1]
            of_history, of_product = weight[start : start + 2 * width].split(width)
            logits = logits + (pooled * of_product) @ items.t() + (pooled @ of_history).unsqueeze(1)
            start += 2 * width
        return logits


class _BehaviourSide(nn.Module):
    """One behaviour sequence on the Transformer's side: what a candidate finds in it, and that times the candidate.

    An encoder of another width than the events' works on projected events, and what it finds, projected back, is added.
    """

    def __init__(self, field: FieldSchema, config: SINConfig) -> None:
        super().__init__()
        own = field.embedding_dim
        width = config.encoder_dim or own
        self.lower, self.lift = None, None
        if width != own and config.num_layers:
            self.lower, self.lift = nn.Linear(own, width, bias=False), nn.Linear(width, own, bias=False)
            nn.init.zeros_(self.lift.weight)  # the events themselves, at first
        self.positions = Positions(field.max_length + 1, own)
        layer = EncoderLayer(width, config.num_heads, config.feedforward_dim, config.dropout, config.norm_first)
        self.encoder = TransformerEncoder(layer, config.num_layers)
        self.attention = None
        if config.candidate != "encoded":
            by_content = config.candidate == "attends"
            self.attention = TargetAttention(own, config.num_heads, field.max_length, by_content)
        self.match = nn.Linear(own, own, bias=False)
        nn.init.xavier_uniform_(self.match.weight)  # torch's own is smaller, and this multiplies another

    def forward(self, behaviour: Behaviour) -> Tensor:
        """`(B, 2·E)`."""
        pooled = self._pool(behaviour)  # (U, W, E)
        return torch.cat([pooled, pooled * self.match(behaviour.candidates)], dim=2).flatten(0, 1)

    def vectors(self, tokens: Tensor, mask: Tensor, candidates: Tensor) -> tuple[Tensor, Tensor]:
        """Histories `(P, L, E)`, whoever the candidate is, and candidates `(C, E)`, as `(P, E)` and `(C, E)`."""
        return self._pool(Behaviour(tokens, mask, tokens[:, :1])).squeeze(1), self.match(candidates)

    def _pool(self, behaviour: Behaviour) -> Tensor:
        """What each candidate finds in the history: `(U, W, E)`."""
        mask, candidates = behaviour.mask, behaviour.candidates
        tokens = behaviour.tokens + self.positions(ages(mask) + 1)
        if self.attention is None:
            last = candidates + self.positions.weight[0]
            return self._lifted(self.encoder.last(self._lowered(tokens), mask, self._lowered(last)), last)
        encoded = self._lifted(self.encoder(self._lowered(tokens), mask), tokens)
        pooled: Tensor = self.attention(candidates, encoded, mask)
        return pooled

    def _lowered(self, tokens: Tensor) -> Tensor:
        return tokens if self.lower is None else self.lower(tokens)

    def _lifted(self, encoded: Tensor, tokens: Tensor) -> Tensor:
        return encoded if self.lift is None else tokens + self.lift(encoded)
