"""What may change without changing the output, and what may not: other rows, chance, padding, the order of a set."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from deepfm.analysis.batch import Batch, named_tensors, tensors
from deepfm.analysis.subject import Subject

TOLERANCE = 1e-3  # of the output's own spread, up to which outputs are the same in float32


@dataclass(frozen=True)
class Invariance:
    """One property.

    Args:
        name: what was looked at.
        holds: None where it could not be.
        difference: the largest change of an output, as a share of the outputs' spread.
        place: the input, or `output`.
        meaning: what it says, in a sentence.
    """

    name: str
    holds: bool | None
    difference: float | None
    place: str
    meaning: str


@dataclass(frozen=True)
class Invariances:
    """All of them."""

    SOURCES: ClassVar[dict[str, str]] = {"difference": "measured: pairs of runs in evaluation mode"}
    found: tuple[Invariance, ...]

    def get(self, name: str) -> tuple[Invariance, ...]:
        """Those of one name."""
        return tuple(one for one in self.found if one.name == name)


def measure_invariances(subject: Subject) -> Invariances:
    """Run pairs in evaluation mode, one thing changed, and compare."""
    batch = subject.batches[0]
    with subject.scratch(train=False) as model, torch.no_grad():

        def run(changed: Batch, seed: int = 0, train: bool = False) -> list[Tensor] | None:
            torch.manual_seed(seed)
            subject.set_mode(model, train)
            try:
                return [part.float() for part in tensors(subject.call(model, changed)) if not part.is_complex()]
            except Exception:  # whatever a foreign forward raises
                return None

        base = run(batch)
        assert base is not None
        found = [_determinism(run, batch, base)]
        found.append(_independence(subject, run, batch, base, found[0].holds is True))
        found += _masks(subject, model, run, batch, base)
        found += _orders(subject, run, batch, base)
        found.append(_gap(run, subject, base))
    return Invariances(tuple(found))


def difference(one: list[Tensor], other: list[Tensor] | None) -> float | None:
    """The largest difference, as a share of the spread of the first; None where they cannot be compared."""
    if other is None or [part.shape for part in one] != [part.shape for part in other]:
        return None
    worst = 0.0
    for first, second in zip(one, other, strict=True):
        if not first.numel():
            continue
        spread = float(first.std()) if first.numel() > 1 else 0.0
        scale = max(spread, 1e-3 * float(first.abs().max()), 1e-12)
        worst = max(worst, float((first - second).abs().max()) / scale)
    return worst


Run = Callable[..., list[Tensor] | None]


def _determinism(run: Run, batch: Batch, base: list[Tensor]) -> Invariance:
    change = difference(base, run(batch, seed=1))
    holds = None if change is None else change <= 1e-6
    return Invariance(
        "determinism", holds, change, "output", "the same batch gives the same output twice in evaluation mode"
    )


def _independence(subject: Subject, run: Run, batch: Batch, base: list[Tensor], comparable: bool) -> Invariance:
    name, meaning = "independence of rows", "a row's output does not change with the rows beside it"
    dim, rows = subject.batch_dim, subject.rows
    following = [part.ndim > dim and part.shape[dim] == rows for part in base]
    if rows < 4 or not any(following) or not comparable:
        return Invariance(name, None, None, "output", meaning)
    half = rows // 2
    alone = run(subject.sized(batch, half))
    if alone is None:
        return Invariance(name, None, None, "output", meaning)
    kept = [part for part, its in zip(base, following, strict=True) if its]
    parts = [part for part, its in zip(alone, following, strict=True) if its]
    change = difference([part.narrow(dim, 0, half) for part in kept], parts)
    return Invariance(name, None if change is None else change <= TOLERANCE, change, "output", meaning)


def _gap(run: Run, subject: Subject, base: list[Tensor]) -> Invariance:
    trained = run(subject.batches[0], train=True)
    change = difference(base, trained)
    run(subject.batches[0])
    return Invariance(
        "training and evaluation agree", None if change is None else change <= TOLERANCE, change, "output",
        "dropout and batch normalisation make them differ",
    )  # fmt: skip


def _masks(subject: Subject, model: nn.Module, run: Run, batch: Batch, base: list[Tensor]) -> list[Invariance]:
    """For each boolean input `(B, L)`: does what it hides change anything?"""
    if subject.batch_dim:
        return []
    inputs = named_tensors(batch, model)
    found = []
    for name, mask in inputs.items():
        if mask.dtype != torch.bool or mask.ndim != 2 or mask.all() or not mask.any():
            continue
        hidden = [leaf for leaf in inputs.values() if leaf is not mask and leaf.shape[:2] == mask.shape]
        if not hidden:
            continue
        changes = {}
        for side in (True, False):
            changed = run(_disturbed(batch, hidden, mask == side))
            changes[side] = _outside(base, changed, mask == side)
        known = [change for change in changes.values() if change is not None]
        if not known:
            continue
        least = min(known)
        found.append(
            Invariance(
                "padding", least <= TOLERANCE, least, name, "what a mask hides does not change what it does not hide"
            )
        )
    return found


def _outside(base: list[Tensor], changed: list[Tensor] | None, hidden: Tensor) -> float | None:
    """The change of outputs, positions that are hidden apart."""
    if changed is None:
        return None
    firsts, seconds = [], []
    for first, second in zip(base, changed, strict=False):
        if first.shape[:2] == hidden.shape:
            firsts.append(first[~hidden])
            seconds.append(second[~hidden])
        else:
            firsts.append(first)
            seconds.append(second)
    return difference(firsts, seconds)


def _disturbed(batch: Batch, leaves: list[Tensor], where: Tensor) -> Batch:
    """The batch with other values in some positions of some of its tensors."""
    source = torch.Generator().manual_seed(3)
    chosen = {id(leaf) for leaf in leaves}

    def change(leaf: Any) -> Any:
        if not isinstance(leaf, Tensor) or id(leaf) not in chosen:
            return leaf
        place = where.reshape(*where.shape, *[1] * (leaf.ndim - 2)).expand_as(leaf)
        if leaf.is_floating_point():
            noise = torch.randn(leaf.shape, generator=source).to(leaf) * (leaf.std() + 1e-3) * 3
            return torch.where(place, leaf + noise, leaf)
        order = torch.randperm(leaf.numel(), generator=source).to(leaf.device)
        return torch.where(place, leaf.reshape(-1)[order].reshape(leaf.shape), leaf)

    return Batch(tree_map(change, batch.args), tree_map(change, batch.kwargs), batch.target)


def _orders(subject: Subject, run: Run, batch: Batch, base: list[Tensor]) -> list[Invariance]:
    """For each length of lists among the inputs: does the order of their entries matter?"""
    if subject.batch_dim:
        return []
    rows = subject.rows
    leaves = [leaf for leaf in tensors(batch.args, batch.kwargs) if leaf.ndim > 1 and leaf.shape[0] == rows]
    lengths = sorted({leaf.shape[1] for leaf in leaves if leaf.ndim == 3 or not leaf.is_floating_point()})
    found = []
    for length in lengths:
        if length < 2:
            continue
        order = torch.randperm(length, generator=torch.Generator().manual_seed(5))
        chosen = {id(leaf) for leaf in leaves if leaf.shape[1] == length}

        def change(leaf: Any, chosen: set[int] = chosen, order: Tensor = order) -> Any:
            return leaf[:, order.to(leaf.device)] if isinstance(leaf, Tensor) and id(leaf) in chosen else leaf

        changed = run(Batch(tree_map(change, batch.args), tree_map(change, batch.kwargs), batch.target))
        moved = None
        if changed is not None:
            put_back = [
                part[:, torch.argsort(order).to(part.device)] if part.ndim > 1 and part.shape[1] == length else part
                for part in changed
            ]
            moved = difference(base, put_back)
        found.append(
            Invariance(
                "order of a set", None if moved is None else moved <= TOLERANCE, moved, f"lists of {length}",
                "the order of a list's entries does not matter",
            )
        )  # fmt: skip
    return found
