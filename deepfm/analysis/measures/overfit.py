"""A few rows to learn by heart: what a model cannot do there, it cannot do anywhere."""

import math
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import ClassVar

import torch
from torch import Tensor, nn

from deepfm.analysis.batch import Batch, rows_of, tensors
from deepfm.analysis.measures.start import constant_loss, loss_kind
from deepfm.analysis.measures.steps import BatchesTask, mean_loss, refuse_probe, take_rows, without_dropout
from deepfm.analysis.reasons import reason_of
from deepfm.analysis.subject import Subject
from deepfm.engine.checkpoint import FitState
from deepfm.engine.loop import Observer, fit
from deepfm.engine.loop_settings import LoopSettings
from deepfm.engine.task import Progress, no_progress
from deepfm.errors import TrainingError

ROWS = (32, 8, 4)  # fewer where the first are more than the model can hold
RATES = (0.01, 0.1, 0.001)  # the next where one does not do
EPOCHS, STEPS = 20, 10  # 200 steps; the loss is looked at after every 10
SHARE = 0.05
UNKNOWN = 0.5  # of the loss: an unknown loss that falls below it may have reached a floor of its own
NOTE = "the same rows of the first batch in every step, dropout off"


@dataclass(frozen=True)
class Overfit:
    """Whether some rows could be learned by heart.

    Args:
        passed: None where it was not tried, or where the loss fell by half and more to a floor that is not known.
        share: what is left of the loss, (lowest − floor) / (reference − floor); passing is 5 % or less.
        reference: the loss at the start, or that of the best constant output where that is less and known.
        floor: the least loss that contradicting labels of equal rows allow; 0 where the loss is no known one.
        curve: the loss after every ten steps of the best run, the start first.
        tried: the share that each number of rows and learning rate reached.
    """

    passed: bool | None = None
    share: float | None = None
    threshold: float = SHARE
    start: float | None = None
    reference: float | None = None
    floor: float | None = None
    lowest: float | None = None
    lr: float | None = None
    steps: int = 0
    rows: int = 0
    curve: tuple[float, ...] = ()
    tried: dict[str, float | None] = field(default_factory=dict)
    note: str = NOTE
    skipped: str | None = None

    SOURCES: ClassVar[dict[str, str]] = {
        "passed": "derived: share ≤ threshold",
        "share": "derived: from lowest, floor and reference",
        "threshold": "assumed: 5 %",
        "start": "measured: before any step",
        "reference": "derived: the lesser of start and the loss of the best constant output",
        "floor": "derived: from rows with equal inputs and different targets",
        "lowest": "measured: of every ten steps, with batch normalisation by the batch or by running statistics",
        "lr": "measured: the rate of the best run",
        "steps": "measured: counted, until the threshold is reached",
        "rows": "measured: counted",
        "curve": "measured: every ten steps",
        "tried": "measured: run by run",
    }


def measure_overfit(
    subject: Subject, *, rows: Sequence[int] = ROWS, rates: Sequence[float] = RATES, budget_seconds: float = 8.0
) -> Overfit:
    """At most 200 steps of Adam on a few rows, at several rates and on fewer rows until the loss is gone.

    Args:
        rows: how many of the first batch, in the order in which they are tried.
        budget_seconds: no further run starts after it; what was not learned by then stays open.
    """
    started = time.perf_counter()
    best: Overfit | None = None
    tried: dict[str, float | None] = {}
    cut = False
    try:
        refuse_probe(subject)
        given = rows_of(subject.training_batches[0], subject.batch_dim)
        plans = [(min(one, given), lr) for one in rows for lr in rates]
        for count, lr in dict.fromkeys(plans):
            cut = best is not None and time.perf_counter() - started > budget_seconds
            if best is not None and (best.passed or cut):
                break
            found = _run(subject, distinct_rows(subject, count), lr)
            tried[f"{count} rows, lr {lr:g}"] = found.share
            if best is None or (found.share is not None and (best.share is None or found.share < best.share)):
                best = found
    except Exception as error:
        return Overfit(skipped=reason_of(error))
    if best is None:
        return Overfit()
    return replace(best, tried=tried, passed=None if cut and not best.passed else best.passed)


