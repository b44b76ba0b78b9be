"""Categories without a list of values: hashed texts, and numbers between quantiles."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepfm.errors import DataError

if TYPE_CHECKING:
    import polars as pl

FNV_OFFSET, FNV_PRIME = np.uint64(0xCBF29CE484222325), np.uint64(0x100000001B3)


def fnv1a(texts: "pl.Series") -> NDArray[np.uint64]:
    """The 64-bit FNV-1a hash `(N,)` of texts' UTF-8 bytes, the same on every machine; a missing one counts as empty.

    (Fowler, Noll and Vo; draft-eastlake-fnv.)
    """
    buffers = texts.fill_null("").to_arrow(compat_level=_oldest())
    size = len(buffers)
    if not size:
        return np.zeros(0, dtype=np.uint64)
    offsets = np.frombuffer(buffers.buffers()[1], dtype=np.int64)[buffers.offset : buffers.offset + size + 1]
    content = buffers.buffers()[2]
    data = np.frombuffer(content, dtype=np.uint8) if content is not None else np.zeros(0, dtype=np.uint8)
    lengths = np.diff(offsets)
    hashes = np.full(size, FNV_OFFSET)
    longest_first = np.argsort(-lengths, kind="stable")
    ascending = np.sort(lengths)
    for place in range(int(ascending[-1])):
        rows = longest_first[: size - np.searchsorted(ascending, place, side="right")]  # texts longer than place
        hashes[rows] = (hashes[rows] ^ data[offsets[rows] + place]) * FNV_PRIME
    return hashes


class HashEncoder:
    """Texts → 1 to `buckets` by their hash; nothing is listed, so every later value has an index too.

    Args:
        buckets: how many rows; different values that meet in one share it.
        missing: whether an empty value has a row of its own, the last, instead of index 0.

    Example:
        >>> import polars as pl
        >>> HashEncoder(100).encode(pl.Series(["a", "b", None])).tolist()
        [97, 30, 0]
    """

    kind: ClassVar[str] = "hash"
    unknown = 0

    def __init__(self, buckets: int, missing: bool = False) -> None:
        self.buckets, self.missing = buckets, missing

    def __repr__(self) -> str:
        return f"HashEncoder({self.buckets} buckets)"

    @property
    def vocabulary_size(self) -> int:
        """Padding, the buckets, and a row for empty values where there is one."""
        return 1 + self.buckets + self.missing

    def encode(self, texts: "pl.Series") -> NDArray[np.int32]:
        """Indices `(N,)`."""
        codes = (fnv1a(texts) % np.uint64(self.buckets)).astype(np.int32) + 1
        empty = (texts.is_null() | (texts == "")).fill_null(True).to_numpy()
        codes[empty] = self.buckets + 1 if self.missing else 0
        return codes

    def expression(self, text: "pl.Expr") -> "pl.Expr":
        """The indices of a text expression, as int32."""
        import polars as pl

        return text.map_batches(
            lambda texts: pl.Series(texts.name, self.encode(texts)), return_dtype=pl.Int32, is_elementwise=True
        )

    def to_dict(self) -> dict[str, Any]:
        """The options, as JSON-ready data."""
        return {"kind": self.kind, "buckets": self.buckets, "missing": self.missing}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> "HashEncoder":
        """What `to_dict` gave."""
        return cls(int(plain["buckets"]), bool(plain["missing"]))


class QuantileBuckets:
    """Numbers → 1 to K + 1 by K edges, from the smallest numbers to the largest; a missing number → 0, or K + 2.

    Args:
        edges: increasing; a number that equals an edge belongs above it.
        missing: whether a missing number has a row of its own, the last, instead of index 0.

    Example:
        >>> QuantileBuckets.fit([1.0, 2.0, 3.0, 4.0], 2).encode([0.0, 3.5, float("nan")]).tolist()
        [1, 2, 0]
    """

    kind: ClassVar[str] = "quantile"
    unknown = 0

    def __init__(self, edges: Sequence[float], missing: bool = False) -> None:
        self.edges, self.missing = np.asarray(edges, dtype=np.float64), missing

    def __repr__(self) -> str:
        return f"QuantileBuckets({len(self.edges) + 1} buckets)"

    @classmethod
    def fit(cls, numbers: ArrayLike, buckets: int, missing: bool = False) -> "QuantileBuckets":
        """Edges at the quantiles of finite numbers `(N,)`; equal ones are kept once.

        Raises:
            DataError: there is no number.
        """
        known = np.asarray(numbers, dtype=np.float64)
        if not len(known):
            raise DataError("quantile buckets were given no number; expected at least one")
        shares = np.arange(1, buckets) / buckets
        edges = np.unique(np.quantile(known, shares, method="higher"))
        return cls(edges[edges > known.min()].tolist(), missing)

    @property
    def vocabulary_size(self) -> int:
        """Padding, the buckets, and a row for missing numbers where there is one."""
        return len(self.edges) + 2 + self.missing

    def encode(self, numbers: ArrayLike) -> NDArray[np.int32]:
        """Indices `(N,)`."""
        values = np.asarray(numbers, dtype=np.float64)
        codes = np.searchsorted(self.edges, values, side="right").astype(np.int32) + 1
        codes[np.isnan(values)] = len(self.edges) + 2 if self.missing else 0
        return codes

    def expression(self, number: "pl.Expr") -> "pl.Expr":
        """The indices of a float64 expression, null where a number is missing, as int32."""
        import polars as pl

        return number.map_batches(
            lambda values: pl.Series(values.name, self.encode(values.fill_null(np.nan).to_numpy())),
            return_dtype=pl.Int32,
            is_elementwise=True,
        )

    def to_dict(self) -> dict[str, Any]:
        """The edges, as JSON-ready data."""
        return {"kind": self.kind, "edges": self.edges.tolist(), "missing": self.missing}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> "QuantileBuckets":
        """What `to_dict` gave."""
        return cls(plain["edges"], bool(plain["missing"]))


def _oldest() -> Any:
    """Arrow's layout with 64-bit offsets, whose buffers this module reads."""
    import polars as pl

    return pl.CompatLevel.oldest()
