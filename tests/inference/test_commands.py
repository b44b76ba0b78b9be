"""`deepfm predict` of no rows and of MovieLens pairs, and `deepfm recommend`."""

import json

import numpy as np
import polars as pl
import pytest

from deepfm import Predictor, Recommender
from deepfm.cli import main


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_header_alone_gives_a_header_alone(clicks, tmp_path, suffix):
    run, parts, _ = clicks
    parts["test"].head(0).write_csv(tmp_path / "none.csv")
    out = tmp_path / f"out.{suffix}"
    assert main(["predict", str(run), str(tmp_path / "none.csv"), "-o", str(out), "--device", "cpu"]) == 0
    found = pl.read_csv(out) if suffix == "csv" else pl.read_parquet(out)
    assert found.columns == ["user", "item", "probability"]
    assert len(found) == 0
    assert Predictor.load(run, "cpu").predict(parts["test"].head(0)).shape == (0,)


def test_predict_writes_pairs_of_a_movielens_run(films, tmp_path):
    run, pairs, scores, _ = films
    pairs.write_csv(tmp_path / "pairs.csv")
    out = tmp_path / "out.parquet"
    assert main(["predict", str(run), str(tmp_path / "pairs.csv"), "-o", str(out), "--device", "cpu"]) == 0
    found = pl.read_parquet(out)
    assert found.columns == ["user_id", "movie_id", "probability"]
    np.testing.assert_allclose(found["probability"], 1 / (1 + np.exp(-scores.astype(float))), atol=1e-6)


def test_recommend_prints_and_writes(clicks, tmp_path, capsys):
    run = str(clicks[0])
    expected = Recommender.load(run, "cpu").recommend("3", 4, exclude_seen=True)
    command = ["recommend", run, "--user", "3", "--top", "4", "--exclude-seen", "--device", "cpu"]
    assert main([*command, "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == {"user": "3", "known_user": True, "items": expected.to_dicts()}
    assert main([*command, "-o", str(tmp_path / "top.parquet")]) == 0
    assert pl.read_parquet(tmp_path / "top.parquet").equals(expected)
    assert main(command) == 0
    table = capsys.readouterr().out
    assert all(title in table for title in expected["title"])


def test_what_recommend_refuses_is_a_sentence(clicks, tmp_path, capsys):
    run = str(clicks[0])
    for more, said in (
        (["--top", "0"], "top is 0"),
        (["--candidates", str(tmp_path / "none.txt")], "cannot be read"),
        (["-o", str(tmp_path / "out.xls")], "neither .csv nor .parquet"),
        (["--device", "nowhere"], "nowhere"),
    ):
        capsys.readouterr()
        assert main(["recommend", run, "--user", "3", "--device", "cpu", *more]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert err.count("\n") == 1
        assert said in err
