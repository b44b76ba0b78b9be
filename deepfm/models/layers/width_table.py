"""The table of all fields of one width: their rows one below the other, looked up together."""

from itertools import groupby

import torch
from torch import Tensor, nn

from deepfm.data.schema import FeatureType, FieldSchema
from deepfm.errors import SchemaError
from deepfm.models.layers.kernels import lookup

PADDING_INDEX = 0


class WidthTable(nn.Module):
    """All fields of one width: their rows one below the other, and the learned vectors of their numbers.

    Fields keep their order; neighbours of one type are embedded together. What `orders` leaves out is no parameter:
    zeros `(R, 1)`, or vectors of width 0.
    """

    LOOKED_UP = ("weight", "first_order")  # parameters of which a batch reads some rows

    keep: Tensor
    weight: Tensor
    first_order: Tensor
    dense_weight: Tensor
    dense_first_order: Tensor

    def __init__(self, fields: list[FieldSchema], orders: str) -> None:
        super().__init__()
        self.width = 0 if orders == "first" else fields[0].embedding_dim
        self.fields = fields
        self._first_rows: dict[str, int] = {}
        self._first_numbers: dict[str, int] = {}
        rows = numbers = 0
        for field in fields:
            if field.shares_embedding_with is not None:
                continue
            if field.feature_type is FeatureType.DENSE:
                self._first_numbers[field.name] = numbers
                numbers += field.dimension
            else:
                self._first_rows[field.name] = rows
                rows += field.vocabulary_size
        owners = torch.tensor(list(self._first_rows.values()))
        for field in fields:
            if field.shares_embedding_with is not None:
                self._first_rows[field.name] = self._first_rows[field.shares_embedding_with]
        interacting = [field for field in fields if not field.is_behaviour]
        self.runs = [list(run) for _, run in groupby(interacting, key=_run_key)]
        if rows:
            self._add("weight", rows, self.width, orders != "first")
            self._add("first_order", rows, 1, orders != "second")
            keep = torch.ones(rows, 1)
            keep[owners + PADDING_INDEX] = 0.0
            self.register_buffer("keep", keep, persistent=False)
        if numbers:
            self._add("dense_weight", numbers, self.width, orders != "first")
            self._add("dense_first_order", numbers, 1, orders != "second")
        for position, run in enumerate(self.runs):
            if run[0].name in self._first_rows:
                first = torch.tensor([self._first_rows[field.name] for field in run], dtype=torch.int32)
                self.register_buffer(f"offsets{position}", first, persistent=False)

    def _add(self, name: str, rows: int, width: int, learned: bool) -> None:
        if learned:
            self.register_parameter(name, nn.Parameter(torch.empty(rows, width)))
        else:
            self.register_buffer(name, torch.zeros(rows, width), persistent=False)

    def field_weight(self, name: str, first_order: bool) -> Tensor:
        """One field's rows, a view."""
        field = next(field for field in self.fields if field.name == name)
        if name in self._first_numbers:
            numbers = self.dense_first_order if first_order else self.dense_weight
            return numbers[self._first_numbers[name] :][: field.dimension]
        table = self.first_order if first_order else self.weight
        return table[self._first_rows[name] :][: field.vocabulary_size]

    def forward(self, batch: dict[str, Tensor], sparse_gradients: bool) -> tuple[Tensor, Tensor]:
        """Linear terms `(B, n)` and vectors `(B, n, width)` of the n fields."""
        blocks = [
            self._rows(batch, run, getattr(self, f"offsets{position}"))
            for position, run in enumerate(self.runs)
            if run[0].name in self._first_rows
        ]
        found = iter(lookup(self.weight, self.first_order, blocks, self.keep, sparse_gradients) if blocks else ())
        linear, vectors = [], []
        for run in self.runs:
            kind = run[0].feature_type
            if kind is FeatureType.DENSE:
                start = self._first_numbers[run[0].name]
                if run[0].dimension > 1:
                    numbers = batch[run[0].name].to(self.dense_weight.dtype)  # (B, k), as matmul takes no mixed types
                    own = slice(start, start + run[0].dimension)
                    linear.append(numbers @ self.dense_first_order[own])  # (B, 1)
                    vectors.append((numbers @ self.dense_weight[own]).unsqueeze(1))  # (B, 1, width)
                    continue
                numbers = torch.stack([batch[field.name].reshape(-1) for field in run], dim=1)  # (B, n)
                linear.append(numbers * self.dense_first_order[start : start + len(run)].view(-1))
                vectors.append(numbers.unsqueeze(2) * self.dense_weight[start : start + len(run)])
                continue
            rows, terms = next(found)
            if kind is FeatureType.SEQUENCE:
                tokens, combiner = batch[run[0].name], run[0].combiner
                rows = _pool(rows, tokens, combiner).unsqueeze(1)
                terms = _pool(terms.unsqueeze(2), tokens, combiner)
            linear.append(terms)  # (B, n)
            vectors.append(rows)  # (B, n, width)
        return _joined(linear), _joined(vectors)

    def tokens(self, ids: Tensor, field: FieldSchema, sparse_gradients: bool) -> Tensor:
        """The vectors `(U, L, width)` of a behaviour sequence's ids `(U, L)`."""
        if not self.training and ids.device.type == "cpu" and not torch.compiler.is_compiling():
            _check_ids(ids, [field])
        rows = ids.to(torch.int32) + self._first_rows[field.name]
        ((vectors, _),) = lookup(self.weight, self.first_order, [rows], self.keep, sparse_gradients)
        return vectors

    def _rows(self, batch: dict[str, Tensor], run: list[FieldSchema], offsets: Tensor) -> Tensor:
        """The rows of a run of fields in the table: `(B, n)`, or `(B, max_length)` of a sequence."""
        if run[0].feature_type is FeatureType.SEQUENCE:
            ids = batch[run[0].name]
        else:
            ids = torch.stack([batch[field.name] for field in run], dim=1)
        if not self.training and ids.device.type == "cpu" and not torch.compiler.is_compiling():
            _check_ids(ids, run)  # training data are checked once, when they are loaded
        return ids.to(torch.int32) + offsets


