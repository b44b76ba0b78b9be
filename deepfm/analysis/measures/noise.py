"""How many rows a step is worth: the gradient noise scale B = tr(Σ)/|G|² (McCandlish et al., 2018, section 2.2)."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._pytree import tree_flatten, tree_unflatten

from deepfm.analysis.batch import Batch, rows_of
from deepfm.analysis.measures.steps import (
    Stepper,
    refuse_probe,
    split_rows,
    take_rows,
    trainable,
    without_dropout,
)
from deepfm.analysis.reasons import reason_of
from deepfm.analysis.subject import Subject
from deepfm.utils.seeding import random_stream

ROWS = 512  # looked at, at most
NUMBERS = 48_000_000  # of gradients held at once, 192 MB
CHUNK_NUMBERS = 8_000_000
MICRO_BATCHES = 32
FEWEST = 4  # gradients that can differ
RESAMPLES, LEVEL = 500, 0.9
WIDEST = 10.0  # an interval from one end to ten times that is still an answer
AGREES = 1e-2  # relative distance of the mean row's gradient from the batch's

_FAST_PATH = torch.backends.mha


@dataclass(frozen=True)
class NoiseScale:
    """What the gradients of single rows, or of micro-batches, say of the batch size.

    Args:
        method: `per-row gradients` or `micro-batches`, of `rows_each` rows.
        rows: looked at in all.
        gradient_squared, trace: unbiased estimates of |G|² and tr(Σ), of the loss's units squared.
        noise_scale: their ratio, in rows, with `low` and `high` of the interval; None where it is not resolved.
        rows_needed: at least so many would resolve it; None where it is.
        batch_low, batch_high: powers of two around the interval, within `memory_rows`.
        batch_rows: the power of two nearest to the noise scale, within `memory_rows`.
        reason: why it is not resolved, or how the numbers were got.
    """

    method: str | None = None
    rows: int = 0
    rows_each: int = 1
    gradient_squared: float | None = None
    trace: float | None = None
    noise_scale: float | None = None
    low: float | None = None
    high: float | None = None
    level: float = LEVEL
    resolved: bool = False
    rows_needed: int | None = None
    batch_low: int | None = None
    batch_high: int | None = None
    batch_rows: int | None = None
    memory_rows: int | None = None
    reason: str = ""
    skipped: str | None = None

    SOURCES: ClassVar[dict[str, str]] = {
        "rows": "measured: counted",
        "rows_each": "measured: counted",
        "gradient_squared": "measured: the mean product of different rows' (micro-batches') gradients, dropout off",
        "trace": "measured: the mean squared norm of a gradient less gradient_squared, times rows_each",
        "noise_scale": "derived: trace / gradient_squared, at the given weights; it grows as the loss falls",
        "low": "derived: bootstrap over rows (micro-batches)",
        "high": "derived: bootstrap over rows (micro-batches)",
        "level": "assumed: share of resamples in the interval",
        "rows_needed": "derived: from the bootstrap's deviation of gradient_squared",
        "batch_low": "derived: the interval's low end, as a power of two",
        "batch_high": "derived: the interval's high end, as a power of two",
        "batch_rows": "derived: the noise scale as a power of two",
        "memory_rows": "assumed: given",
    }


def measure_noise(
    subject: Subject, *, memory_rows: int | None = None, rows: int = ROWS, per_row: bool = True, seed: int = 0
) -> NoiseScale:
    """The noise scale at the model's weights, in training mode without dropout.

    Args:
        memory_rows: the most rows of a batch that memory allows, which caps the advice.
        rows: looked at, at most.
        per_row: try `torch.func` first; micro-batches work for any module.
    """
    refused = "per-row gradients were not wanted"
    try:
        refuse_probe(subject)
        batches = _drawn(subject, rows, seed)
        if per_row:
            try:
                return conclude(_per_row(subject, batches), 1, "per-row gradients", memory_rows, seed)
            except Exception as error:
                refused = f"torch.func cannot take this model ({reason_of(error)})"
        gram, each = _micro_batches(subject, batches)
    except Exception as error:
        return NoiseScale(memory_rows=memory_rows, skipped=reason_of(error))
    return conclude(gram, each, "micro-batches", memory_rows, seed, refused)


def conclude(
    gram: np.ndarray, rows_each: int, method: str, memory_rows: int | None = None, seed: int = 0, why: str = ""
) -> NoiseScale:
    """From the products `(n, n)` of n gradients, each the mean over `rows_each` rows, to the noise scale.

    Different gradients share only their mean, so that their mean product is |G|² without bias; resamples leave out a
    gradient's product with its own copy for the same reason.
    """
    count = len(gram)
    if count < FEWEST or not np.isfinite(gram).all():
        few = f"{count} gradients tell nothing of noise; give more rows" if count < FEWEST else "gradients not finite"
        return NoiseScale(method, count * rows_each, rows_each, memory_rows=memory_rows, skipped=few)
    squared, trace = _estimates(gram, np.ones(count), rows_each)
    draw = random_stream("noise scale", seed)
    found = np.array(
        [
            _estimates(gram, draw.multinomial(count, np.full(count, 1 / count)).astype(float), rows_each)
            for _ in range(RESAMPLES)
        ]
    )  # (resamples, 2)
    found = found[np.isfinite(found).all(axis=1)]
    ends = np.quantile(found[:, 0], [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    result: dict[str, Any] = {
        **{"method": method, "rows": count * rows_each, "rows_each": rows_each, "memory_rows": memory_rows},
        **{"gradient_squared": squared, "trace": trace},
    }
    deviation = float(found[:, 0].std())
    if trace <= 0:
        return NoiseScale(**result, reason="not resolved: the rows' gradients hardly differ")
    needed = math.ceil(count * rows_each * max(2.0, 2 * deviation / max(squared, deviation, 1e-300)))
    if squared <= 0 or ends[0] <= 0:
        return NoiseScale(
            **result,
            rows_needed=needed,
            reason=f"not resolved: |G|² is {squared:.3g} with an interval from {ends[0]:.3g}, not above zero, so the "
            f"noise hides the gradient; at least {needed} rows are needed. {why}".strip(),
        )
    low, high = np.quantile(found[:, 1] / found[:, 0], [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    if high > WIDEST * low or low <= 0:
        return NoiseScale(
            **result,
            low=float(low),
            high=float(high),
            rows_needed=needed,
            reason=f"not resolved: the interval {low:.3g} to {high:.3g} spans more than a factor of {WIDEST:.0f}; at "
            f"least {needed} rows are needed. {why}".strip(),
        )
    scale = trace / squared
    return NoiseScale(
        **result,
        noise_scale=scale,
        low=float(low),
        high=float(high),
        resolved=True,
        batch_low=_power(low, memory_rows, math.floor),
        batch_high=_power(high, memory_rows, math.ceil),
        batch_rows=_power(scale, memory_rows, round),
        reason=why,
    )


def _estimates(gram: np.ndarray, counts: np.ndarray, rows_each: int) -> tuple[float, float]:
    """|G|² and tr(Σ) of resampled gradients, whose numbers `(n,)` say how often each was drawn."""
    own = gram.diagonal()
    pairs = counts.sum() ** 2 - (counts**2).sum()
    squared = float((counts @ gram @ counts - (counts**2) @ own) / pairs) if pairs else math.nan
    return squared, rows_each * (float(counts @ own / counts.sum()) - squared)


def _power(rows: float, memory_rows: int | None, rounding: Callable[[float], int]) -> int:
    found = int(2 ** max(0, rounding(math.log2(rows))))
    return found if memory_rows is None else max(1, min(found, memory_rows))


def _drawn(subject: Subject, rows: int, seed: int) -> list[Batch]:
    """Rows of all batches, as many of each, in an order of the seed's."""
    batches = subject.training_batches
    share = max(2, rows // len(batches))
    drawn = []
    for number, batch in enumerate(batches):
        order = random_stream("noise rows", seed, number).permutation(rows_of(batch, subject.batch_dim))
        drawn.append(take_rows(subject, batch, torch.as_tensor(order[:share])))
    return drawn


def _per_row(subject: Subject, batches: Sequence[Batch]) -> np.ndarray:
    """Products of the gradients of single rows."""
    with subject.scratch(train=True) as model:
        without_dropout(model)
        parameters = {name: part for name, part in model.named_parameters() if part.requires_grad}
        size = sum(part.numel() for part in parameters.values())
        fast = _FAST_PATH.get_fastpath_enabled()
        _FAST_PATH.set_fastpath_enabled(False)
        try:
            kept = max(4, NUMBERS // max(1, size) // len(batches))
            found = []
            with sdpa_kernel(SDPBackend.MATH):
                for batch in batches:
                    rows = torch.arange(min(kept, rows_of(batch, subject.batch_dim)))
                    found.append(row_gradients(subject, model, take_rows(subject, batch, rows)))
        finally:
            _FAST_PATH.set_fastpath_enabled(fast)
    rows_of_all = torch.cat(found)
    return (rows_of_all @ rows_of_all.T).double().cpu().numpy()


def row_gradients(subject: Subject, model: nn.Module, batch: Batch) -> Tensor:
    """The gradient of each row's loss, `(B, parameters)`, held to the whole batch's gradient.

    Raises:
        ValueError: the mean row's gradient is not the batch's, as where rows see each other.
    """
    parameters = {name: part for name, part in model.named_parameters() if part.requires_grad}
    frozen = {name: part for name, part in model.named_parameters() if not part.requires_grad}
    dim, count = subject.batch_dim, rows_of(batch, subject.batch_dim)
    leaves, form = tree_flatten((batch.args, batch.kwargs, batch.target))
    places = [
        at
        for at, leaf in enumerate(leaves)
        if isinstance(leaf, Tensor) and leaf.ndim > dim and leaf.shape[dim] == count
    ]

    def loss(weights: dict[str, Tensor], *rows: Tensor) -> Tensor:
        filled = list(leaves)
        for at, row in zip(places, rows, strict=True):
            filled[at] = row.unsqueeze(dim)
        args, kwargs, target = tree_unflatten(filled, form)
        value = subject.loss(functional_call(model, {**weights, **frozen}, args, kwargs), target)
        return value if isinstance(value, Tensor) else torch.as_tensor(value)

    weights = {name: part.detach() for name, part in parameters.items()}
    size = sum(part.numel() for part in weights.values())
    each = vmap(
        grad(loss),
        in_dims=(None, *(dim for _ in places)),
        randomness="different",
        chunk_size=max(1, min(count, CHUNK_NUMBERS // max(1, size))),
    )
    gradients = each(weights, *(leaves[at] for at in places))
    rows = torch.cat([gradients[name].reshape(count, -1) for name in weights], dim=1)
    whole = torch.autograd.grad(subject.loss_of(model, batch), list(parameters.values()), allow_unused=True)
    expected = torch.cat(
        [
            (torch.zeros_like(part) if given is None else given).to_dense().reshape(-1)
            for part, given in zip(parameters.values(), whole, strict=True)
        ]
    )
    apart = float(torch.linalg.vector_norm(rows.mean(0) - expected) / torch.linalg.vector_norm(expected))
    if not apart < AGREES:
        raise ValueError(f"the mean of the rows' gradients is {apart:.2g} away from the batch's")
    return rows


def _micro_batches(subject: Subject, batches: Sequence[Batch]) -> tuple[np.ndarray, int]:
    """Products of the gradients of micro-batches, and their rows."""
    total = sum(rows_of(batch, subject.batch_dim) for batch in batches)
    with subject.scratch(train=True) as model:
        without_dropout(model)
        size = sum(part.numel() for part in trainable(model))
        many = max(4, min(MICRO_BATCHES, NUMBERS // size))
        each = max(2 if subject.training_batches is not subject.batches else 1, total // many)
        normalised = any(isinstance(part, nn.modules.batchnorm._BatchNorm) for part in model.modules())
        each = max(each, 2 if normalised else 1)
        parts = [part for batch in batches for part in split_rows(subject, batch, each)]
        parts = [part for part in parts if rows_of(part, subject.batch_dim) == each][: many * 2]
        stepper = Stepper(subject, model, "sgd")
        found = []
        for part in parts:
            stepper.gradient(part)
            found.append(
                torch.cat(
                    [
                        (torch.zeros_like(own) if own.grad is None else own.grad).to_dense().reshape(-1)
                        for own in stepper.parameters
                    ]
                )
            )
    gradients = torch.stack(found)
    return (gradients @ gradients.T).double().cpu().numpy(), each
