"""The report of an evaluated ranking: what was found, how sure it is, and how to read it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepfm.equities.evaluation.ablation import SURE
from deepfm.equities.evaluation.places import Floats
from deepfm.equities.evaluation.results import Evaluation, Paired
from deepfm.equities.reports import text as report_text
from deepfm.equities.reports.ablation import ablation_section
from deepfm.equities.reports.graph import SHOWN_EDGES, day_graph
from deepfm.equities.reports.plots import (
    attention_curve,
    cumulative_rank_ic,
    decile_curves,
    equity_curves,
    feature_weight_bars,
    sessions_text,
    yearly_bars,
)
from deepfm.equities.reports.tables import (
    paired_table,
    portfolio_table,
    quantile_table,
    rank_ic_table,
    sector_table,
    spread_table,
    yearly_table,
)
from deepfm.reporting import Block, Document, Figure, Note, Paragraph, Section, TableBlock


@dataclass(frozen=True, eq=False)
class DayGraph:
    """The graph of one day.

    Args:
        date: the day.
        edge_index: pairs of stocks, `(2, E)`.
        correlations: of each edge, `(E,)`.
        sectors: each stock's place in `sector_names`, `(n,)`; -1 is unknown.
        sector_names: the sectors.
    """

    date: np.datetime64
    edge_index: NDArray[np.integer]
    correlations: NDArray[np.floating]
    sectors: NDArray[np.integer]
    sector_names: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Inside:
    """What can be read inside a network; each part may be left out.

    Args:
        feature_weights: by feature its mean selection weight.
        attention: the mean weight of each session of the look-back, the day's own last, `(L,)`.
        graph: of one day.
    """

    feature_weights: Mapping[str, float] | None = None
    attention: ArrayLike | None = None
    graph: DayGraph | None = None


def build_report(found: Evaluation, inside: Inside | None = None, notes: Sequence[str] = ()) -> Document:
    """The report as a document for `write_html` and `write_markdown`.

    Args:
        found: the evaluation.
        inside: what can be read inside the network.
        notes: remarks on this run, such as seeds and folds, that stand beside the summary.
    """
    sections = [
        Section("In short", [*_summary(found), *(Note(note) for note in notes)]),
        Section("How to read this", [Paragraph(text) for text in report_text.how_to_read(found)]),
        Section("How well stocks are ranked", _ranking(found)),
        Section("Year by year", _years(found)),
        Section("Tenths by score", _deciles(found)),
        Section("What trading it would have earned", _portfolio(found)),
        *([ablation_section(found.ablations)] if found.ablations else []),
        *_quantiles(found),
        *_inside(inside or Inside()),
        Section(
            "What this does not show",
            [*(Paragraph(text) for text in report_text.SURVIVORSHIP), Note(report_text.NOT_ADVICE, "warning")],
        ),
    ]
    span = f"{found.dates[0]} to {found.dates[-1]}, {len(found.dates):,} sessions"
    return Document(f"{found.name}: which stocks will do best", span, sections)


def _summary(found: Evaluation) -> list[Block]:
    return [Paragraph(_horizon_line(found, at)) for at in range(len(found.horizons))]


def _horizon_line(found: Evaluation, at: int) -> str:
    """One horizon in a sentence or three."""
    result, horizon = found.results[at], found.horizons[at]
    summary = result.rank_ic
    if not summary.days:
        return f"Over {sessions_text(horizon)}: no day has enough stocks with a score and a return."
    low, high = summary.interval
    line = (
        f"Over {sessions_text(horizon)}: RankIC {summary.mean:+.4f} (95 % interval {low:+.4f} to {high:+.4f}), "
        f"above zero on {summary.positive_share:.0%} of {summary.days:,} days."
    )
    rivals = [item for item in found.paired if (item.method, item.horizon) == (found.name, horizon)]
    if rivals:
        best = max(rivals, key=lambda item: found.methods[item.baseline][at].rank_ic.mean)
        line += " " + _verdict(best, found.methods[best.baseline][at].rank_ic.mean)
    levels = result.portfolio.levels
    told = ", ".join(f"{level.sharpe:+.2f} at {level.cost:g} bp" for level in levels if np.isfinite(level.sharpe))
    return line + (f" Sharpe ratio of the portfolio: {told}." if told else "")


def _verdict(item: Paired, theirs: float) -> str:
    """What the difference to the best baseline may be called."""
    difference = item.rank_ic
    word = "above" if difference.mean > 0 else "below"
    sure = "which chance hardly explains" if abs(difference.t) >= SURE else "which may well be chance"
    return (
        f"The best baseline is {item.baseline} with {theirs:+.4f}; this is {abs(difference.mean):.4f} {word} it "
        f"(t {difference.t:+.1f}), {sure}."
    )


def _ranking(found: Evaluation) -> list[Block]:
    blocks: list[Block] = [TableBlock(rank_ic_table(found))]
    if found.paired:
        blocks.append(TableBlock(paired_table(found)))
    for at, horizon in enumerate(found.horizons):
        series = {name: (found.dates, results[at].daily_rank_ic) for name, results in found.methods.items()}
        blocks.append(Figure(f"Cumulative RankIC, {sessions_text(horizon)}", cumulative_rank_ic(series, horizon)))
    return blocks


def _years(found: Evaluation) -> list[Block]:
    blocks: list[Block] = [TableBlock(yearly_table(found))]
    for at, horizon in enumerate(found.horizons):
        means = {
            name: {year.year: year.mean for year in results[at].rank_ic.years}
            for name, results in found.methods.items()
        }
        if any(means.values()):
            blocks.append(Figure(f"RankIC by year, {sessions_text(horizon)}", yearly_bars(means, horizon)))
    return blocks


def _deciles(found: Evaluation) -> list[Block]:
    blocks: list[Block] = [TableBlock(spread_table(found))]
    for at, horizon in enumerate(found.horizons):
        curves = {name: results[at].decile_returns for name, results in found.methods.items()}
        curves = {name: means for name, means in curves.items() if np.isfinite(means).all()}
        if curves:
            blocks.append(Figure(f"Tenths by score, {sessions_text(horizon)}", decile_curves(curves, horizon)))
    return blocks


def _portfolio(found: Evaluation) -> list[Block]:
    blocks: list[Block] = [Paragraph(text) for text in report_text.costs(found)]
    blocks.append(TableBlock(portfolio_table(found)))
    if any(len(result.portfolio.sectors) > 1 for result in found.results):  # more than the unknown one
        blocks.append(TableBlock(sector_table(found)))
    for result in found.results:
        portfolio = result.portfolio
        if len(portfolio.dates):
            curves: dict[str, Floats] = {
                "gross" if cost == 0 else f"net of {cost:g} bp": portfolio.net(cost) for cost in found.settings.costs
            }
            title = f"Portfolio held {sessions_text(result.horizon)}"
            blocks.append(Figure(title, equity_curves(portfolio.dates, curves, result.horizon)))
    return blocks


def _quantiles(found: Evaluation) -> list[Section]:
    if all(result.quantiles is None for result in found.results):
        return []
    return [Section("Quantiles", [Paragraph(report_text.QUANTILES), TableBlock(quantile_table(found))])]


def _inside(inside: Inside) -> list[Section]:
    blocks: list[Block] = []
    if inside.feature_weights:
        plot = feature_weight_bars(inside.feature_weights)
        blocks += [Paragraph(report_text.FEATURE_WEIGHTS), Figure("What the network reads", plot)]
    if inside.attention is not None:
        plot = attention_curve(inside.attention)
        blocks += [Paragraph(report_text.ATTENTION), Figure("Attention over the look-back", plot)]
    if inside.graph is not None:
        blocks.append(_graph(inside.graph))
    return [Section("Inside the network", blocks)] if blocks else []


def _graph(graph: DayGraph) -> Figure:
    title = f"The graph of {graph.date}"
    svg = day_graph(graph.edge_index, graph.correlations, graph.sectors, graph.sector_names, title)
    linked = len(np.unique(graph.edge_index))
    pairs = len(np.unique(np.sort(graph.edge_index, axis=0), axis=1).T) if graph.edge_index.size else 0
    circle = "one circle a sector" if np.any(graph.sectors >= 0) else "a circle"
    caption = (
        f"{len(graph.sectors):,} stocks on {circle}, {linked:,} of them with an edge; {pairs:,} edges, blue where the "
        "two moved alike in the sessions before, orange where against each other."
        + (" Grey stocks have none." if linked < len(graph.sectors) else "")
        + (f" The strongest {SHOWN_EDGES:,} are drawn." if pairs > SHOWN_EDGES else "")
    )
    return Figure(title, svg, caption)
