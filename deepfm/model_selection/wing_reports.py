"""The reports of the wing: a leaderboard, and a recommendation."""

from deepfm.model_selection.bench import Bench
from deepfm.model_selection.recommendation import Recommendation, Recommended
from deepfm.reporting import Block, Column, Document, Figure, Note, Paragraph, Section, Table, TableBlock, bar_plot


def bench_document(found: Bench) -> Document:
    """The leaderboards, one section a protocol, behind what bounds them."""
    blocks: list[Block] = [
        Paragraph(
            f"{found.models} models on {found.tasks} tasks; {found.seconds:.0f} s of processor time on "
            f"{found.machine}. Intervals are 95 % bootstraps over tasks."
        )
    ]
    if found.ceiling is not None:
        blocks.append(
            Paragraph(
                f"Seed ceiling: one seed's outcomes rank models with a weighted tau of {found.ceiling:.3f} against the "
                "mean of the others; no method can be expected above it."
            )
        )
    if found.shares is not None:
        blocks.append(Paragraph(found.shares.sentence()))
    if found.intervals is not None:
        blocks.append(Paragraph(found.intervals.sentence()))
    sections = [Section("What bounds it", blocks)]
    for board in found.boards:
        taus = {method: board.mean(method, "weighted tau") for method in board.values}
        regrets = {method: board.mean(method, "regret@1") for method in board.values}
        sections.append(
            Section(
                f"Held out: {board.protocol}",
                [
                    TableBlock(board.table()),
                    Figure("Weighted tau", bar_plot(taus, "Weighted tau, symmetric", "mean over tasks")),
                    Figure("Regret", bar_plot(regrets, "Regret of the first choice", "mean over tasks")),
                ],
            )
        )
    return Document("Leaderboard", "How well each method ranks models for a task that it has not seen", sections)


def recommendation_table(found: Recommendation) -> Table:
    """The models to try."""
    columns = [
        *(Column("#", format="d"), Column("model"), Column("expected", format=".3f"), Column("90 % interval", "right")),
        *(Column("score", format="+.2f"), Column("parameters", format=",d"), Column("MACs", format=".3g")),
        Column("ms", format=".3g"),
    ]
    ranked = any(one.ranker_place is not None for one in found.models)
    judged = any(one.reached is not None for one in found.models)
    if ranked:
        columns.append(Column("ranker's place", format="d"))
    if judged:
        columns.append(Column("reached", format=".3f"))
    rows = []
    for one in found.models:
        row = [
            *(one.place, one.model, one.expected, _interval(one), one.score, one.parameters, one.macs, one.latency_ms),
            *([one.ranker_place] if ranked else []),
            *([one.reached] if judged else []),
        ]
        rows.append(row)
    return Table(columns, rows, f"of {found.considered} models with evidence", best=False)


def sentences(found: Recommendation) -> list[str]:
    """What has to be known besides the table."""
    lines = []
    if found.budget:
        left, unknown = found.left_out
        lines.append(f"budget {found.budget}: {left} models do not meet it, {unknown} of them as a cost is not known")
    if found.enough is None:
        lines.append("how many to try: no evidence, as there are too few tasks to count on")
    elif 2 * found.enough > found.considered:
        lines.append(
            f"how many to try: no small number is sure to hold the best with {found.target:.0%}; the first "
            f"{found.enough} of {found.considered} would, as the ranking missed it that far on some task"
        )
    else:
        lines.append(f"how many to try: the best is among the first {found.enough} with {found.target:.0%}")
    if found.half_width is None:
        lines.append("no interval: too few tasks to say how far off an expected value may be")
    if found.without_evidence:
        shown = ", ".join(found.without_evidence[:5])
        lines.append(f"no evidence on {len(found.without_evidence)} models: {shown}")
    return lines


def recommendation_document(found: Recommendation) -> Document:
    """The report of a recommendation."""
    first: list[Block] = [
        TableBlock(recommendation_table(found)),
        *(Paragraph(_title(line)) for line in sentences(found)),
    ]
    expected = {one.model: one.expected for one in found.models}
    reach = {one.model: one.high - one.expected for one in found.models if one.high is not None}
    first.append(Figure("Expected", bar_plot(expected, "Expected accuracy", "accuracy", reach or None)))
    why: list[Block] = [Paragraph(_title(line)) for line in found.reasons]
    why.append(TableBlock(_contributions(found)))
    sections = [
        Section("What to try", first),
        Section("Why", why),
        Section("What would change the answer", [Paragraph(_title(line)) for line in found.changes]),
    ]
    if found.fronts:
        text = [Paragraph(f"{cost}: {' → '.join(front)}") for cost, front in found.fronts.items()]
        sections.append(Section("Best for its cost, cheapest first", list(text)))
    if found.notes:
        sections.append(Section("How the data were read", [Note(_title(line), "info") for line in found.notes]))
    return Document(f"Models for {found.data}", f"{found.considered} models ranked", sections)


def _contributions(found: Recommendation) -> Table:
    names = list(dict.fromkeys(name for one in found.models for name in one.contributions))
    rows = [[one.model, *(one.contributions.get(name) for name in names)] for one in found.models]
    columns = [Column("model"), *(Column(name, format="+.3f") for name in names)]
    return Table(columns, rows, "what each part adds to the score, in deviations within the task", best=False)


def _interval(one: Recommended) -> str:
    if one.measured:
        return "measured"
    return "no evidence" if one.low is None or one.high is None else f"{one.low:.3f} to {one.high:.3f}"


def _title(text: str) -> str:
    return text[:1].upper() + text[1:]
