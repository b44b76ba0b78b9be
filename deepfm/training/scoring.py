"""Logits of many rows: pairs of users and items are embedded once a user and once an item, not once a row."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._pytree import tree_map

from deepfm.data.batches import Features
from deepfm.data.dataset import Rows, TabularDataset
from deepfm.data.interactions import InteractionDataset
from deepfm.engine.memory import free_memory
from deepfm.models import BaseCTRModel, Behaviour, Origins, SequenceModel

SCORING_ROWS = 4_096  # rows a forward pass: enough to amortise calls, few enough to stay in the cache
SMALL_GROUP = 64  # below this mean size of a group, each row has its history for itself
PAIR_TABLE = 1 << 25  # different pairs of token and candidate that a table may hold
ENTITY_COPIES = 8  # of all users' and items' embeddings that making and using them may take at once
Scorer = Callable[[Rows], Tensor]
Views = tuple[Tensor, Tensor, Tensor]  # first order (n, 1), field embeddings (n, f, D), flat embeddings (n, t)


def scoring_bounds(dataset: TabularDataset) -> list[int]:
    """Where forward passes begin and end.

    Rows are counted off, but where candidates share histories, a pass has groups of one size, so that all share alike;
    small groups are not worth that.
    """
    rows = len(dataset)
    offsets = dataset.group_offsets
    if offsets is None or not dataset.histories or rows < SMALL_GROUP * (len(offsets) - 1):
        return [*range(0, rows, SCORING_ROWS), rows]
    bounds, size = [0], 0
    for start, end in pairwise(offsets.tolist()):
        if end - start != size or end - bounds[-1] > SCORING_ROWS:
            size = end - start
            bounds += [start] if start > bounds[-1] else []
            bounds += range(start + SCORING_ROWS, end, SCORING_ROWS)
    return [*bounds, rows]


def scorer(model: BaseCTRModel, dataset: TabularDataset) -> Scorer:
    """What gives the logits `(B,)` of rows of a data set; the model's weights stay as they are while it is used."""
    device = next(model.parameters()).device
    if isinstance(dataset, InteractionDataset) and 0 < dataset.num_entities <= len(dataset):
        own_forward = type(model).forward not in (BaseCTRModel.forward, SequenceModel.forward)  # which pairs go round
        written_out = model.reads_behaviour and any(
            f.name not in dataset.histories for f in model.schema.behaviour_fields
        )
        width = model.schema.num_fields * model.embedding.embed_dim + model.schema.total_embedding_dim
        if not (own_forward or written_out) and ENTITY_COPIES * 4 * width * dataset.num_entities <= free_memory(device):
            return _PairScorer(model, dataset)

    def score(rows: Rows) -> Tensor:
        features, _ = dataset.batch(rows)
        logits: Tensor = model.forward({name: column.to(device) for name, column in features.items()})
        return logits.squeeze(1)

    return score


class _PairScorer:
    """Gathers ready embeddings of users and items and lets the model's components do the rest.

    Behaviour sequences are embedded once for all candidates that share one, where the groups of a pass are of one size.
    """

    def __init__(self, model: BaseCTRModel, dataset: InteractionDataset) -> None:
        self.model, self.dataset = model, dataset
        self.device = next(model.parameters()).device
        fields = model.schema.interacting_fields
        user_fields = [position for position, field in enumerate(fields) if field.name in dataset.user_table]
        item_fields = [position for position, field in enumerate(fields) if field.name not in dataset.user_table]
        starts = torch.tensor([field.embedding_dim for field in fields]).cumsum(0).tolist()
        user_columns, item_columns = (
            [column for i in side for column in range(starts[i] - fields[i].embedding_dim, starts[i])]
            for side in (user_fields, item_fields)
        )
        users = self._views(dataset.user_table, dataset.item_table)
        items = self._views(dataset.item_table, dataset.user_table)
        self.first_order = users[0], items[0]
        halves = (user_fields, item_fields) if model.embedding.has_fields else ([], [])
        self.fields = _Halves(users[1], items[1], *halves)
        self.flat = _Halves(users[2], items[2], user_columns, item_columns)
        self.candidates: dict[str, tuple[Tensor, bool]] = {}  # a candidate field's vectors, and whether users have it
        if isinstance(model, SequenceModel):
            for name, columns in model.behaviour_columns.items():
                of_users = model.schema.candidate_of(name).name in dataset.user_table
                self.candidates[name] = (users if of_users else items)[2][:, columns].contiguous(), of_users
        self.tables = {name: self._token_table(name) for name in self.candidates}

    def __call__(self, rows: Rows) -> Tensor:
        users, items = (positions.to(self.device) for positions in self.dataset.pairs(rows))
        if not self.candidates:
            return self._logits(users, items)
        offsets = self.dataset.group_offsets
        if offsets is not None and isinstance(rows, slice):
            first = int(np.searchsorted(offsets, rows.start, side="right")) - 1
            last = int(np.searchsorted(offsets, rows.stop))
            sizes = np.diff(offsets[first : last + 1].clip(rows.start, rows.stop))
            if (sizes == sizes[0]).all():
                return self._logits(users, items, torch.arange(first, last, device=self.dataset.device))
        return self._logits(users, items, self.dataset.moments(rows))

    def _logits(self, users: Tensor, items: Tensor, moments: Tensor | None = None) -> Tensor:
        """The logits `(B,)` of pairs; histories `(U,)` belong to B / U consecutive pairs each."""
        first_order = self.first_order[0].index_select(0, users) + self.first_order[1].index_select(0, items)
        views: tuple[Any, ...] = first_order, self.fields.gather(users, items), PairRows(self.flat, users, items)
        if moments is not None:
            views = *views, self._behaviour(users, items, moments)
        logits: Tensor = self.model._forward_components(*views)
        return logits.squeeze(1)

    def _behaviour(self, users: Tensor, items: Tensor, moments: Tensor) -> dict[str, Behaviour]:
        histories = {name: history.latest(moments).to(self.device) for name, history in self.dataset.histories.items()}
        answers = {}
        for name, (tokens, mask) in self.model.embedding.embed_histories(histories).items():
            vectors, of_users = self.candidates[name]
            rows = users if of_users else items
            candidates = vectors.index_select(0, rows).unflatten(0, (len(moments), -1))
            table, origins = self.tables[name], None
            if table is not None:
                origins = Origins(table, vectors, histories[name], rows.unflatten(0, (len(moments), -1)))
            answers[name] = Behaviour(tokens, mask, candidates, origins)
        return answers

    def _token_table(self, name: str) -> Tensor | None:
        """The vectors `(V, E)` of all tokens of a history; None where a table of all pairs would not pay."""
        field, vectors = self.model.schema.fields[name], self.candidates[name][0]
        pairs = field.vocabulary_size * len(vectors)
        if pairs > PAIR_TABLE or pairs > len(self.dataset) * field.max_length // 2:
            return None
        weight: Tensor = self.model.embedding.field_weight(name)
        return weight

    def _views(self, own: Features, other: Features) -> Views:
        """The three views of one side: padding and zeros on the other side add nothing."""
        size = len(next(iter(own.values())))
        absent = {name: column.new_zeros(size, *column.shape[1:]) for name, column in other.items()}
        batch = {name: column.to(self.device) for name, column in {**absent, **own}.items()}
        views: Views = self.model.embedding(batch)
        return views


