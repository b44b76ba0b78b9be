"""Feature columns: what a person says of each input."""

from collections.abc import Iterable
from typing import Any, NamedTuple, TypeVar

from deepfm.errors import SchemaError

DEFAULT_GROUP_NAME = "default_group"
COMBINERS = ("mean", "sum", "max")


class _SparseFields(NamedTuple):
    name: str
    vocabulary_size: int
    embedding_dim: int
    use_hash: bool
    dtype: str
    embedding_name: str
    group_name: str


class SparseFeat(_SparseFields):
    """A column of ids `(N,)` from 0 to `vocabulary_size - 1`, each with a trained row.

    Args:
        name: the input's.
        vocabulary_size: rows of the embedding table.
        embedding_dim: its width; `auto` is 6·⌊vocabulary_size^¼⌋.
        use_hash: only False.
        dtype: kept, and of no effect: ids stay whole numbers.
        embedding_name: of the table, which columns of the same one share; None for the column's own name.
        group_name: kept, and of no effect in the models here.

    Raises:
        SchemaError: `use_hash` is true, or a size is no whole number of at least 1.

    Example:
        >>> SparseFeat("item_id", 16, embedding_dim="auto").embedding_dim
        12
    """

    __slots__ = ()

    def __new__(
        cls,
        name: str,
        vocabulary_size: int,
        embedding_dim: int | str = 4,
        use_hash: bool = False,
        dtype: str = "int32",
        embedding_name: str | None = None,
        group_name: str = DEFAULT_GROUP_NAME,
    ) -> "SparseFeat":
        """Check and complete a column."""
        if use_hash:
            raise SchemaError(
                f"SparseFeat {name!r} has use_hash=True, and values are not hashed on the fly; encode them to ids "
                "first, with scikit-learn's LabelEncoder say, and leave use_hash=False"
            )
        rows = _size(name, "vocabulary_size", vocabulary_size)
        width = 6 * int(rows**0.25) if embedding_dim == "auto" else _size(name, "embedding_dim", embedding_dim)
        return super().__new__(cls, name, rows, width, use_hash, dtype, embedding_name or name, group_name)

    def __hash__(self) -> int:
        return hash(self.name)


class _VarLenFields(NamedTuple):
    sparsefeat: SparseFeat
    maxlen: int
    combiner: str
    length_name: str | None


class VarLenSparseFeat(_VarLenFields):
    """A column of several ids a row `(N, maxlen)`.

    Args:
        sparsefeat: name, vocabulary and table.
        maxlen: ids a row.
        combiner: `mean`, `sum` or `max` of their vectors.
        length_name: the input with the number of ids of each row, which stand first; without one, id 0 is padding.

    Raises:
        SchemaError: an unknown combiner, or a `maxlen` that is no whole number of at least 1.
    """

    __slots__ = ()

    def __new__(
        cls, sparsefeat: SparseFeat, maxlen: int, combiner: str = "mean", length_name: str | None = None
    ) -> "VarLenSparseFeat":
        """Check a column."""
        if combiner not in COMBINERS:
            raise SchemaError(
                f"VarLenSparseFeat {sparsefeat.name!r} has combiner {combiner!r}; expected {', '.join(COMBINERS)}"
            )
        return super().__new__(cls, sparsefeat, _size(sparsefeat.name, "maxlen", maxlen), combiner, length_name)

    @property
    def name(self) -> str:
        """The input's."""
        return self.sparsefeat.name

    @property
    def vocabulary_size(self) -> int:
        """Rows of the embedding table."""
        return self.sparsefeat.vocabulary_size

    @property
    def embedding_dim(self) -> int:
        """Its width."""
        return self.sparsefeat.embedding_dim

    @property
    def use_hash(self) -> bool:
        """False."""
        return self.sparsefeat.use_hash

    @property
    def dtype(self) -> str:
        """As given."""
        return self.sparsefeat.dtype

    @property
    def embedding_name(self) -> str:
        """Of the table."""
        return self.sparsefeat.embedding_name

    @property
    def group_name(self) -> str:
        """As given."""
        return self.sparsefeat.group_name

    def __hash__(self) -> int:
        return hash(self.name)


class _DenseFields(NamedTuple):
    name: str
    dimension: int
    dtype: str


class DenseFeat(_DenseFields):
    """A column of numbers, `(N,)` or `(N, dimension)`.

    Args:
        name: the input's.
        dimension: numbers a row.
        dtype: kept, and of no effect: numbers become float32.

    Raises:
        SchemaError: `dimension` is no whole number of at least 1.
    """

    __slots__ = ()

    def __new__(cls, name: str, dimension: int = 1, dtype: str = "float32") -> "DenseFeat":
        """Check a column."""
        return super().__new__(cls, name, _size(name, "dimension", dimension), dtype)

    def __hash__(self) -> int:
        return hash(self.name)


FeatureColumn = SparseFeat | VarLenSparseFeat | DenseFeat
Column = TypeVar("Column")


def columns_of(kind: type[Column], feature_columns: Iterable[Any]) -> list[Column]:
    """The columns of one kind, in order."""
    return [column for column in feature_columns if isinstance(column, kind)]


def sparse_columns(feature_columns: Iterable[Any]) -> list[SparseFeat | VarLenSparseFeat]:
    """The columns with a table: those of one id a row, then those of several, as every model here stacks them."""
    columns = list(feature_columns)
    return [*columns_of(SparseFeat, columns), *columns_of(VarLenSparseFeat, columns)]


def _size(name: str, what: str, value: Any) -> int:
    """A whole number of at least 1, be it Python's, numpy's or a float without fraction."""
    try:
        size = int(value)
    except (TypeError, ValueError):
        size = 0
    if size < 1 or size != value:
        raise SchemaError(f"column {name!r} has {what} {value!r}; expected a whole number of at least 1")
    return size
