"""Dynamic quantisation of products to int8: what it does to size, time and outputs, tried on a copy on the CPU."""

import io
import warnings
from dataclasses import dataclass
from time import perf_counter
from typing import ClassVar

import torch
from torch import nn

from deepfm.analysis.batch import tensors
from deepfm.analysis.measures.flops import without_fast_path
from deepfm.analysis.measures.latency import Clock, Timing, timing_of, torch_clock
from deepfm.analysis.measures.precision import relative_error
from deepfm.analysis.reasons import reason_of
from deepfm.analysis.subject import Subject

KINDS = (nn.Linear, nn.LSTM, nn.GRU)
ENOUGH = 0.05  # relative change of the outputs, up to which no training for int8 is called for
SMALLER = 0.9  # of the size, from which on it is hardly worth it


@dataclass(frozen=True)
class Quantization:
    """The model with int8 weights in its Linear, LSTM and GRU modules.

    Attributes:
        modules: that were quantised.
        bytes_before, bytes_after: of the saved weights.
        before, after: time of a forward pass on the CPU.
        speedup: before over after; None where one has no figure.
        output_change: ‖int8 - float32‖ / ‖float32‖ over the given batches.
        enough: whether quantising after training is enough.
        advice: in words.
        skipped: why there is no figure.
    """

    SOURCES: ClassVar[dict[str, str]] = {
        "modules": "measured: modules that torch replaced",
        "bytes_before": "measured: torch.save of the state",
        "bytes_after": "measured: the same, quantised",
        "before": "measured: torch.utils.benchmark on the CPU, without the Transformer's fused path, which int8 lacks",
        "after": "measured: the same, quantised",
        "speedup": "derived: before over after",
        "output_change": "measured: on the given batches, evaluation mode",
        "enough": "derived: output_change against 5 % (assumed)",
    }
    modules: tuple[str, ...]
    bytes_before: int | None
    bytes_after: int | None
    before: Timing | None
    after: Timing | None
    speedup: float | None
    output_change: float | None
    enough: bool | None
    advice: str
    skipped: str | None = None


def measure_quantization(subject: Subject, *, budget: float = 2.0, clock: Clock = torch_clock) -> Quantization:
    """Quantise a copy by torch.ao and compare; `budget` is seconds for the two timings."""
    try:
        return _measured(subject, budget, clock)
    except Exception as error:
        reason = reason_of(error)
        return Quantization((), None, None, None, None, None, None, None, "", reason)


def _measured(subject: Subject, budget: float, clock: Clock) -> Quantization:
    with subject.scratch(train=False) as model, torch.no_grad(), without_fast_path(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch says that these functions will move to torchao
        if model is subject.model:
            raise RuntimeError("the model cannot be copied")
        model.cpu()
        small = torch.ao.quantization.quantize_dynamic(model, set(KINDS), dtype=torch.qint8)
        kept = {name: type(module) for name, module in model.named_modules()}
        names = tuple(
            name for name, module in small.named_modules() if type(module) is not kept.get(name, type(module))
        )
        if not names:
            raise RuntimeError("no Linear, LSTM or GRU module to quantise")
        batches = [batch.map(lambda leaf: leaf.cpu()) for batch in subject.batches]
        outputs = [(tensors(subject.call(small, batch)), tensors(subject.call(model, batch))) for batch in batches]
        change = relative_error([one for one, _ in outputs], [other for _, other in outputs])
        timings = []
        for each in (model, small):
            start = perf_counter()
            subject.call(each, batches[0])
            room = max(0.05, budget / 2 - 2 * (perf_counter() - start))
            run = (lambda chosen: lambda: subject.call(chosen, batches[0]))(each)
            timings.append(timing_of(subject.rows, clock(run, room, torch.get_num_threads())))
        sizes = [_saved_bytes(each) for each in (model, small)]
    before, after = timings
    quick = before.median / after.median if before.median and after.median else None
    enough = None if change is None else change <= ENOUGH
    return Quantization(names, sizes[0], sizes[1], before, after, quick, change, enough,
                        _advice(change, enough, sizes[1] / sizes[0], quick))  # fmt: skip


def _advice(change: float | None, enough: bool | None, size: float, speedup: float | None) -> str:
    if change is None or enough is None:
        return "outputs are not finite after quantisation: keep float32"
    if size > SMALLER and (speedup is None or speedup < 1.1):
        return f"int8 leaves {size:.0%} of the size and gains no time: not worth it"
    if not enough:
        return f"outputs change by {change:.2%}: calibrate on data or train for int8, and compare the metric"
    return f"outputs change by {change:.2%}: quantising after training is enough, once the metric has been compared"


def _saved_bytes(model: nn.Module) -> int:
    stream = io.BytesIO()
    torch.save(model.state_dict(), stream)
    return stream.getbuffer().nbytes
