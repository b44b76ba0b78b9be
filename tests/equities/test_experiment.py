"""Walk-forward experiments: resumed bit for bit, blind to what comes after, and measured once."""

import dataclasses
import json

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.torch import load_file

from deepfm.cli import main
from deepfm.engine.loop import Observer
from deepfm.engine.run import RunFolder
from deepfm.equities.days.arrays import DayArrays
from deepfm.equities.experiment import prediction
from deepfm.equities.experiment import walk as experiment_module
from deepfm.equities.experiment.fold_run import PREDICTIONS, fold_folder
from deepfm.equities.experiment.market import fold_arrays, open_market
from deepfm.equities.experiment.prediction import load_rankers, predict, sessions_between
from deepfm.equities.experiment.predictions import Predictions, read_predictions, write_predictions
from deepfm.equities.experiment.smoke import prepare_smoke
from deepfm.equities.experiment.walk import run_experiment
from deepfm.equities.panels.files import read_panel
from deepfm.equities.panels.synthetic import planted_panel
from deepfm.equities.settings import load_equities
from deepfm.errors import DataError
from deepfm.reporting import Document
from tests.equities.small_experiment import SIZES, SMALL, copied


class Interrupt(Observer):
    """Ctrl-C after so many batches."""

    def __init__(self, batches):
        self.left = batches

    def batch_finished(self, rows):
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt


def weights_of(folder, fold, seed):
    return load_file(folder.path / f"fold-{fold}" / f"seed-{seed}" / "best.safetensors")


def test_every_output_says_data_split_and_seed(trained, settings):
    folder, results = trained
    assert set(results["test"]) == {"rank_ic_1", "rank_ic_3"}
    assert results["test"]["rank_ic_1"] > 0.05  # a few steps already
    assert results["protocol"]["seeds"] == [3, 4]
    assert [row["fold"] for row in results["protocol"]["split"]] == ["1", "2"]
    market = open_market(settings)
    evaluation = json.loads((folder.path / "evaluation.json").read_text())
    for found in (results, evaluation):
        assert found["data"]["hash"] == market.about["hash"]
    one = fold_folder(folder, market.folds[1], 4)
    assert one.read_results()["protocol"]["seeds"] == [4]
    metadata = pl.read_parquet_metadata(one.path / PREDICTIONS)
    assert metadata["hash"] == market.about["hash"]
    assert (metadata["fold"], metadata["seed"]) == ("2", "4")


def test_an_interrupted_experiment_goes_on_to_the_same_bits(trained, settings, tmp_path, monkeypatch, one_thread):
    monkeypatch.setattr(experiment_module, "build_report", lambda *_: Document("report", "", []))
    folder = RunFolder(tmp_path / "again")
    batches = {("1", 4): 3, ("2", 3): 12}  # in the first epoch, and in the second one of another fold
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            run_experiment(
                settings,
                folder,
                lambda fold, seed: [Interrupt(batches.pop((fold.name, seed), 10**9))],
                resume=folder.config.exists(),
            )
    results = run_experiment(settings, folder, resume=True)
    assert results["test"] == trained[1]["test"]
    for fold in ("1", "2"):
        for seed in (3, 4):
            ours, theirs = weights_of(folder, fold, seed), weights_of(trained[0], fold, seed)
            assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_nothing_after_a_day_reaches_its_prediction(trained, panel_file):
    """Predictions at t are bit-equal when all rows after t are gone, and when they are others."""
    rankers, panel = load_rankers(trained[0].path), read_panel(panel_file)
    session = 180
    whole = list(predict(rankers, panel, np.arange(170, 200)))[session - 170]
    (until,) = predict(rankers, panel.until(session), np.array([session]))
    draw = np.random.default_rng(0)
    later = np.arange(panel.num_sessions)[:, None] > session
    noise = np.exp(draw.standard_normal(panel.close.shape)).astype(np.float32)
    prices = {name: np.where(later, getattr(panel, name) * noise, getattr(panel, name)) for name in ("open", "close")}
    (perturbed,) = predict(rankers, dataclasses.replace(panel, **prices), np.array([session]))
    for other in (until, perturbed):
        assert np.array_equal(whole.scores, other.scores)
        assert np.array_equal(whole.quantiles, other.quantiles)
        assert whole.tickers.tolist() == other.tickers.tolist()


def test_memory_is_given_back_as_days_go_by(trained, panel_file, monkeypatch):
    """After every few days and after each part whose features are held at once, when those are gone."""
    given = []
    monkeypatch.setattr(prediction, "release_free_memory", lambda: given.append(len(seen)))
    monkeypatch.setattr(prediction, "RELEASE_SESSIONS", 4)
    monkeypatch.setattr(prediction, "CHUNK_SESSIONS", 10)
    rankers, seen = load_rankers(trained[0].path), []
    for day in predict(rankers, read_panel(panel_file), np.arange(170, 190)):
        seen.append(day)
    assert given == [4, 8, 10, 14, 18, 20]


