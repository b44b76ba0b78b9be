"""How far a model scales: rows that fit a device, accumulation on a cluster, and what several devices must exchange."""

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil, floor, log2
from typing import ClassVar

from torch import Tensor, nn

from deepfm.analysis.batch import tensors
from deepfm.analysis.measures.checkpointing import Checkpointing, measure_checkpointing
from deepfm.analysis.measures.counts import Counts, bytes_of
from deepfm.analysis.measures.flops import Flops
from deepfm.analysis.measures.lengths import Lengths, measure_lengths
from deepfm.analysis.measures.memory import Memory
from deepfm.analysis.measures.tables import table_parameters
from deepfm.analysis.subject import Subject

GIB = 1 << 30
USABLE = 0.9  # of a device's memory: the CUDA context and fragments take the rest
NETWORKS = {"10 Gb/s Ethernet": 1.25e9, "100 Gb/s Ethernet": 12.5e9, "NVLink of an A100": 300e9}  # bytes/s, one way
TABLE_BYTES = 64 << 20  # of a table that is worth a thought of its own
TOUCHED = 0.1  # of a table's rows, below which sparse gradients pay
STATE_SHARE = 0.6  # of a device that weights, gradients and moments may take before the model should be split


@dataclass(frozen=True)
class Fit:
    """Rows on one device: the largest number that fits, and the power of two below it; 0 where not even one does."""

    gibibytes: float
    rows: int
    power_of_two: int


@dataclass(frozen=True)
class Cluster:
    """How many devices make a batch: `steps` small ones of `rows` each per device before an update."""

    devices: int
    target_rows: int
    rows: int
    steps: int
    global_rows: int


@dataclass(frozen=True)
class Exchange:
    """Gradients over a network: seconds by its bandwidth alone, and their share of a measured step."""

    network: str
    seconds: float
    step_share: float | None


@dataclass(frozen=True)
class Table:
    """An embedding table and what the given batches look up in it.

    Attributes:
        touched: share of the rows that one batch looks up; None where it was not called.
        sparse: whether its gradients are sparse already.
        advice: in words, "" where there is none.
    """

    name: str
    rows: int
    width: int
    bytes: int
    touched: float | None
    sparse: bool
    advice: str


@dataclass(frozen=True)
class Scaling:
    """What `--scaling` adds.

    Attributes:
        state_bytes: weights, gradients and Adam's moments.
        single: one device of 12 GiB (or as told).
        synchronised_bytes: that each device sends in a step, ring all-reduce of dense gradients.
        exchanges: over some networks.
        batch_norms: modules that several devices should compute together (SyncBatchNorm).
        parallelism: "data" or "model", and `reason`.
    """

    SOURCES: ClassVar[dict[str, str]] = {
        "state_bytes": "measured: see counts",
        "single": "derived: memory's line against the device's memory, 90 % usable (assumed)",
        "cluster": "derived: as single, with accumulation up to the target",
        "checkpointing": "measured: see there",
        "lengths": "derived: see there",
        "synchronised_bytes": "derived: 2 (n - 1) / n times the gradients' bytes (ring all-reduce)",
        "exchanges": "derived: synchronised bytes over the network's bandwidth (assumed); share of the measured step",
        "batch_norms": "measured: modules of the model",
        "tables": "measured: rows that the first batch looks up",
        "parallelism": "derived: state_bytes against the device's memory",
    }
    state_bytes: int
    single: Fit | None
    cluster: Cluster | None
    checkpointing: Checkpointing
    lengths: Lengths
    synchronised_bytes: int
    exchanges: tuple[Exchange, ...]
    batch_norms: tuple[str, ...]
    tables: tuple[Table, ...]
    parallelism: str
    reason: str
    skipped: str | None = None


