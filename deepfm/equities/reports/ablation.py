"""What each part of the network brings: the table and its reading."""

from collections.abc import Sequence

from deepfm.equities.evaluation.ablation import PartDifference
from deepfm.equities.reports.plots import sessions_text
from deepfm.equities.reports.tables import interval_text
from deepfm.reporting import Column, Paragraph, Section, Table, TableBlock

TITLE = "What each part brings"
WHAT_IS_COMPARED = (
    "The same network was trained again with one part the other way, all else alike, and both are compared on the days "
    "of the folds, and with the seeds, that both have. FAN is the attention between a stock's groups of features, SAN "
    "the attention between stocks, VSN the variable selection. A difference above 0 says that the network is better as "
    "it is: a part that is off in the arm pays, one that is on in it would not."
)


def ablation_section(found: Sequence[PartDifference]) -> Section:
    """The section of a report."""
    return Section(TITLE, [Paragraph(WHAT_IS_COMPARED), TableBlock(ablation_table(found)), Paragraph(reading(found))])


def ablation_table(found: Sequence[PartDifference]) -> Table:
    """Every arm at every horizon: RankIC of the whole network and of the arm, and their difference."""
    columns = [
        Column("sessions", format="d"),
        Column("arm"),
        Column("RankIC whole", format="+.4f"),
        Column("RankIC arm", format="+.4f"),
        Column("whole less arm", format="+.4f"),
        Column("error", format=".4f"),
        Column("95 % interval"),
        Column("t", format="+.1f"),
        Column("between seeds", format=".4f"),
        Column("days", format=",d"),
        Column("folds (seeds)"),
    ]
    rows = [
        [
            item.horizon, item.name, item.whole.mean, item.arm.mean, item.difference.mean, item.difference.error,
            interval_text(item.difference.interval), item.difference.t, item.luck, item.difference.count,
            _runs_text(item),
        ]
        for horizon in dict.fromkeys(item.horizon for item in found)
        for item in found
        if item.horizon == horizon
    ]  # fmt: skip
    caption = (
        "Daily RankIC on the same days, the difference with its Newey-West error; between seeds: the deviation of such "
        "a difference where nothing but the seeds differs, from the whole network's seeds on these folds."
    )
    return Table(columns, rows, caption, best=False)


def reading(found: Sequence[PartDifference]) -> str:
    """What the differences can tell apart, and what they cannot."""
    horizons = dict.fromkeys(item.horizon for item in found)
    least = ", ".join(
        f"{2 * min(item.difference.error for item in found if item.horizon == at):.4f} over {sessions_text(at)}"
        for at in horizons
    )
    days = max(item.difference.count for item in found)
    folds = {name for item in found for name, _ in item.runs}
    seeds = {seed for item in found for _, several in item.runs for seed in several}
    told = [
        f"{item.name} over {sessions_text(item.horizon)} ({item.difference.mean:+.4f})"
        for item in found
        if item.told_apart
    ]
    unknown = any(item.luck is None for item in found)
    luck = (
        "what another seed would change is not in these errors and not known"
        if unknown
        else "what another seed would change is not in these errors but in the column between seeds, itself known from "
        "few, and a difference has to be beyond two of both, their squares added"
    )
    start = "Told apart as far as days go" if unknown else "Told apart"
    return (
        f"With {_counted(len(seeds), 'seed')} and {_counted(len(folds), 'fold')}, {days:,} days, a difference of less "
        f"than two errors, at best {least}, cannot be told from chance; {luck}. Of {len(found)} differences "
        f"{len(found) / 20:.1f} would be beyond two errors if no part did anything. {start}: "
        f"{'; '.join(told) if told else 'none'}."
    )


def _counted(number: int, noun: str) -> str:
    return f"one {noun}" if number == 1 else f"{number} {noun}s"


def _runs_text(item: PartDifference) -> str:
    return "; ".join(f"{fold} ({', '.join(map(str, seeds))})" for fold, seeds in item.runs)
