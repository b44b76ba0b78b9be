"""A person's own features, from the configuration to predictions in another process; and sectors that a run keeps."""

import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pytest

from deepfm.cli import main
from deepfm.engine.run import RunFolder
from deepfm.equities.experiment import walk
from deepfm.equities.experiment.beforehand import refuse_unready
from deepfm.equities.experiment.fold_run import settings_hash
from deepfm.equities.experiment.market import market_of, open_market
from deepfm.equities.experiment.prediction import load_rankers, predict
from deepfm.equities.experiment.predictions import read_predictions
from deepfm.equities.experiment.ranker import Ranker
from deepfm.equities.experiment.walk import run_experiment
from deepfm.equities.features import DEFAULT_FEATURES, Feature, compute_features, feature_registry
from deepfm.equities.leakage.check import leak_check
from deepfm.equities.panels.files import save_panel
from deepfm.equities.panels.synthetic import SIGNALS, PlantedSettings, planted_panel
from deepfm.equities.settings import load_equities
from deepfm.errors import ConfigError
from deepfm.reporting import Document
from tests.equities.made_panels import ROOT, made_panel

SIZES = PlantedSettings(num_sessions=130, num_stocks=20, num_sectors=3, **dict.fromkeys(SIGNALS, 0.0))
MODULE = '''
import numpy as np

from deepfm.equities.features import DEFAULT_FEATURES, feature
from deepfm.equities.features.windows import lag


@feature("body", "value", lookback=0)
def body(history):
    """The close over the open, minus 1."""
    return history.close / history.open - 1


@feature("surge", "volume", lookback=1)
def surge(history):
    """The volume over the one before."""
    return history.volume / lag(history.volume, 1)
'''
AHEAD = '''
import numpy as np

from deepfm.equities.features import feature


@feature("peak", "value", lookback=20)
def peak(history):
    """The close over the highest of the whole sample."""
    return -history.close / np.nanmax(history.close, axis=0)
'''
SMALL = (
    "device=cpu", "analysis_seconds=0", "seeds=[3]", "data.sequence_length=4", "data.prediction_horizons=[1]",
    "split.embargo=2",
    "data.features=[clv, body, irel5, surge]", "data.feature_modules=[my_features.py]", "split.n_splits=1",
    "split.test_sessions=20", "split.validation_sessions=10", "split.min_train=40", "model.hidden_size=4",
    "model.num_heads=1", "model.gat_heads=[1, 1]", "model.adaptive_normalization=off", "training.max_epochs=1",
    "training.batch_size=24", "evaluation.baselines=[]", "data.path=panel.parquet",
)  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory, one_thread):
    """A folder with a module of features, a panel, and an experiment that was trained on both."""
    folder = tmp_path_factory.mktemp("own")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(walk, "build_report", lambda *_: Document("report", "", []))
        Path("my_features.py").write_text(MODULE)
        Path("ahead.py").write_text(AHEAD)
        panel = planted_panel(SIZES, 5).panel
        save_panel(panel, "panel.parquet")
        bare = dataclasses.replace(panel, sectors=np.full_like(panel.sectors, -1), sector_names=())
        save_panel(bare, "bare.parquet")
        renamed = dataclasses.replace(bare, tickers=("NEW", *bare.tickers[1:]))
        save_panel(renamed, "renamed.parquet")
        run_experiment(load_equities(None, SMALL), RunFolder("run"))
    return folder


@pytest.fixture
def here(place, monkeypatch):
    monkeypatch.chdir(place)
    monkeypatch.setattr(walk, "build_report", lambda *_: Document("report", "", []))
    yield place
    Path("my_features.py").write_text(MODULE)


def test_own_features_are_trained_on_and_found_again(here, capsys):
    (ranker,) = load_rankers("run")
    assert ranker.scaler.names == ("clv", "body", "irel5", "surge")
    assert len(json.loads(Path("run/fold-1/seed-3/ranker.json").read_text())["feature_modules"]["my_features.py"]) == 64
    assert main(["equities", "predict", "run", "--device", "cpu", "-o", "later.parquet"]) == 0
    found, kept = read_predictions("later.parquet"), read_predictions("run/fold-1/seed-3/predictions.parquet")
    at = np.isin(found.dates, kept.dates)
    assert np.array_equal(found.scores[at], kept.scores)
    assert main(["equities", "evaluate", "run"]) == 0


