"""Which columns are histories, and of what: `hist_<name>` belongs to the candidate `<name>`."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from deepfm.errors import ConfigError
from deepfm.interop.deepctr.columns import FeatureColumn, SparseFeat, VarLenSparseFeat, columns_of
from deepfm.interop.deepctr.embedding import ColumnEmbedding, Views
from deepfm.interop.deepctr.rows import EncodedRows

PREFIX = "hist_"


@dataclass(frozen=True)
class Histories:
    """The histories of a model, side by side as one.

    Args:
        names: of the history columns, in the columns' order.
        candidates: of their candidates.
        max_length: L.
        width: E, the sum of the candidates' widths.
    """

    names: tuple[str, ...]
    candidates: tuple[str, ...]
    max_length: int
    width: int

    @classmethod
    def of(cls, feature_columns: Sequence[FeatureColumn], history_feature_list: Sequence[str]) -> "Histories":
        """The histories of some candidates.

        Args:
            feature_columns: with `<name>` and `hist_<name>` for each candidate.
            history_feature_list: the candidates' names.

        Raises:
            ConfigError: a column is missing, or they do not go together.
        """
        wanted = list(history_feature_list)
        candidates = {c.name: c for c in columns_of(SparseFeat, feature_columns) if c.name in wanted}
        histories = [c for c in columns_of(VarLenSparseFeat, feature_columns) if c.name.removeprefix(PREFIX) in wanted]
        histories = [c for c in histories if c.name.startswith(PREFIX)]
        if not wanted:
            raise ConfigError("history_feature_list is empty; expected the name of at least one candidate column")
        for name in wanted:
            if name not in candidates:
                raise ConfigError(f"history_feature_list names {name!r}; expected a SparseFeat of that name")
            if PREFIX + name not in [column.name for column in histories]:
                raise ConfigError(f"{name!r} has no history; expected a VarLenSparseFeat named {PREFIX + name!r}")
        for column in histories:
            candidate = candidates[column.name.removeprefix(PREFIX)]
            if column.embedding_dim != candidate.embedding_dim:
                raise ConfigError(
                    f"{column.name!r} has embedding_dim {column.embedding_dim} and its candidate {candidate.name!r} "
                    f"{candidate.embedding_dim}; expected the same"
                )
            if column.maxlen != histories[0].maxlen:
                raise ConfigError(
                    f"{column.name!r} has maxlen {column.maxlen} and {histories[0].name!r} {histories[0].maxlen}; "
                    "expected the same, as they are one history"
                )
        names = tuple(column.name for column in histories)
        width = sum(column.embedding_dim for column in histories)
        return cls(names, tuple(name.removeprefix(PREFIX) for name in names), histories[0].maxlen, width)

    def read(self, columns: ColumnEmbedding, views: Views, rows: EncodedRows) -> tuple[Tensor, Tensor, Tensor]:
        """The candidate `(B, 1, E)`, the events `(B, L, E)` and a mask `(B, L)`, the first history's, of a batch."""
        places, start = {}, 0
        for column in columns.dnn_columns:
            if column.name not in self.names:
                places[column.name] = slice(start, start + column.embedding_dim)
                start += column.embedding_dim
        candidate = torch.cat([views.flat[:, places[name]] for name in self.candidates], dim=1).unsqueeze(1)
        tokens = columns.tokens(rows)
        return candidate, torch.cat([tokens[name][0] for name in self.names], dim=2), tokens[self.names[0]][1]