def _check_ids(ids: Tensor, run: list[FieldSchema]) -> None:
    """Refuse an id that would be a row of another field.

    Raises:
        SchemaError: an id is outside its vocabulary; field, row and value are named.
    """
    outside = (ids < 0) | (ids >= torch.tensor([field.vocabulary_size for field in run]))
    if outside.any():
        place = outside.nonzero()[0].tolist()
        field = run[place[-1] if len(run) > 1 else 0]
        raise SchemaError(
            f"field {field.name!r} holds id {ids[tuple(place)].item()} in row {place[0]} of a batch; expected 0 to "
            f"{field.vocabulary_size - 1}, its vocabulary"
        )


def _run_key(field: FieldSchema) -> str:
    """Neighbours with the same key are embedded together; what has an axis more, lists and vectors, is by itself."""
    kind = str(field.feature_type)
    alone = field.feature_type is FeatureType.SEQUENCE or field.dimension > 1
    return f"{kind} {field.name}" if alone else kind


def _joined(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)


def _pool(vectors: Tensor, tokens: Tensor, combiner: str) -> Tensor:
    """One vector `(B, d)` of the tokens `(B, L)` that are not padding; an all-padding row gives zeros."""
    if combiner == "max":
        hidden = (tokens == PADDING_INDEX).unsqueeze(-1)  # (B, L, 1)
        return vectors.masked_fill(hidden, -torch.inf).amax(dim=1).masked_fill(hidden.all(dim=1), 0.0)
    total = vectors.sum(dim=1)  # padding rows are zero
    if combiner == "sum":
        return total
    return total / (tokens != PADDING_INDEX).sum(dim=1, keepdim=True).clamp(min=1)
