"""An explanation as a report: the tables beside plots, and how far each figure may be believed."""

from collections.abc import Mapping, Sequence

import numpy as np

from deepfm.explain.findings import Contribution, Explanation, HistoryAttention, PairStrength
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
from deepfm.explain.text import TITLES, baseline_line, closing
from deepfm.reporting import (
    Block,
    Document,
    Figure,
    Note,
    Paragraph,
    Section,
    TableBlock,
    bar_plot,
    heat_map,
    line_plot,
)

SHOWN_BARS = 40
MEANINGS = {
    "importance": (
        "How much worse the metric is when a field's values are those of other rows, or other users (Breiman, 2001; "
        "Fisher et al., 2019). It is about this model, not about the world: of two fields that say the same, the model "
        "may use either, and neither then seems important; so look at the groups too. Exchanged values make rows that "
        "no data hold, and what the model does there counts (Hooker et al., 2021)."
    ),
    "logit_parts": (
        "What each part adds to the logit. Large parts can cancel each other, and a part that is the same for all "
        "candidates of a user ranks nothing, whatever its share."
    ),
    "pairs": (
        "The inner product of two fields' vectors, over rows. Its mean is mostly what the two fields' vectors have in "
        "common; the deviation is what tells rows apart. The deep part of a model has interactions of its own."
    ),
    "field_attention": (
        "How much of each field (columns) each field (rows) takes, a mean over rows. Attention says where a layer "
        "looks, not what decides: other weights can give the same output (Jain and Wallace, 2019; see also Wiegreffe "
        "and Pinter, 2019)."
    ),
    "history_attention": (
        "The mean weight of an event by how many events came after it, over rows whose history reaches so far. "
        "Attention says where a layer looks, not what decides (Jain and Wallace, 2019)."
    ),
    "cin": (
        "Each layer's feature maps, summed over the embedding, and what they add to the logit. Layer k has products of "
        "k + 1 fields."
    ),
    "gate": (
        "The gate mixes the CIN's side with the behaviour's, dimension by dimension. A side with a large share may "
        "still add little, where its values are small."
    ),
}
ABOUT_ROWS = (
    "The terms add up to the logit; what the deep part makes of single fields they do not say. The change of the logit "
    "without a field (occlusion) answers another question: the changes do not add up, and a row with nothing in a "
    "field may be such as training never saw."
)


def build_report(found: Explanation) -> Document:
    """The report of an explanation; a part that is not there is named at the end with the reason."""
    parts: dict[str, list[Block]] = {
        "importance": _importance(found),
        "logit_parts": [TableBlock(parts_table(found))] if found.logit_parts else [],
        "pairs": _pairs(found),
        "field_attention": _field_attention(found),
        "history_attention": [block for heads in history_parts(found) for block in _history(heads)],
        "cin": [TableBlock(cin_table(found))] if found.cin else [],
        "gate": _gate(found),
    }
    sections = [Section("Summary", _summary(found))]
    sections += [
        Section(_title(TITLES[part]), [Paragraph(MEANINGS[part]), *blocks]) for part, blocks in parts.items() if blocks
    ]
    sections += [Section(_title(f"the logit of {row.row}"), _contribution(row)) for row in found.contributions]
    if found.left_out:
        sections.append(Section("Left out", [Paragraph(_title(line)) for line in closing(found)]))
    return Document(f"{found.model} on {found.data['name']}", "What the model does with its inputs", sections)


def _summary(found: Explanation) -> list[Block]:
    blocks: list[Block] = []
    if found.data.get("source") == "sample":
        text = "The data is the sample that the package generates itself; these figures say nothing about real data."
        blocks.append(Note(text, "warning"))
    blocks.append(Paragraph(f"The run is {found.run}. No test row was scored."))
    if found.baseline is not None:
        line = baseline_line(found)
        if found.baseline.agrees:
            blocks.append(Paragraph(_title(line) + "."))
        else:
            blocks.append(Note(line.removeprefix("WARNING: "), "warning"))
        blocks.append(Paragraph(f"The figures below are of {found.sample}."))
    return blocks


