"""Views of a model's tables under DeepCTR-Torch's names and row numbers."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from deepfm.interop.deepctr.columns import SparseFeat, VarLenSparseFeat
from deepfm.interop.deepctr.embedding import ColumnEmbedding
from deepfm.interop.deepctr.rows import SHIFT
from deepfm.interop.deepctr.schema import Tables


@dataclass(frozen=True, eq=False)
class TableView:
    """A table `(V, E)`, without the padding row; to write into it is to write into the model.

    Args:
        weight: row i is id i's.
    """

    weight: Tensor


def table_views(
    columns: Sequence[SparseFeat | VarLenSparseFeat], tables: ColumnEmbedding, linear: bool
) -> dict[str, TableView]:
    """embedding_name → the table of columns.

    Args:
        columns: those of the linear part, or those of the rest.
        tables: which hold them.
        linear: the linear weights `(V, 1)` instead.
    """
    views = {}
    for embedding_name, name in Tables.of(columns).owners.items():
        if linear:
            weight = tables.linear_field_weight(name)
        else:
            assert tables.second is not None
            weight = tables.second.field_weight(name)
        views[embedding_name] = TableView(weight.detach()[SHIFT:])
    return views
