"""The report of one CTR run: what was trained, how well it ranks, and how it got there."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

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
    calibration_plot,
    histogram_plot,
    line_plot,
    roc_plot,
)
from deepfm.training.evaluation import Evaluation

_SPLITS = ("validation", "test")
_RARE = 0.05  # below this share of positives, calibration is read on logarithmic axes


def build_run_report(
    results: Mapping[str, Any],
    history: Sequence[Mapping[str, Any]],
    config_yaml: str,
    evaluations: Mapping[str, Evaluation],
) -> Document:
    """Build the report of a run of either kind, a model's or a baseline's.

    A part that the run does not have (no epochs, no arrays of a split) leaves its section out. Calibration is
    drawn for models alone: a baseline's scores are no logits.

    Args:
        results: the content of `results.json`.
        history: one dict per epoch, as `metrics.jsonl` holds them.
        config_yaml: the resolved configuration.
        evaluations: the evaluation of each split, "validation" and "test".

    Returns:
        The document, for `deepfm.reporting.write_html` or `write_markdown`.
    """
    parts: list[tuple[str, list[Block]]] = [
        ("Summary", _summary(results, history)),
        ("Final metrics", _final_metrics(results)),
        ("Training curves", _training_curves(results, history)),
        ("Ranking of the positives", _ranking(evaluations)),
        ("Classification", _classification(evaluations, results.get("kind") == "model")),
        ("Configuration", _configuration(results, config_yaml)),
    ]
    data = results.get("data") or {}
    model = str(results.get("model") or "run")
    return Document(
        title=f"{model} on {data['name']}" if data.get("name") else model,
        subtitle="Training report" if results.get("kind") == "model" else "Baseline report",
        sections=[Section(title, blocks) for title, blocks in parts if blocks],
    )


def _summary(results: Mapping[str, Any], history: Sequence[Mapping[str, Any]]) -> list[Block]:
    data = results.get("data") or {}
    blocks: list[Block] = []
    if data.get("source") == "sample":
        blocks.append(
            Note(
                "The data is the sample that the package generates itself. These numbers show that the run "
                "works; they say nothing about real data and do not compare with runs on it.",
                "warning",
            )
        )
    best, epochs, seconds, speed = (results.get(key) for key in ("best_epoch", "epochs", "seconds", "rows_per_second"))
    origin = [f"source {data['source']}"] if data.get("source") else []
    origin += [f"hash {str(data['hash'])[:12]}"] if data.get("hash") else []
    sentences = [
        f"{results.get('model') or 'The model'} was {_verb(results)} on {data.get('name') or 'unnamed data'}"
        + (f" ({', '.join(origin)})." if origin else ".")
    ]
    if best is not None:
        of = f" of {epochs}" if epochs is not None else ""
        sentences.append(f"The best epoch was {best}{of}, and every final metric comes from it.")
    if _number(seconds):
        rate = f", at {speed:,.0f} training rows per second" if _number(speed) else ""
        sentences.append(f"It took {_duration(float(seconds or 0))}{rate}.")
    blocks.append(Paragraph(" ".join(sentences)))
    if best is not None and len(history) > 1 and history[-1].get("epoch") == best:
        blocks.append(Note("The last epoch was the best one: more epochs may improve the model further."))
    return blocks


def _configuration(results: Mapping[str, Any], config_yaml: str) -> list[Block]:
    facts = [(name, _fact(value)) for name, value in _flatten(results) if value not in (None, "")]
    blocks: list[Block] = []
    if facts:
        blocks.append(TableBlock(Table([Column("Of the run"), Column("Value")], facts, best=False)))
    if config_yaml.strip():
        blocks.append(Code(config_yaml, "yaml"))
    return blocks


def _final_metrics(results: Mapping[str, Any]) -> list[Block]:
    splits = {
        split: {key: value for key, value in (results.get(split) or {}).items() if _number(value)} for split in _SPLITS
    }
    splits = {split: metrics for split, metrics in splits.items() if metrics}
    names = list(dict.fromkeys(name for metrics in splits.values() for name in metrics))
    if not names:
        return []
    columns = [Column("Metric"), *(Column(split.capitalize(), format=".4f") for split in splits)]
    rows = [[_metric_name(name), *(metrics.get(name) for metrics in splits.values())] for name in names]
    ranked = any(name.startswith(("hr@", "ndcg@")) for name in names)
    caption = (
        "AUC and log loss are taken over all candidate rows, HR@K and NDCG@K are means over users; "
        "a tie counts against the positive."
        if ranked
        else "AUC and log loss are taken over all rows."
    )
    return [TableBlock(Table(columns, rows, caption, best=False))]


def _training_curves(results: Mapping[str, Any], history: Sequence[Mapping[str, Any]]) -> list[Block]:
    ranking = [key for key in _keys(history) if key.startswith(("hr@", "ndcg@"))]
    ranking = [key for key in ranking if key.endswith("@10")] or ranking
    plots = [
        (["loss"], "Training loss", "Loss", False),
        (ranking, "Ranking on validation", "Mean over users", False),
        (["auc"], "AUC on validation", "AUC", False),
        (["logloss"], "Log loss on validation", "Log loss", False),
        (["lr"], "Learning rate", "Learning rate", True),
    ]
    figures: list[Block] = []
    for keys, title, y_label, log_y in plots:
        series = {}
        for key in keys:
            points = [(row["epoch"], row[key]) for row in history if _number(row.get(key)) and "epoch" in row]
            points = [point for point in points if point[1] > 0 or not log_y]
            if points:
                series[_metric_name(key)] = ([x for x, _ in points], [y for _, y in points])
        if series:
            svg = line_plot(series, title, "Epoch", y_label, log_y=log_y, mark_x=results.get("best_epoch"))
            figures.append(Figure(title, svg))
    if figures and results.get("best_epoch") is not None:
        figures.append(Paragraph(f"The dashed line marks the best epoch, {results['best_epoch']}."))
    return figures


def _ranking(evaluations: Mapping[str, Evaluation]) -> list[Block]:
    ranked = {split: arrays for split, arrays in evaluations.items() if arrays.ranks.size}
    if not ranked:
        return []
    split = _focus(ranked)
    arrays = ranked[split]
    candidates = arrays.num_candidates
    title = f"Ranks of the positives ({split})"
    histogram = histogram_plot(arrays.ranks, title, "Rank", bins=max(1, candidates.bit_length()), log_x=True)
    ks = np.arange(1, min(100, candidates) + 1)
    curves = {
        name: (ks, np.searchsorted(np.sort(at.ranks), ks, side="right") / len(at.ranks)) for name, at in ranked.items()
    }
    curves["random order"] = (ks, ks / candidates)
    median = np.median(arrays.ranks)
    return [
        Figure(
            title,
            histogram,
            f"{len(arrays.ranks):,} positives among up to {candidates:,} candidates each; "
            f"the median rank is {median:,.0f}. Each bin is about twice as wide as the one before it.",
        ),
        Figure(
            "HR@K",
            line_plot(curves, "Hit rate by cut-off", "K", "HR@K"),
            "The share of users whose positive stands among the first K candidates.",
        ),
    ]


def _classification(evaluations: Mapping[str, Evaluation], logits: bool) -> list[Block]:
    both = {split: arrays for split, arrays in evaluations.items() if 0 < arrays.labels.sum() < arrays.labels.size}
    if not both:
        return []
    split = _focus(both)
    arrays = both[split]
    share = float(arrays.labels.mean(dtype=np.float64))
    title = f"ROC curve ({split})"
    rows = "candidate rows" if arrays.num_candidates else "rows"
    caption = f"Over all {len(arrays.labels):,} {rows}, {share:.2%} of them positive."
    blocks: list[Block] = [Figure(title, roc_plot(arrays.labels, arrays.scores, title), caption)]
    if logits:
        probabilities = np.exp(-np.logaddexp(0.0, -arrays.scores.astype(np.float64)))
        title = f"Calibration ({split})"
        svg = calibration_plot(arrays.labels, probabilities, log_axes=share < _RARE, title=title)
        caption = (
            f"Ten bins of about as many rows each; mean prediction {probabilities.mean():.2%}, "
            f"positives {share:.2%}. A model that saw a larger share of them in training predicts too high "
            "here and stands below the diagonal."
        )
        blocks.append(Figure(title, svg, caption))
    return blocks


def _focus(evaluations: Mapping[str, Evaluation]) -> str:
    """The split that is shown where there is room for one: the test split if it is there."""
    return "test" if "test" in evaluations else next(iter(evaluations))


def _flatten(results: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """The facts of a run beside its metrics, nested names joined by a dot."""
    facts: list[tuple[str, Any]] = []
    for section in ("data", "protocol", "env"):
        waiting = [(section, results.get(section) or {})]
        while waiting:
            name, value = waiting.pop(0)
            if isinstance(value, Mapping):
                waiting = [(f"{name}.{key}", inner) for key, inner in value.items()] + waiting
            else:
                facts.append((name, value))
    return facts


def _fact(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(str(part) for part in value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)


def _keys(history: Sequence[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(key for row in history for key in row))


def _metric_name(key: str) -> str:
    """A metric as the field writes it: NDCG@10 for ndcg@10."""
    return {"logloss": "Log loss", "loss": "Loss", "lr": "Learning rate"}.get(key, key.upper())


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and bool(np.isfinite(value))


def _verb(results: Mapping[str, Any]) -> str:
    return "trained" if results.get("kind") == "model" else "fitted"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.1f} seconds"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"
