"""Canaries: each kind of leak is found by name, and measured."""

import dataclasses

import numpy as np
import pytest

from deepfm.equities.days.graph import GraphSettings, TrailingGraphs
from deepfm.equities.features import DEFAULT_FEATURES, Feature, FeatureTable, compute_features
from deepfm.equities.labels import forward_returns
from deepfm.equities.leakage.check import leak_check
from deepfm.equities.leakage.probes import boosted_trees, daily_rank_ic, nearest_neighbours
from deepfm.equities.panels.settings import PanelOptions
from deepfm.equities.walk_forward import Fold, WalkForwardSplit
from deepfm.errors import DataError
from tests.equities.made_panels import made_panel

SLOW = ("ldv20", "vol60", "hi250", "beta60", "ma60")


@pytest.fixture(scope="module")
def panel():
    return made_panel(600, 60, seed=3, missing=0.0)


def level(history):
    """Close over the highest close of the whole sample."""
    return -history.close / np.nanmax(history.close, axis=0)


def test_a_clean_panel_is_clean(panel):
    folds = WalkForwardSplit(n_splits=2, test_sessions=60, validation_sessions=40).folds(panel.sessions)
    report = leak_check(panel, folds=folds)
    assert report.clean, report.findings
    assert report.features == DEFAULT_FEATURES.names
    assert report.folds == ("1", "2")
    assert "no leaks" in report.to_table().caption


def test_a_maximum_of_the_whole_sample_is_flagged_and_measured(panel):
    registry = DEFAULT_FEATURES.with_feature(Feature("level", "value", 0, level))
    report = leak_check(panel, registry, names=["ret5", "level", "vol20"])
    (found,) = report.findings
    assert (found.check, found.name, found.horizon) == ("future truncation", "level", 20)
    assert found.inflation > 0.1
    assert abs(found.without) < 0.1
    assert report.to_dict()["findings"][0]["name"] == "level"
    assert "level" in str(found)


def test_a_feature_that_reads_more_of_the_past_than_it_says_is_flagged(panel):
    registry = DEFAULT_FEATURES.with_feature(Feature("long", "momentum", 5, lambda history: history.past_return(60)))
    (found,) = leak_check(panel, registry, names=["ret5", "long"]).findings
    assert (found.check, found.name) == ("look-back", "long")
    assert "more of the past than its look-back of 5 sessions" in found.detail


def test_sectors_that_are_known_of_later_winners_are_flagged_before_the_test(panel):
    close = panel.close
    half = close.shape[1] // 2
    folds = WalkForwardSplit(n_splits=1, test_sessions=200, validation_sessions=40).folds(panel.sessions)
    winners = np.argsort(close[folds[0].test.min() - 1] / close[0])[half:]
    for chosen, flagged in ((winners, True), (np.random.default_rng(0).permutation(close.shape[1])[half:], False)):
        known = np.isin(np.arange(close.shape[1]), chosen)
        partly = dataclasses.replace(panel, sectors=np.where(known, panel.sectors, -1).astype(np.int16))
        report = leak_check(partly, names=["ret5"], folds=folds)
        assert [found.check for found in report.findings] == (["sectors"] if flagged else [])
    assert report.findings == leak_check(panel, names=["ret5"], folds=folds).findings == ()


def test_a_cleaning_that_looks_ahead_is_flagged(panel):
    (found,) = leak_check(panel, names=["ret5"], options=PanelOptions(bad_prints="two_sided")).findings
    assert (found.check, found.name) == ("cleaning", "data.panel.bad_prints")
    assert leak_check(panel, names=["ret5"], options=PanelOptions()).clean


def test_a_graph_that_knows_the_future_is_flagged(panel, monkeypatch):
    assert leak_check(panel, names=["ret5"], graph=GraphSettings(min_correlation=0.1)).clean
    at = TrailingGraphs.at
    monkeypatch.setattr(TrailingGraphs, "at", lambda graphs, _: at(graphs, graphs.panel.num_sessions - 1))
    (found,) = leak_check(panel, names=["ret5"], graph=GraphSettings(min_correlation=0.1)).findings
    assert (found.check, found.name) == ("future truncation", "graph")


def test_a_label_among_the_features_is_flagged(panel):
    labels = forward_returns(panel)
    honest = compute_features(panel, ["ret5"])
    values = np.concatenate([honest.values, labels.returns[..., 1:2]], axis=2)
    table = FeatureTable(values, ("ret5", "alpha"), ("momentum", "value"), (10, 0))
    found = leak_check(panel, labels=labels, table=table).findings
    assert {each.name for each in found} == {"alpha"}
    assert any(each.horizon == 5 and "+1.000" in each.detail for each in found)


def test_a_removed_embargo_is_flagged_and_measured(panel):
    fold = Fold("no gap", np.arange(300, 500), np.arange(0), np.arange(500, 560))
    (found,) = leak_check(panel, names=SLOW, folds=[fold]).findings
    assert (found.check, found.name) == ("split", "no gap")
    assert "the labels of 21 sessions of training look into test" in found.detail
    assert found.inflation > 0.05


def test_days_at_random_are_flagged_and_measured(panel):
    days = np.random.default_rng(0).permutation(np.arange(260, 580))
    fold = Fold("random", np.sort(days[64:]), np.arange(0), np.sort(days[:64]))
    (found,) = leak_check(panel, names=SLOW, folds=[fold]).findings
    assert "stand at or after the first session of test" in found.detail
    assert found.inflation > 0.1
    trees = leak_check(panel, names=SLOW, folds=[fold], probe=boosted_trees).findings[0]
    assert trees.inflation > 0.1


def test_panels_too_short_or_others_are_refused(panel):
    with pytest.raises(DataError, match="to look for leaks"):
        leak_check(panel.until(3))
    with pytest.raises(DataError, match="belong to the panel"):
        leak_check(panel.until(50), labels=forward_returns(panel))


def test_the_probes_score_by_hand():
    returns = np.array([[1.0, 2, 3, 4], [1, 2, 3, 4], [1, 2, np.nan, np.nan]])
    scores = np.array([[2.0, 4, 6, 9], [9, 6, 4, 2], [1, 2, 3, 4]])
    np.testing.assert_allclose(daily_rank_ic(scores, returns, np.ones((3, 4), bool)), [1, -1, np.nan])
    grid = np.arange(40, dtype=np.float32)[:, None]
    np.testing.assert_allclose(nearest_neighbours(grid, grid[:, 0], np.float32([[0], [39]])), [9.5, 29.5])
