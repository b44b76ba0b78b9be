"""The inputs' names and places, and lookups for models of one's own."""

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from deepfm.errors import SchemaError
from deepfm.interop.deepctr.columns import (
    DEFAULT_GROUP_NAME,
    DenseFeat,
    FeatureColumn,
    SparseFeat,
    VarLenSparseFeat,
    columns_of,
    sparse_columns,
)
from deepfm.interop.deepctr.layers.sequence import SequencePoolingLayer
from deepfm.interop.deepctr.layers.utils import concat_fun

__all__ = [
    "DEFAULT_GROUP_NAME",
    "DenseFeat",
    "SparseFeat",
    "VarLenSparseFeat",
    "build_input_features",
    "combined_dnn_input",
    "create_embedding_matrix",
    "embedding_lookup",
    "get_dense_input",
    "get_feature_names",
    "get_varlen_pooling_list",
    "maxlen_lookup",
    "varlen_embedding_lookup",
]


def get_feature_names(feature_columns: Sequence[FeatureColumn]) -> list[str]:
    """The names of all inputs, lengths among them, in the order in which a list of arrays gives them."""
    return list(build_input_features(feature_columns))


def build_input_features(feature_columns: Sequence[FeatureColumn]) -> "OrderedDict[str, tuple[int, int]]":
    """Where each input begins and ends if all stand side by side: name → (first column, last column + 1).

    Raises:
        SchemaError: something among the columns is none.
    """
    places: OrderedDict[str, tuple[int, int]] = OrderedDict()
    end = 0

    def place(name: str, width: int) -> None:
        nonlocal end
        if name not in places:
            places[name] = (end, end + width)
            end += width

    for column in feature_columns:
        if isinstance(column, SparseFeat):
            place(column.name, 1)
        elif isinstance(column, DenseFeat):
            place(column.name, column.dimension)
        elif isinstance(column, VarLenSparseFeat):
            place(column.name, column.maxlen)
            if column.length_name is not None:
                place(column.length_name, 1)
        else:
            raise SchemaError(
                f"{column!r} is a {type(column).__name__}; expected a SparseFeat, VarLenSparseFeat or DenseFeat of "
                "deepfm.interop.deepctr.inputs"
            )
    return places


def combined_dnn_input(sparse_embedding_list: Sequence[Tensor], dense_value_list: Sequence[Tensor]) -> Tensor:
    """Embeddings, each `(B, 1, E)`, and numbers, each `(B, k)`, side by side: `(B, ΣE + Σk)`.

    Raises:
        SchemaError: there are neither.
    """
    parts = [torch.cat(list(found), dim=-1).flatten(1) for found in (sparse_embedding_list, dense_value_list) if found]
    if not parts:
        raise SchemaError("there are neither embeddings nor dense values; expected one column at least")
    return concat_fun(parts)


def create_embedding_matrix(
    feature_columns: Sequence[FeatureColumn],
    init_std: float = 0.0001,
    linear: bool = False,
    sparse: bool = False,
    device: str | torch.device = "cpu",
) -> nn.ModuleDict:
    """A table `(vocabulary_size, embedding_dim)` for each `embedding_name`, drawn from N(0, init_std²).

    Args:
        feature_columns: dense ones have none.
        init_std: see above.
        linear: width 1 instead.
        sparse: whether gradients are sparse tensors.
        device: where they live.
    """
    tables = nn.ModuleDict()
    for column in sparse_columns(feature_columns):
        width = 1 if linear else column.embedding_dim
        tables[column.embedding_name] = nn.Embedding(column.vocabulary_size, width, sparse=sparse)
    for weight in tables.parameters():
        nn.init.normal_(weight, std=init_std)
    return tables.to(device)


def embedding_lookup(
    X: Tensor,  # noqa: N803 - DeepCTR-Torch's name
    sparse_embedding_dict: nn.ModuleDict,
    sparse_input_dict: dict[str, tuple[int, int]],
    sparse_feature_columns: Sequence[SparseFeat | VarLenSparseFeat],
    return_feat_list: Sequence[str] = (),
    mask_feat_list: Sequence[str] = (),  # noqa: ARG001 - DeepCTR-Torch does nothing with it either
    to_list: bool = False,
) -> dict[str, list[Tensor]] | list[Tensor]:
    """The embeddings `(B, width of the input, E)` of columns in `X (B, all inputs)`, by `group_name` or as a list."""
    groups: dict[str, list[Tensor]] = {}
    for column in sparse_feature_columns:
        if not return_feat_list or column.name in return_feat_list:
            ids = _part(X, sparse_input_dict, column.name).long()
            groups.setdefault(column.group_name, []).append(sparse_embedding_dict[column.embedding_name](ids))
    return [vectors for group in groups.values() for vectors in group] if to_list else groups


def varlen_embedding_lookup(
    X: Tensor,  # noqa: N803
    embedding_dict: nn.ModuleDict,
    sequence_input_dict: dict[str, tuple[int, int]],
    varlen_sparse_feature_columns: Sequence[VarLenSparseFeat],
) -> dict[str, Tensor]:
    """The embeddings `(B, maxlen, E)` of each column in `X (B, all inputs)`, not pooled."""
    return {
        column.name: embedding_dict[column.embedding_name](_part(X, sequence_input_dict, column.name).long())
        for column in varlen_sparse_feature_columns
    }


def get_varlen_pooling_list(
    embedding_dict: dict[str, Tensor],
    features: Tensor,
    feature_index: dict[str, tuple[int, int]],
    varlen_sparse_feature_columns: Sequence[VarLenSparseFeat],
    device: str | torch.device = "cpu",
) -> list[Tensor]:
    """One vector `(B, 1, E)` a column of what `varlen_embedding_lookup` found in `features (B, all inputs)`."""
    pooled = []
    for column in varlen_sparse_feature_columns:
        masked = column.length_name is None
        valid = _part(features, feature_index, column.length_name or column.name).long()
        pool = SequencePoolingLayer(column.combiner, supports_masking=masked, device=device)
        pooled.append(pool([embedding_dict[column.name], valid != 0 if masked else valid]))
    return pooled


def get_dense_input(
    X: Tensor,  # noqa: N803
    features: dict[str, tuple[int, int]],
    feature_columns: Sequence[FeatureColumn],
) -> list[Tensor]:
    """The numbers `(B, dimension)` of each dense column in `X (B, all inputs)`."""
    return [_part(X, features, column.name).float() for column in columns_of(DenseFeat, feature_columns)]


def maxlen_lookup(
    X: Tensor,  # noqa: N803
    sparse_input_dict: dict[str, tuple[int, int]],
    maxlen_column: Sequence[str],
) -> Tensor:
    """The lengths `(B, 1)` that the first of some inputs of `X (B, all inputs)` holds.

    Raises:
        SchemaError: there is no such input.
    """
    if not maxlen_column:
        raise SchemaError("a history needs a length_name; give one to its VarLenSparseFeat")
    return _part(X, sparse_input_dict, maxlen_column[0]).long()


def _part(inputs: Tensor, places: dict[str, tuple[int, int]], name: str) -> Tensor:
    start, end = places[name]
    return inputs[:, start:end]
