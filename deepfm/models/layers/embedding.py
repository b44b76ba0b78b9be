"""Fields to vectors: the three views that every model shares."""

import torch
from torch import Tensor, nn

from deepfm.data.schema import DatasetSchema, FeatureType, FieldSchema
from deepfm.errors import ConfigError, SchemaError
from deepfm.models.layers.width_table import PADDING_INDEX, WidthTable

ORDERS = {"both": (False, True), "first": (True,), "second": (False,)}  # whether each table there is is linear


class FeatureEmbedding(nn.Module):
    """Embeds a batch once for the linear, the interaction and the deep part.

    A field has rows of its own in a table of its width, which it shares with all fields of that width, and a projection
    without bias to the common width D. Index 0 is padding and unknown: its rows are zero and never receive a gradient,
    so it contributes exactly zero to every view. `field_weight` shows the rows of one field. A field that shares its
    embedding reads the other's rows. Behaviour sequences are in none of the views; `sequences` gives them.

    Args:
        schema: F interacting fields, of total own width T.
        fm_embed_dim: D.
        projection: `always`, `if_needed` (only for fields whose own width is not D) or `none`; None where nobody reads
            the field embeddings, which are then `(B, 0, D)`.
        orders: `both`, or where a model reads no more, the `first` order's tables or the `second`'s vectors alone; the
            views of a table that is not there are zeros, and the field embeddings `(B, 0, D)`.

    Attributes:
        sparse_gradients: whether the tables' gradients are sparse tensors of the rows that a batch holds, which
            `engine.optim.build_optimizer` takes and most of torch's own optimizers do not; False.

    Raises:
        ConfigError: `projection` is `none` and a field's own width is not D.

    Example:
        >>> schema = DatasetSchema({"age": FieldSchema("age", FeatureType.SPARSE, 8, 4)}, "label")
        >>> first_order, fields, flat = FeatureEmbedding(schema, 16)({"age": torch.tensor([3, 0])})
        >>> first_order.shape, fields.shape, flat.shape
        (torch.Size([2, 1]), torch.Size([2, 1, 16]), torch.Size([2, 4]))
    """

    def __init__(
        self, schema: DatasetSchema, fm_embed_dim: int, projection: str | None = "always", orders: str = "both"
    ) -> None:
        super().__init__()
        self.schema = schema
        self.embed_dim = fm_embed_dim
        self.sparse_gradients = False
        self.orders = orders
        self.has_fields = projection is not None and orders != "first"
        self.projections = nn.ModuleDict()
        for field in schema.interacting_fields if self.has_fields else ():
            width = field.embedding_dim
            if projection == "none" and width != fm_embed_dim:
                raise ConfigError(
                    f"feature.projection = 'none' needs every field as wide as feature.fm_embed_dim = {fm_embed_dim}, "
                    f"and {field.name!r} is {width} wide; set feature.embedding_dim={fm_embed_dim} or a projection"
                )
            if projection == "always" or width != fm_embed_dim:
                self.projections[module_key(field.name)] = nn.Linear(width, fm_embed_dim, bias=False)
        widths = sorted({field.embedding_dim for field in schema.fields.values()})
        self.tables = nn.ModuleDict(
            {
                str(width): WidthTable([f for f in schema.fields.values() if f.embedding_dim == width], orders)
                for width in widths
            }
        )
        self._first_field, self._flat_width = schema.interacting_fields[0].name, schema.total_embedding_dim
        interacting = {field.embedding_dim for field in schema.interacting_fields}
        self._widths = [str(width) for width in widths if width in interacting]
        self._shared_width = len(self._widths) == 1 and not self.projections
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Xavier-uniform weights, field by field; padding rows zero."""
        with torch.no_grad():
            for first_order in ORDERS[self.orders]:
                for field in self.schema.fields.values():
                    if field.shares_embedding_with is not None:
                        continue
                    weight = self.field_weight(field.name, first_order)
                    nn.init.xavier_uniform_(weight)
                    if field.feature_type is not FeatureType.DENSE:
                        weight[PADDING_INDEX] = 0.0
        for projection in self.projections.parameters():
            nn.init.xavier_uniform_(projection)

    def field_weight(self, name: str, first_order: bool = False) -> Tensor:
        """One field's part of its table, a view: `(vocabulary_size, width)`, or `(dimension, width)` for a dense field.

        Of a table that is not there, zeros in the first order and width 0 in the second.

        Args:
            name: the field.
            first_order: the linear weights, of width 1, instead.
        """
        return self._table_of(self.schema.fields[name]).field_weight(name, first_order)

    def projection_of(self, name: str) -> nn.Module | None:
        """A field's projection to the common width, where it has one: a Linear, or an int8 one in its place."""
        return self.projections._modules.get(module_key(name))

    def table_parameters(self) -> list[nn.Parameter]:
        """The weights that `feature.embedding_l2_reg` penalises: the tables of both orders, projections apart."""
        return list(self.tables.parameters())

    @property
    def num_rows(self) -> int:
        """Rows of all tables, padding included, those of dense fields apart."""
        own = [field for field in self.schema.fields.values() if field.shares_embedding_with is None]
        return sum(field.vocabulary_size for field in own)

    def forward(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Embed a batch.

        Args:
            batch: field → ids `(B,)` (sparse) or `(B, max_length)` (sequence), numbers `(B,)` or `(B, dimension)`.

        Returns:
            first order `(B, 1)`, field embeddings `(B, F, D)`, flat embeddings `(B, T)`.
        """
        embedded = {width: self.tables[width](batch, self.sparse_gradients) for width in self._widths}
        first_order = torch.cat([linear for linear, _ in embedded.values()], dim=1).sum(dim=1, keepdim=True)  # (B, 1)
        if self.orders == "first":
            nothing, rows = first_order.new_zeros(1, 1), first_order.shape[0]
            return first_order, nothing.expand(rows, 0, self.embed_dim), nothing.expand(rows, self._flat_width)
        if self._shared_width:
            ((_, vectors),) = embedded.values()  # (B, F, D)
            flat = vectors.flatten(1)
            return first_order, vectors if self.has_fields else flat.new_zeros(flat.shape[0], 0, self.embed_dim), flat
        columns = {width: iter(vectors.unbind(1)) for width, (_, vectors) in embedded.items()}
        own, projected = [], []
        for field in self.schema.interacting_fields:
            vector = next(columns[str(field.embedding_dim)])  # (B, d)
            projection = self.projection_of(field.name)
            own.append(vector)
            if self.has_fields:
                projected.append(vector if projection is None else projection(vector))  # (B, D)
        flat = torch.cat(own, dim=1)
        fields = torch.stack(projected, dim=1) if projected else flat.new_zeros(flat.shape[0], 0, self.embed_dim)
        return first_order, fields, flat

    def sequences(self, batch: dict[str, Tensor]) -> dict[str, tuple[Tensor, Tensor]]:
        """Every behaviour sequence, token by token.

        Args:
            batch: as for `forward`; a behaviour sequence's ids are `(B, L)`, oldest first and padded with 0 at either
                end, or `(U, L)` where each is that of B / U consecutive rows.

        Returns:
            name → embeddings `(B, L, E)`, zero at padding, and mask `(B, L)`, true at tokens.

        Raises:
            SchemaError: U does not divide B.
        """
        rows = len(batch[self._first_field])
        answers = {}
        for name, (vectors, mask) in self.shared_sequences(batch).items():
            copies = rows // max(1, len(mask))
            answers[name] = vectors.repeat_interleave(copies, dim=0), mask.repeat_interleave(copies, dim=0)
        return answers

    def shared_sequences(self, batch: dict[str, Tensor]) -> dict[str, tuple[Tensor, Tensor]]:
        """As `sequences`, but one history for the rows that share it: embeddings `(U, L, E)` and mask `(U, L)`."""
        rows = batch[self._first_field].shape[0]
        for field in self.schema.behaviour_fields:
            histories = batch[field.name].shape[0]
            if histories != rows and (not histories or rows % histories):
                raise SchemaError(
                    f"behaviour sequence {field.name!r} has {histories} histories for {rows} rows; expected one a row, "
                    "or one for each of equally many consecutive rows"
                )
        return self.embed_histories(batch)

    def embed_histories(self, batch: dict[str, Tensor]) -> dict[str, tuple[Tensor, Tensor]]:
        """As `shared_sequences`, of a batch that need not hold any rows: `{name: (U, L)}`."""
        answers = {}
        for field in self.schema.behaviour_fields:
            ids = batch[field.name]
            answers[field.name] = self._table_of(field).tokens(ids, field, self.sparse_gradients), ids != PADDING_INDEX
        return answers

    def _table_of(self, field: FieldSchema) -> "WidthTable":
        table = self.tables[str(field.embedding_dim)]
        assert isinstance(table, WidthTable)
        return table


def module_key(name: str) -> str:
    """A field's name as torch accepts it for a submodule: without dots, none of the container's own, one a name."""
    key = name.replace("%", "%25").replace(".", "%2E")
    return f"{key}%" if hasattr(nn.ModuleDict(), key) else key
