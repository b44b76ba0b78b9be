"""The section of the gradient's way."""

from deepfm.analysis.report import ModelReport
from deepfm.analysis.sections.words import figures, skipped, table, text
from deepfm.reporting import Block, Figure, Note, Paragraph, bar_plot, line_plot

MOST_LAYERS, MOST_BARS = 40, 24


def gradient_flow(report: ModelReport) -> list[Block]:
    """Paths, norms by layer, dead and saturated units, cuts, the check against differences, and the verdict."""
    measured, flow = report.measured, report.measured.flow
    forward = " → ".join(flow.order[:12]) + (f" → … ({len(flow.order)} in all)" if len(flow.order) > 12 else "")
    blocks: list[Block] = [Paragraph(f"Forward path: {forward or 'the model itself'}.")]
    if flow.shortest is not None and flow.longest is not None:
        skip = "skip paths shorten it" if flow.shortest < flow.longest else "there is one length only"
        blocks.append(
            Paragraph(
                f"Backward path: from the loss to the first layer, {flow.first or 'the model itself'}, {flow.shortest} "
                f"to {flow.longest} operations; {skip}."
            )
        )
    reached = f"The loss reaches {flow.trainable - len(flow.unreached)} of {flow.trainable} trainable parameters"
    blocks.append(Paragraph(f"{reached}; {len(flow.frozen)} are frozen (measured over {flow.batches} batches)."))
    if not flow.trainable:
        blocks.append(Note("No parameter is trainable, so nothing here says whether the model would learn.", "warning"))
    if flow.unreached:
        blocks.append(Note("Never a gradient: " + ", ".join(flow.unreached[:20]), "warning"))
    ratios = {} if measured.updates is None else {one.name: one for one in measured.updates.parameters}
    rows = []
    for layer in flow.layers[:MOST_LAYERS]:
        own = [one.ratio for name, one in ratios.items() if name.rpartition(".")[0] == layer.name and one.ratio]
        rows.append(
            (
                layer.name or "the model", layer.type, layer.gradient, layer.weight, max(own) if own else None,
                layer.zero_share, layer.output_rms, layer.output_gradient,
            )
        )  # fmt: skip
    names = (
        "layer",
        "type",
        "gradient norm",
        "weight norm",
        "update ratio",
        "zero gradients",
        "output rms",
        "at output",
    )
    caption = (
        "measured: mean over batches in training mode; update ratio: |Δw| / |w| of one Adam step, about 1e-3 is usual"
    )
    blocks.append(table(names, rows, caption, empty="No module has parameters."))
    blocks += _plots(report)
    if flow.units:
        blocks.append(
            table(
                ("activation", "kind", "dead or saturated"),
                [(one.place or "the model", one.kind, f"{one.share:.1%}") for one in flow.units],
                f"measured over {flow.batches} batches: units of a ReLU that are 0 for every row, outputs at an end of "
                "the range",
            )
        )
    events = [(one.kind, one.what, one.place.rpartition("/")[2], one.module or "the model") for one in flow.events]
    what = (
        "calls that cut a graph, have the derivative 0, leave it for Python or widen types, with their lines (measured)"
    )
    blocks.append(table(("kind", "call", "line", "module"), events, what, empty="No operation cuts the graph."))
    blocks += _gradcheck(report)
    blocks += _updates(report)
    blocks.append(Note(f"Stability Assessment: {report.assessment}. {_reasoning(report)}", "info"))
    return blocks


def _reasoning(report: ModelReport) -> str:
    worst = [f"{finding.rule} at {finding.place.rpartition('/')[2]}" for finding in report.findings]
    if not worst:
        return "No rule found a fault: every trainable parameter gets a finite gradient of a usual size."
    critical = sum(finding.priority == 1 for finding in report.findings)
    return f"{critical} critical and {len(worst) - critical} important findings: {'; '.join(worst[:5])}."


def _plots(report: ModelReport) -> list[Block]:
    layers = [layer for layer in report.measured.flow.layers if layer.gradient > 0]
    if not layers:
        return []
    steps = list(range(1, len(layers) + 1))
    series = {"of the weights": (steps, [layer.gradient for layer in layers])}
    outputs = [
        (step, layer.output_gradient) for step, layer in zip(steps, layers, strict=True) if layer.output_gradient
    ]
    if outputs:
        series["at the output"] = ([step for step, _ in outputs], [norm for _, norm in outputs if norm])
    drawn: list[Block] = [
        Figure("Gradient norms", line_plot(series, "Gradient norms by layer", "layer, in order", "norm", log_y=True))
    ]
    counted = [module for module in report.measured.counts.modules if module.parameters]
    top = sorted(counted, key=lambda module: -module.parameters)[:MOST_BARS]
    bars = {module.name or "the model": float(module.parameters) for module in top}
    drawn.append(Figure("Parameters", bar_plot(bars, "Parameters by module", "values")))
    return drawn


def _gradcheck(report: ModelReport) -> list[Block]:
    check = report.measured.gradcheck
    if check is None or check.passed is None:
        return [skipped("The check of gradients against differences", None if check is None else check.skipped)]
    state = "passed" if check.passed else f"failed at {check.worst}"
    return [
        Paragraph(
            f"Gradients against differences in float64 on two rows: {state}, {check.checked} of {check.total} places "
            f"({check.inputs} inputs, {check.parameters} parameters; measured)."
        )
    ]


def _updates(report: ModelReport) -> list[Block]:
    updates = report.measured.updates
    if updates is None or updates.skipped:
        return []
    return [
        figures(
            [
                (
                    "gradient norm, median",
                    updates.norm_median,
                    f"measured: {len(updates.norms)} steps of {updates.optimizer}",
                ),
                ("gradient norm, 90th percentile", updates.norm_p90, "measured"),
                ("gradient norm, largest", updates.norm_max, "measured"),
                ("update ratio, first step", updates.ratio, f"measured: lr {text(updates.lr)}"),
                ("update ratio, last step", updates.ratio_later, "measured"),
            ]
        )
    ]
