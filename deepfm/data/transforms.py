"""Encoders from raw columns to what a model reads: fit on the training split, saved as JSON, never pickled."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepfm.errors import DataError, NotFittedError


class Transform(Protocol):
    """What every encoder offers for saving."""

    kind: ClassVar[str]

    def to_dict(self) -> dict[str, Any]:
        """The fitted state as JSON-ready data."""


class LabelEncoder:
    """Ids or categories → integers from 1; unknown values → 0.

    Example:
        >>> LabelEncoder().fit(["b", "a"]).transform(["a", "b", "z"]).tolist()
        [1, 2, 0]
    """

    kind: ClassVar[str] = "label"

    def __init__(self) -> None:
        self._classes: NDArray[Any] | None = None

    @property
    def classes(self) -> NDArray[Any]:
        """The known values in sorted order; index i + 1 stands for `classes[i]`."""
        if self._classes is None:
            raise NotFittedError("LabelEncoder was asked before it was fitted; call fit on the training split first")
        return self._classes

    @property
    def vocabulary_size(self) -> int:
        """Known values + 1."""
        return len(self.classes) + 1

    def fit(self, values: ArrayLike) -> "LabelEncoder":
        """Learn the distinct values of a column `(N,)` of integers or text."""
        self._classes = np.unique(_column(values))
        return self

    def transform(self, values: ArrayLike) -> NDArray[np.int64]:
        """Indices `(N,)`; a value that `fit` has not seen gives 0.

        Raises:
            NotFittedError: before `fit`.
            DataError: text where numbers were fitted, or the other way round.
        """
        classes = self.classes
        column = _column(values)
        if not len(classes) or not len(column):
            return np.zeros(len(column), dtype=np.int64)
        if (column.dtype.kind == "U") != (classes.dtype.kind == "U"):
            raise DataError(
                f"a column of {_kind_name(column)} such as {column[0]!r} meets an encoder fitted on "
                f"{_kind_name(classes)}; expected the type it was fitted on"
            )
        positions = np.searchsorted(classes, column).clip(max=len(classes) - 1)
        return np.where(classes[positions] == column, positions + 1, 0)

    def fit_transform(self, values: ArrayLike) -> NDArray[np.int64]:
        """`fit`, then `transform` of the same values."""
        return self.fit(values).transform(values)

    def inverse_transform(self, indices: ArrayLike) -> NDArray[Any]:
        """The values of indices `(N,)` as an object array; index 0 gives None.

        Raises:
            NotFittedError: before `fit`.
            DataError: an index outside the vocabulary.
        """
        table = np.concatenate([np.array([None], dtype=object), self.classes.astype(object)])
        wanted = np.asarray(indices, dtype=np.int64)
        outside = wanted[(wanted < 0) | (wanted >= len(table))]
        if len(outside):
            raise DataError(f"index {outside[0]} is outside the vocabulary; expected 0 to {len(table) - 1}")
        return table[wanted]

    def to_dict(self) -> dict[str, Any]:
        """The classes, as JSON-ready data."""
        return {"kind": self.kind, "classes": self.classes.tolist()}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> "LabelEncoder":
        """What `to_dict` gave."""
        encoder = cls()
        encoder._classes = _column(plain["classes"])
        return encoder


class MinMaxScaler:
    """Numbers → [0, 1] over the range that was fitted; a constant gives 0, later values outside are clipped.

    Columns are `(N,)`, or `(N, K)` with each of the K scaled by itself.
    """

    kind: ClassVar[str] = "min_max"

    def __init__(self) -> None:
        self._low: NDArray[np.float64] | None = None
        self._high: NDArray[np.float64] | None = None

    def fit(self, values: ArrayLike) -> "MinMaxScaler":
        """Learn the smallest and the largest value of each column.

        Raises:
            DataError: no rows, or a value that is not finite.
        """
        column = _finite(values)
        if not len(column):
            raise DataError("MinMaxScaler was given no rows; expected at least one")
        self._low, self._high = column.min(axis=0), column.max(axis=0)
        return self

    def transform(self, values: ArrayLike) -> NDArray[np.float32]:
        """Scaled values of the same shape.

        Raises:
            NotFittedError: before `fit`.
            DataError: a value that is not finite.
        """
        low, high = self._range()
        width = np.where(high > low, high - low, 1.0)
        return ((_finite(values).clip(low, high) - low) / width).astype(np.float32)

    def fit_transform(self, values: ArrayLike) -> NDArray[np.float32]:
        """`fit`, then `transform` of the same values."""
        return self.fit(values).transform(values)

    def inverse_transform(self, values: ArrayLike) -> NDArray[np.float64]:
        """Scaled values back in their own units."""
        low, high = self._range()
        return np.asarray(values, dtype=np.float64) * (high - low) + low

    def to_dict(self) -> dict[str, Any]:
        """The range, as JSON-ready data."""
        low, high = self._range()
        return {"kind": self.kind, "low": low.tolist(), "high": high.tolist()}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> "MinMaxScaler":
        """What `to_dict` gave."""
        scaler = cls()
        scaler._low, scaler._high = _finite(plain["low"]), _finite(plain["high"])
        return scaler

    def _range(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        if self._low is None or self._high is None:
            raise NotFittedError("MinMaxScaler was asked before it was fitted; call fit on the training split first")
        return self._low, self._high


class Standardiser:
    """Numbers → mean 0 and standard deviation 1 over what was fitted; a constant gives 0.

    Args:
        mean, deviation: those of the training rows.
    """

    kind: ClassVar[str] = "standard"

    def __init__(self, mean: float, deviation: float) -> None:
        self.mean, self.deviation = mean, deviation

    def __repr__(self) -> str:
        return f"Standardiser(mean={self.mean:g}, deviation={self.deviation:g})"

    def to_dict(self) -> dict[str, Any]:
        """Both, as JSON-ready data."""
        return {"kind": self.kind, "mean": self.mean, "deviation": self.deviation}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> "Standardiser":
        """What `to_dict` gave."""
        return cls(float(plain["mean"]), float(plain["deviation"]))


class MultiHotEncoder:
    """Lists of tokens → `(N, max_length)` indices padded with 0.

    A longer list is cut, and `num_cut` says how many lists the last `transform` cut. An unknown token is 0.
    """

    kind: ClassVar[str] = "multi_hot"

    def __init__(self, max_length: int) -> None:
        if max_length < 1:
            raise DataError(f"max_length is {max_length}; expected at least 1")
        self.max_length = max_length
        self.num_cut = 0
        self._tokens = LabelEncoder()

    @property
    def vocabulary_size(self) -> int:
        """Known tokens + 1."""
        return self._tokens.vocabulary_size

    @property
    def tokens(self) -> NDArray[Any]:
        """The known tokens in sorted order."""
        return self._tokens.classes

    def fit(self, lists: Iterable[Sequence[Any]]) -> "MultiHotEncoder":
        """Learn the distinct tokens of N lists."""
        self._tokens.fit(list(chain.from_iterable(lists)))
        return self

    def transform(self, lists: Iterable[Sequence[Any]]) -> NDArray[np.int64]:
        """Indices `(N, max_length)`, each list from the left, padded with 0.

        Raises:
            NotFittedError: before `fit`.
        """
        lists = list(lists)
        lengths = np.fromiter(map(len, lists), dtype=np.int64, count=len(lists))
        codes = self._tokens.transform(list(chain.from_iterable(lists)))
        rows = np.repeat(np.arange(len(lists)), lengths)
        columns = np.arange(len(codes)) - np.repeat(lengths.cumsum() - lengths, lengths)
        kept = columns < self.max_length
        encoded = np.zeros((len(lists), self.max_length), dtype=np.int64)
        encoded[rows[kept], columns[kept]] = codes[kept]
        self.num_cut = int((lengths > self.max_length).sum())
        return encoded

    def fit_transform(self, lists: Iterable[Sequence[Any]]) -> NDArray[np.int64]:
        """`fit`, then `transform` of the same lists."""
        lists = list(lists)
        return self.fit(lists).transform(lists)

    def inverse_transform(self, encoded: ArrayLike) -> list[list[Any]]:
        """The known tokens of each row `(N, max_length)`, padding and unknown left out."""
        matrix = np.asarray(encoded, dtype=np.int64)
        tokens = self._tokens.inverse_transform(matrix.reshape(-1)).reshape(matrix.shape)
        return [[token for token in row if token is not None] for row in tokens.tolist()]

    def to_dict(self) -> dict[str, Any]:
        """Tokens and length, as JSON-ready data."""
        return {"kind": self.kind, "max_length": self.max_length, "tokens": self._tokens.classes.tolist()}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> "MultiHotEncoder":
        """What `to_dict` gave."""
        encoder = cls(plain["max_length"])
        encoder._tokens = LabelEncoder.from_dict({"classes": plain["tokens"]})
        return encoder


def _column(values: ArrayLike) -> NDArray[Any]:
    column = np.asarray(values)
    if column.ndim != 1:
        raise DataError(f"a column has shape {column.shape}; expected one value a row, shape (N,)")
    if column.dtype.kind == "O":
        column = _unboxed(column)
    if column.dtype.kind in "iub":
        if column.dtype == np.uint64 and len(column) and column.max() > np.iinfo(np.int64).max:
            raise DataError(f"id {column.max()} is above {np.iinfo(np.int64).max}; give such ids as text")
        return column.astype(np.int64)
    if column.dtype.kind in "UT" or not len(column):
        return column.astype(str)
    raise DataError(f"a column of type {column.dtype} cannot be encoded; expected whole numbers or text")


def _unboxed(column: NDArray[Any]) -> NDArray[Any]:
    """An object column of one kind, all text or all whole numbers, as an array of that kind."""
    kind: type = str if len(column) and isinstance(column[0], str) else int
    for row, value in enumerate(column):
        if isinstance(value, bool) or not isinstance(value, (str, np.str_) if kind is str else (int, np.integer)):
            raise DataError(
                f"row {row} of a column holds {value!r} of type {type(value).__name__}; expected all text or all whole "
                "numbers"
            )
    return column.astype(str if kind is str else np.int64)


def _finite(values: ArrayLike) -> NDArray[np.float64]:
    column = np.asarray(values, dtype=np.float64)
    bad = np.flatnonzero(~np.isfinite(column.reshape(max(1, len(np.atleast_1d(column))), -1)).all(axis=1))
    if len(bad):
        raise DataError(
            f"row {bad[0]} of a number column holds {np.atleast_1d(column)[bad[0]]}; expected finite numbers"
        )
    return column


def _kind_name(column: NDArray[Any]) -> str:
    return "text" if column.dtype.kind == "U" else "whole numbers"
