"""An explanation for a terminal: its tables, and what has to be known to read them."""

from collections.abc import Iterator

from deepfm.explain.findings import Explanation
from deepfm.explain.tables import (
    cin_table,
    field_attention_table,
    fields_table,
    gate_table,
    history_parts,
    history_table,
    importance_table,
    pairs_table,
    parts_table,
    row_pairs_table,
    terms_table,
)
from deepfm.reporting import Table, print_table

TITLES = {
    "importance": "permutation importance",
    "logit_parts": "parts of the logit",
    "pairs": "pair strengths",
    "field_attention": "attention over fields",
    "history_attention": "attention over histories",
    "cin": "the CIN",
    "gate": "the gate",
}


def print_explanation(found: Explanation) -> None:
    """Print the tables, and the lines around them."""
    for line in opening(found):
        print(line)
    for title, tables in _tables(found):
        print(f"\n{title}")
        for table in tables:
            print_table(table)
    if found.left_out:
        print()
    for line in closing(found):
        print(line)


def opening(found: Explanation) -> Iterator[str]:
    """Which run, and whether its recorded metric was met."""
    yield f"{found.model} on {found.data['name']}, {found.run}"
    if found.data.get("source") == "sample":
        yield "the data are the GENERATED SAMPLE, NOT REAL DATA"
    if found.baseline is not None:
        yield baseline_line(found)


def baseline_line(found: Explanation) -> str:
    """The run's recorded metric beside what is measured now."""
    baseline = found.baseline
    assert baseline is not None
    figures = f"{baseline.metric} on all validation rows is {baseline.measured:.6f}"
    if baseline.agrees:
        return f"{figures}, as the run recorded it ({baseline.recorded:.6f})"
    return (
        f"WARNING: {figures} and the run recorded {baseline.recorded:.6f}; the figures below are of another model or "
        "device than the run's"
    )


def closing(found: Explanation) -> Iterator[str]:
    """What was left out, and why; parts that share a reason stand together."""
    reasons: dict[str, list[str]] = {}
    for part, reason in found.left_out.items():
        reasons.setdefault(reason, []).append(TITLES[part])
    for reason, parts in reasons.items():
        yield f"left out {', '.join(parts)}: {reason}"


def _tables(found: Explanation) -> Iterator[tuple[str, list[Table]]]:
    if found.importance:
        yield TITLES["importance"], [importance_table(found)]
    if found.logit_parts:
        yield TITLES["logit_parts"], [parts_table(found)]
    if found.pairs:
        yield TITLES["pairs"], [pairs_table(found)]
    if found.field_attention:
        yield TITLES["field_attention"], [field_attention_table(found)]
    if found.history_attention:
        yield TITLES["history_attention"], [history_table(heads) for heads in history_parts(found)]
    if found.cin:
        yield TITLES["cin"], [cin_table(found)]
    if found.gate:
        yield TITLES["gate"], [gate_table(found)]
    for row in found.contributions:
        pairs = [row_pairs_table(row)] if row.pairs else []
        yield f"the logit of {row.row}", [terms_table(row), fields_table(row), *pairs]
