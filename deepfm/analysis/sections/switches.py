"""The sections that switches add: scaling, precision, quantisation, profile."""

from typing import Any

from deepfm.analysis.measures.quantization import Quantization
from deepfm.analysis.measures.scaling import Scaling
from deepfm.analysis.report import ModelReport
from deepfm.analysis.sections.words import figures, operations, seconds, shares, size, skipped, table
from deepfm.reporting import Block, Note, Paragraph


def added(report: ModelReport) -> list[tuple[str, list[Block]]]:
    """Title and blocks of each."""
    measured, found = report.measured, list[tuple[str, list[Block]]]()
    if measured.scaling is not None:
        found.append(("Scaling", _scaling(measured.scaling)))
    if measured.precision:
        found.append(("Precision", _precision(report)))
    if measured.quantization is not None:
        found.append(("Quantization", _quantization(measured.quantization)))
    if measured.profile is not None:
        profile = measured.profile
        rows = [(one.name, one.calls, seconds(one.seconds)) for one in profile.operations]
        blocks: list[Block] = [skipped("The profile", profile.skipped)]
        if profile.seconds is not None:
            blocks = [
                Paragraph(f"{profile.steps} steps in {seconds(profile.seconds)} (measured): {shares(profile.shares)}."),
                table(("operation", "calls", "its own time"), rows),
            ]
        found.append(("Profile", blocks))
    return found


def _scaling(scaling: Scaling) -> list[Block]:
    if scaling.skipped:
        return [skipped("Scaling", scaling.skipped)]
    rows = [("weights, gradients and Adam's state", size(scaling.state_bytes), "measured")]
    if scaling.single is not None:
        one = scaling.single
        rows.append((f"rows that fit into {one.gibibytes:g} GiB", f"{one.rows:,} ({one.power_of_two:,})", "derived"))
    if scaling.cluster is not None:
        its = scaling.cluster
        made = f"{its.rows:,} rows, {its.steps} steps, {its.devices} devices: {its.global_rows:,}"
        rows.append((f"a batch of {its.target_rows:,} on {its.devices} devices", made, "derived"))
    saved = scaling.checkpointing
    if saved.skipped is None:
        gain = (
            f"{size(saved.bytes_before)} to {size(saved.bytes_after)}, for {operations(saved.extra_flops)} more a step"
        )
        rows.append((f"activation checkpointing of {len(saved.modules)} parts", gain, "measured"))
    else:
        rows.append(("activation checkpointing", saved.skipped, "not measured"))
    rows.append(("sent by each device and step", size(scaling.synchronised_bytes), "derived: ring all-reduce"))
    for exchange in scaling.exchanges:
        part = "" if exchange.step_share is None else f", {exchange.step_share:.0%} of a step here"
        rows.append((f"that over {exchange.network}", f"{seconds(exchange.seconds)}{part}", "derived"))
    if scaling.batch_norms:
        rows.append(("to be synchronised (SyncBatchNorm)", ", ".join(scaling.batch_norms[:6]), "rule"))
    blocks: list[Block] = [figures(rows), Note(f"{scaling.parallelism} parallelism: {scaling.reason}")]
    grown = [
        (one.length, one.dimension, f"{one.flops_share:.1%}", one.bytes_share, one.doubled_flops, one.doubled_bytes)
        for one in scaling.lengths.growths
    ]
    names = (
        "length",
        "dimension",
        "share of O(L²) in FLOPs",
        "in bytes",
        "twice the length: FLOPs times",
        "bytes times",
    )
    blocks.append(table(names, grown, "derived from three lengths", empty=f"Lengths: {scaling.lengths.skipped}."))
    tables = [(one.name, one.rows, one.width, size(one.bytes), one.touched, one.advice) for one in scaling.tables]
    if tables:
        blocks.append(table(("embedding", "rows", "width", "bytes", "looked up by a batch", "advice"), tables))
    return blocks


def _precision(report: ModelReport) -> list[Block]:
    rows: list[tuple[Any, ...]] = []
    worst: list[tuple[Any, ...]] = []
    for one in report.measured.precision:
        if one.skipped:
            rows.append((one.dtype, one.skipped, None, None, None))
            continue
        lost = [one.underflow.get(scale) for scale in (1, 1024)]
        rows.append((one.dtype, one.output_error, one.loss_difference, *lost))
        worst += [(one.dtype, part.name, part.error, part.overflows) for part in one.needs_fp32]
    names = ("autocast", "output error", "loss difference", "gradients that vanish at scale 1", "at scale 1024")
    return [
        table(names, rows, "measured against float32"),
        table(("autocast", "module that needs fp32", "error", "overflows"), worst, empty="No module needs fp32."),
    ]


def _quantization(found: Quantization) -> list[Block]:
    if found.skipped:
        return [skipped("Quantisation", found.skipped)]
    before, after = (None if one is None else seconds(one.median) for one in (found.before, found.after))
    return [
        figures(
            [
                ("modules", len(found.modules), "measured"),
                ("saved weights", f"{size(found.bytes_before)} to {size(found.bytes_after)}", "measured"),
                ("forward pass", f"{before} to {after}", "measured"),
                ("output change", found.output_change, "measured"),
            ]
        ),
        Note(found.advice),
    ]