def _importance(found: Explanation) -> list[Block]:
    if not found.importance or found.baseline is None:
        return []
    metric = found.baseline.metric
    shown = found.importance[:SHOWN_BARS]
    means = {one.name: one.mean(metric) for one in shown}
    what = f"{'rise' if metric == 'logloss' else 'drop'} of {metric}"
    errors = {one.name: one.deviation(metric) if one.user_error is None else one.user_error for one in shown}
    svg = bar_plot(means, "Permutation importance", what, errors)
    over_users = any(one.user_error is not None for one in shown)
    caption = f"Bars: one ± {'over users' if over_users else 'over permutations'} to either side."
    return [Figure("Permutation importance", svg, caption), TableBlock(importance_table(found))]


def _pairs(found: Explanation) -> list[Block]:
    if not found.pairs:
        return []
    blocks: list[Block] = []
    figures = {
        "Mean of <v_i, v_j>": [pair.product.mean for pair in found.pairs],
        "Deviation of <v_i, v_j>": [pair.product.deviation for pair in found.pairs],
    }
    weights = [pair.weight for pair in found.pairs if pair.weight is not None]
    if weights:
        figures["Attention of AFM"] = weights
        figures["Mean |term| of the logit"] = [pair.term.mean_abs for pair in found.pairs if pair.term is not None]
    for title, values in figures.items():
        names, matrix = _square(found.pairs, values)
        blocks.append(Figure(title, heat_map(matrix, names, names, title)))
    return [*blocks, TableBlock(pairs_table(found))]


def _square(pairs: Sequence[PairStrength], values: Sequence[float]) -> tuple[list[str], np.ndarray]:
    """Names and the symmetric matrix of figures of pairs; the diagonal is empty."""
    names = list(dict.fromkeys(name for pair in pairs for name in (pair.first, pair.second)))
    matrix = np.full((len(names), len(names)), np.nan)
    for pair, value in zip(pairs, values, strict=True):
        places = names.index(pair.first), names.index(pair.second)
        matrix[places] = matrix[places[::-1]] = value
    return names, matrix


def _field_attention(found: Explanation) -> list[Block]:
    if not found.field_attention:
        return []
    blocks: list[Block] = []
    for one in found.field_attention:
        title = f"Layer {one.layer}, head {one.head}"
        blocks.append(Figure(title, heat_map(one.weights, one.fields, one.fields, title, "attended to", "field")))
    return [*blocks, TableBlock(field_attention_table(found))]


def _history(heads: Sequence[HistoryAttention]) -> list[Block]:
    first = heads[0]
    later = range(len(first.weights))
    lines: dict[str, tuple[Sequence[float], Sequence[float]]] = {
        f"head {one.head}": (later, one.weights) for one in heads
    }
    if first.normalised:
        lines["equal weights"] = later, first.uniform
    title = f"{_title(first.part)} on {first.history}"
    svg = line_plot(lines, title, "events that came later", "mean weight")
    return [Figure(title, svg), TableBlock(history_table(heads))]


def _gate(found: Explanation) -> list[Block]:
    if not found.gate:
        return []
    shares: Sequence[float] = found.gate["histogram"]
    middles = (np.arange(len(shares)) + 0.5) / len(shares)
    svg = line_plot({"gate": (middles, shares)}, "Values of the gate", "the CIN's share", "share of values")
    return [Figure("Values of the gate", svg), TableBlock(gate_table(found))]


def _contribution(row: Contribution) -> list[Block]:
    terms: Mapping[str, float] = {
        "bias": row.bias,
        **({"first order": sum(row.first_order.values())} if row.first_order else {}),
        **({"second order": sum(term for _, _, term in row.pairs)} if row.pairs else {}),
        **row.parts,
    }
    changes = {one.name: one.change for one in row.occlusions}
    blocks: list[Block] = [
        Paragraph(ABOUT_ROWS),
        Figure(f"Terms of {row.row}", bar_plot(terms, "Terms of the logit", "logit")),
        Figure(f"Occlusion of {row.row}", bar_plot(changes, "Without a field", "change of the logit")),
        TableBlock(terms_table(row)),
        TableBlock(fields_table(row)),
    ]
    return [*blocks, TableBlock(row_pairs_table(row))] if row.pairs else blocks


def _title(text: str) -> str:
    return text[:1].upper() + text[1:]
