"""A person's columns as rows that models read: every input found, checked and encoded once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deepfm.data.dataset import Rows, take_rows
from deepfm.errors import DataError, SchemaError
from deepfm.interop.deepctr.columns import (
    DenseFeat,
    FeatureColumn,
    SparseFeat,
    VarLenSparseFeat,
    columns_of,
    sparse_columns,
)
from deepfm.interop.deepctr.inputs import build_input_features
from deepfm.interop.deepctr.layers.sequence import prefix_mask
from deepfm.interop.deepctr.schema import Tables, unique_columns

PADDING, SHIFT = 0, 1  # an encoded id: 0 where there is none, else the id as it was given plus 1


@dataclass(frozen=True)
class EncodedRows:
    """Rows of encoded inputs.

    Args:
        ids: `(N, W)` whole numbers.
        dense: `(N, K)` float32.
    """

    ids: Tensor
    dense: Tensor

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def nbytes(self) -> int:
        """Bytes of both."""
        return self.ids.nbytes + self.dense.nbytes

    def take(self, rows: Rows) -> "EncodedRows":
        """Some rows, by number `(B,)` or slice."""
        return EncodedRows(take_rows(self.ids, rows), take_rows(self.dense, rows))

    def to(self, device: torch.device) -> "EncodedRows":
        """The same rows on a device."""
        return EncodedRows(self.ids.to(device), self.dense.to(device))


@dataclass(frozen=True)
class Block:
    """Where an input's ids stand among the encoded ones, and how.

    Args:
        name: the input's.
        kind: `id`, or of several ids `pooled` (padding is 0) or `tokens` (padding is as given), or `length`.
        start, width: its columns.
        bound: the first number that is too large.
        length_name: the input with the number of ids of each row.
    """

    name: str
    kind: str
    start: int
    width: int
    bound: int
    length_name: str | None = None

    def of(self, ids: Tensor) -> Tensor:
        """Its part of the encoded ids `(B, W)`: `(B,)` of an id or a length, else `(B, width)`."""
        return ids[:, self.start : self.start + self.width] if self.kind in ("pooled", "tokens") else ids[:, self.start]


class Layout:
    """How the inputs of a model are read.

    Args:
        linear, dnn: feature columns of the two parts.
        histories: names of those of `dnn` that stay unpooled.

    Raises:
        SchemaError: there is no column, or one stands twice and differs.

    Attributes:
        feature_index: name → the input's place where all stand side by side.
        blocks: (name, kind) → where ids stand.
        dense: name → the columns of its numbers among all numbers.
    """

    def __init__(
        self, linear: Sequence[FeatureColumn], dnn: Sequence[FeatureColumn], histories: Sequence[str] = ()
    ) -> None:
        self.feature_index = build_input_features([*linear, *dnn])
        if not self.feature_index:
            raise SchemaError("there are no feature columns; expected at least one")
        self.blocks: dict[tuple[str, str], Block] = {}
        self.width = 0
        for part, unpooled in ((linear, ()), (dnn, histories)):
            columns = sparse_columns(unique_columns(part))
            sizes = Tables.of(columns).sizes
            for column in columns:
                self._add(column, sizes[column.embedding_name], column.name in unpooled)
        self.dense: dict[str, slice] = {}
        start = 0
        for number in columns_of(DenseFeat, [*linear, *dnn]):
            if number.name not in self.dense:
                self.dense[number.name] = slice(start, start + number.dimension)
                start += number.dimension

    def encode(self, x: Any) -> EncodedRows:
        """Rows of a dict, a DataFrame, or a list of arrays in the order of the inputs' names.

        Raises:
            DataError: an input is missing, of another length or shape, or holds what it must not: one sentence names
                the input, the row and the value.
        """
        columns = self._columns(x)
        lengths = {name: len(column) for name, column in columns.items()}
        first = next(iter(lengths))
        for name, length in lengths.items():
            if length != lengths[first]:
                raise DataError(
                    f"input {name!r} has {length} rows and {first!r} has {lengths[first]}; expected as many in each"
                )
        if not lengths[first]:
            raise DataError("the inputs have no rows; expected at least one")
        whole = {name: _whole_numbers(name, columns[name]) for name in {b.name for b in self.blocks.values()}}
        for block in self.blocks.values():
            _check_shape(block.name, whole[block.name], block.width)
            _check_range(block, whole[block.name])
        numbers = {}
        for name, place in self.dense.items():
            _check_shape(name, columns[name], place.stop - place.start)
            numbers[name] = torch.from_numpy(_numbers(name, columns[name]))
        ids = {name: torch.from_numpy(column) for name, column in whole.items()}
        return self._joined(ids, numbers, torch.zeros(lengths[first], 0))

    def encode_tensors(self, x: Tensor | Mapping[str, Tensor]) -> EncodedRows:
        """The same of tensors, ids as whole numbers unchecked: `{name: (B, …)}`, or all side by side `(B, Σ)`."""
        if isinstance(x, Tensor):
            x = {name: x[:, start:end] for name, (start, end) in self.feature_index.items()}
        first = x[next(iter(self.feature_index))]
        nothing = first.new_zeros(first.shape[0], 0, dtype=torch.float32)
        whole = {block.name: x[block.name].long() for block in self.blocks.values()}
        return self._joined(whole, {name: x[name].float() for name in self.dense}, nothing)

    def _add(self, column: SparseFeat | VarLenSparseFeat, rows: int, is_history: bool) -> None:
        if isinstance(column, SparseFeat):
            self._place(column.name, "id", 1, rows)
        else:
            kind = "tokens" if is_history else "pooled"
            self._place(column.name, kind, column.maxlen, rows, column.length_name)
            if column.length_name is not None:
                self._place(column.length_name, "length", 1, column.maxlen + 1)

    def _place(self, name: str, kind: str, width: int, bound: int, length_name: str | None = None) -> None:
        known = self.blocks.get((name, kind))
        end = self.feature_index[name]
        if end[1] - end[0] != width:
            raise SchemaError(
                f"input {name!r} is {end[1] - end[0]} wide and {width} wide; expected it alike everywhere"
            )
        if known is None:
            self.blocks[name, kind] = Block(name, kind, self.width, width, bound, length_name)
            self.width += width
        else:
            self.blocks[name, kind] = Block(name, kind, known.start, width, min(bound, known.bound), length_name)

    def _columns(self, x: Any) -> dict[str, NDArray[Any]]:
        names = list(self.feature_index)
        if isinstance(x, Mapping) or (hasattr(x, "columns") and hasattr(x, "__getitem__")):
            missing = [name for name in names if name not in x]
            if missing:
                raise DataError(
                    f"input {missing[0]!r} is missing; expected an array for each of {', '.join(names)}, and got "
                    f"{', '.join(map(str, x)) or 'none'}"
                )
            return {name: _array(x[name]) for name in names}
        if not isinstance(x, (list, tuple)):
            raise DataError(
                f"x is a {type(x).__name__}; expected a dict or DataFrame of columns, or a list of arrays, one for "
                f"each of {', '.join(names)}"
            )
        if len(x) != len(names):
            raise DataError(f"x holds {len(x)} arrays; expected {len(names)}, one for each of {', '.join(names)}")
        return {name: _array(column) for name, column in zip(names, x, strict=True)}

    def _joined(self, whole: Mapping[str, Tensor], numbers: Mapping[str, Tensor], nothing: Tensor) -> EncodedRows:
        """Ids and numbers of every input; `nothing` is `(N, 0)`."""
        parts = [nothing.to(torch.int32)]
        for block in self.blocks.values():
            ids = whole[block.name]
            ids = ids.reshape(ids.shape[0], -1)
            if block.kind == "length":
                parts.append(ids.to(torch.int32))
                continue
            shifted = ids + SHIFT
            if block.kind == "pooled":
                valid = ids != 0 if block.length_name is None else prefix_mask(whole[block.length_name], block.width)
                shifted = shifted.where(valid, PADDING)
            parts.append(shifted.to(torch.int32))
        dense = [nothing, *(column.reshape(nothing.shape[0], -1) for column in numbers.values())]
        return EncodedRows(torch.cat(parts, dim=1), torch.cat(dense, dim=1))


def read_labels(y: Any, rows: int, binary: bool) -> Tensor:
    """Labels `(N,)`, from `(N,)` or `(N, 1)`.

    Raises:
        DataError: another number of rows or another shape, or a label that is no number, or of a binary task neither 0
            nor 1.
    """
    if y is None:
        raise DataError("y is None; expected a label for each row")
    values = _array(y)
    if len(values) != rows or values.size != rows:
        raise DataError(f"y has shape {values.shape} and the inputs have {rows} rows; expected one label for each")
    labels = _numbers("y", values).reshape(-1)
    wrong = np.flatnonzero(binary & (labels != 0) & (labels != 1))
    if len(wrong):
        raise DataError(
            f"label {wrong[0]} is {labels[wrong[0]]:g}; expected 0 or 1, as task='binary' (use task='regression' for "
            "other numbers)"
        )
    return torch.from_numpy(labels)


def _array(values: Any) -> NDArray[Any]:
    if isinstance(values, np.ma.MaskedArray) and np.ma.is_masked(values):
        raise DataError("a masked array with masked entries was given; fill them first")
    return values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)


def _check_shape(name: str, values: NDArray[Any], width: int) -> None:
    if values.shape[1:] not in ([(), (1,)] if width == 1 else [(width,)]):
        expected = f"({len(values)},) or ({len(values)}, 1)" if width == 1 else f"({len(values)}, {width})"
        raise DataError(f"input {name!r} has shape {values.shape}; expected {expected}")


def _whole_numbers(name: str, values: NDArray[Any]) -> NDArray[np.int64]:
    """Ids or lengths; floats without fraction, which pandas makes of a column that once had gaps, are ids too."""
    if values.dtype.kind not in "biuf":
        raise DataError(
            f"input {name!r} holds {values.dtype.name} values, {values.reshape(-1)[0]!r} first; expected ids, whole "
            "numbers from 0, so encode it first, with scikit-learn's LabelEncoder say"
        )
    if values.dtype.kind == "f":
        wrong = np.argwhere(~np.isfinite(values) | (values != np.floor(values)))
        if len(wrong):
            raise DataError(
                f"input {name!r} holds {values[tuple(wrong[0])]} in row {wrong[0][0]}; expected ids, whole numbers "
                "from 0"
            )
        exact = 2 ** (np.finfo(values.dtype).nmant + 1)
        if values.size and np.abs(values).max() >= exact:
            raise DataError(
                f"input {name!r} holds {values.dtype.name} ids of {exact} or more, which are not told apart; give "
                "whole numbers, such as int64"
            )
    return np.array(values, dtype=np.int64, order="C")  # a copy: pandas gives arrays that must not be written to


def _check_range(block: Block, values: NDArray[np.int64]) -> None:
    if not values.size or (values.min() >= 0 and values.max() < block.bound):
        return
    wrong = np.argwhere((values < 0) | (values >= block.bound))[0]
    value, place = values[tuple(wrong)], f"in row {wrong[0]}"
    if block.kind == "length":
        raise DataError(
            f"length input {block.name!r} holds {value} {place}; expected 0 to {block.bound - 1}, the maxlen of its "
            "sequence, so cut the lengths as the sequence was cut"
        )
    raise DataError(
        f"input {block.name!r} holds id {value} {place}; expected 0 to {block.bound - 1}, as its vocabulary_size is "
        f"{block.bound}"
    )


def _numbers(name: str, values: NDArray[Any]) -> NDArray[np.float32]:
    what = "y" if name == "y" else f"dense input {name!r}"
    if values.dtype.kind not in "biufO":
        raise DataError(f"{what} holds {values.dtype.name} values; expected numbers")
    try:
        with np.errstate(over="ignore"):
            numbers = np.array(values, dtype=np.float32, order="C")
    except (TypeError, ValueError) as error:
        raise DataError(f"{what} holds {values.dtype.name} values; expected numbers") from error
    wrong = np.argwhere(~np.isfinite(numbers))
    if len(wrong):
        raise DataError(
            f"{what} holds {values[tuple(wrong[0])]} in row {wrong[0][0]}; expected finite numbers, so fill gaps first"
        )
    return numbers
