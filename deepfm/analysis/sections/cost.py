"""The sections of what there is and what it costs, and those that switches add."""

from deepfm.analysis.measures.machine import Roofline
from deepfm.analysis.measures.memory import Peak
from deepfm.analysis.report import ModelReport
from deepfm.analysis.sections.switches import added
from deepfm.analysis.sections.words import Row, figures, operations, seconds, size, skipped, source_of, table
from deepfm.reporting import Block, Figure, Note, Paragraph, bar_plot

MOST_MODULES = 40
__all__ = ["added", "architecture", "performance"]


def architecture(report: ModelReport) -> list[Block]:
    """Counts, memory, FLOPs, and the modules with their shares."""
    measured = report.measured
    counts, flops = measured.counts, measured.flops
    unused = sum(1 for _ in measured.flow.unreached)
    state = ", ".join(f"{name} {size(held)}" for name, held in counts.optimizer_bytes.items())
    rows = [
        ("type", measured.about.type, "given"),
        ("parameters", counts.total, source_of(counts, "total")),
        ("trainable", counts.trainable, source_of(counts, "trainable")),
        ("frozen", counts.frozen, "measured"),
        ("tied", "; ".join(" = ".join(group) for group in counts.tied) or "none", "measured: shared storages"),
        ("unused", f"{unused} tensors" if unused else "none", "measured: no gradient in any batch"),
        ("buffers", counts.buffers, "measured"),
        ("memory of parameters in FP32", size(counts.fp32_bytes), "measured"),
        ("memory of gradients", size(sum(counts.gradient_bytes.values())), "measured: one backward pass"),
        ("memory of optimizer state", state or None, "measured: one real step each"),
    ]
    if flops is not None:
        alone = "" if flops.forward else " (products of matrices alone are counted)"
        least = " (a lower bound)" if flops.lower_bound else alone
        rows += [
            ("FLOPs per sample, forward", f"{operations(flops.forward_per_row)}{least}", source_of(flops, "forward")),
            ("FLOPs per sample, training step", operations(flops.step_per_row), source_of(flops, "step")),
        ]
    blocks: list[Block] = [figures(rows)]
    if flops is None:
        blocks.append(skipped("FLOPs", report.failed.get("FLOPs")))
    elif flops.operations:
        named = [(one.name, one.calls, operations(one.flops), f"{one.share:.1%}") for one in flops.operations[:10]]
        blocks.append(table(("operation", "calls", "FLOPs", "share"), named, "dominant operations of a training step"))
    kinds: dict[str, int] = {}
    for module in counts.modules:
        kinds[module.kind] = kinds.get(module.kind, 0) + 1
    parts = ", ".join(f"{count} {kind}" if count > 1 else kind for kind, count in kinds.items())
    blocks.append(Paragraph(f"Key components: {parts}."))
    blocks.append(_modules(report))
    return blocks


def _modules(report: ModelReport) -> Block:
    measured = report.measured
    flops = {} if measured.flops is None else measured.flops.modules
    held = {} if measured.memory is None or measured.memory.activations is None else measured.memory.activations.modules
    rows = []
    for module in measured.counts.modules[:MOST_MODULES]:
        cost = flops.get(module.name)
        rows.append(
            (
                module.name or "the model", module.kind, module.parameters, f"{module.share:.1%}",
                ", ".join(module.dtypes), None if cost is None else cost.forward, size(held.get(module.name)),
            )
        )  # fmt: skip
    names = ("module", "type", "own parameters", "share", "dtype", "FLOPs forward", "activations")
    hidden = len(measured.counts.modules) - len(rows)
    caption = f"{hidden} further modules are in the JSON" if hidden > 0 else "FLOPs and activations with the children's"
    return table(names, rows, caption)


