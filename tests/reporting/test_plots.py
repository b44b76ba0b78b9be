import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score, roc_curve

from deepfm.errors import DataError
from deepfm.reporting import (
    bar_plot,
    calibration_plot,
    calibration_points,
    heat_map,
    histogram_plot,
    line_plot,
    roc_plot,
    roc_points,
)

pytestmark = pytest.mark.plots

RNG = np.random.default_rng(0)
LABELS = RNG.random(3000) < 0.2
SCORES = np.round(RNG.normal(size=3000) + LABELS, 1)  # rounded, so that there are ties

NAMES = [f"C{number}" for number in range(20)]
RNG_CELLS = np.random.default_rng(1).random((20, 20))

PLOTS = {
    "line": lambda: line_plot({"a": ([1, 2, 3], [3, 2, 1]), "b": ([1, 2], [1, 5])}, "Lines", "x", "y", mark_x=2),
    "roc": lambda: roc_plot(LABELS, SCORES),
    "calibration": lambda: calibration_plot(LABELS, 1 / (1 + np.exp(-SCORES))),
    "calibration_log": lambda: calibration_plot(LABELS, 1 / (1 + np.exp(-SCORES)), log_axes=True),
    "histogram": lambda: histogram_plot(SCORES, "Scores", "score"),
    "histogram_log": lambda: histogram_plot([1, 1, 2, 900], "Ranks", "rank", bins=10, log_x=True),
    "heat": lambda: heat_map([[0.5, -1.0], [np.nan, 0.25]], ["a", "b"], ["c", "d$"], "Pairs", "x", "y"),
    "heat_large": lambda: heat_map(RNG_CELLS, NAMES, NAMES, "Many pairs"),
    "bar_deviations": lambda: bar_plot({"a": 0.2, "b": -0.3}, "Importance", "drop", {"a": 0.01, "b": 0.05}),
    "bar": lambda: bar_plot({"user_id": 0.2, "movie_id": 0.3}, "Importance", "drop in AUC"),
}


def texts(svg: str) -> list[str]:
    return [element.text for element in ElementTree.fromstring(svg).iter() if element.tag.endswith("}text")]


@pytest.mark.parametrize("draw", PLOTS.values(), ids=PLOTS)
def test_a_plot_is_one_svg_element_that_is_always_the_same(draw):
    svg = draw()
    assert svg == draw()
    root = ElementTree.fromstring(svg)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert svg.startswith("<svg ")
    for foreign in ("<style", "<metadata", "<?xml", "<!DOCTYPE", "<script"):
        assert foreign not in svg
    assert not re.search(r'(?:href|src)="(?!#)', svg)


@pytest.mark.parametrize("draw", PLOTS.values(), ids=PLOTS)
def test_every_id_is_used_and_every_reference_stands(draw):
    svg = draw()
    ids = re.findall(r' id="([^"]*)"', svg)
    assert len(ids) == len(set(ids))
    assert set(ids) == set(re.findall(r'(?:url\(#|href="#)([^)"]+)', svg))


def test_plots_on_one_page_share_no_id():
    ids = [set(re.findall(r' id="([^"]*)"', draw())) for draw in PLOTS.values()]
    assert all(ids)
    assert sum(map(len, ids)) == len(set.union(*ids))


def test_text_stays_text_and_is_escaped_not_parsed():
    svg = line_plot({"$a$": ([1, 2], [1, 2]), "<b>": ([1, 2], [2, 1])}, 'T & "$x$" <i>', "$x_1$", "y")
    shown = texts(svg)
    for text in ("$a$", "<b>", 'T & "$x$" <i>', "$x_1$", "y"):
        assert text in shown


def test_the_marked_epoch_adds_a_line_and_logarithmic_axes_read_plainly():
    series = {"lr": ([1, 2, 3], [1e-3, 1e-4, 1e-5])}
    plain = line_plot(series, "lr", "epoch", "lr", log_y=True)
    marked = line_plot(series, "lr", "epoch", "lr", log_y=True, mark_x=2)
    assert marked.count("stroke-dasharray") == plain.count("stroke-dasharray") + 1
    assert {"0.001", "0.0001", "1e-5"} <= set(texts(plain))


def test_lines_leave_out_what_cannot_be_drawn():
    kept = line_plot({"a": ([1, 2, 3, 4], [1.0, float("nan"), 0.0, 2.0])}, "t", "x", "y", log_y=True)
    assert kept == line_plot({"a": ([1, 4], [1.0, 2.0])}, "t", "x", "y", log_y=True)
    with pytest.raises(DataError, match="no finite point"):
        line_plot({"a": ([1], [float("nan")])}, "t", "x", "y")
    with pytest.raises(DataError, match="2 x and 1 y"):
        line_plot({"a": ([1, 2], [1])}, "t", "x", "y")


