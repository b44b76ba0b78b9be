"""A model report as a document: seven sections, always in the same order, and what switches add."""

from deepfm.analysis.report import ModelReport
from deepfm.analysis.sections.cost import added, architecture, performance
from deepfm.analysis.sections.findings import checklist, issues
from deepfm.analysis.sections.flow import gradient_flow
from deepfm.analysis.sections.io import specification
from deepfm.analysis.sections.training import training
from deepfm.reporting import Document, Section


def build_document(report: ModelReport) -> Document:
    """The whole report."""
    about = report.measured.about
    where = f"{about.batches} batch{'es' * (about.batches > 1)} of {about.rows:,} rows, loss {about.loss}"
    lines = [f"{report.assessment}; {where}, on {about.device}, in {about.seconds:.0f} s."]
    if about.random_inputs:
        lines.append("Inputs were drawn at random (assumed), so nothing was trained.")
    lines += about.notes
    lines += [f"{stage} failed: {reason}" for stage, reason in report.failed.items()]
    sections = [
        Section("Architecture Overview", architecture(report)),
        Section("I/O Specification", specification(report)),
        Section("Gradient Flow Analysis", gradient_flow(report)),
        Section("Training Configuration Recommendation", training(report)),
        Section("Identified Issues & Recommendations", issues(report)),
        Section("Memory & Performance Estimates", performance(report)),
        Section("Implementation Checklist", checklist(report)),
        *(Section(title, blocks) for title, blocks in added(report)),
    ]
    return Document(f"Model Analysis: {report.name}", " ".join(lines), sections)