def test_the_order_of_tickers_does_not_matter(trained, panel_file):
    rankers, panel = load_rankers(trained[0].path), read_panel(panel_file)
    order = np.random.default_rng(1).permutation(panel.num_stocks)
    (one,) = predict(rankers, panel, np.array([190]))
    (other,) = predict(rankers, panel.of_stocks(order), np.array([190]))
    place = {ticker: at for at, ticker in enumerate(other.tickers)}
    matched = other.scores[[place[ticker] for ticker in one.tickers]]
    assert np.abs(one.scores - matched).max() < 1e-5


def test_predicting_new_days_says_what_the_experiment_said(trained, settings, panel_file):
    """The command's path, in pieces and from files, gives what the fold's own last step wrote."""
    market = open_market(settings)
    fold = market.folds[-1]
    kept = read_predictions(fold_folder(trained[0], fold, 3).path / PREDICTIONS)
    ranker = load_rankers(fold_folder(trained[0], fold, 3).path)
    found = list(predict(ranker, read_panel(panel_file), fold.test))
    assert np.array_equal(np.concatenate([day.scores for day in found]), kept.scores)
    assert np.array_equal(np.concatenate([day.dates for day in found]), kept.dates)


def test_days_that_a_network_learned_from_test_nothing(trained, panel_file, tmp_path, capsys):
    folder, _ = trained
    split = fold_folder(folder, open_market(load_equities(folder.config)).folds[-1], 3).read_results()
    until = split["protocol"]["split"][0]["validation"][1]
    later, early = tmp_path / "later.parquet", tmp_path / "early.parquet"
    command = ["equities", "predict", str(folder.path), "--device", "cpu", "-o"]
    assert main([*command, str(later)]) == 0
    assert "learned" not in capsys.readouterr().out
    assert read_predictions(later).dates.min() > np.datetime64(until)
    assert main([*command, str(early), "--from", "2010-06-01"]) == 0
    assert f"learned from prices up to {until}: " in capsys.readouterr().out
    assert main(["equities", "backtest", str(folder.path), "--predictions", str(later)]) == 0
    assert main(["equities", "backtest", str(folder.path), "--predictions", str(early)]) == 2
    assert "which the network learned from and which test nothing" in capsys.readouterr().err


def test_overwriting_leaves_no_fold_of_the_experiment_before(trained, settings, tmp_path):
    folder = copied(trained[0], tmp_path / "again")
    fewer = dataclasses.replace(settings, split=dataclasses.replace(settings.split, n_splits=1), seeds=(3,))
    run_experiment(fewer, folder, overwrite=True)
    assert sorted(folder.path.glob("fold-*/seed-*/ranker.json")) == [folder.path / "fold-1" / "seed-3" / "ranker.json"]
    assert [ranker.about["fold"] for ranker in load_rankers(folder.path)] == ["1"]


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"date": ["soon"], "ticker": ["A"], "score_1": [0.5]}, "a date that is none"),
        ({"date": ["2010-01-04"], "ticker": ["A"], "score_1": ["good"]}, "or text among the scores"),
    ],
)
def test_predictions_that_are_none_get_a_sentence(columns, words):
    with pytest.raises(DataError, match=words):
        Predictions.of_rows(pl.DataFrame(columns))


def test_predictions_may_lack_quantiles():
    rows = pl.DataFrame({"date": ["2010-01-04", "2010-01-05"], "ticker": ["A", "B"], "score_1": [0.5, 0.25]})
    found = Predictions.of_rows(rows)
    assert (found.quantiles.shape, found.levels) == ((2, 1, 0), ())
    panel = planted_panel(SIZES, 5).panel
    named = dataclasses.replace(panel, tickers=("A", "B", *panel.tickers[2:]))
    scores, quantiles = found.dense(named)
    assert (scores[0, 0, 0], scores[1, 1, 0], quantiles.shape[-1]) == (0.5, 0.25, 0)


def test_trials_and_training_see_no_label_of_a_test_day(settings):
    market = open_market(settings)
    fold = market.folds[0]
    inputs = fold_arrays(market, fold, settings)
    known = np.zeros(market.panel.num_sessions, bool)
    known[fold.train] = known[fold.validation] = True
    inside = np.arange(len(inputs.arrays.rows)) + inputs.arrays.first
    assert np.isnan(inputs.arrays.returns[~known[inside]]).all()
    assert np.isnan(inputs.arrays.targets[~known[inside]]).all()
    trial = open_market(settings, without_tests=True)
    assert trial.panel.num_sessions <= fold.test[0]
    assert len(trial.folds) == 1
    assert not len(trial.folds[0].test)