def distinct_rows(subject: Subject, count: int) -> Batch:
    """Rows of the first batch, of every target that it has as evenly as it can be."""
    batch = subject.training_batches[0]
    have = rows_of(batch, subject.batch_dim)
    seen: dict[bytes, int] = {}
    ranks = []
    for key in _keys(subject, batch.target, have):
        seen[key] = seen.get(key, -1) + 1
        ranks.append(seen[key])
    order = sorted(range(have), key=lambda row: (ranks[row], row))[:count]
    return take_rows(subject, batch, torch.tensor(sorted(order)))


def forced_loss(kind: str | None, keys: Sequence[bytes], targets: Tensor) -> float:
    """The least mean loss of targets `(B, …)` where rows of one key must have one output; 0 for an unknown loss."""
    groups: dict[bytes, list[int]] = {}
    for row, key in enumerate(keys):
        groups.setdefault(key, []).append(row)
    if kind is None or len(groups) == len(keys):
        return 0.0
    total = 0.0
    for members in groups.values():
        columns = targets[members].reshape(len(members), -1).unbind(1)
        own = [constant_loss(kind, [column]) or 0.0 for column in columns]
        total += len(members) * sum(own) / len(own)
    return total / len(keys)


def _bounds(subject: Subject, batch: Batch) -> tuple[str | None, float, float | None]:
    """Which loss it is, its floor, and the loss of the best constant output if it is known."""
    with subject.scratch(train=False) as model, torch.no_grad():
        kind = loss_kind(subject, subject.call(model, subject.batches[0]))
    if kind is None:
        return None, 0.0, None
    count = rows_of(batch, subject.batch_dim)
    floor = forced_loss(kind, _keys(subject, (batch.args, batch.kwargs), count), batch.target)
    return kind, floor, constant_loss(kind, [batch.target])


def _keys(subject: Subject, parts: object, count: int) -> list[bytes]:
    """A row's numbers, as what tells it from others."""
    dim = subject.batch_dim
    leaves = [leaf.detach().cpu() for leaf in tensors(parts) if leaf.ndim > dim and leaf.shape[dim] == count]
    tables = [leaf.movedim(dim, 0).reshape(count, -1).double().numpy() for leaf in leaves]
    return [b"".join(table[row].tobytes() for table in tables) for row in range(count)]


class _Memorising(BatchesTask):
    """One batch, whose loss is looked at with batch normalisation by the batch or by its running statistics."""

    def evaluate(self, on_progress: Progress = no_progress) -> dict[str, float]:
        """The lower of the two losses."""
        found = []
        for training in (False, True):
            self.model.train(training)
            found.append(mean_loss(self.subject, self.model, self.given))
        self.found.append(min(found))
        return {"held_out": self.found[-1]}


class _Enough(Observer):
    """Ends the fit where the loss is gone."""

    def __init__(self, goal: float) -> None:
        self.goal = goal

    def epoch_finished(self, state: FitState, improved: bool) -> None:
        """Look at the loss."""
        self.stop_requested = state.history[-1]["held_out"] <= self.goal


def _run(subject: Subject, batch: Batch, lr: float) -> Overfit:
    kind, floor, constant = _bounds(subject, batch)
    settings = LoopSettings(num_epochs=EPOCHS, lr=lr, scheduler="none", early_stopping_patience=EPOCHS)
    with subject.scratch(train=True) as model:
        without_dropout(model)
        task = _Memorising(subject, model, [batch], STEPS)
        modes: list[tuple[nn.Module, bool]] = [(part, part.training) for part in model.modules()]
        start = task.evaluate()["held_out"]
        for part, mode in modes:
            part.training = mode
        reference = start if constant is None or not constant > floor else min(start, constant)
        scale = max(abs(reference - floor), 1e-12)
        with suppress(TrainingError):
            fit(task, settings, device=subject.device, observers=[_Enough(floor + SHARE * scale)])
    lowest = min(task.found)
    share = (lowest - floor) / scale if math.isfinite(lowest) else None
    passed: bool | None = share is not None and share <= SHARE
    note = NOTE
    if not passed and kind is None and share is not None and share < UNKNOWN:
        passed, note = None, f"{NOTE}; how low this loss can get is not known"
    return Overfit(
        passed,
        share,
        SHARE,
        start if math.isfinite(start) else None,
        reference if math.isfinite(reference) else None,
        floor,
        lowest if math.isfinite(lowest) else None,
        lr,
        STEPS * (len(task.found) - 1),
        rows_of(batch, subject.batch_dim),
        tuple(value for value in task.found if math.isfinite(value)),
        note=note,
    )
