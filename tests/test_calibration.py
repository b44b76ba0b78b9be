"""Calibration: probabilities from logits, fitted on one set and right on another."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from deepfm.cli import main
from deepfm.engine.run import RunFolder
from deepfm.errors import DataError
from deepfm.models.calibration import Calibration, fit_calibration
from deepfm.training.metrics import compute_logloss
from tests.clicks import clicks, model_of


def scored(rows=20_000, seed=0, scale=3.0, shift=4.0):
    """Logits that rank well and are off by a line: the true log odds are (logit - shift) / scale."""
    rng = np.random.default_rng(seed)
    odds = rng.normal(-2.0, 1.5, rows)
    labels = rng.random(rows) < 1 / (1 + np.exp(-odds))
    return (scale * odds + shift).astype(np.float32), labels.astype(np.float32)


def sigmoid(x):
    return 1 / (1 + np.exp(-x.astype(np.float64)))


def test_platt_finds_the_line():
    fitted = fit_calibration("platt", *scored(200_000))
    assert fitted.scale == pytest.approx(1 / 3, rel=0.03)
    assert fitted.shift == pytest.approx(-4 / 3, abs=0.03)


def test_platt_is_logistic_regression():
    logits, labels = scored(2_000)
    positives, negatives = labels.sum(), (1 - labels).sum()
    targets = np.where(labels > 0, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    reference = LogisticRegression(C=1e12, tol=1e-10).fit(
        np.repeat(logits, 2)[:, None], np.tile([1, 0], len(labels)), np.stack([targets, 1 - targets], 1).reshape(-1)
    )
    fitted = fit_calibration("platt", logits, labels)
    assert fitted.scale == pytest.approx(reference.coef_[0, 0], rel=1e-4)
    assert fitted.shift == pytest.approx(reference.intercept_[0], rel=1e-4)


def test_isotonic_is_scikit_learns():
    logits, labels = scored(3_000)
    fitted = fit_calibration("isotonic", logits, labels)
    tiny = 1 / 3_002
    reference = IsotonicRegression(y_min=tiny, y_max=1 - tiny, out_of_bounds="clip").fit(logits, labels)
    new = np.random.default_rng(1).normal(-2, 8, 500).astype(np.float32)
    expected = reference.predict(new)
    np.testing.assert_allclose(fitted(torch.from_numpy(new).double()).numpy(), expected, atol=1e-9)


@pytest.mark.parametrize("method", ["platt", "isotonic"])
def test_probabilities_are_better_on_other_rows_and_keep_the_order(method):
    fitted = fit_calibration(method, *scored(seed=1))
    logits, labels = scored(seed=2)
    probabilities = fitted(torch.from_numpy(logits)).numpy()
    assert compute_logloss(labels, probabilities) < 0.8 * compute_logloss(labels, sigmoid(logits))
    assert abs(probabilities.mean() - labels.mean()) < 0.01
    assert (np.diff(probabilities[np.argsort(logits)]) >= -1e-6).all()
    assert probabilities.min() > 0
    assert probabilities.max() < 1


@pytest.mark.parametrize("method", ["platt", "isotonic"])
def test_comes_back_from_json(method):
    fitted = fit_calibration(method, *scored(500))
    again = Calibration.from_dict(json.loads(json.dumps(fitted.to_dict())))
    assert again == fitted


def test_separated_classes_stay_finite():
    logits = np.array([-3.0, -2.0, 2.0, 3.0], dtype=np.float32)
    labels = np.array([0.0, 0.0, 1.0, 1.0], dtype=np.float32)
    for method in ("platt", "isotonic"):
        probabilities = fit_calibration(method, logits, labels)(torch.from_numpy(logits))
        assert probabilities.isfinite().all()
        assert ((probabilities > 0) & (probabilities < 1)).all()


def test_equal_logits():
    logits, labels = np.zeros(10, dtype=np.float32), np.array([1, *[0] * 9], dtype=np.float32)
    for method in ("platt", "isotonic"):
        probabilities = fit_calibration(method, logits, labels)(torch.zeros(3))
        torch.testing.assert_close(probabilities, torch.full((3,), 0.1), atol=0.1, rtol=0)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: fit_calibration("platt", np.zeros(3), np.zeros(3)), "both classes"),
        (lambda: fit_calibration("spline", np.arange(2.0), np.array([0, 1])), "spline"),
        (lambda: Calibration("beta"), "beta"),
        (lambda: Calibration("isotonic"), "points"),
        (lambda: Calibration.from_dict({"method": "platt"}), "train again"),
    ],
)
def test_refusals(make, words):
    with pytest.raises(DataError, match=words):
        make()


def test_predict_uses_it_and_forward_does_not():
    model, batch = model_of(), clicks(rows=5).batch(slice(None))[0]
    model.eval()
    with torch.no_grad():
        logits = model(batch)
    torch.testing.assert_close(model.predict(batch), torch.sigmoid(logits))
    model.calibration = Calibration("platt", 2.0, -1.0)
    torch.testing.assert_close(model.predict(batch), torch.sigmoid(2 * logits - 1))
    with torch.no_grad():
        torch.testing.assert_close(model(batch), logits)


SHORT = [
    *("device=cpu", "data.source=files", "data.num_neg_eval=50", "training.num_epochs=2", "training.batch_size=200"),
    *("dnn.hidden_units=[8]", "feature.embedding_dim=8", "feature.fm_embed_dim=4", "cin.layer_sizes=[4]"),
    *("model_name=sin", "training.lr=0.01"),
]


@pytest.fixture(scope="module")
def trained(small_dir, tmp_path_factory):
    """Two runs of SIN through the command line, after a ranking loss and after cross-entropy."""
    folder = tmp_path_factory.mktemp("runs")
    for loss in ("softmax", "bce"):
        own = [f"data.data_dir={small_dir}", f"output_dir={folder / loss}", f"training.loss={loss}"]
        assert main(["train", "--quiet", "--override", *SHORT, *own]) == 0
    return SimpleNamespace(softmax=RunFolder(folder / "softmax"), bce=RunFolder(folder / "bce"))


def test_a_run_records_both_log_losses_and_its_calibration(trained):
    results = trained.softmax.read_results()
    for split in ("validation", "test"):
        assert results[split]["logloss_calibrated"] < results[split]["logloss"]
    assert results["calibration"].startswith("platt")
    assert Calibration.from_dict(json.loads(trained.softmax.calibration.read_text())).method == "platt"
    assert "calibrated on the validation set" in trained.softmax.log.read_text()


def test_cross_entropy_is_left_as_it_is(trained):
    results = trained.bce.read_results()
    assert "calibration" not in results
    assert "logloss_calibrated" not in results["test"]
    assert not trained.bce.calibration.exists()


def test_evaluate_gives_the_runs_metrics_again(trained, capsys):
    assert main(["evaluate", str(trained.softmax.path), "--json"]) == 0
    found, results = json.loads(capsys.readouterr().out), trained.softmax.read_results()
    for split in ("validation", "test"):
        assert found[split] == pytest.approx(results[split], abs=1e-6)


def test_the_gate_is_in_every_epochs_line_and_in_a_file_of_its_own(trained):
    lines = [json.loads(line) for line in trained.bce.metrics.read_text().splitlines()]
    assert len(lines) == 2
    assert all(0 < line["gate_mean"] < 1 and 0 < line["gate_spread"] < 0.5 for line in lines)
    seen = json.loads(trained.bce.monitors.read_text())
    assert set(seen) == {"validation", "test"}
    gate = seen["test"]["gate"]
    assert len(gate["by_dimension"]["mean"]) == 32
    assert np.mean(gate["by_dimension"]["mean"]) == pytest.approx(gate["mean"])
    assert sum(gate["histogram"]) == pytest.approx(1.0)
    best = lines[trained.bce.read_results()["best_epoch"] - 1]
    assert seen["validation"]["gate"]["mean"] == pytest.approx(best["gate_mean"])