def test_whole_roc_curve_equals_scikit_learn():
    fpr, tpr, area = roc_points(LABELS, SCORES, max_points=None)
    expected_fpr, expected_tpr, _ = roc_curve(LABELS, SCORES, drop_intermediate=False)
    np.testing.assert_allclose(fpr, expected_fpr, rtol=0, atol=1e-15)
    np.testing.assert_allclose(tpr, expected_tpr, rtol=0, atol=1e-15)
    assert area == pytest.approx(roc_auc_score(LABELS, SCORES), abs=1e-12)


def test_thinned_roc_curve_of_a_million_rows_is_small_and_close():
    labels = np.random.default_rng(1).random(1_000_000) < 0.001
    scores = np.random.default_rng(2).normal(size=1_000_000) + labels
    fpr, tpr, area = roc_points(labels, scores)
    assert len(fpr) <= 402
    assert (fpr[0], tpr[0], fpr[-1], tpr[-1]) == (0, 0, 1, 1)
    assert area == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)
    assert np.sum(np.diff(fpr) * (tpr[1:] + tpr[:-1])) / 2 == pytest.approx(area, abs=1e-3)
    assert len(roc_plot(labels, scores)) < 60_000
    assert f"AUC {area:.4f}" in texts(roc_plot(labels, scores))


def test_calibration_bins_equal_those_counted_by_hand():
    probabilities = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0]
    labels = [0, 0, 0, 1, 0, 1, 1, 1]
    mean, observed, rows = calibration_points(labels, probabilities, bins=4)
    np.testing.assert_allclose(mean, [0.15, 0.35, 0.55, 0.9])
    np.testing.assert_allclose(observed, [0, 0.5, 0.5, 1])
    assert rows.tolist() == [2, 2, 2, 2]


def test_equal_predictions_share_a_calibration_bin():
    mean, observed, rows = calibration_points([0, 1, 0, 1, 1], [0.2, 0.2, 0.2, 0.2, 0.9], bins=5)
    np.testing.assert_allclose(mean, [0.2, 0.9])
    np.testing.assert_allclose(observed, [0.5, 1.0])
    assert rows.tolist() == [4, 1]


def test_a_bin_without_positives_is_shown_on_logarithmic_axes():
    labels = np.arange(1000) >= 990
    svg = calibration_plot(labels, np.linspace(0.001, 0.02, 1000), log_axes=True)
    assert "bins without a positive" in texts(svg)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: roc_points([1, 1], [0.1, 0.2]), "2 of 2 labels are positive"),
        (lambda: roc_points([0, 1], [0.1]), "2 labels and 1 scores"),
        (lambda: roc_points([0, 1], [0.1, np.nan]), "1 values that are not finite"),
        (lambda: roc_points([0, 3], [0.1, 0.2]), "other than 0 and 1"),
        (lambda: calibration_points([0, 1], [-2.0, 0.5]), "sigmoid"),
        (lambda: calibration_points([0, 1], [0.2, 0.5], bins=0), "0 bins"),
        (lambda: histogram_plot([], "t", "x"), "0 values"),
        (lambda: histogram_plot([0, 1], "t", "x", log_x=True), "positive values only"),
        (lambda: bar_plot({"a": float("nan")}, "t", "x"), "all finite"),
        (lambda: histogram_plot(["a"], "t", "x"), "cannot be read as numbers"),
    ],
)
def test_data_that_cannot_be_drawn_is_refused(call, message):
    with pytest.raises(DataError, match=message):
        call()


def test_a_heat_map_names_its_cells_and_writes_few_numbers_in():
    shown = texts(PLOTS["heat"]())
    assert {"a", "b", "c", "d$", "0.5", "-1", "0.25"} <= set(shown)
    assert "nan" not in " ".join(shown)
    large = PLOTS["heat_large"]()
    assert set(NAMES) <= set(texts(large))
    assert "<image" not in large
    assert f"{RNG_CELLS[0, 0]:.2g}" not in texts(large)


def test_heat_maps_colour_the_sign():
    low, high = heat_map([[0.0, 1.0]], ["a"], ["c", "d"], "t"), heat_map([[0.0, -1.0]], ["a"], ["c", "d"], "t")
    assert "#2f6db3" in low
    assert "#d9822b" in high
    assert "#d9822b" not in low


def test_a_heat_map_of_another_shape_is_refused():
    with pytest.raises(DataError, match=r"shape \(2, 1\); expected \(2, 2\)"):
        heat_map([[1.0], [2.0]], ["a", "b"], ["c", "d"], "Pairs")
    with pytest.raises(DataError, match="a finite value"):
        heat_map([[np.nan]], ["a"], ["c"], "Pairs")
