"""Baselines against plain least squares and planted signals, and that each fold is scored by its past alone."""

import sys

import numpy as np
import pytest

from deepfm.equities.baselines import (
    BASELINES,
    RandomScores,
    RankedFeatures,
    Ridge,
    Rule,
    Trees,
    TreeSettings,
    rank_features,
    walk_forward,
    walk_forward_scores,
)
from deepfm.equities.evaluation.metrics import rank_ic
from deepfm.equities.features.within_day import rank_within_day
from deepfm.equities.walk_forward import Fold
from deepfm.errors import ConfigError, DataError, ExtraError, NotFittedError, RunError

NAMES = ("ret5", "ret20", "mom250_20", "noise")


class Table:
    def __init__(self, values):
        self.values, self.names = values, NAMES


@pytest.fixture(scope="module")
def planted():
    """120 sessions, 40 stocks of which the last two stay outside; what follows is 2 × ret5 - ret20 and noise."""
    rng = np.random.default_rng(0)
    values = rng.normal(size=(120, 40, 4)).astype(np.float32)
    values[rng.random(values.shape) < 0.03] = np.nan
    where = np.ones((120, 40), dtype=bool)
    where[:, -2:] = False
    known = np.nan_to_num(values)
    signal = 2 * known[..., 0] - known[..., 1]
    returns = np.stack([signal + rng.normal(size=signal.shape), -signal], axis=2).astype(np.float32)
    returns[100:110, :, 1] = np.nan
    return rank_features(Table(values), where), rank_within_day(returns, where), returns, where


def folds():
    return [
        Fold("a", np.arange(0, 60), np.empty(0, np.int64), np.arange(65, 90)),
        Fold("b", np.arange(0, 60), np.arange(65, 85), np.arange(90, 120)),
    ]


def test_features_are_ranked_among_the_universe_alone(planted):
    features, _, _, _ = planted
    assert np.isnan(features.values[:, -2:]).all()
    assert np.nanmax(features.values) == pytest.approx(0.5)
    assert features.at(np.array([3, 5])).values.shape == (2, 40, 4)


def test_ridge_is_least_squares_with_a_row_of_penalty_for_each_weight(planted):
    features, targets, _, _ = planted
    sessions = np.arange(0, 115)
    ours = Ridge(alpha=7.0).fit(features, targets, sessions)
    scores = ours.score(features)
    for at in range(2):
        rows = features.values[sessions]
        kept = np.isfinite(rows).any(axis=2) & np.isfinite(targets[sessions, :, at])
        inputs = np.concatenate([np.nan_to_num(rows[kept].astype(float)), np.sqrt(7.0) * np.eye(4)])
        goals = np.concatenate([targets[sessions, :, at][kept].astype(float), np.zeros(4)])
        weights = np.linalg.lstsq(inputs, goals, rcond=None)[0]
        assert ours.weights[:, at] == pytest.approx(weights, abs=1e-9)
        expected = np.nan_to_num(features.values[117, :38].astype(float)) @ weights
        assert scores[117, :38, at] == pytest.approx(expected, abs=1e-6)
    assert np.isnan(scores[:, -2:]).all()


def test_a_strong_penalty_leaves_no_weight(planted):
    features, targets, _, _ = planted
    weak, strong = (Ridge(alpha).fit(features, targets, np.arange(60)).weights for alpha in (1e-6, 1e9))
    assert np.abs(strong).max() < 1e-3 * np.abs(weak).max()


@pytest.mark.parametrize("name", list(BASELINES))
def test_every_baseline_scores_every_test_and_the_learners_find_what_is_planted(planted, name):
    features, targets, returns, where = planted
    scores = walk_forward_scores([name], features, targets, folds())[name]
    assert scores.shape == (120, 40, 2)
    assert scores.dtype == np.float32
    tested = np.r_[65:120]
    assert np.isnan(np.delete(scores, tested, axis=0)).all()
    assert np.isfinite(scores[tested, :38]).mean() > 0.9
    found = np.nanmean(rank_ic(scores[:, :, 0], returns[:, :, 0], where))
    low, high = {"ridge": (0.75, 1), "LightGBM": (0.6, 1), "reversal 5": (-0.9, -0.5), "random": (-0.1, 0.1)}.get(
        name, (-1, 1)
    )
    assert low < found < high


