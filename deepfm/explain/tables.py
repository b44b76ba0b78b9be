"""The figures of an explanation as tables, which the terminal and the report share."""

from collections.abc import Sequence

from deepfm.explain.findings import Contribution, Explanation, FieldAttentionMap, HistoryAttention
from deepfm.reporting import Column, Table

SHOWN_PAIRS = 10
SHOWN_AGES = 10


def importance_table(found: Explanation) -> Table:
    """Fields and groups, the most important first."""
    assert found.baseline is not None
    shown = [name for name in dict.fromkeys([found.baseline.metric, "auc", "logloss"]) if name in found.baseline.sample]
    columns = [Column("field"), Column("exchanged between")]
    for metric in shown:
        change = "rise of logloss" if metric == "logloss" else f"drop of {metric}"
        columns += [Column(change, format="+.4f"), Column(f"± {metric}", format=".4f")]
    rows: list[list[str | float | None]] = []
    for one in found.importance:
        figures = [figure for metric in shown for figure in (one.mean(metric), one.deviation(metric))]
        rows.append([one.name, one.unit, *figures])
    ranks = any(one.user_error is not None for one in found.importance)
    if ranks:
        columns.insert(4, Column("± over users", format=".4f"))
        rows = [[*row[:4], one.user_error, *row[4:]] for row, one in zip(rows, found.importance, strict=True)]
    begun = ", ".join(f"{metric} {found.baseline.sample[metric]:.4f}" for metric in shown)
    caption = (
        f"Mean and standard deviation over {found.repeats} permutation{'s' * (found.repeats != 1)}; {found.sample}; "
        f"there the model has {begun}."
    )
    if ranks:
        caption += f" ± over users: the standard error of the mean drop of {found.baseline.metric}, as users differ."
    return Table(columns, rows, caption, best=False)


def parts_table(found: Explanation) -> Table:
    """The terms of the logit."""
    columns = [
        Column("part of the logit"),
        Column("mean", format="+.3f"),
        Column("deviation", format=".3f"),
        Column("share of deviations", format=".1%"),
        Column("mean |·|", format=".3f"),
        Column("share of sizes", format=".1%"),
    ]
    rows = [
        [part.name, part.values.mean, part.values.deviation, part.spread_share, part.values.mean_abs, part.share]
        for part in found.logit_parts
    ]
    caption = (
        "Shares: of the deviations, which tell rows apart, and of the mean absolute values of all parts but the bias."
    )
    return Table(columns, rows, caption, best=False)


def pairs_table(found: Explanation, most: int = SHOWN_PAIRS) -> Table:
    """The strongest pairs."""
    has_weights = any(pair.weight is not None for pair in found.pairs)
    columns = [Column("pair"), *(Column(f"{name} <v_i, v_j>", format="+.4f") for name in ("mean", "mean |·| of"))]
    columns += [Column("deviation", format=".4f")]
    columns += [Column("weight", format=".4f"), Column("mean term", format="+.4f")] if has_weights else []
    rows = []
    for pair in found.pairs[:most]:
        figures = pair.product
        rows.append([f"{pair.first} × {pair.second}", figures.mean, figures.mean_abs, figures.deviation])  # noqa: RUF001
        if has_weights:
            rows[-1] += [pair.weight, None if pair.term is None else pair.term.mean]
    shown = f"The {len(rows)} strongest of {len(found.pairs)} pairs. " if len(rows) < len(found.pairs) else ""
    meaning = "The inner products are terms of the logit."
    if has_weights:
        meaning = "A pair's term of the logit is its weight times its projected product; sorted by its mean |·|."
    elif found.pairs[0].term is None:
        meaning = "The model hands the products on to its deep tower: they are no terms of the logit."
    return Table(columns, rows, shown + meaning, best=False)


def field_attention_table(found: Explanation, most: int = SHOWN_PAIRS) -> Table:
    """What fields attend to most, over all heads of a layer."""
    entries = []
    for layer in sorted({one.layer for one in found.field_attention}):
        heads = [one for one in found.field_attention if one.layer == layer]
        names, weights = heads[0].fields, mean_weights(heads)
        entries += [
            (layer, names[row], names[column], weight)
            for row, cells in enumerate(weights)
            for column, weight in enumerate(cells)
        ]
    rows = sorted(entries, key=lambda entry: -entry[3])[:most]
    columns = [Column("layer", format="d"), Column("field"), Column("attends to"), Column("mean weight", format=".3f")]
    uniform = 1 / len(found.field_attention[0].fields)
    caption = (
        f"The {len(rows)} largest of {len(entries)}, means over heads and rows; equal weights would be {uniform:.3f}."
    )
    return Table(columns, rows, caption, best=False)


def mean_weights(heads: Sequence[FieldAttentionMap]) -> list[list[float]]:
    """One layer's weights, the mean over its heads."""
    size = range(len(heads[0].fields))
    return [[sum(head.weights[row][column] for head in heads) / len(heads) for column in size] for row in size]


