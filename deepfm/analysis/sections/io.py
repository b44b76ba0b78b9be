"""The section of inputs and outputs."""

from deepfm.analysis.measures.io import TensorFacts
from deepfm.analysis.report import ModelReport
from deepfm.analysis.sections.words import shape, source_of, table, text
from deepfm.reporting import Block, Note, Paragraph

MOST_CALLS = 60


def specification(report: ModelReport) -> list[Block]:
    """Tensors, their free dimensions, ids and their bounds, shapes through the model, and what may change."""
    contract = report.measured.contract
    names = ("", "name", "shape", "type", "lowest", "highest", "mean", "NaN", "inf", "the data say")
    rows = [
        (kind, *_tensor(one), contract.promises.get(one.name, ""))
        for kind, found in (("input", contract.inputs), ("output", contract.outputs))
        for one in found
    ]
    free = ", ".join(f"{letter} (a size of {size} was made one shorter)" for letter, size in contract.free.items())
    follows = "B follows the rows." + (f" Free: {free}." if free else " No other dimension was found to be free.")
    blocks: list[Block] = [
        table(names, rows),
        Paragraph(f"{follows} Source: {source_of(contract, 'dims')}; ranges {source_of(contract, 'range')}."),
    ]
    if contract.vocabularies:
        blocks.append(
            table(
                ("embedding", "rows", "lowest id seen", "highest id seen", "padding", "share of padding"),
                [(v.module, v.rows, v.low, v.high, v.padding, v.padding_share) for v in contract.vocabularies],
                "ids that embeddings were asked for (measured)",
            )
        )
    calls = report.measured.flow.calls
    shown = [
        (call.name or "the model", call.type, " ".join(map(shape, call.inputs)), " ".join(map(shape, call.outputs)))
        for call in calls[:MOST_CALLS]
    ]
    blocks.append(table(("module", "type", "in", "out"), shown, "shapes through the modules, as they end (measured)"))
    if len(calls) > MOST_CALLS:
        blocks.append(Note(f"{len(calls) - MOST_CALLS} further calls are in the JSON."))
    found = report.measured.invariances.found
    words = {True: "holds", False: "fails", None: "not measured"}
    blocks.append(
        table(
            ("invariance", "where", "", "largest change (of the spread)", "meaning"),
            [(one.name, one.place, words[one.holds], one.difference, one.meaning) for one in found],
            "measured: pairs of runs; a failure is an issue only where the next section but one says so",
        )
    )
    return blocks


def _tensor(one: TensorFacts) -> tuple[str, ...]:
    return (
        one.name, shape(one.dims), one.dtype, text(one.low), text(one.high), text(one.mean), text(one.nan),
        text(one.inf),
    )  # fmt: skip
