"""A run is explained on its own validation rows, left as it was, and refused where there is nothing to explain."""

import hashlib
import json
import shutil
from itertools import pairwise

import numpy as np
import polars as pl
import pytest

from deepfm.config import load_config
from deepfm.data.interactions import InteractionDataset
from deepfm.engine.run import RunFolder
from deepfm.errors import CheckpointError, ConfigError, DataError, RunError
from deepfm.explain import explain
from deepfm.explain.report import build_report
from deepfm.inference import Predictor
from deepfm.reporting import render_html
from deepfm.training import experiment
from tests.explain.conftest import planted_rows, write_table

FEW = {"device": "cpu", "repeats": 1, "rows": 700}


def hashes(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


@pytest.fixture(scope="module")
def found(films):
    return explain(films, device="cpu", repeats=2, rows=2000, row_numbers=[3, 75])


def test_the_baseline_is_what_the_run_recorded(films, planted, found):
    for run, one in ((films, found), (planted, explain(planted, **FEW))):
        metric = one.baseline.metric
        assert one.baseline.recorded == run.read_results()["validation"][metric]
        assert one.baseline.measured == pytest.approx(one.baseline.recorded, abs=1e-6)
        assert one.baseline.agrees
    assert found.baseline.metric == "ndcg@10"
    assert set(found.baseline.sample) == {"ndcg@10", "auc", "logloss"}


def test_all_of_validation_gives_the_recorded_metric_from_the_sample_too(planted):
    one = explain(planted, device="cpu", repeats=1, rows=10**9)
    assert one.sample.whole
    assert one.baseline.sample["auc"] == pytest.approx(one.baseline.recorded, abs=1e-9)


def test_fields_histories_and_groups_are_exchanged(found):
    assert {one.name for one in found.importance} == {
        *("user_id", "gender", "age", "occupation", "zip_prefix", "movie_id", "genres", "history"),
        *("group:user", "group:item"),
    }
    units = {one.name: one.unit for one in found.importance}
    assert units["user_id"] == units["history"] == units["group:user"] == "users"
    assert units["movie_id"] == units["group:item"] == "rows"
    means = [one.mean("ndcg@10") for one in found.importance]
    assert all(first >= second for first, second in pairwise(means))


def test_the_gate_is_what_the_run_recorded(films, found):
    recorded = json.loads(films.monitors.read_text())["validation"]["gate"]
    assert found.gate["mean"] == pytest.approx(recorded["mean"], abs=1e-6)
    assert found.gate["rows"] == recorded["rows"]


def test_validation_rows_are_taken_apart(found):
    assert [one.row for one in found.contributions] == ["validation row 3", "validation row 75"]
    for one in found.contributions:
        assert one.total == pytest.approx(one.logit, abs=1e-5)
        assert set(one.parts) == {"CIN layer 1", "CIN layer 2", "CIN, constant", "behaviour", "deep"}
        assert [part.name for part in one.occlusions][-1] == "history"


def test_what_is_left_out_is_named(found):
    assert set(found.left_out) == {"pairs", "field_attention"}
    assert found.history_attention
    assert found.cin


def test_plain_data_are_json(found):
    plain = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert plain["baseline"]["agrees"] is True
    assert plain["importance"][0]["mean"]["ndcg@10"] == found.importance[0].mean("ndcg@10")
    assert plain["contributions"][0]["total"] == found.contributions[0].total


def test_the_report_shows_every_part(found):
    html = render_html(build_report(found))
    for words in (
        "Permutation importance",
        "The gate",
        "The CIN",
        "Attention over histories",
        "Left out",
        "group:item",
    ):
        assert words in html
    assert html.count("<svg") == 3 + 2 * 2


def test_nothing_of_the_run_changes(planted):
    before = hashes(planted.path)
    explain(planted, **FEW, row_numbers=[0], raw_rows=planted_rows(2, 9))
    assert hashes(planted.path) == before


def test_test_rows_are_never_scored(films, monkeypatch):
    opened = []
    original = experiment.open_data

    def open_data(*args):
        data = original(*args)
        opened.append(data)
        monkeypatch.setattr(data.test, "batch", refused)
        monkeypatch.setattr(data.test, "pairs", refused)
        return data

    def refused(*_):
        raise AssertionError("a test row was read")

    monkeypatch.setattr(experiment, "open_data", open_data)
    explain(films, **FEW, row_numbers=[0])
    assert isinstance(opened[0].test, InteractionDataset)


def test_raw_rows_are_what_predict_scores(planted):
    rows = planted_rows(4, seed=7).with_columns(signal=pl.Series([0, 1, 2, 99]))
    found = explain(planted, **FEW, raw_rows=rows)
    logits = Predictor.load(planted, "cpu").logits(rows)
    np.testing.assert_allclose([one.total for one in found.contributions], logits, atol=1e-5)
    assert found.contributions[3].occlusions[0].value == "unknown"
    assert found.contributions[3].occlusions[0].change == 0.0
    assert found.contributions[3].first_order["signal"] == 0.0
    assert found.contributions[0].occlusions[0].value == "0"


@pytest.fixture(scope="module")
def orphan(planted, tmp_path_factory):
    """A run whose data are gone."""
    run = RunFolder(tmp_path_factory.mktemp("orphan") / "run")
    shutil.copytree(planted.path, run.path)
    config = run.config.read_text()
    data = str(planted.path.parent / "data")
    assert data in config
    run.config.write_text(config.replace(data, "/gone"))
    return run


def test_without_data_raw_rows_are_explained_and_the_rest_is_refused(orphan):
    with pytest.raises(DataError, match="rows of your own can be explained: --rows-file"):
        explain(orphan, **FEW)
    with pytest.raises(DataError, match="--rows-file"):
        explain(orphan, **FEW, row_numbers=[0], raw_rows=planted_rows(1, 0))
    found = explain(orphan, **FEW, raw_rows=planted_rows(2, 0))
    assert len(found.contributions) == 2
    assert found.sample is found.baseline is None
    assert set(found.left_out) >= {"importance", "pairs", "gate"}
    assert all("the data are gone" in reason for reason in found.left_out.values())
    assert "Left out" in render_html(build_report(found))


@pytest.mark.parametrize(
    ("asked", "error", "said"),
    [
        ({"repeats": 0}, ConfigError, "repeats is 0; expected at least 1"),
        ({"rows": 0}, ConfigError, "rows is 0; expected at least 1"),
        ({"row_numbers": [800]}, ConfigError, "validation row 800 is not there; expected 0 to 799"),
        ({"row_numbers": [-1]}, ConfigError, "validation row -1 is not there"),
        ({"fields": ["nose"]}, ConfigError, "'nose', which is no field .*noise"),
        ({"fields": ["group:user"]}, ConfigError, "'group:user', which is no field"),
        ({"raw_rows": planted_rows(3, 0).head(0)}, DataError, "the rows to explain are none"),
        ({"raw_rows": planted_rows(60, 0)}, ConfigError, "more than 50; expected a few"),
        ({"raw_rows": planted_rows(3, 0).drop("left")}, DataError, "no column 'left'"),
        ({"raw_rows": "/nowhere/rows.csv"}, DataError, "/nowhere/rows.csv"),
        ({"overrides": ["data.data_dir=/nowhere"]}, DataError, "/nowhere"),
    ],
)
def test_what_is_asked_wrongly_is_a_sentence(planted, asked, error, said):
    with pytest.raises(error, match=said) as caught:
        explain(planted, **{**FEW, **asked})
    assert "\n" not in str(caught.value)


def test_other_data_are_a_sentence(planted, tmp_path):
    write_table(tmp_path / "data")
    rows = planted_rows(800, 5)
    rows.write_csv(tmp_path / "data" / "valid.csv")
    with pytest.raises(CheckpointError, match="trained with another data set"):
        explain(planted, **FEW, overrides=[f"data.data_dir={tmp_path / 'data'}"])


def test_runs_that_cannot_be_explained(planted, tmp_path):
    with pytest.raises(RunError, match="does not exist"):
        explain(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(RunError, match=r"holds no results\.json"):
        explain(tmp_path / "empty")
    shutil.copytree(planted.path, tmp_path / "unfinished")
    (tmp_path / "unfinished" / "results.json").unlink()
    with pytest.raises(RunError, match="is an unfinished run"):
        explain(tmp_path / "unfinished")
    shutil.copytree(planted.path, tmp_path / "baseline")
    results = planted.read_results() | {"kind": "baseline"}
    RunFolder(tmp_path / "baseline").write_results(results)
    with pytest.raises(RunError, match="is a baseline's run, which has no model to explain"):
        explain(tmp_path / "baseline")


def test_another_figure_than_the_run_s_is_a_warning(planted, tmp_path):
    from deepfm.explain.text import opening

    shutil.copytree(planted.path, tmp_path / "run")
    results = planted.read_results()
    results["validation"]["auc"] -= 0.01
    RunFolder(tmp_path / "run").write_results(results)
    found = explain(tmp_path / "run", **FEW, fields=["noise"])
    assert not found.baseline.agrees
    assert any(line.startswith("WARNING") for line in opening(found))
    assert "Warning" in render_html(build_report(found))


def test_rows_without_groups_and_a_streamed_table(planted, tmp_path):
    config = load_config(str(planted.config), [])
    assert config.data.streaming == "auto"
    plain = explain(planted, **FEW, fields=["signal"])
    streamed = explain(
        planted, **FEW, fields=["signal"], overrides=["data.streaming=true", f"data.cache_dir={tmp_path / 'cache'}"]
    )
    assert streamed.importance[0].drops["auc"] == pytest.approx(plain.importance[0].drops["auc"], abs=1e-9)
