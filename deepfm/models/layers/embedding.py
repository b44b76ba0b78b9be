"""Fields to vectors: the three views that every model shares."""

import torch
from torch import Tensor, nn

from deepfm.data.schema import DatasetSchema, FeatureType, FieldSchema
from deepfm.errors import ConfigError

PADDING_INDEX = 0


class FeatureEmbedding(nn.Module):
    """Embeds a batch once for the linear, the interaction and the deep part.

    A field has a table of its own width and a projection without bias to the common width D. Index 0 is padding and
    unknown: its rows are zero and never receive a gradient, so it contributes exactly zero to every view.

    Args:
        schema: F fields, of total own width T.
        fm_embed_dim: D.
        projection: `always`, `if_needed` (only for fields whose own width is not D) or `none`.

    Raises:
        ConfigError: `projection` is `none` and a field's own width is not D.

    Example:
        >>> schema = DatasetSchema({"age": FieldSchema("age", FeatureType.SPARSE, 8, 4)}, "label")
        >>> first_order, fields, flat = FeatureEmbedding(schema, 16)({"age": torch.tensor([3, 0])})
        >>> first_order.shape, fields.shape, flat.shape
        (torch.Size([2, 1]), torch.Size([2, 1, 16]), torch.Size([2, 4]))
    """

    def __init__(self, schema: DatasetSchema, fm_embed_dim: int, projection: str = "always") -> None:
        super().__init__()
        self.schema = schema
        self.embed_dim = fm_embed_dim
        self.tables = nn.ModuleDict()
        self.first_order_weights = nn.ModuleDict()
        self.projections = nn.ModuleDict()
        self._keys = {name: _module_key(name) for name in schema.fields}
        for field in schema.fields.values():
            key = self._keys[field.name]
            self.tables[key] = _table(field, field.embedding_dim)
            self.first_order_weights[key] = _table(field, 1)
            width = field.embedding_dim
            if projection == "none" and width != fm_embed_dim:
                raise ConfigError(
                    f"feature.projection = 'none' needs every field as wide as feature.fm_embed_dim = {fm_embed_dim}, "
                    f"and {field.name!r} is {width} wide; set feature.embedding_dim={fm_embed_dim} or a projection"
                )
            if projection == "always" or width != fm_embed_dim:
                self.projections[key] = nn.Linear(width, fm_embed_dim, bias=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Xavier-uniform weights; padding rows zero."""
        for weight in self.parameters():
            nn.init.xavier_uniform_(weight)
        for module in self.modules():
            if isinstance(module, nn.Embedding):
                with torch.no_grad():
                    module.weight[PADDING_INDEX] = 0.0

    def table_parameters(self) -> list[nn.Parameter]:
        """The weights that `feature.embedding_l2_reg` penalises: the tables of both orders, projections apart."""
        return [*self.tables.parameters(), *self.first_order_weights.parameters()]

    def forward(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Embed a batch.

        Args:
            batch: field → ids `(B,)` (sparse), numbers `(B,)` (dense) or ids `(B, max_length)` (sequence).

        Returns:
            first order `(B, 1)`, field embeddings `(B, F, D)`, flat embeddings `(B, T)`.
        """
        first_order, projected, own = [], [], []
        for field in self.schema.fields.values():
            key, column = self._keys[field.name], batch[field.name]
            first_order.append(_embed(field, self.first_order_weights[key], column))  # (B, 1)
            vector = _embed(field, self.tables[key], column)  # (B, d)
            own.append(vector)
            projected.append(self.projections[key](vector) if key in self.projections else vector)  # (B, D)
        return (
            torch.cat(first_order, dim=1).sum(dim=1, keepdim=True),
            torch.stack(projected, dim=1),
            torch.cat(own, 1),
        )


class _DenseVector(nn.Module):
    """The learned vector that a number is multiplied with."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(1, width))

    def forward(self, values: Tensor) -> Tensor:
        """Numbers `(B,)` or `(B, 1)` to `(B, width)`."""
        return values.reshape(-1, 1) * self.weight


def _table(field: FieldSchema, width: int) -> nn.Module:
    if field.feature_type is FeatureType.DENSE:
        return _DenseVector(width)
    return nn.Embedding(field.vocabulary_size, width, padding_idx=PADDING_INDEX)


def _embed(field: FieldSchema, table: nn.Module, column: Tensor) -> Tensor:
    vectors: Tensor = table(column)
    return _pool(vectors, column, field.combiner) if field.feature_type is FeatureType.SEQUENCE else vectors


def _pool(vectors: Tensor, tokens: Tensor, combiner: str) -> Tensor:
    """One vector `(B, d)` of the tokens `(B, L)` that are not padding; an all-padding row gives zeros."""
    if combiner == "max":
        hidden = (tokens == PADDING_INDEX).unsqueeze(-1)  # (B, L, 1)
        return vectors.masked_fill(hidden, -torch.inf).amax(dim=1).masked_fill(hidden.all(dim=1), 0.0)
    total = vectors.sum(dim=1)  # padding rows are zero
    if combiner == "sum":
        return total
    return total / (tokens != PADDING_INDEX).sum(dim=1, keepdim=True).clamp(min=1)


def _module_key(name: str) -> str:
    """A field's name as torch accepts it for a submodule: without dots, none of the container's own, one a name."""
    key = name.replace("%", "%25").replace(".", "%2E")
    return f"{key}%" if hasattr(nn.ModuleDict(), key) else key
