"""The report of a study: its best trial, all trials, how the search went, what mattered, the winner's run."""

from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

from deepfm.reporting import (
    Block,
    Code,
    Column,
    Document,
    Figure,
    Note,
    Paragraph,
    Section,
    Table,
    TableBlock,
    bar_plot,
    line_plot,
)
from deepfm.tuning.results import StudyResults, TrialRecord

CURVES = 8  # learning curves that one plot can show
TERMINAL_ROWS = 10


def build_study_report(results: StudyResults, space: Mapping[str, str], best_yaml: str) -> Document:
    """Build the report of a study.

    Args:
        space: setting → its range or choices, in words.
        best_yaml: the best configuration; empty where no trial finished.
    """
    parts: list[tuple[str, list[Block]]] = [
        ("Best trial", _best(results)),
        ("The winner's run", _winner(results)),
        ("Trials", _trials(results)),
        ("Optimisation history", _history(results)),
        ("What mattered", _importances(results)),
        ("Learning curves", _curves(results)),
        ("Search space", _space(space)),
        ("Best configuration", [Code(best_yaml, "yaml")] if best_yaml else []),
    ]
    about = results.about
    return Document(
        title=f"{about['name']} on {about['data']['name']}",
        subtitle=f"Tuning report, judged by validation {results.metric}",
        sections=[Section(title, blocks) for title, blocks in parts if blocks],
    )


def trials_table(results: StudyResults, rows: int | None = None) -> Table:
    """The trials, the best first, then those without a value.

    Args:
        rows: the most to show; None for all.
    """
    names = list(dict.fromkeys(name for trial in results.trials for name in trial.params))
    columns = [
        Column("trial", format="d"),
        Column("state"),
        Column(results.metric, format=".4f", better="high" if results.maximize else "low"),
        Column("epochs", format="d"),
        Column("best epoch", format="d"),
        Column("seconds", format=".0f"),
        *(Column(name, align="right", format=".4g") for name in names),
    ]
    order = _ranked(results)
    cells = [
        [
            trial.number,
            trial.state,
            trial.value,
            len(trial.curve),
            trial.best_epoch,
            trial.seconds,
            *(_cell(trial.params, name) for name in names),
        ]
        for trial in order[:rows]
    ]
    counted = ", ".join(f"{number} {state}" for state, number in results.counts.items() if number)
    left_out = f"; the best {rows} are shown" if rows is not None and len(order) > rows else ""
    return Table(columns, cells, f"Study {results.about['name']}, validation split: {counted}{left_out}")


def _best(results: StudyResults) -> list[Block]:
    blocks: list[Block] = []
    if results.about["data"].get("source") == "sample":
        blocks.append(
            Note("The data is the sample that the package generates itself; it says nothing of real data.", "warning")
        )
    best = results.best
    if best is None:
        return [*blocks, Note("No trial finished, so there is no best one.", "warning")]
    text = (
        f"Trial {best.number} has the best validation {results.metric}, {best.value:.4f}, after epoch "
        f"{best.best_epoch} of {len(best.curve)}. It is the best of {results.counts['finished']} finished trials on "
        "the split that chose it, so it flatters itself; the test metrics of its run do not."
    )
    own = next((trial for trial in results.trials if trial.number == 0 and trial.state == "finished"), None)
    if own is not None and own is not best:
        text += f" Trial 0, which began the search, has {own.value:.4f}."
    rows = [[name, _cell(best.params, name)] for name in best.params]
    return [*blocks, Paragraph(text), TableBlock(Table([Column("Setting"), Column("Value")], rows, best=False))]


def _winner(results: StudyResults) -> list[Block]:
    if results.winner is None:
        return []
    splits = {split: results.winner[split] for split in ("validation", "test")}
    names = [name for name, value in splits["test"].items() if value is not None]
    columns = [Column("Metric"), *(Column(split.capitalize(), format=".4f") for split in splits)]
    rows = [[name, *(metrics.get(name) for metrics in splits.values())] for name in names]
    return [
        Paragraph(
            f"The best configuration was trained by the normal path into {results.winner['run']}, and its test metrics "
            "were computed once, after the search."
        ),
        TableBlock(Table(columns, rows, best=False)),
    ]


def _trials(results: StudyResults) -> list[Block]:
    blocks: list[Block] = [TableBlock(trials_table(results))]
    failed = [[trial.number, trial.error] for trial in results.trials if trial.error]
    if failed:
        blocks.append(TableBlock(Table([Column("trial", format="d"), Column("failed, as")], failed, best=False)))
    return blocks


def _history(results: StudyResults) -> list[Block]:
    values = {trial.number: trial.value for trial in results.trials if trial.state == "finished"}
    if not values:
        return []
    numbers, found = list(values), [value for value in values.values() if value is not None]
    best_so_far = list(accumulate(found, max if results.maximize else min))
    series = {"finished trial": (numbers, found), "best so far": (numbers, best_so_far)}
    title = "Optimisation history"
    svg = line_plot(series, title, "Trial", f"Validation {results.metric}")
    return [Figure(title, svg, "Pruned and failed trials are left out.")]


def _importances(results: StudyResults) -> list[Block]:
    if results.importances is None:
        return [Paragraph(results.importances_note)]
    title = "Importance of each setting"
    return [
        Figure(
            title,
            bar_plot(results.importances, title, "Share"),
            "PED-ANOVA: how much a setting decides whether a trial is among the best tenth. Few trials make it a hint.",
        )
    ]


def _curves(results: StudyResults) -> list[Block]:
    drawn = [trial for trial in _ranked(results) if trial.curve][:CURVES]
    if not drawn:
        return []
    series = {f"trial {trial.number}": (list(trial.curve), list(trial.curve.values())) for trial in drawn}
    title = f"Validation {results.metric} by epoch"
    return [Figure(title, line_plot(series, title, "Epoch", results.metric), f"The best {len(drawn)} trials.")]


def _space(space: Mapping[str, str]) -> list[Block]:
    return [TableBlock(Table([Column("Setting"), Column("Values")], [[*row] for row in space.items()], best=False))]


def _ranked(results: StudyResults) -> Sequence[TrialRecord]:
    """Finished trials, the best first, then the pruned ones likewise, then the others."""
    states = {"finished": 0, "pruned": 1}
    sign = -1 if results.maximize else 1

    def key(trial: TrialRecord) -> tuple[int, float, int]:
        return states.get(trial.state, 2), 0.0 if trial.value is None else sign * trial.value, trial.number

    return sorted(results.trials, key=key)


def _cell(params: Mapping[str, Any], name: str) -> Any:
    return "none" if name in params and params[name] is None else params.get(name)
