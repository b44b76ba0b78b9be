"""Categories of any table: values as text to integers, rare ones left out, by polars and so also in streams."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepfm.errors import DataError, NotFittedError

if TYPE_CHECKING:
    import polars as pl
    from polars.datatypes import DataType

BOOLEANS = ("True", "False", "TRUE", "FALSE")


def id_text(values: "pl.Expr", kind: "DataType") -> "pl.Expr":
    """Ids of any type as text, the same from every file: 7 for 7, 7.0 and " 7.0 ", true for True; missing ones null."""
    import polars as pl

    if kind.is_float():  # what pandas makes of whole numbers with gaps
        whole = values.fill_nan(None)
        digits = whole.cast(pl.Int64, strict=False).cast(pl.String)
        return pl.when(whole == whole.round()).then(digits).otherwise(whole.cast(pl.String))
    text = values.cast(pl.String)
    return text if kind.is_integer() or kind == pl.Boolean else same_text(text)


def same_text(text: "pl.Expr") -> "pl.Expr":
    """A text expression without blanks around an id, the `.0` of a whole number, and capitals in a boolean."""
    import polars as pl

    bare = text.str.strip_chars()
    digits = bare.str.strip_chars_end("0").str.strip_chars_end(".")
    whole = pl.when(bare.str.contains(r"^[+-]?\d+\.0+$")).then(digits).otherwise(bare)
    return pl.when(bare.is_in(BOOLEANS)).then(bare.str.to_lowercase()).otherwise(whole)


class CategoryEncoder:
    """Values as text → integers from 1, in the order of the text; unknown values → `unknown`.

    Args:
        min_count: values that are rarer in `fit` stay unknown.
        oov: `padding` gives unknown values index 0, whose embedding is zero; `learned` index 1, and the known ones
            follow.
        missing: whether an empty value is a known one, where `fit` meets it.

    Example:
        >>> encoder = CategoryEncoder(min_count=2).fit(["b", "a", "b", "a", "c"])
        >>> encoder.transform(["a", "b", "c"]).tolist(), encoder.vocabulary_size
        ([1, 2, 0], 3)
    """

    kind: ClassVar[str] = "category"

    def __init__(self, min_count: int = 1, oov: str = "padding", missing: bool = False) -> None:
        self.min_count, self.oov, self.missing = min_count, oov, missing
        self._values: list[str] | None = None
        self._type: pl.Enum | None = None

    def __repr__(self) -> str:
        return f"CategoryEncoder({'not fitted' if self._values is None else f'{len(self._values)} values'})"

    @property
    def values(self) -> list[str]:
        """The known values in the order of their indices, the first of which is 1, or 2 after a learned unknown."""
        if self._values is None:
            raise NotFittedError("CategoryEncoder was asked before it was fitted; call fit on the training split first")
        return self._values

    @property
    def vocabulary_size(self) -> int:
        """Known values + 1, and one more for a learned row of unknown ones."""
        return len(self.values) + (2 if self.oov == "learned" else 1)

    @property
    def unknown(self) -> int:
        """The index of unknown values."""
        return 1 if self.oov == "learned" else 0

    def fit(self, values: Iterable[str | None]) -> "CategoryEncoder":
        """Learn the values that occur at least `min_count` times; empty ones and None are never known."""
        import polars as pl

        counts = pl.Series("value", list(values), dtype=pl.String).value_counts(name="rows")
        return self.fit_counts(counts["value"], counts["rows"])

    def fit_counts(self, values: "pl.Series", rows: "pl.Series") -> "CategoryEncoder":
        """As `fit`, from distinct values and how many rows hold each."""
        empty = (values.is_null() | (values == "")).fill_null(True)
        known = values.filter((rows >= self.min_count) & ~empty).sort().to_list()
        self._values, self._type = (["", *known] if self.missing and empty.any() else known), None
        return self

    def expression(self, text: "pl.Expr") -> "pl.Expr":
        """The indices of a text expression, as int32.

        Raises:
            NotFittedError: before `fit`.
        """
        import polars as pl

        if not self.values:
            return text.is_null().cast(pl.Int32) * 0 + self.unknown
        if self._type is None:
            self._type = pl.Enum(self.values)
        text = text.fill_null("") if self.missing else text
        codes = text.cast(self._type, strict=False).to_physical().cast(pl.Int32)
        return (codes + (self.unknown + 1)).fill_null(self.unknown)

    def transform(self, values: Iterable[str | None]) -> NDArray[np.int32]:
        """Indices `(N,)`.

        Raises:
            NotFittedError: before `fit`.
        """
        import polars as pl

        column = pl.Series("value", list(values), dtype=pl.String).to_frame()
        return column.select(self.expression(pl.col("value"))).to_series().to_numpy(writable=True)

    def inverse_transform(self, indices: ArrayLike) -> NDArray[Any]:
        """The values of indices `(N,)` as an object array; None for padding and unknown.

        Raises:
            NotFittedError: before `fit`.
            DataError: an index outside the vocabulary.
        """
        table = np.array([None] * (self.unknown + 1) + self.values, dtype=object)
        wanted = np.asarray(indices, dtype=np.int64)
        outside = wanted[(wanted < 0) | (wanted >= len(table))]
        if len(outside):
            raise DataError(f"index {outside[0]} is outside the vocabulary; expected 0 to {len(table) - 1}")
        return table[wanted]

    def to_dict(self) -> dict[str, Any]:
        """The known values and the options, as JSON-ready data."""
        options = {"min_count": self.min_count, "oov": self.oov, "missing": self.missing}
        return {"kind": self.kind, **options, "values": self.values}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> "CategoryEncoder":
        """What `to_dict` gave.

        Raises:
            DataError: the values are no distinct texts.
        """
        encoder = cls(plain["min_count"], plain["oov"], plain["missing"])
        values = plain["values"]
        texts = isinstance(values, list) and all(isinstance(value, str) for value in values)
        if not texts or len(set(values)) != len(values):
            raise DataError("an encoder's values are no distinct texts; train again to write it")
        encoder._values = values
        return encoder
