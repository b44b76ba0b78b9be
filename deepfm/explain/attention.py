"""Attention maps: of fields to fields, and of candidates to what a user did before."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from deepfm.explain.findings import FieldAttentionMap, HistoryAttention
from deepfm.explain.moments import Hook, Moments
from deepfm.models import BaseCTRModel
from deepfm.models.layers import ActivationUnit, EncoderLayer, TargetAttention
from deepfm.models.layers.attention import FieldAttention
from deepfm.models.layers.embedding import module_key
from deepfm.models.layers.transformer import ages


class FieldMaps:
    """Each head's mean attention over fields, layer by layer, of a model that has such layers.

    Args:
        model: watch it with `hooks`.
    """

    def __init__(self, model: BaseCTRModel) -> None:
        self.names = tuple(field.name for field in model.schema.interacting_fields)
        self._layers = [part for part in model.modules() if isinstance(part, FieldAttention)]
        self._moments = [Moments() for _ in self._layers]

    @property
    def hooks(self) -> list[tuple[nn.Module, Hook]]:
        """What to watch."""
        return [(layer, partial(self._add, number)) for number, layer in enumerate(self._layers)]

    def maps(self) -> tuple[FieldAttentionMap, ...]:
        """What was seen."""
        return tuple(
            FieldAttentionMap(number, head, self.names, tuple(map(tuple, weights)))
            for number, moments in enumerate(self._moments, start=1)
            for head, weights in enumerate(moments.mean.tolist(), start=1)
        )

    def _add(self, number: int, given: tuple[Tensor, ...], _output: Tensor) -> None:
        self._moments[number].add(self._layers[number].weights(given[0]))


@dataclass(frozen=True)
class _Place:
    """Where a model weighs a history."""

    history: str
    part: str
    module: nn.Module


class HistoryMaps:
    """Each head's mean weight of events by age, of a model of behaviour.

    Where candidates attend to a history that was encoded before, that attention is shown; where a candidate stands in
    the sequence, what its own place takes in each layer of the encoder.

    Args:
        model: watch it with `hooks`.
    """

    def __init__(self, model: BaseCTRModel) -> None:
        self._places = _places(model)
        self._sums: dict[int, _ByAge] = {}

    @property
    def hooks(self) -> list[tuple[nn.Module, Hook]]:
        """What to watch."""
        return [(place.module, partial(self._add, number)) for number, place in enumerate(self._places)]

    def maps(self) -> tuple[HistoryAttention, ...]:
        """What was seen; nothing where every history was empty."""
        found = []
        for number, place in enumerate(self._places):
            if number in self._sums:
                found += self._sums[number].maps(place, _normalises(place.module))
        return tuple(found)

    def _add(self, number: int, given: Sequence[Any], _output: Tensor) -> None:
        shares, mask, own = candidate_shares(self._places[number].module, given)
        if mask.any():
            self._sums.setdefault(number, _ByAge(shares.shape[1], own is not None)).add(shares, mask, own)


def candidate_shares(module: nn.Module, given: Sequence[Any]) -> tuple[Tensor, Tensor, Tensor | None]:
    """What candidates take of a history, of what a part was called with.

    Returns:
        weights `(U, heads, W, L)`, the mask `(U, L)` of events, and the candidates' own weight `(U, heads, W)` where
        they stand in the sequence.
    """
    if isinstance(module, TargetAttention):
        candidates, history, mask = given[:3]
        shares = module.shares(candidates, history, mask)
        return shares.expand(-1, -1, candidates.shape[1], -1), mask, None
    if isinstance(module, ActivationUnit):
        candidates, history, mask = given[:3]
        bias = given[3] if len(given) > 3 else None
        return module.shares(module.weights(candidates, history), mask, bias).unsqueeze(1), mask, None
    assert isinstance(module, EncoderLayer)
    queries, tokens, mask = given[:3]
    if len(given) > 3 and given[3]:
        shares = module.shares(queries, tokens, mask, True)  # (U, h, W, L + 1)
        return shares[..., :-1], mask, shares[..., -1]
    shares = module.shares(tokens[:, -1:], tokens, mask)  # (U, h, 1, L + 1): the candidate is the last token
    return shares[..., :-1], mask[:, :-1], shares[..., -1]


class _ByAge:
    """Sums of weights by age, in float64, over rows whose history is not empty."""

    def __init__(self, heads: int, has_own: bool) -> None:
        self.weights = torch.zeros(heads, 0, dtype=torch.float64)
        self.uniform, self.rows = torch.zeros(0, dtype=torch.float64), torch.zeros(0, dtype=torch.float64)
        self.own: Tensor | None = torch.zeros(heads, dtype=torch.float64) if has_own else None

    def add(self, shares: Tensor, mask: Tensor, own: Tensor | None) -> None:
        candidates = shares.shape[2]
        summed, seen = shares.sum(dim=2).cpu().double(), mask.cpu()  # (U, h, L)
        longest = int(seen.sum(dim=1).max())
        self._lengthen(longest)
        age = ages(seen)[seen]  # (events,)
        equal = (candidates / (seen.sum(dim=1, keepdim=True).double() + (own is not None))).expand(seen.shape)[seen]
        self.rows.index_add_(0, age, torch.full((len(age),), float(candidates), dtype=torch.float64))
        self.uniform.index_add_(0, age, equal)
        self.weights.index_add_(1, age, summed.transpose(0, 1)[:, seen])
        if own is not None and self.own is not None:
            self.own += own[mask.any(dim=1)].cpu().double().sum(dim=(0, 2))

    def maps(self, place: _Place, normalised: bool) -> list[HistoryAttention]:
        weights, uniform = self.weights / self.rows, self.uniform / self.rows
        return [
            HistoryAttention(
                place.history,
                place.part,
                head + 1,
                tuple(weights[head].tolist()),
                tuple(uniform.tolist()),
                tuple(int(rows) for rows in self.rows.tolist()),
                None if self.own is None else float(self.own[head] / self.rows[0]),
                normalised,
            )
            for head in range(len(weights))
        ]

    def _lengthen(self, length: int) -> None:
        more = max(0, length - len(self.rows))
        self.weights = torch.nn.functional.pad(self.weights, (0, more))
        self.rows, self.uniform = (torch.nn.functional.pad(part, (0, more)) for part in (self.rows, self.uniform))


def _places(model: BaseCTRModel) -> list[_Place]:
    """The parts that weigh each behaviour sequence, in the order in which they are called."""
    places: list[_Place] = []
    for field in model.schema.behaviour_fields if model.reads_behaviour else ():
        inside = [part for name, part in model.named_modules() if module_key(field.name) in name.split(".")]
        attends = [part for part in inside if isinstance(part, TargetAttention | ActivationUnit)]
        encoders = [part for part in inside if isinstance(part, EncoderLayer)]
        for part in attends:
            what = "target attention" if isinstance(part, TargetAttention) else "activation unit"
            places.append(_Place(field.name, what, part))
        for depth, layer in enumerate([] if attends else encoders, start=1):
            places.append(_Place(field.name, f"encoder layer {depth}", layer))
    return places


def _normalises(module: nn.Module) -> bool:
    return module.normalize if isinstance(module, ActivationUnit) else True
