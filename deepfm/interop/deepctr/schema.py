"""Feature columns as a schema of this package."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from deepfm.data.schema import DatasetSchema, FeatureType, FieldSchema
from deepfm.errors import SchemaError
from deepfm.interop.deepctr.columns import (
    DenseFeat,
    FeatureColumn,
    SparseFeat,
    VarLenSparseFeat,
    columns_of,
    sparse_columns,
)

MOST_ROWS = 2**31 - 1  # of all tables of one width: row numbers are 32 bits wide


@dataclass(frozen=True)
class Tables:
    """The embedding tables that columns share by `embedding_name`.

    Args:
        sizes: embedding_name → rows, the most that any of its columns has.
        owners: embedding_name → the name of the first column that has it.
    """

    sizes: dict[str, int]
    owners: dict[str, str]

    @classmethod
    def of(cls, columns: Iterable[SparseFeat | VarLenSparseFeat]) -> "Tables":
        """The tables of some columns."""
        sizes: dict[str, int] = {}
        owners: dict[str, str] = {}
        for column in columns:
            sizes[column.embedding_name] = max(sizes.get(column.embedding_name, 0), column.vocabulary_size)
            owners.setdefault(column.embedding_name, column.name)
        return cls(sizes, owners)


def schema_of(feature_columns: Sequence[FeatureColumn], histories: Collection[str] = ()) -> DatasetSchema:
    """The schema of columns: those of one id, then those of several, then a dense field for each number.

    Ids shift by one: row 0 of a field is padding, and id i of a column is row i + 1, so that every id is a trained row.
    A `DenseFeat` of several numbers becomes the fields `name[0]`, `name[1]`, …

    Args:
        feature_columns: in any order; one that stands several times counts once.
        histories: names of columns of several ids that stay unpooled, as behaviour sequences.

    Raises:
        SchemaError: columns of one name or one table that differ, or too many rows.
    """
    columns = unique_columns(feature_columns)
    sparse = sparse_columns(columns)
    tables = Tables.of(sparse)
    fields = [_field(column, tables, column.name in histories) for column in sparse]
    for dense in columns_of(DenseFeat, columns):
        names = [dense.name] if dense.dimension == 1 else [f"{dense.name}[{k}]" for k in range(dense.dimension)]
        fields += [FieldSchema(name, FeatureType.DENSE) for name in names]
    if sum(size + 1 for size in tables.sizes.values()) > MOST_ROWS:
        raise SchemaError(
            f"the tables have {sum(tables.sizes.values()):,} rows together; expected at most {MOST_ROWS:,}, so use "
            "smaller vocabularies"
        )
    taken = {field.name for field in fields}
    label = next(name for name in ("label", "__label__", *(f"__label_{i}__" for i in range(len(fields))))
                 if name not in taken)  # fmt: skip
    return DatasetSchema({field.name: field for field in fields}, label)


def unique_columns(feature_columns: Iterable[FeatureColumn]) -> list[FeatureColumn]:
    """Each column once, in the order in which they first stand.

    Raises:
        SchemaError: two of one name that differ.
    """
    columns: dict[str, FeatureColumn] = {}
    for column in feature_columns:
        known = columns.setdefault(column.name, column)
        if known != column:
            raise SchemaError(f"column {column.name!r} stands twice, as {known} and as {column}; expected it alike")
    return list(columns.values())


def _field(column: SparseFeat | VarLenSparseFeat, tables: Tables, is_history: bool) -> FieldSchema:
    owner = tables.owners[column.embedding_name]
    shared = None if owner == column.name else owner
    rows, width = tables.sizes[column.embedding_name] + 1, column.embedding_dim
    if isinstance(column, SparseFeat):
        return FieldSchema(
            column.name, FeatureType.SPARSE, rows, width, column.group_name, shares_embedding_with=shared
        )
    combiner = "none" if is_history else column.combiner
    return FieldSchema(
        column.name, FeatureType.SEQUENCE, rows, width, column.group_name, column.maxlen, combiner, shared
    )