@pytest.mark.parametrize("action", [["predict", "run", "--device", "cpu", "-o", "x.parquet"], ["evaluate", "run"]])
@pytest.mark.parametrize("change", ["gone", "changed"])
def test_a_module_that_is_gone_or_another_is_named(here, capsys, action, change):
    if change == "gone":
        Path("my_features.py").unlink()
        words = "my_features.py of data.feature_modules is not there"
    else:
        Path("my_features.py").write_text(MODULE.replace("- 1", "- 2"))
        words = "has changed since the training" if action[0] == "predict" else "by other settings"
    before = Path("run/results.json").read_bytes()
    code = main(["equities", *action])
    said = capsys.readouterr().err
    assert code == 2
    assert said.count("\n") == 1
    assert (words in said) or (change == "gone" and "my_features.py" in said)
    assert Path("run/results.json").read_bytes() == before


def test_the_leak_check_looks_at_own_features(here, capsys):
    own = ["data.feature_modules=[my_features.py, ahead.py]", "data.features=[clv, body, peak, surge]"]
    assert main(["equities", "leak-check", "--override", *SMALL, "--json", "found.json"]) == 0
    assert "no leak: 4 features" in capsys.readouterr().out
    assert main(["equities", "leak-check", "--override", *SMALL, *own, "--json", "found.json"]) == 1
    (finding,) = json.loads(Path("found.json").read_text())["findings"]
    assert (finding["check"], finding["name"]) == ("future truncation", "peak")


def test_a_registry_of_python_reaches_the_market_and_the_network(here):
    mine = DEFAULT_FEATURES.with_feature(Feature("twice", "value", 0, lambda history: 2 * history.close))
    settings = load_equities(None, [*SMALL, "data.features=[twice, clv]", "data.feature_modules=[]"])
    panel = planted_panel(SIZES, 5).panel
    market = market_of(panel, settings, {"name": "made", "hash": "0", "source": "generated"}, registry=mine)
    assert np.array_equal(market.features.column("twice"), 2 * panel.close, equal_nan=True)
    with pytest.raises(ConfigError, match="'twice' is not registered"):
        open_market(settings)


def test_the_hash_of_settings_follows_what_is_in_a_module_and_not_where_it_lies(here, tmp_path):
    Path(tmp_path / "moved.py").write_text(MODULE)
    names = ("my_features.py", str(tmp_path / "moved.py"), "ahead.py")
    one, moved, other = (settings_hash(load_equities(None, [f"data.feature_modules=[{name}]"])) for name in names)
    assert one == moved != other
    assert len({one, other, settings_hash(load_equities())}) == 3


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "wrong.py of data.feature_modules defines no feature"),
        ("from deepfm.equities.features import DEFAULT_FEATURES\n", "defines no feature"),
        ("1 / 0", "wrong.py cannot be imported: ZeroDivisionError"),
        (MODULE.replace("body", "clv"), "defines a feature 'clv', and there is one already"),
        (MODULE.replace('"body"', '"surge"'), "defines a feature 'surge', and there is one already"),
        (MODULE.replace('"value"', '"colour"'), "has the group 'colour'"),
    ],
)
def test_modules_that_cannot_be_used_get_a_sentence(tmp_path, monkeypatch, text, words):
    monkeypatch.chdir(tmp_path)
    Path("wrong.py").write_text(text)
    with pytest.raises(ConfigError, match=words):
        feature_registry(["wrong.py"])