def test_a_network_without_graph_and_stock_attention_says_the_same_of_fewer_stocks(settings):
    from deepfm.equities.experiment.ranker import untrained_ranker

    alone = dataclasses.replace(
        settings, model=dataclasses.replace(settings.model, stock_attention=False, graph_attention=False)
    )
    market = open_market(alone)
    inputs = fold_arrays(market, market.folds[0], alone)
    model = untrained_ranker(market, inputs, alone, "1", 0).model.eval()
    rows = inputs.arrays.rows.copy()
    rows[:, ::2] = False
    fewer: DayArrays = dataclasses.replace(inputs.arrays, rows=rows)
    session = int(inputs.train[-1])
    whole, part = inputs.arrays.batch([session]), fewer.batch([session])
    place = {stock: row for row, stock in enumerate(whole.stock.tolist())}
    with torch.no_grad():
        said = model(whole).scores[[place[stock] for stock in part.stock.tolist()]]
        assert torch.allclose(said, model(part).scores, atol=1e-6)


def test_predictions_survive_their_file(tmp_path):
    draw = np.random.default_rng(0)
    dates = np.array(["2015-01-02", "2015-01-02", "2015-01-05"], "datetime64[D]")
    one = Predictions(
        dates, np.array(["A", "B", "A"]), draw.random((3, 2), np.float32), draw.random((3, 2, 3), np.float32), (1, 5),
        (0.025, 0.5, 0.975),
    )  # fmt: skip
    write_predictions(tmp_path / "p.parquet", [one], {"data": "x"})
    other = read_predictions(tmp_path / "p.parquet")
    assert np.array_equal(one.scores, other.scores)
    assert np.array_equal(one.quantiles, other.quantiles)
    assert (other.horizons, other.levels, other.tickers.tolist()) == ((1, 5), (0.025, 0.5, 0.975), ["A", "B", "A"])
    with pytest.raises(DataError, match="no stock of the sessions"):
        write_predictions(tmp_path / "none.parquet", [])
    assert not (tmp_path / "none.parquet").exists()


@pytest.mark.parametrize(
    ("first", "last", "words"), [("2030-01-01", None, "no session from 2030"), ("soon", None, "'soon' is no date")]
)
def test_dates_that_are_none_are_refused(panel_file, first, last, words):
    with pytest.raises(DataError, match=words):
        sessions_between(read_panel(panel_file), first, last, 6)


class TestCommands:
    def test_predict_backtest_and_leak_check(self, trained, panel_file, tmp_path, capsys):
        folder, output = trained[0].path, tmp_path / "scores.parquet"
        common = ["equities", "predict", str(folder), "--panel", str(panel_file), "--device", "cpu", "-o", str(output)]
        assert main([*common, "--from", "2010-09-01", "--to", "2010-09-10"]) == 0
        assert "fold 2, seeds 3, 4" in capsys.readouterr().out
        found = read_predictions(output)
        assert str(found.dates.min()) >= "2010-09-01"
        assert main(["equities", "backtest", str(folder)]) == 0
        assert "10 bp" in capsys.readouterr().out
        horizons = ["--override", "data.prediction_horizons=[1]"]
        assert main(["equities", "backtest", str(folder), *horizons]) == 2
        assert "of other settings than are asked for: data.prediction_horizons = [1]" in capsys.readouterr().err
        assert main(["equities", "backtest", str(folder), "--predictions", str(output), *horizons]) == 2
        assert "holds scores for the horizons [1, 3], and" in capsys.readouterr().err
        assert main(["equities", "leak-check", "--override", *SMALL, f"data.path={panel_file}"]) == 0
        assert "no leak" in capsys.readouterr().out

    def test_panel_synth_build_and_check(self, tmp_path, capsys):
        made, built = str(tmp_path / "made.parquet"), str(tmp_path / "built.parquet")
        sizes = ["--override", "num_sessions=80", "num_stocks=10"]
        assert main(["equities", "panel", "synth", "-o", made, *sizes]) == 0
        assert main(["equities", "panel", "build", made, "-o", built]) == 0
        assert main(["equities", "panel", "check", built, "--json", str(tmp_path / "found.json")]) == 0
        assert json.loads((tmp_path / "found.json").read_text())["sessions"] == 80
        assert read_panel(built).num_stocks == 10

    @pytest.mark.parametrize(
        ("argv", "words"),
        [
            (["train"], "data.path is not set"),
            (["train", "--override", "data.path=absent.parquet"], "absent.parquet does not exist"),
            (["train", "--resume", "nowhere"], "nowhere does not exist"),
            (["panel", "check", "absent.csv"], "absent.csv does not exist"),
            (["predict", "nowhere", "-o", "x.parquet"], "nowhere"),
        ],
    )
    def test_bad_input_is_one_sentence(self, argv, words, capsys, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        assert main(["equities", *argv]) == 2
        said = capsys.readouterr().err
        assert words in said
        assert said.count("\n") == 1


def test_the_smoke_experiment_fits_its_panel(tmp_path):
    folder, settings = prepare_smoke(tmp_path / "here", seed=1)
    assert folder.path == tmp_path / "here"
    assert [path.name for path in tmp_path.iterdir()] == ["here-panel.parquet"]
    market = open_market(settings)
    assert [fold.name for fold in market.folds] == ["1", "2"]
    assert settings.seeds == (1,)
