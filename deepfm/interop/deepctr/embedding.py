"""From encoded rows to what models compute with: a linear term, field embeddings and numbers."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from deepfm.data.schema import DatasetSchema
from deepfm.errors import ConfigError, SchemaError
from deepfm.interop.deepctr.columns import DenseFeat, FeatureColumn, columns_of, sparse_columns
from deepfm.interop.deepctr.layers.sequence import prefix_mask
from deepfm.interop.deepctr.rows import PADDING, SHIFT, EncodedRows, Layout
from deepfm.interop.deepctr.schema import Tables, schema_of
from deepfm.models.layers import FeatureEmbedding

LINEAR_STD = 0.0001  # DeepCTR-Torch's, whatever a model's init_std is


@dataclass(frozen=True, eq=False)
class Views:
    """What a batch of B rows looks like to the parts of a model.

    Args:
        linear: `(B, 1)` the linear term.
        fields: `(B, F, D)` embeddings of the columns with a table, or `(B, 0, D)` where nobody reads them.
        flat: `(B, T)` the same side by side, each of its own width.
        dense: `(B, K)` the tower's numbers.
    """

    linear: Tensor
    fields: Tensor
    flat: Tensor
    dense: Tensor

    def deep(self, *extra: Tensor) -> list[Tensor]:
        """The tower's inputs, each `(B, …)`: the flat embeddings, `extra` ones and the numbers, if there are such."""
        return [part for part in (self.flat, *extra, self.dense) if part.shape[1]]


