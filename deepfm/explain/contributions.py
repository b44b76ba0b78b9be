"""One row's logit taken apart, and what becomes of it when a field of the row says nothing."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from deepfm.data.batches import Features
from deepfm.data.schema import DatasetSchema, FeatureType, FieldSchema
from deepfm.data.transforms import MultiHotEncoder
from deepfm.explain.findings import Contribution, Occlusion
from deepfm.explain.moments import watched
from deepfm.explain.rows import RowTable
from deepfm.explain.terms import TermReader, pair_names
from deepfm.models import BaseCTRModel, evaluation_mode

SHOWN_TOKENS = 4


@torch.inference_mode()
def contributions(
    model: BaseCTRModel,
    schema: DatasetSchema,
    features: Features,
    names: Sequence[str],
    encoders: Mapping[str, Any],
    *,
    labels: Sequence[float] | None = None,
    means: Features | None = None,
) -> tuple[Contribution, ...]:
    """Each row's logit as a sum of terms, and the change of the logit when a field says nothing.

    Args:
        schema: the run's, of raw fields.
        features: `{field: (N, …)}`, histories too, one a row.
        names: what the N rows are called.
        encoders: the run's, to write values as a person reads them.
        labels: of the rows, where they have any.
        means: dense field → its mean `(1, …)`; 0 where there is none.
    """
    reader = TermReader(model)
    device = next(model.parameters()).device
    batch = {name: column.to(device) for name, column in features.items()}
    with evaluation_mode(model):
        with watched(reader.hooks):
            terms = reader.terms(model.forward(batch))
        first_order = _first_order(model, batch)
        changes = _occlusions(model, schema, batch, terms.logits, encoders, means or {})
    exact = terms.logits
    chances = torch.sigmoid(exact) if model.calibration is None else model.calibration(exact)
    pairs = pair_names(terms.names) if terms.pairs is not None else []
    found = []
    for row, name in enumerate(names):
        texts = _values(schema, features, encoders, row)
        of_pairs = terms.pairs[row].tolist() if terms.pairs is not None else []
        occlusions = tuple(
            Occlusion(field, texts[field], instead, float(change[row])) for field, (instead, change) in changes.items()
        )
        found.append(
            Contribution(
                name,
                float(exact[row]),
                float(chances[row]),
                None if labels is None else float(labels[row]),
                terms.bias,
                {field: float(column[row]) for field, column in first_order.items()},
                tuple((*pair, term) for pair, term in zip(pairs, of_pairs, strict=True)),
                {part: float(column[row]) for part, column in terms.parts.items()},
                occlusions,
            )
        )
    return tuple(found)


def dense_means(schema: DatasetSchema, table: RowTable) -> Features:
    """The mean `(1, …)` of each dense field over some rows."""
    return {field.name: table.features[field.name].float().mean(dim=0, keepdim=True) for field in schema.dense_fields}


def _first_order(model: BaseCTRModel, batch: Features) -> dict[str, Tensor]:
    """Each field's linear term `(B,)`: the first order of rows in which every other field is padding."""
    if not model.config.fm.use_first_order:
        return {}
    names = [field.name for field in model.schema.interacting_fields]
    nothing = {name: torch.zeros_like(batch[name]) for name in names}
    answers = {}
    for name in names:
        first_order, _, _ = model.embedding({**batch, **nothing, name: batch[name]})
        answers[name] = first_order.squeeze(1).cpu().double()
    return answers


def _occlusions(
    model: BaseCTRModel,
    schema: DatasetSchema,
    batch: Features,
    logits: Tensor,
    encoders: Mapping[str, Any],
    means: Features,
) -> dict[str, tuple[str, Tensor]]:
    """Field → what stands there instead, and the change of the logits `(B,)`."""
    answers = {}
    for field in schema.fields.values():
        if field.is_behaviour and not model.reads_behaviour:
            continue
        instead, value = _nothing(field, schema, encoders, means)
        column = batch[field.name]
        changed = value.to(column).expand_as(column) if isinstance(value, Tensor) else torch.full_like(column, value)
        then = model.forward({**batch, field.name: changed}).squeeze(1).cpu().double()
        answers[field.name] = instead, then - logits
    return answers


def _nothing(
    field: FieldSchema, schema: DatasetSchema, encoders: Mapping[str, Any], means: Features
) -> tuple[str, Tensor | int]:
    """What a field holds when it says nothing, in words and as a value."""
    if field.feature_type is FeatureType.DENSE:
        if field.name not in means:
            return "0", 0
        mean = means[field.name]
        return (f"mean {float(mean):.3g}" if mean.numel() == 1 else "mean"), mean
    if field.feature_type is FeatureType.SEQUENCE:
        return ("no events" if field.is_behaviour else "no tokens"), 0
    return "unknown", int(getattr(encoders.get(schema.table_owner(field.name).name), "unknown", 0))


def _values(schema: DatasetSchema, features: Features, encoders: Mapping[str, Any], row: int) -> dict[str, str]:
    """Each field's value as a person reads it."""
    answers = {}
    for field in schema.fields.values():
        encoder = encoders.get(schema.table_owner(field.name).name)
        answers[field.name] = _text(field, features[field.name][row].cpu().numpy(), encoder)
    return answers


def _text(field: FieldSchema, value: Any, encoder: Any) -> str:
    if field.feature_type is FeatureType.DENSE:
        numbers = np.atleast_1d(value)
        shown = ", ".join(f"{number:.4g}" for number in numbers[:SHOWN_TOKENS])
        return shown + (", …" if len(numbers) > SHOWN_TOKENS else "")
    ids = np.atleast_1d(value)
    if field.feature_type is FeatureType.SPARSE:
        return _token(int(ids[0]), encoder)
    ids = ids[ids != 0]
    if not len(ids):
        return "none"
    if field.is_behaviour:
        return f"{len(ids)} events, last {_token(int(ids[-1]), encoder)}"
    shown = ", ".join(_token(int(one), encoder) for one in ids[:SHOWN_TOKENS])
    return shown + (", …" if len(ids) > SHOWN_TOKENS else "")


def _token(index: int, encoder: Any) -> str:
    """A category by its own name, where the encoder lists names; else its index."""
    if index == 0:
        return "unknown"
    decode = getattr(encoder, "inverse_transform", None)
    if decode is None:
        return f"index {index}"
    found = decode(np.array([[index]]) if isinstance(encoder, MultiHotEncoder) else np.array([index]))[0]
    return "unknown" if found is None else ", ".join(map(str, found)) if isinstance(found, list) else str(found)
