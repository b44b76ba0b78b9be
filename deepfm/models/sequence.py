"""What models of behaviour share: candidates beside the histories of their users."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from types import MappingProxyType

import torch
from torch import Tensor, nn

from deepfm.config import ExperimentConfig
from deepfm.data.schema import DatasetSchema, FieldSchema
from deepfm.errors import ConfigError, SchemaError
from deepfm.models.base import BaseCTRModel
from deepfm.models.layers import FMInteraction


@dataclass(frozen=True, eq=False)
class Origins:
    """Where the vectors of a behaviour come from, so that what a token means to a candidate can be looked up.

    Args:
        token_table: `(V, E)` all tokens.
        candidate_table: `(N, E)` all candidates.
        tokens: `(U, L)` rows of the first.
        candidates: `(U, W)` rows of the second.
    """

    token_table: Tensor
    candidate_table: Tensor
    tokens: Tensor
    candidates: Tensor


@dataclass(frozen=True, eq=False)
class Behaviour:
    """The histories of U users or moments, each with its W candidates: B = U·W rows.

    Args:
        tokens: `(U, L, E)` embedded events, oldest first; zeros at padding.
        mask: `(U, L)`, true at events.
        candidates: `(U, W, E)` embedded candidates.
        origins: given by a scorer that will ask for more pairs of token and candidate than there are different ones.
    """

    tokens: Tensor
    mask: Tensor
    candidates: Tensor
    origins: Origins | None = None


class InterestFM(nn.Module):
    """The pairs of a factorisation machine over the fields and what was found in each behaviour sequence.

    Args:
        embed_dims: E of each sequence.
        fm_embed_dim: D.
    """

    def __init__(self, embed_dims: Sequence[int], fm_embed_dim: int) -> None:
        super().__init__()
        self.projections = nn.ModuleList(nn.Linear(width, fm_embed_dim, bias=False) for width in embed_dims)
        self.fm = FMInteraction()

    def forward(self, field_embeddings: Tensor, interests: Sequence[Tensor]) -> Tensor:
        """Fields `(B, F, D)` and interests, each `(B, E)`, → `(B, 1)`."""
        projected = [project(interest) for project, interest in zip(self.projections, interests, strict=True)]
        pairs: Tensor = self.fm(torch.cat([field_embeddings, torch.stack(projected, dim=1)], dim=1))
        return pairs


NO_BEHAVIOUR: Mapping[str, Behaviour] = MappingProxyType({})


class SequenceModel(BaseCTRModel):
    """A click model that reads behaviour sequences.

    Histories stand once a row, or once for equally many consecutive rows that share them: `(U, L)` ids in a batch of
    B = U·W rows. The outcome is the same.

    Raises:
        ConfigError: the schema has no behaviour sequence, or one without a candidate of its width.
    """

    reads_behaviour = True

    def __init__(self, schema: DatasetSchema, config: ExperimentConfig) -> None:
        if not schema.behaviour_fields:
            raise ConfigError(
                f"{type(self).__name__} needs a behaviour sequence and the schema has none; add a sequence field with "
                "combiner='none' and shares_embedding_with the candidate's field"
            )
        self.behaviour_columns: dict[str, slice] = {}
        for field in schema.behaviour_fields:
            self.behaviour_columns[field.name] = _columns(schema, _candidate(schema, field))
        super().__init__(schema, config)

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        """Raw logits `(B, 1)` of a batch `{field: (B, …)}`, histories `(B, L)` or `(U, L)`."""
        first_order, fields, flat = self.embedding(batch)
        return self._forward_components(first_order, fields, flat, self.behaviour(batch, flat))

    def behaviour(self, batch: dict[str, Tensor], flat: Tensor) -> dict[str, Behaviour]:
        """Every behaviour sequence of a batch, with the candidates from the flat embeddings `(B, T)`."""
        answers = {}
        for name, (tokens, mask) in self.embedding.shared_sequences(batch).items():
            candidates = flat[:, self.behaviour_columns[name]]  # (B, E)
            histories = mask.shape[0]
            wide = candidates.shape[0] // max(1, histories) or 1
            answers[name] = Behaviour(tokens, mask, candidates.unflatten(0, (histories, wide)))
        return answers

    @abstractmethod
    def _forward_components(
        self,
        first_order: Tensor,
        field_embeddings: Tensor,
        flat_embeddings: Tensor,
        behaviour: Mapping[str, Behaviour] = NO_BEHAVIOUR,
    ) -> Tensor:
        """Logits `(B, 1)` from the three views and the behaviour sequences."""


def _candidate(schema: DatasetSchema, field: FieldSchema) -> FieldSchema:
    try:
        candidate = schema.candidate_of(field.name)
    except SchemaError as error:
        raise ConfigError(str(error)) from error
    if candidate.is_behaviour:
        raise ConfigError(
            f"behaviour sequence {field.name!r} has another, {candidate.name!r}, as its candidate; expected a "
            "field of one value, such as the item's id"
        )
    if candidate.embedding_dim != field.embedding_dim:
        raise ConfigError(
            f"behaviour sequence {field.name!r} is {field.embedding_dim} wide and its candidate {candidate.name!r} "
            f"{candidate.embedding_dim}; expected the same width"
        )
    return candidate


def _columns(schema: DatasetSchema, wanted: FieldSchema) -> slice:
    """Where a field's own embedding stands in the flat embeddings."""
    widths = {field.name: field.embedding_dim for field in schema.interacting_fields}
    start = sum(width for width, _ in zip(widths.values(), takewhile(wanted.name.__ne__, widths), strict=False))
    return slice(start, start + wanted.embedding_dim)
