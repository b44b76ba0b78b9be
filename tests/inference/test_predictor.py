"""Raw rows scored from a run's folder: as training's evaluation saw them, in another process, without the data."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from deepfm.cli import main
from deepfm.data.tables.rows import frames
from deepfm.engine.run import RunFolder
from deepfm.errors import DataError, RunError
from deepfm.inference import Predictor
from deepfm.training.experiment import evaluate_run
from tests.data.tables.test_adapter import OPTIONS, SCHEMA, rows


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> tuple[Path, Path, np.ndarray]:
    """A run, its test file, and the logits that training's own evaluation gives its rows."""
    folder = tmp_path_factory.mktemp("clicks")
    (folder / "schema.yaml").write_text(SCHEMA)
    for seed, (part, count) in enumerate({"train": 1500, "valid": 400, "test": 400}.items()):
        rows(count, seed).write_csv(folder / f"{part}.csv")
    run = tmp_path_factory.mktemp("runs") / "clicks"
    assert main(["train", "--quiet", "--override", *OPTIONS, f"data.data_dir={folder}", f"output_dir={run}"]) == 0
    expected = evaluate_run(RunFolder(run))["test"].scores
    kept = folder.parent / "kept.csv"
    shutil.copy(folder / "test.csv", kept)
    shutil.rmtree(folder)
    return run, kept, expected


def test_logits_are_those_of_trainings_evaluation(trained):
    run, file, expected = trained
    predictor = Predictor.load(run, "cpu")
    assert np.abs(predictor.logits(file) - expected).max() < 1e-6
    chances = predictor.predict(file)
    assert np.allclose(chances, 1 / (1 + np.exp(-expected.astype(float))), atol=1e-7)
    assert chances.dtype == np.float64


def test_sources_orders_and_parts_make_no_difference(trained, monkeypatch):
    run, file, expected = trained
    predictor = Predictor.load(run, "cpu")
    frame = pl.read_csv(file)
    shuffled = frame.select(*reversed(frame.columns)).drop("click").with_columns(more=pl.lit(1))
    for source in (shuffled, frame.to_pandas(), frame.to_arrow(), frame.to_dict(as_series=False)):
        assert np.abs(predictor.logits(source) - expected).max() < 1e-6
    monkeypatch.setattr(frames, "__defaults__", (37,))
    assert np.abs(predictor.logits(file) - expected).max() < 1e-6


def test_another_process_gives_the_same(trained, tmp_path):
    run, file, expected = trained
    for name in ("scores.parquet", "scores.csv"):
        command = [sys.executable, "-m", "deepfm", "predict", str(run), str(file), "-o", str(tmp_path / name)]
        answer = subprocess.run([*command, "--device", "cpu"], capture_output=True, text=True, check=True)
        assert "400 rows scored" in answer.stdout
        read = pl.read_parquet if name.endswith("parquet") else pl.read_csv
        scores = read(tmp_path / name)
        assert scores.columns == ["user", "item", "probability"]
        assert np.allclose(scores["probability"], 1 / (1 + np.exp(-expected.astype(float))), atol=1e-6)


def test_new_categories_are_scored(trained):
    predictor = Predictor.load(trained[0], "cpu")
    chance = predictor.predict({"user": ["nobody"], "item": [99999], "price": [3.5], "tags": ["new|t1"]})
    assert 0 < chance[0] < 1


def test_bad_input_is_a_sentence(trained, tmp_path, capsys):
    run, file, _ = trained
    predictor = Predictor.load(run, "cpu")
    frame = pl.read_csv(file)
    with pytest.raises(DataError, match="no column 'price'"):
        predictor.predict(frame.drop("price"))
    with pytest.raises(DataError, match="'dear' in row 1"):
        predictor.predict(frame.with_columns(price=pl.lit("dear")))
    with pytest.raises(RunError, match="does not exist"):
        Predictor.load(tmp_path / "none")
    (tmp_path / "scores.csv").write_text("kept")
    for arguments in (["-o", "x.json"], ["-o", str(file)], ["--keep", "usr"]):
        assert main(["predict", str(run), str(file), "--device", "cpu", *arguments]) == 2
        assert "Traceback" not in capsys.readouterr().err
    bad = tmp_path / "bad.csv"
    bad.write_text(file.read_text() + "1,2,3\n")
    assert main(["predict", str(run), str(bad), "-o", str(tmp_path / "scores.csv"), "--device", "cpu"]) == 2
    assert "row 401" in capsys.readouterr().err
    assert (tmp_path / "scores.csv").read_text() == "kept"
    skip = ["-o", str(tmp_path / "scores.csv"), "--device", "cpu", "--on-bad-row", "skip"]
    assert main(["predict", str(run), str(bad), *skip]) == 0
    assert len(pl.read_csv(tmp_path / "scores.csv")) == 400
