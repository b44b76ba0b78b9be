"""One pass over rows that looks at all of a model's parts: terms of the logit, pairs, attention, the CIN's maps."""

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from deepfm.engine.task import Progress, no_progress
from deepfm.explain.attention import FieldMaps, HistoryMaps
from deepfm.explain.findings import (
    CINLayer,
    FieldAttentionMap,
    HistoryAttention,
    LogitPart,
    PairStrength,
    Spread,
)
from deepfm.explain.moments import Hook, Moments, watched
from deepfm.explain.rows import RowTable
from deepfm.explain.terms import TermReader, Terms, pair_names
from deepfm.models import BaseCTRModel, evaluation_mode
from deepfm.models.layers import CIN
from deepfm.training.scoring import scoring_bounds

BIAS, FIRST, SECOND = "bias", "first order", "second order"


@dataclass(frozen=True)
class Inside:
    """What the parts of a model did; empty where it has none of a kind."""

    logit_parts: tuple[LogitPart, ...]
    pairs: tuple[PairStrength, ...]
    field_attention: tuple[FieldAttentionMap, ...]
    history_attention: tuple[HistoryAttention, ...]
    cin: tuple[CINLayer, ...]


@torch.inference_mode()
def look_inside(model: BaseCTRModel, table: RowTable, on_progress: Progress = no_progress) -> Inside:
    """Score rows with every part watched; nothing about the model is changed."""
    reader, gathered = TermReader(model), _Gathered()
    fields, histories, maps = FieldMaps(model), HistoryMaps(model), _CINMaps(model)
    device = next(model.parameters()).device
    hooks = [*reader.hooks, *fields.hooks, *histories.hooks, *maps.hooks]
    with evaluation_mode(model), watched(hooks):
        for start, end in pairwise(scoring_bounds(table)):
            features, _ = table.batch(slice(start, end))
            logits = model.forward({name: column.to(device) for name, column in features.items()})
            gathered.add(reader.terms(logits))
            on_progress(end, len(table))
    parts = gathered.parts()
    return Inside(parts, gathered.strengths(), fields.maps(), histories.maps(), maps.layers(parts))


class _Gathered:
    """Terms of many batches."""

    def __init__(self) -> None:
        self.names: tuple[str, ...] = ()
        self.parts_by_name: dict[str, Moments] = {}
        self.bias = 0.0
        self.products, self.weights, self.pairs = Moments(), Moments(), Moments()

    def add(self, terms: Terms) -> None:
        self.names, self.bias = terms.names, terms.bias
        found: dict[str, Tensor] = {} if terms.first_order is None else {FIRST: terms.first_order}
        if terms.pairs is not None:
            found[SECOND] = terms.pairs.sum(dim=1)
            self.pairs.add(terms.pairs)
        if terms.products is not None:
            self.products.add(terms.products)
        if terms.weights is not None:
            self.weights.add(terms.weights)
        for name, values in {**found, **terms.parts}.items():
            self.parts_by_name.setdefault(name, Moments()).add(values)

    def parts(self) -> tuple[LogitPart, ...]:
        spreads = {name: _spreads(moments)[0] for name, moments in self.parts_by_name.items()}
        sizes = sum(values.mean_abs for values in spreads.values()) or 1.0
        widths = sum(values.deviation for values in spreads.values()) or 1.0
        bias = LogitPart(BIAS, Spread(self.bias, abs(self.bias), 0.0), None, None)
        return bias, *(
            LogitPart(name, values, values.mean_abs / sizes, values.deviation / widths)
            for name, values in spreads.items()
        )

    def strengths(self) -> tuple[PairStrength, ...]:
        """The pairs, the strongest first."""
        if not self.products.rows:
            return ()
        names = pair_names(self.names)
        products = _spreads(self.products)
        weights = self.weights.mean.tolist() if self.weights.rows else [None] * len(names)
        terms = _spreads(self.pairs) if self.pairs.rows else [None] * len(names)
        found = [
            PairStrength(*pair, product, weight, term)
            for pair, product, weight, term in zip(names, products, weights, terms, strict=True)
        ]
        return tuple(sorted(found, key=lambda pair: -(pair.term or pair.product).mean_abs))


class _CINMaps:
    """The maps of a CIN that go out."""

    def __init__(self, model: BaseCTRModel) -> None:
        self._cin = next((part for part in model.modules() if isinstance(part, CIN)), None)
        self._moments = Moments()

    @property
    def hooks(self) -> list[tuple[nn.Module, Hook]]:
        """What to watch."""
        return [] if self._cin is None else [(self._cin, lambda _given, output: self._moments.add(output))]

    def layers(self, parts: tuple[LogitPart, ...]) -> tuple[CINLayer, ...]:
        """Each layer's figures, with its term of the logit."""
        if self._cin is None or not self._moments.rows:
            return ()
        found, start = [], 0
        means, sizes = self._moments.mean, self._moments.mean_abs
        squares = self._moments.deviation.square() + means.square()
        by_name = {part.name: part for part in parts}
        for depth, maps in enumerate(self._cin.output_sizes, start=1):
            own = slice(start, start + maps)
            mean, square = float(means[own].mean()), float(squares[own].mean())
            silent = int((sizes[own] == 0).sum())
            part = by_name[f"CIN layer {depth}"]
            term = part.values, part.share or 0.0, part.spread_share or 0.0
            found.append(CINLayer(depth, maps, mean, max(0.0, square - mean**2) ** 0.5, silent, *term))
            start += maps
        return tuple(found)


def _spreads(moments: Moments) -> list[Spread]:
    """One for each value of a row."""
    figures = (part.reshape(-1).tolist() for part in (moments.mean, moments.mean_abs, moments.deviation))
    return [Spread(*three) for three in zip(*figures, strict=True)]
