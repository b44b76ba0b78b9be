"""A report on one screen."""

from deepfm.analysis.recommendation import Recommendation
from deepfm.analysis.report import ModelReport
from deepfm.analysis.sections.words import operations, seconds, size, text
from deepfm.reporting import Column, Table


def _proven(advice: Recommendation) -> str:
    if advice.fell_back:
        return "the measured advice lost against the default, which stands instead"
    return f"{advice.proven or 'not tried'} beside the default"


def summary_tables(report: ModelReport) -> list[Table]:
    """The main figures, and what the rules say."""
    measured = report.measured
    rows: list[list[str]] = [["assessment", report.assessment]]
    rows.append(["parameters", f"{measured.counts.total:,}, {measured.counts.trainable:,} of them trainable"])
    if measured.flops is not None:
        step = operations(measured.flops.step_per_row)
        rows.append(["FLOPs a row", f"forward {operations(measured.flops.forward_per_row)}; training step {step}"])
    if measured.memory is not None and measured.memory.activations is not None:
        held = measured.memory.activations
        rows.append(["activations", f"{size(held.bytes)} of {held.rows:,} rows"])
    if measured.latency is not None:
        step_seconds = measured.latency.step_at(measured.about.rows)
        if step_seconds is not None:
            rows.append(["training step", f"{seconds(step_seconds)} for {measured.about.rows:,} rows"])
    if report.recommendation is not None:
        settings = [line for line in report.recommendation.lines if line.in_yaml]
        rows.append(["train with", ", ".join(f"{line.name} {text(line.value)}" for line in settings)])
        rows.append(["in short runs", _proven(report.recommendation)])
    tables = [Table([Column(report.name), Column("")], rows, f"{measured.about.seconds:.0f} s", best=False)]
    found = [
        [f"{finding.priority}", finding.rule, finding.place.rpartition("/")[2], finding.state, finding.fix]
        for finding in report.findings
    ]
    if found:
        names = ("priority", "rule", "place", "state", "fix")
        tables.append(Table([Column(name) for name in names], found, best=False))
    return tables