def performance(report: ModelReport) -> list[Block]:
    """Bytes and seconds: measured here, derived for other machines."""
    measured = report.measured
    blocks: list[Block] = []
    memory = measured.memory
    if memory is None or memory.activations is None:
        blocks.append(skipped("Activation memory", report.failed.get("memory") if memory is None else memory.skipped))
    else:
        source = source_of(memory, "activations")
        rows: list[Row] = [
            ("model size", size(measured.counts.fp32_bytes), "measured"),
            (f"activations of {memory.activations.rows:,} rows", size(memory.activations.bytes), source),
            ("distinct storages", memory.activations.storages, source),
            ("activations per sample", size(memory.per_row), source_of(memory, "per_row")),
            ("activations whatever the rows", size(memory.fixed), source_of(memory, "fixed")),
        ]
        if (peak := memory.peak) is not None:
            rows += [
                ("peak of a training step", size(peak.total), f"measured: {peak.source}"),
                ("of it parameters and gradients", size(peak.parameters + peak.gradients), "measured"),
                ("of it optimizer state", size(peak.optimizer), "measured: Adam"),
                ("of it activations", size(peak.activations), "measured"),
                ("of it temporary", size(peak.temporary), "measured"),
                ("peak beside the free memory", measured.memory_share, "derived"),
            ]
        blocks.append(figures(rows))
        blocks += _peak(memory.peak)
        parts = {name or "the model": float(held) for name, held in memory.activations.modules.items() if held and name}
        if parts:
            largest = dict(sorted(parts.items(), key=lambda pair: -pair[1])[:20])
            blocks.append(
                Figure(
                    "Activation memory",
                    bar_plot({name: held / 1e6 for name, held in largest.items()}, "Activations by module", "MB"),
                )
            )
    blocks += _latency(report)
    if measured.roofline is not None:
        blocks += _roofline(measured.roofline)
    return blocks


def _peak(peak: Peak | None) -> list[Block]:
    if peak is None:
        return []
    held = {
        **{"parameters": peak.parameters, "gradients": peak.gradients, "optimizer": peak.optimizer},
        **{"activations": peak.activations, "temporary": peak.temporary or 0, "inputs": peak.inputs},
    }
    bars = {name: count / 1e6 for name, count in held.items()}
    return [Figure("Peak of a training step", bar_plot(bars, "Peak of a training step by what holds it", "MB"))]


def _latency(report: ModelReport) -> list[Block]:
    latency = report.measured.latency
    if latency is None:
        return [skipped("Latency", report.failed.get("latency"))]
    rows = []
    for kind, timings in (("forward", latency.forward), ("training step", latency.step)):
        for one in timings:
            spread = f"{seconds(one.lower)} to {seconds(one.upper)}" if one.median is not None else one.skipped
            rate = None if one.rows_per_second is None else f"{one.rows_per_second:,.0f}"
            rows.append((kind, one.rows, seconds(one.median), spread, rate))
    caption = f"measured on {latency.device}, {latency.threads} threads: median and quartiles"
    return [table(("", "rows", "median", "quartiles", "rows per second"), rows, caption)]


def _roofline(found: Roofline) -> list[Block]:
    machine = found.machine
    step = "the roofline's" if found.measured_step is None else "measured"
    rows = [
        ("this machine's bandwidth", f"{machine.bandwidth / 1e9:.3g} GB/s", machine.source),
        ("this machine's peak", f"{machine.fp32 / 1e9:.3g} GFLOP/s", machine.source),
        ("FLOPs per byte of a training step", found.step_intensity, "derived"),
        ("FLOPs per byte from which this machine computes", found.ridge, "derived"),
        ("bound by", found.bound, "derived"),
        ("roofline over measured step", found.achieved, "derived"),
        ("time per epoch here", seconds(found.epoch), f"derived: {step} step times steps of an epoch"),
    ]
    others = [
        (
            one.name,
            seconds(one.forward),
            seconds(one.step),
            seconds(one.step_half),
            one.bound,
            seconds(one.epoch),
            one.source,
        )
        for one in found.times
    ]
    names = ("machine", "forward", "training step", "in bf16", "bound by", "epoch", "source of its figures")
    note = "Times of other machines are computed from their rooflines, nothing waits and nothing is launched in them."
    return [figures(rows), table(names, others, f"{found.rows:,} rows a step; derived"), Note(note)]