def history_table(heads: Sequence[HistoryAttention], most: int = SHOWN_AGES) -> Table:
    """One part's weights by age, the latest event first."""
    columns = [Column("events later", format="d"), Column("rows", format=",d")]
    columns += [Column(f"head {one.head}", format=".4f") for one in heads]
    columns += [Column("equal weights", format=".4f")] if heads[0].normalised else []
    rows = []
    for age in range(min(most, len(heads[0].weights))):
        equal = [heads[0].uniform[age]] if heads[0].normalised else []
        rows.append([age, heads[0].rows[age], *(one.weights[age] for one in heads), *equal])
    caption = f"{heads[0].part} on {heads[0].history}: mean weight of an event by how many events came after it."
    if heads[0].candidate is not None:
        own = ", ".join(f"{one.candidate:.3f}" for one in heads)
        caption += f" The candidate itself takes {own}."
    if not heads[0].normalised:
        caption += " These weights do not add up to one."
    return Table(columns, rows, caption, best=False)


def history_parts(found: Explanation) -> list[list[HistoryAttention]]:
    """The heads of each part that weighs a history."""
    keys = dict.fromkeys((one.history, one.part) for one in found.history_attention)
    return [[one for one in found.history_attention if (one.history, one.part) == key] for key in keys]


def cin_table(found: Explanation) -> Table:
    """The CIN's layers."""
    columns = [
        Column("layer", format="d"),
        Column("maps", format="d"),
        Column("mean", format="+.4f"),
        Column("deviation", format=".4f"),
        Column("silent maps", format="d"),
        Column("mean term", format="+.4f"),
        Column("deviation of term", format=".4f"),
        Column("share of deviations", format=".1%"),
        Column("share of sizes", format=".1%"),
    ]
    rows = [
        [
            *(one.layer, one.maps, one.mean, one.deviation, one.silent),
            *(one.term.mean, one.term.deviation, one.spread_share, one.share),
        ]
        for one in found.cin
    ]
    caption = "Maps that go out, summed over the embedding; a silent map is 0 in every row."
    if found.gate:
        caption += " The terms are those of the direct way through the gate; the deep tower sees the gated sum too."
    return Table(columns, rows, caption, best=False)


def gate_table(found: Explanation) -> Table:
    """What the gate does."""
    means = found.gate["by_dimension"]["mean"]
    columns = [Column(name, format=".3f") for name in ("mean", "spread", "lowest dimension", "highest dimension")]
    caption = "The gate is the CIN's share of the fused vector, on all validation rows; ½ is an even mixture."
    return Table(columns, [[found.gate["mean"], found.gate["spread"], min(means), max(means)]], caption, best=False)


def terms_table(row: Contribution) -> Table:
    """A row's logit as a sum."""
    rows: list[list[str | float]] = [["bias", row.bias]]
    if row.first_order:
        rows.append(["first order, all fields", sum(row.first_order.values())])
    if row.pairs:
        rows.append(["second order, all pairs", sum(term for _, _, term in row.pairs)])
    rows += [[name, term] for name, term in row.parts.items()]
    rows.append(["sum", row.total])
    label = "" if row.label is None else f", label {row.label:g}"
    caption = f"{row.row}{label}: the model's logit is {row.logit:+.4f}, its probability {row.probability:.4f}."
    return Table([Column("term"), Column("logit", format="+.4f")], rows, caption, best=False)


def fields_table(row: Contribution) -> Table:
    """A row's fields: their own terms, and what becomes of the logit without them."""
    columns = [Column("field"), Column("value")]
    columns += [Column("first order", format="+.4f")] if row.first_order else []
    columns += [Column("half of its pairs", format="+.4f")] if row.pairs else []
    columns += [Column("instead"), Column("change of the logit", format="+.4f")]
    rows: list[list[str | float | None]] = []
    for one in row.occlusions:
        cells: list[str | float | None] = [one.name, one.value]
        cells += [row.first_order.get(one.name)] if row.first_order else []
        cells += [row.second_order(one.name)] if row.pairs else []
        rows.append([*cells, one.instead, one.change])
    caption = (
        "Change of the logit: occlusion, the logit with the field set to what stands under 'instead', minus the logit "
        "as it is. These changes do not add up."
    )
    return Table(columns, rows, caption, best=False)


def row_pairs_table(row: Contribution, most: int = SHOWN_PAIRS) -> Table:
    """A row's largest pairs."""
    largest = sorted(row.pairs, key=lambda pair: -abs(pair[2]))[:most]
    rows = [[f"{first} × {second}", term] for first, second, term in largest]  # noqa: RUF001
    caption = f"The {len(rows)} largest of {len(row.pairs)} pairs of {row.row}."
    return Table([Column("pair"), Column("logit", format="+.4f")], rows, caption, best=False)
