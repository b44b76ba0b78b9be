"""The sections of findings and of the checklist."""

from deepfm.analysis.report import ModelReport
from deepfm.analysis.rules import Finding
from deepfm.analysis.sections.words import table, text
from deepfm.reporting import Block, Note, Paragraph

PRIORITIES = {1: "Priority 1 (Critical)", 2: "Priority 2 (Important)"}


def issues(report: ModelReport) -> list[Block]:
    """What the rules say, the risks first."""
    if not report.findings:
        return [Paragraph("No rule has anything to say.")]
    blocks: list[Block] = [
        Note(f"[RISK] {finding.rule} at {place(finding)}: {finding.state}", "warning")
        for finding in report.findings
        if finding.priority == 1
    ]
    rows = [
        (
            PRIORITIES[finding.priority], finding.rule, place(finding), finding.state, finding.impact, finding.fix,
            finding.measured, finding.threshold,
        )
        for finding in report.findings
    ]  # fmt: skip
    names = ("Priority", "Rule", "Place", "Current State", "Impact", "Fix", "Measured", "Threshold")
    return [*blocks, table(names, rows)]


def place(finding: Finding) -> str:
    """Where, with the file's name alone."""
    return finding.place.rpartition("/")[2]


def checklist(report: ModelReport) -> list[Block]:
    """What was seen to be so is ticked; what was not looked at stays open."""
    measured = report.measured
    start, overfit, rates, gradcheck = measured.start, measured.overfit, measured.rates, measured.gradcheck
    rows: list[tuple[bool | None, str, str]] = []
    if start is not None and start.loss_eval is not None:
        fine = None if start.ratio is None else start.ratio <= 1.75
        expected = f"{text(start.expected)} of an output of 0, entropy of the labels {text(start.label_entropy)}"
        rows.append((fine, "initialisation: the first loss", f"{text(start.loss_eval)} against {expected}"))
        spread = f"mean {text(start.output_mean)}, deviation {text(start.output_deviation)}"
        rows.append((None if start.output_deviation is None else start.output_deviation < 10, "logits' spread", spread))
    else:
        rows.append((None, "initialisation: the first loss", "not measured"))
    steady = [one.holds for one in measured.invariances.get("determinism")]
    rows.append((steady[0] if steady else None, "evaluation mode: two runs agree", "measured in pairs of runs"))
    alone = [one.holds for one in measured.invariances.get("independence of rows")]
    rows.append((alone[0] if alone else None, "evaluation mode: rows do not see each other", "half a batch alone"))
    rows.append((not measured.flow.unreached, "every trainable parameter gets a gradient", "one pass a batch"))
    if gradcheck is not None:
        state = f"{gradcheck.checked} of {gradcheck.total} places" if gradcheck.checked else gradcheck.skipped or "none"
        rows.append((gradcheck.passed, "gradients agree with differences in float64", state))
    if overfit is not None:
        left = "not tried" if overfit.share is None else f"{overfit.share:.1%} of the loss is left"
        rows.append((overfit.passed, f"{overfit.rows or 'a few'} rows are learned by heart", overfit.skipped or left))
    else:
        rows.append((None, "one batch is learned by heart", "not measured"))
    if rates is not None:
        found = rates.suggestion is not None
        rows.append((found or None, "a learning rate is found", text(rates.suggestion) if found else rates.reason))
    proven = None if report.recommendation is None else report.recommendation.proven
    rows.append((None if proven is None else proven != "worse", "the recommendation was tried", proven or "not tried"))
    rows.append((None, "watch in training: loss, gradient norm, update ratio, validation metric", "yours to set up"))
    norm = measured.updates.norm_max if measured.updates is not None else None
    first = "the first step's gradient norm stays below " + (
        text(10 * norm) if norm else "ten times that measured here"
    )
    rows.append((None, f"first iteration: {first}, and the loss does not rise in ten steps", "yours to check"))
    marks = {True: "[x]", False: "[!]", None: "[ ]"}
    return [
        Paragraph("[x] seen to be so; [!] seen not to be so; [ ] open."),
        table(("", "what", "evidence"), [(marks[done], what, evidence) for done, what, evidence in rows]),
    ]
