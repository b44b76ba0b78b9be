import numpy as np

from deepfm.reporting import Code, Document, Figure, Note, Paragraph, TableBlock, render_html
from deepfm.training.evaluation import Evaluation
from deepfm.training.report import build_run_report

USERS, CANDIDATES = 60, 50
EVERY_SECTION = [
    "Summary",
    "Final metrics",
    "Training curves",
    "Ranking of the positives",
    "Classification",
    "Configuration",
]
YAML = "model_name: deepfm\n"


def arrays(seed: int = 0) -> Evaluation:
    scores = np.random.default_rng(seed).normal(-2, 1, (USERS, CANDIDATES)).astype(np.float32)
    scores[:, 0] += 1.5
    labels = np.zeros_like(scores)
    labels[:, 0] = 1
    ranks = 1 + (scores[:, 1:] >= scores[:, :1]).sum(axis=1)
    return Evaluation({}, scores.ravel(), labels.ravel(), ranks, np.arange(USERS), CANDIDATES)


def results(**changes) -> dict:
    metrics = {"auc": 0.91, "logloss": 0.25, "hr@10": 0.3, "ndcg@10": 0.2}
    return {
        "version": "0.1.0",
        "kind": "model",
        "model": "DeepFM",
        "data": {"name": "ml-100k", "hash": "0123456789abcdef", "source": "files"},
        "protocol": {"split_strategy": "leave_one_out", "ranking_ks": [5, 10]},
        "validation": metrics,
        "test": {**metrics, "auc": 0.89},
        "best_epoch": 2,
        "epochs": 3,
        "seconds": 150.0,
        "rows_per_second": 250_000.0,
        "env": {"device": "cpu", "versions": {"torch": "2.13.0"}},
    } | changes


HISTORY = [
    {"epoch": n, "loss": 1 / n, "lr": 10.0**-n, "auc": 0.8, "logloss": 0.3, "hr@10": 0.2, "ndcg@10": 0.1}
    for n in (1, 2, 3)
]
BOTH = {"validation": arrays(1), "test": arrays(2)}


def blocks(document: Document, section: str, kind: type) -> list:
    return [b for s in document.sections if s.title == section for b in s.blocks if isinstance(b, kind)]


def titles(document: Document) -> list[str]:
    return [section.title for section in document.sections]


def test_a_model_run_has_every_section_and_renders():
    document = build_run_report(results(), HISTORY, YAML, BOTH)
    assert titles(document) == EVERY_SECTION
    assert document.title == "DeepFM on ml-100k"
    curves = [figure.title for figure in blocks(document, "Training curves", Figure)]
    assert curves == [
        "Training loss",
        "Ranking on validation",
        "AUC on validation",
        "Log loss on validation",
        "Learning rate",
    ]
    assert blocks(document, "Configuration", Code) == [Code(YAML, "yaml")]
    assert render_html(document) == render_html(build_run_report(results(), HISTORY, YAML, BOTH))


def test_the_summary_says_what_was_trained_on_what():
    (paragraph,) = blocks(build_run_report(results(), HISTORY, YAML, BOTH), "Summary", Paragraph)
    assert paragraph.text == (
        "DeepFM was trained on ml-100k (source files, hash 0123456789ab). "
        "The best epoch was 2 of 3, and every final metric comes from it. "
        "It took 2 min 30 s, at 250,000 training rows per second."
    )


def test_the_sample_is_a_warning_and_real_data_is_none():
    sample = results(data={"name": "ml-100k", "source": "sample"})
    (note,) = blocks(build_run_report(sample, HISTORY, YAML, {}), "Summary", Note)
    assert note.level == "warning"
    assert not blocks(build_run_report(results(), HISTORY, YAML, {}), "Summary", Note)


def test_a_best_last_epoch_is_remarked():
    (note,) = blocks(build_run_report(results(best_epoch=3), HISTORY, YAML, {}), "Summary", Note)
    assert note.level == "info"


def test_final_metrics_hold_both_splits():
    (block,) = blocks(build_run_report(results(), [], "", {}), "Final metrics", TableBlock)
    assert block.table.to_records()[0] == {"Metric": "AUC", "Validation": 0.91, "Test": 0.89}
    assert [row[0] for row in block.table.rows] == ["AUC", "Log loss", "HR@10", "NDCG@10"]


def test_configuration_lists_the_run_with_nested_names():
    (block,) = blocks(build_run_report(results(), [], "", {}), "Configuration", TableBlock)
    assert dict(block.table.rows) == {
        "data.name": "ml-100k",
        "data.hash": "0123456789abcdef",
        "data.source": "files",
        "protocol.split_strategy": "leave_one_out",
        "protocol.ranking_ks": "5, 10",
        "env.device": "cpu",
        "env.versions.torch": "2.13.0",
    }


def test_a_baseline_has_no_curves_and_no_calibration():
    run = results(kind="baseline", best_epoch=None, epochs=None, rows_per_second=None, validation=None)
    document = build_run_report(run, [], "", {"test": arrays()})
    assert titles(document) == [title for title in EVERY_SECTION if title != "Training curves"]
    assert [figure.title for figure in blocks(document, "Classification", Figure)] == ["ROC curve (test)"]
    (block,) = blocks(document, "Final metrics", TableBlock)
    assert [column.name for column in block.table.columns] == ["Metric", "Test"]


def test_calibration_is_drawn_for_a_model_and_the_test_split_comes_first():
    figures = blocks(build_run_report(results(), [], "", BOTH), "Classification", Figure)
    assert [figure.title for figure in figures] == ["ROC curve (test)", "Calibration (test)"]
    figures = blocks(build_run_report(results(), [], "", {"validation": arrays()}), "Classification", Figure)
    assert [figure.title for figure in figures] == ["ROC curve (validation)", "Calibration (validation)"]


def test_parts_that_are_missing_are_left_out():
    assert titles(build_run_report({}, [], "", {})) == ["Summary"]
    nothing = {"auc": None, "hr@10": float("nan")}
    run = {"kind": "model", "model": "FM", "validation": nothing, "test": {}}
    one_class = Evaluation({}, np.zeros(3), np.zeros(3), np.array([], dtype=int), np.array([], dtype=int))
    history = [{"epoch": 1, "loss": None, "lr": 0.0}]
    assert titles(build_run_report(run, history, " \n", {"test": one_class})) == ["Summary"]