class _Halves:
    """A view of pairs in two tables: columns (axis 1) that users decide and columns that items decide."""

    def __init__(self, users: Tensor, items: Tensor, user_columns: list[int], item_columns: list[int]) -> None:
        self.users, self.items = users[:, user_columns].contiguous(), items[:, item_columns].contiguous()
        columns = user_columns + item_columns
        sides = (torch.tensor(side, dtype=torch.int64) for side in (user_columns, item_columns))
        self.columns = [side.to(users.device) for side in sides]
        self.order = None if columns == sorted(columns) else torch.cat(self.columns).argsort()
        self._products: dict[tuple[int, int], tuple[Tensor, Tensor, Tensor, Tensor | None]] = {}

    def gather(self, users: Tensor, items: Tensor) -> Tensor:
        joined = torch.cat([self.users.index_select(0, users), self.items.index_select(0, items)], dim=1)
        return joined if self.order is None else joined.index_select(1, self.order)

    def products(self, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
        """A linear layer of the users' part, with the bias, and of the items' part; kept for the next batch."""
        key = id(weight), id(bias)  # the entry holds both, so that no other tensor can have these numbers
        if key not in self._products:
            of_users, of_items = (weight.index_select(1, columns) for columns in self.columns)
            products = F.linear(self.users, of_users, bias), F.linear(self.items, of_items)
            self._products[key] = (*products, weight, bias)
        return self._products[key][:2]


class PairRows:
    """Rows of pairs that are not written out: a linear layer is applied once a user and once an item and then added.

    Any other torch function, method or attribute sees the rows as the tensor they stand for.
    """

    def __init__(self, halves: _Halves, users: Tensor, items: Tensor) -> None:
        self._halves, self._users, self._items = halves, users, items

    @classmethod
    def __torch_function__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Linear layers are split; everything else works on the rows written out."""
        kwargs = kwargs or {}
        if function is F.linear:
            given = dict(zip(("input", "weight", "bias"), args, strict=False)) | kwargs
            rows = given["input"]
            if isinstance(rows, PairRows):
                of_users, of_items = rows._halves.products(given["weight"], given.get("bias"))
                return of_users.index_select(0, rows._users).add_(of_items.index_select(0, rows._items))
        return function(*tree_map(_written, args), **tree_map(_written, kwargs))

    def __getattr__(self, name: str) -> Any:
        return getattr(_written(self), name)


def _operator(name: str) -> Callable[..., Any]:
    return lambda self, *others: getattr(_written(self), name)(*map(_written, others))


for _name in ("add", "sub", "mul", "truediv", "matmul", "pow"):
    for _side in ("", "r"):
        setattr(PairRows, f"__{_side}{_name}__", _operator(f"__{_side}{_name}__"))
for _name in ("getitem", "len", "iter", "neg", "abs", "lt", "le", "gt", "ge", "eq", "ne"):
    setattr(PairRows, f"__{_name}__", _operator(f"__{_name}__"))


def _written(value: Any) -> Any:
    return value._halves.gather(value._users, value._items) if isinstance(value, PairRows) else value
