"""A validation report for a terminal: three tables' worth of figures, how to read them, and what to do."""

from collections.abc import Iterator
from itertools import groupby

from deepfm.reporting import Column, Table, print_table
from deepfm.validation.checks import LEARNED, WIDE
from deepfm.validation.one_batch import EPOCHS, STEPS
from deepfm.validation.report import LN2, ModelReport, ValidationReport


def print_report(report: ValidationReport) -> None:
    """Print the tables, and the lines around them."""
    print_table(shapes_table(report))
    print()
    print_table(checks_table(report))
    print()
    for line in (*how_to_read(report), *conclusion(report)):
        print(line)


def shapes_table(report: ValidationReport) -> Table:
    """A batch's columns, and each model's parts with what they give, in the order in which they are called."""
    rows = [["the batch", ", ".join(map(str, report.inputs))]]
    rows += [[model.name, ", ".join(map(str, model.parts)) or "no part was reached"] for model in report.models]
    caption = (
        "B: rows of a batch; parts in the order in which they are called. The embedding gives first order (B, 1), "
        "field embeddings (B, fields, width), of 0 fields where a model has no use for them, and flat embeddings "
        "(B, total width)."
    )
    return Table([Column("model"), Column("shapes through the network")], rows, caption, best=False)


def checks_table(report: ValidationReport) -> Table:
    """Popularity and each model: the figures, and which checks they failed."""
    columns = [
        Column("model"),
        Column("parameters", format=",d"),
        Column("loss at step 0", format=".3f"),
        Column("loss on one batch", format=".4f"),
        Column("AUC", format=".4f"),
        Column("NDCG@10", format=".4f"),
        Column("seconds", format=".0f"),
        Column("checks"),
    ]
    bar = report.popularity
    rows = [["popularity", None, None, None, bar.get("auc"), bar.get("ndcg@10"), None, "the bar"]]
    rows += [_row(model) for model in report.models]
    if not report.data.num_groups:
        rows = [[*row[:5], *row[6:]] for row in rows]
        del columns[5]
    return Table(columns, rows, best=False)


def how_to_read(report: ValidationReport) -> Iterator[str]:
    """What each column is and has to be."""
    data = report.data
    yield from report.notes
    scored = f"{data.validation_rows:,} for validation"
    if data.scored_rows < data.validation_rows:
        scored += f", of which the first {data.scored_rows:,} are scored"
    groups = f"the candidates of {data.num_groups:,} users" if data.num_groups else "not in groups, so no NDCG@10"
    yield (
        f"rows: {data.train_rows:,} for training, {data.label_rate:.1%} of them clicks; {scored} ({groups}); test rows "
        "are never scored"
    )
    yield (
        f"loss at step 0: of the untrained model. One that says 1/2 to every row has ln 2 = {LN2:.3f}, one that knows "
        f"the label rate has its entropy, {data.entropy:.3f}; between them is sound, and up to {LN2 + WIDE:.2f} usual"
    )
    yield (
        f"loss on one batch: after {EPOCHS * STEPS} steps on the same few rows, half of them clicks, without dropout "
        f"and penalties; at most {LEARNED} is sound"
    )
    metrics = "AUC and NDCG@10" if data.num_groups else "AUC"
    yield (
        f"{metrics}: of the validation rows after {report.schedule}; above popularity is sound. Training is "
        "far from done: do not choose a model by these"
    )
    yield f"popularity: {report.popularity_rule}"


def conclusion(report: ValidationReport) -> Iterator[str]:
    """What was skipped, what failed and what that means; the same advice is given once for all whom it concerns."""
    yield ""
    for reason, skipped in groupby(report.skipped.items(), key=lambda item: item[1]):
        yield f"skipped {', '.join(name for name, _ in skipped)}: {reason}"
    advice: dict[tuple[str, str], list[str]] = {}
    for finding in sorted(report.findings, key=lambda finding: not finding.failed):
        heading = f"{'FAILED' if finding.failed else 'NOTE'} {finding.check}"
        advice.setdefault((heading, finding.meaning), []).append(f"  {finding.model}: {finding.figure}")
    for (heading, meaning), figures in advice.items():
        yield heading
        yield from figures
        yield f"  {meaning}"
    failed = [model.name for model in report.models if not model.passed]
    count = len(report.models)
    models = f"{count} model{'s' * (count != 1)}"
    if failed:
        yield f"{len(failed)} of {models} failed: {', '.join(failed)}"
    else:
        yield f"all checks passed for {models}: the data and the set-up are sound, so train with `deepfm train`"


def _row(model: ModelReport) -> list[str | float | int | None]:
    failed = list(dict.fromkeys(finding.check for finding in model.findings if finding.failed))
    noted = f"passed, see note{'s' * (len(model.findings) > 1)}" if model.findings else "passed"
    return [
        model.name,
        model.num_parameters,
        model.start.loss if model.start else None,
        model.one_batch_loss,
        model.metrics.get("auc"),
        model.metrics.get("ndcg@10"),
        model.seconds,
        f"FAILED {', '.join(failed)}" if failed else noted,
    ]