def test_the_example_of_the_docs_computes(tmp_path):
    text = (ROOT / "docs" / "equities.md").read_text()
    (tmp_path / "my_features.py").write_text(re.findall(r"```python\n(.*?)```", text, re.DOTALL)[0])
    registry = feature_registry([str(tmp_path / "my_features.py")])
    panel = made_panel(30, 4)
    found = compute_features(panel, ["up_volume"], registry).column("up_volume")
    rose = panel.close[1:] > panel.close[:-1]
    known = np.isfinite(found[1:])
    assert known.any()
    assert ((found[1:] > 0) == rose)[known].all()
    assert leak_check(panel, registry, ["up_volume"]).clean


def test_a_module_that_is_nowhere_gets_a_sentence():
    with pytest.raises(ConfigError, match=r"absent.py does not exist"):
        feature_registry(["absent.py"])
    with pytest.raises(ConfigError, match="no_such_module cannot be imported"):
        feature_registry(["no_such_module"])


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda history: history.nothing, "feature 'mine' fails: AttributeError"),
        (lambda history: history.close[1:], "feature 'mine' answers the shape"),
        (lambda history: None, "feature 'mine' fails: TypeError: its values are of the type object"),
    ],
)
def test_functions_that_fail_get_a_sentence(function, words):
    registry = DEFAULT_FEATURES.with_feature(Feature("mine", "value", 0, function))
    with pytest.raises(ConfigError, match=words):
        compute_features(made_panel(20, 4), ["mine"], registry)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["data.features=[ret55]"], "'ret55' is not registered"),
        (["evaluation.baselines=[momentum 20]", "data.features=[clv]"], "which needs the feature 'ret20'"),
        (["model.adaptive_normalization=slice", "data.sequence_length=7"], "sequence_length"),
    ],
)
def test_what_needs_no_price_is_refused_before_one_is_read(overrides, words, tmp_path):
    """The panel is not even there."""
    settings = load_equities(None, [f"data.path={tmp_path / 'absent.parquet'}", *overrides])
    with pytest.raises(ConfigError, match=words):
        refuse_unready(settings)
    with pytest.raises(ConfigError, match=words):
        run_experiment(settings, RunFolder(tmp_path / "run"))


def test_a_panel_without_sectors_is_ranked_with_those_of_the_training(here, capsys):
    """Known tickers keep theirs, so that nothing differs; another one is of an unknown sector."""
    command = ["equities", "predict", "run", "--device", "cpu"]
    assert main([*command, "-o", "whole.parquet"]) == 0
    capsys.readouterr()
    assert main([*command, "--panel", "bare.parquet", "-o", "bare-scores.parquet"]) == 0
    assert "bare.parquet has no sectors: 20 of 20 tickers have those of the training" in capsys.readouterr().out
    whole, bare = read_predictions("whole.parquet"), read_predictions("bare-scores.parquet")
    assert np.array_equal(whole.scores, bare.scores)
    assert main([*command, "--panel", "renamed.parquet", "-o", "renamed-scores.parquet"]) == 0
    assert "19 of 20 tickers have those of the training, the others are of an unknown one" in capsys.readouterr().out
    assert "NEW" in read_predictions("renamed-scores.parquet").tickers


def test_stocks_that_a_training_never_saw_are_ranked_without_a_sector(here):
    (ranker,) = load_rankers("run")
    panel = planted_panel(SIZES, 5).panel
    others = dataclasses.replace(
        panel,
        tickers=tuple(f"X{ticker}" for ticker in panel.tickers),
        sectors=np.full_like(panel.sectors, -1),
        sector_names=(),
    )
    (day,) = predict([ranker], others, np.array([120]))
    assert np.isfinite(day.scores).all()


def test_a_run_of_an_earlier_revision_has_no_sector_of_a_ticker(here, tmp_path):
    import shutil

    shutil.copytree("run/fold-1/seed-3", tmp_path / "old")
    state = json.loads((tmp_path / "old" / "ranker.json").read_text())
    del state["sectors"], state["feature_modules"]
    (tmp_path / "old" / "ranker.json").write_text(json.dumps(state))
    ranker = Ranker.load(RunFolder(tmp_path / "old"))
    assert (len(ranker.sectors.names), ranker.sectors.of_tickers) == (3, {})