def test_rules_are_their_feature(planted):
    features, targets, _, _ = planted
    up, down = (Rule("ret5", sign).fit(features, targets, np.arange(9)).score(features) for sign in (1, -1))
    assert np.array_equal(up[:, :, 1], features.values[:, :, 0], equal_nan=True)
    assert np.array_equal(up, -down, equal_nan=True)


def test_no_fold_sees_its_test_or_its_gap(planted):
    """Whatever stands from a test's gap on, its scores hang on its own features alone."""
    features, targets, _, _ = planted
    changed = targets.copy()
    changed[60:] = 0.5 - changed[60:]
    first = folds()[:1]
    for name in ("ridge", "LightGBM"):
        before = walk_forward_scores([name], features, targets, first)[name]
        after = walk_forward_scores([name], features, changed, first)[name]
        assert np.array_equal(before, after, equal_nan=True)
    assert not np.array_equal(
        walk_forward_scores(["ridge"], features, changed, folds())["ridge"][90:],
        walk_forward_scores(["ridge"], features, targets, folds())["ridge"][90:],
        equal_nan=True,
    )  # but the second fold learns from what came after the first


def test_a_baseline_learns_up_to_the_gap_before_the_test():
    known = [walk_forward.known_sessions(fold) for fold in folds()]
    assert [(part[0], part[-1], len(part)) for part in known] == [(0, 59, 60), (0, 84, 85)]


def test_kept_scores_are_read_again_unless_something_changed(planted, tmp_path, monkeypatch):
    features, targets, _, _ = planted
    fitted = []
    monkeypatch.setattr(Ridge, "fit", lambda self, *args, _fit=Ridge.fit: fitted.append(1) or _fit(self, *args))
    first = walk_forward_scores(["ridge"], features, targets, folds(), tmp_path)["ridge"]
    again = walk_forward_scores(["ridge"], features, targets, folds(), tmp_path)["ridge"]
    assert len(fitted) == 2
    assert np.array_equal(first, again, equal_nan=True)
    assert [path.name for path in tmp_path.iterdir()] == ["ridge.npz"]
    walk_forward_scores(["ridge"], features, -targets, folds(), tmp_path)
    walk_forward_scores(["ridge"], features, -targets, folds()[:1], tmp_path)
    assert len(fitted) == 5
    (tmp_path / "ridge.npz").write_bytes(b"no scores")
    with pytest.raises(RunError, match="damaged"):
        walk_forward_scores(["ridge"], features, targets, folds(), tmp_path)


def test_the_same_seed_draws_the_same(planted):
    features, targets, _, _ = planted
    one, same, other = (
        walk_forward_scores(["random"], features, targets, folds(), seed=s)["random"] for s in (1, 1, 2)
    )
    assert np.array_equal(one, same, equal_nan=True)
    assert not np.array_equal(one, other, equal_nan=True)
    assert not np.array_equal(one[65:90], one[90:115], equal_nan=True)


def test_without_lightgbm_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "lightgbm", None)
    with pytest.raises(ExtraError, match=r"pip install 'deepfm\[equities\]'"):
        Trees()


def test_what_cannot_be_is_refused(planted):
    features, targets, _, _ = planted
    with pytest.raises(NotFittedError, match="not fitted"):
        Ridge().score(features)
    with pytest.raises(DataError, match="no feature is called 'ret9'"):
        Rule("ret9").fit(features, targets, np.arange(5))
    with pytest.raises(DataError, match="no session"):
        Ridge().fit(features, targets, np.arange(0))
    with pytest.raises(DataError, match="found no stock"):
        Ridge().fit(features, np.full_like(targets, np.nan), np.arange(5))
    with pytest.raises(DataError, match="horizons"):
        RandomScores(np.random.default_rng(0)).fit(features, targets[:5], np.arange(5))
    with pytest.raises(DataError, match="a name each"):
        RankedFeatures(features.values, ("one",))
    with pytest.raises(ConfigError, match="alpha"):
        Ridge(0)
    with pytest.raises(ConfigError, match=r"trees\.num_leaves"):
        TreeSettings(num_leaves=1)
    with pytest.raises(ConfigError, match="no baseline is called 'oracle'"):
        walk_forward_scores(["oracle"], features, targets, folds())
    with pytest.raises(DataError, match="no fold"):
        walk_forward_scores(["ridge"], features, targets, [])
    with pytest.raises(DataError, match="overlap"):
        walk_forward_scores(["ridge"], features, targets, folds()[:1] * 2)
