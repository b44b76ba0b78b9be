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


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> Path:
    """The folder of a run without a user and an item, with a text that has gaps and a list."""
    folder = tmp_path_factory.mktemp("plain")
    device = pl.Series([("web", "ios", None)[row % 3] for row in range(1200)])
    clicked = ((pl.int_range(1200) % 3 == 2) ^ (pl.int_range(1200) % 7 == 0)).cast(pl.Int64)
    frame = rows(1200, 9).drop("user", "item").with_columns(device=device, click=clicked)
    frame.with_columns(tags=pl.col("tags").str.split("|")).write_parquet(folder / "t.parquet")
    argv = ["train", "--quiet", "--data", str(folder / "t.parquet"), "--label", "click", "--override", *OPTIONS[1:]]
    assert main([*argv, f"output_dir={folder / 'run'}"]) == 0
    return folder


def test_a_run_without_roles(plain, capsys):
    assert main(["predict", str(plain / "run"), str(plain / "t.parquet"), "-o", str(plain / "p.csv")]) == 0
    scores = pl.read_csv(plain / "p.csv")
    assert scores.columns == ["probability"]
    assert scores.shape == (1200, 1)
    argv = ["predict", str(plain / "run"), str(plain / "t.parquet"), "-o", str(plain / "q.csv"), "--keep"]
    assert main([*argv, "click", "click"]) == 0
    assert pl.read_csv(plain / "q.csv").columns == ["click", "probability"]
    capsys.readouterr()
    before = (plain / "q.csv").read_bytes()
    for kept, words in (("tags", "'tags' of"), ("probability", "is the name of the column that is written")):
        assert main([*argv, kept]) == 2
        assert words in capsys.readouterr().err
    assert (plain / "q.csv").read_bytes() == before


def test_gaps_in_memory_are_the_gaps_of_files(plain):
    """pandas writes a missing text as NaN, and so do lists and arrays made from its frames."""
    predictor = Predictor.load(plain / "run", "cpu")
    frame = pl.read_parquet(plain / "t.parquet")
    expected = predictor.logits(frame)
    pandas = frame.to_pandas()
    assert pandas["device"].isna().any()
    lists = {name: [np.nan if value is None else value for value in frame[name].to_list()] for name in frame.columns}
    objects = {name: pandas[name].to_numpy() for name in pandas.columns}
    gaps = pandas["device"].astype(object).where(pandas["device"].notna(), np.nan).to_numpy()
    arrow = {name: frame[name].to_arrow() for name in frame.columns}
    for source in (pandas, lists, objects, {**objects, "device": gaps}, arrow, frame.to_dict()):
        assert np.array_equal(predictor.logits(source), expected)
    with pytest.raises(DataError, match="column 'price' of a table"):
        predictor.logits({**lists, "price": [object()] * len(frame)})


def test_a_column_without_a_known_value_is_said(plain, caplog):
    predictor = Predictor.load(plain / "run", "cpu")
    frame = pl.read_parquet(plain / "t.parquet")
    predictor.predict(frame)
    assert "unknown to the run" not in caplog.text
    predictor.predict(frame.with_columns(device=pl.lit("phone")))
    assert "every value of column 'device' of the table is empty or unknown to the run" in caplog.text


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