def measure_scaling(
    subject: Subject,
    counts: Counts,
    flops: Flops,
    memory: Memory,
    *,
    gibibytes: float = 12.0,
    devices: int = 8,
    target_rows: int = 4096,
    step_seconds: float | None = None,
) -> Scaling:
    """Derive batch sizes and communication from what was measured, and try checkpointing and lengths.

    Args:
        gibibytes: memory of a device.
        devices, target_rows: of the cluster, and the rows that an update should see.
        step_seconds: of a measured step, to set the exchange against.
    """
    gradients = sum(counts.gradient_bytes.values())
    state = sum(counts.parameter_bytes.values()) + counts.buffer_bytes + gradients
    state += counts.optimizer_bytes.get("adam", 0)
    single = None if memory.per_row is None else rows_that_fit(memory, state, gibibytes)
    sent = round(2 * (devices - 1) / devices * gradients)
    exchanges = tuple(
        Exchange(name, sent / bandwidth, None if not step_seconds else sent / bandwidth / step_seconds)
        for name, bandwidth in NETWORKS.items()
    )
    share = state / (gibibytes * GIB)
    splits = share > STATE_SHARE
    reason = (
        f"weights, gradients and moments take {state / GIB:.3g} GiB, {share:.2g} of a device of {gibibytes:g} GiB: "
        + ("shard them, the largest tables first" if splits else "each device holds the whole model")
    )
    return Scaling(
        state_bytes=state,
        single=single,
        cluster=None if single is None else cluster_of(single, devices, target_rows),
        checkpointing=measure_checkpointing(subject, flops),
        lengths=measure_lengths(subject),
        synchronised_bytes=sent,
        exchanges=exchanges,
        batch_norms=tuple(
            name
            for name, module in subject.model.named_modules()
            if isinstance(module, nn.modules.batchnorm._BatchNorm) and not isinstance(module, nn.SyncBatchNorm)
        ),
        tables=_tables(subject, counts),
        parallelism="model" if splits else "data",
        reason=reason,
        skipped=memory.skipped if single is None else None,
    )


def rows_that_fit(memory: Memory, state: int, gibibytes: float) -> Fit:
    """The most rows whose activations lie beside the state in a device's usable memory."""
    room = USABLE * gibibytes * GIB - state - (memory.fixed or 0.0)
    rows = max(0, floor(room / memory.per_row)) if memory.per_row and memory.per_row > 0 else 0
    return Fit(gibibytes, rows, 0 if rows < 1 else 1 << floor(log2(rows)))


def cluster_of(single: Fit, devices: int, target_rows: int) -> Cluster | None:
    """The fewest small batches per update that reach the target; None where not one row fits."""
    if single.rows < 1:
        return None
    each = ceil(target_rows / devices)
    steps = ceil(each / single.rows)
    rows = ceil(each / steps)
    return Cluster(devices, target_rows, rows, steps, rows * steps * devices)


def _tables(subject: Subject, counts: Counts) -> tuple[Table, ...]:
    """Each embedding table once, with the rows that the first batch looks up."""
    seen: dict[str, set[int]] = {}
    handles = []
    with subject.scratch() as model:
        tables, modules = table_parameters(model), dict(model.named_modules())
        for name in tables:
            module = modules.get(name)
            if isinstance(module, nn.Embedding | nn.EmbeddingBag):
                noting = _noting(seen.setdefault(name, set()))
                handles.append(module.register_forward_pre_hook(noting, with_kwargs=True))
        try:
            subject.loss_of(model, subject.training_batches[0]).backward()
        except Exception:
            seen.clear()
        finally:
            for handle in handles:
                handle.remove()
        sparse = {name for name, part in tables.items() if part.grad is not None and part.grad.is_sparse}
        for name, part in tables.items():
            if name not in seen and part.grad is not None:
                seen[name] = _rows_with_gradient(part.grad)
    found = []
    for name, part in tables.items():
        size, looked_up = bytes_of(part), seen.get(name)
        touched = len(looked_up) / len(part) if looked_up else None
        advice = []
        large = size >= TABLE_BYTES or size > 0.5 * sum(counts.parameter_bytes.values())
        if large and name not in sparse and touched is not None and touched < TOUCHED:
            advice.append(f"a batch touches {touched:.2%} of its rows: sparse gradients or a row-wise optimizer")
        if size >= TABLE_BYTES:
            advice.append("shard it by rows over the devices")
        found.append(Table(name, len(part), part[0].numel(), size, touched, name in sparse, "; ".join(advice)))
    return tuple(found)


def _rows_with_gradient(gradient: Tensor) -> set[int]:
    if gradient.is_sparse:
        return set(gradient.coalesce().indices()[0].tolist())
    return set(gradient.flatten(1).any(dim=1).nonzero().squeeze(1).tolist())


def _noting(rows: set[int]) -> Callable[..., None]:
    def hook(_: nn.Module, args: tuple[object, ...], kwargs: dict[str, object]) -> None:
        for ids in tensors(args[:1], kwargs.get("input")):
            rows.update(ids.unique().tolist())

    return hook