class ColumnEmbedding(nn.Module):
    """The tables of a model's columns, in this package's `FeatureEmbedding`.

    Where both parts have the same columns, one lookup serves both.

    Args:
        linear, dnn: feature columns of the two parts.
        layout: how rows are encoded.
        histories: names of those of `dnn` that stay unpooled.
        reads_fields: whether the model reads field embeddings, which needs one width.

    Raises:
        ConfigError: widths that differ, where the model reads field embeddings.
        SchemaError: a column that stands twice in a list.
    """

    def __init__(
        self,
        linear: Sequence[FeatureColumn],
        dnn: Sequence[FeatureColumn],
        layout: Layout,
        histories: Sequence[str] = (),
        reads_fields: bool = True,
    ) -> None:
        super().__init__()
        self.layout, self.histories = layout, tuple(histories)
        self.linear_columns, self.dnn_columns = sparse_columns(linear), sparse_columns(dnn)
        for part in (linear, dnn):
            _refuse_repeats(part)
        pooled = [column for column in self.dnn_columns if column.name not in histories]
        widths = {column.name: column.embedding_dim for column in pooled}
        self.num_fields, self.total_dim = len(pooled), sum(widths.values())
        self.embed_dim = next(iter(widths.values()), 0)
        if reads_fields and len(set(widths.values())) > 1:
            other = next(name for name, width in widths.items() if width != self.embed_dim)
            raise ConfigError(
                f"embedding_dim is {self.embed_dim} in {pooled[0].name!r} and {widths[other]} in {other!r}; expected "
                "one width, as this model multiplies embeddings with each other"
            )
        own, others = Tables.of(self.linear_columns), Tables.of(self.dnn_columns)
        sizes = {name: others.sizes.get(name) for name in own.sizes}
        self.is_joint = bool(pooled) and set(self.linear_columns) == set(pooled) and own.sizes == sizes
        projection = "none" if reads_fields else None
        orders = "both" if self.is_joint else "second"
        self.second = FeatureEmbedding(_schema(dnn, histories), self.embed_dim, projection, orders) if pooled else None
        separate = bool(self.linear_columns) and not self.is_joint
        self.first = FeatureEmbedding(_schema(linear), 1, None, "first") if separate else None
        numbers = columns_of(DenseFeat, linear)
        self.linear_weight = nn.Parameter(torch.empty(sum(n.dimension for n in numbers), 1)) if numbers else None
        self.linear_numbers = [layout.dense[column.name] for column in numbers]
        self.dnn_numbers = [layout.dense[column.name] for column in columns_of(DenseFeat, dnn)]
        self.dense_dim = sum(place.stop - place.start for place in self.dnn_numbers)

    @torch.no_grad()
    def reset_parameters(self, init_std: float) -> None:
        """Tables from N(0, init_std²) and linear weights from N(0, 1e-8); padding rows zero."""
        if self.second is not None:
            for column in self.dnn_columns:
                self.second.field_weight(column.name).normal_(std=init_std)[PADDING] = 0.0
        for column in self.linear_columns:
            self.linear_field_weight(column.name).normal_(std=LINEAR_STD)[PADDING] = 0.0
        if self.linear_weight is not None:
            self.linear_weight.normal_(std=LINEAR_STD)

    def linear_field_weight(self, name: str) -> Tensor:
        """The linear weights of a column, a view `(rows + 1, 1)`; id i has row i + 1."""
        embedding = self.first if self.first is not None else self.second
        assert embedding is not None
        return embedding.field_weight(name, first_order=True)

    def table_parameters(self) -> list[nn.Parameter]:
        """The embedding tables."""
        return [] if self.second is None else _named(self.second, "weight")

    def linear_parameters(self) -> list[nn.Parameter]:
        """The linear weights, those of numbers among them."""
        found = [] if self.first is None else _named(self.first, "first_order")
        found += _named(self.second, "first_order") if self.second is not None and self.is_joint else []
        return found if self.linear_weight is None else [*found, self.linear_weight]

    @property
    def embeddings(self) -> list[FeatureEmbedding]:
        """The lookups, at most two."""
        return [embedding for embedding in (self.second, self.first) if embedding is not None]

    def forward(self, rows: EncodedRows) -> Views:
        """A batch of B rows, in the views that the model's parts read."""
        size = rows.dense.shape[0]
        linear = rows.dense.new_zeros(size, 1)
        fields, flat = linear.new_zeros(size, 0, self.embed_dim), linear.new_zeros(size, 0)
        if self.second is not None:
            first_order, fields, flat = self.second(self._batch(self.second, rows))
            linear = first_order if self.is_joint else linear
        if self.first is not None:
            linear = self.first(self._batch(self.first, rows))[0]
        if self.linear_weight is not None:
            linear = linear + _columns(rows.dense, self.linear_numbers) @ self.linear_weight
        return Views(linear, fields, flat, _columns(rows.dense, self.dnn_numbers))

    def tokens(self, rows: EncodedRows) -> dict[str, tuple[Tensor, Tensor]]:
        """Each history: its events `(B, L, E)` and a mask `(B, L)`, true at events.

        Where there is no event, the vector is that of whatever id stands there.
        """
        if self.second is None or not self.histories:
            return {}
        blocks = {name: self.layout.blocks[name, "tokens"] for name in self.histories}
        ids = {name: block.of(rows.ids) for name, block in blocks.items()}
        answers = {}
        for name, (vectors, _) in self.second.embed_histories(ids).items():
            length_name, mask = blocks[name].length_name, ids[name] != SHIFT
            if length_name is not None:
                lengths = self.layout.blocks[length_name, "length"].of(rows.ids)
                mask = prefix_mask(lengths, blocks[name].width)
            answers[name] = vectors, mask
        return answers

    def _batch(self, embedding: FeatureEmbedding, rows: EncodedRows) -> dict[str, Tensor]:
        batch = {}
        for field in embedding.schema.interacting_fields:
            kind = "id" if (field.name, "id") in self.layout.blocks else "pooled"
            batch[field.name] = self.layout.blocks[field.name, kind].of(rows.ids)
        return batch


def _refuse_repeats(columns: Sequence[FeatureColumn]) -> None:
    names = [column.name for column in columns]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise SchemaError(f"column {twice!r} stands {names.count(twice)} times in one list; expected each once")


def _schema(columns: Sequence[FeatureColumn], histories: Sequence[str] = ()) -> DatasetSchema:
    return schema_of(sparse_columns(columns), histories)


def _named(embedding: FeatureEmbedding, end: str) -> list[nn.Parameter]:
    return [weight for name, weight in embedding.tables.named_parameters() if name.endswith(f".{end}")]


def _columns(dense: Tensor, places: Sequence[slice]) -> Tensor:
    """Some of the numbers `(B, K)`; all of them as they are."""
    wanted = [column for place in places for column in range(place.start, place.stop)]
    return dense if wanted == list(range(dense.shape[1])) else dense[:, wanted]
