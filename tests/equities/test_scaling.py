"""Features scaled by their own day alone, and labels kept out."""

import numpy as np
import pytest
from scipy import stats

from deepfm.equities.features import FeatureTable
from deepfm.equities.features.scaling import METHODS, CrossSectionalScaler
from deepfm.equities.labels import forward_returns
from deepfm.errors import ConfigError, DataError, NotFittedError
from tests.equities.made_panels import made_panel

NAMES = ("first", "second", "third")


def table(sessions=12, stocks=50, seed=0, names=NAMES):
    rng = np.random.default_rng(seed)
    values = (rng.lognormal(size=(sessions, stocks, len(names))) * [1, 100, 0.01]).astype(np.float32)
    values[rng.random(values.shape) < 0.05] = np.nan
    return FeatureTable(values, names, ("risk",) * len(names), (0,) * len(names))


def universe(features, seed=1):
    return np.random.default_rng(seed).random(features.values.shape[:2]) < 0.8


@pytest.mark.parametrize("method", ["gauss", "zscore"])
def test_unseen_days_have_mean_0_and_deviation_1(method):
    scaler = CrossSectionalScaler(method).fit(table())
    unseen = table(seed=7)
    where = universe(unseen)
    scaled = scaler.transform(unseen, where)
    assert np.isfinite(scaled).all()
    inside = where[..., None] & np.isfinite(unseen.values)
    for day in range(12):
        for column in range(3):
            values = scaled[day, inside[day, :, column], column]
            np.testing.assert_allclose([values.mean(), values.std()], [0, 1], atol=2e-6)


def test_ranks_and_normal_quantiles_are_scipys():
    features = table(1)
    where = universe(features)
    inside = where[0] & np.isfinite(features.values[0, :, 1])
    ranks = stats.rankdata(features.values[0, inside, 1])
    plain = CrossSectionalScaler("rank").fit_transform(features, where)[0, inside, 1]
    np.testing.assert_allclose(plain, ranks / len(ranks) - 0.5, atol=1e-6)
    normal = stats.norm.ppf((ranks - 0.5) / len(ranks))
    gauss = CrossSectionalScaler("gauss").fit_transform(features, where)[0, inside, 1]
    np.testing.assert_allclose(gauss, normal / normal.std(), atol=1e-5)


def test_winsorised_values_are_numpys():
    features = table(3)
    where = universe(features)
    scaled = CrossSectionalScaler("zscore", winsorise=0.1).fit_transform(features, where)
    inside = where[2] & np.isfinite(features.values[2, :, 0])
    values = features.values[2, inside, 0].astype(np.float64)
    values = np.clip(values, *np.quantile(values, [0.1, 0.9]))
    np.testing.assert_allclose(scaled[2, inside, 0], (values - values.mean()) / values.std(), atol=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_a_day_depends_on_no_other(method):
    features = table()
    where = universe(features)
    scaler = CrossSectionalScaler(method).fit(features)
    whole = scaler.transform(features, where)
    for day in (0, 7):
        alone = FeatureTable(features.values[day : day + 1], NAMES, features.groups, features.lookbacks)
        assert np.array_equal(scaler.transform(alone, where[day : day + 1])[0], whole[day])


@pytest.mark.parametrize("method", METHODS)
def test_stocks_outside_the_universe_move_nobody(method):
    features = table()
    where = universe(features)
    scaler = CrossSectionalScaler(method).fit(features)
    wild = features.values.copy()
    wild[~where] = 1e9
    other = FeatureTable(wild, NAMES, features.groups, features.lookbacks)
    scaled = scaler.transform(features, where)
    assert np.array_equal(scaler.transform(other, where)[where], scaled[where])
    assert np.abs(scaler.transform(other, where)).max() < 1e4  # pulled in to the day's own largest


def test_missing_columns_and_flat_days():
    values = table(4).values.copy()
    values[1, :, 0], values[2, :, 1] = np.nan, 5.0
    features = FeatureTable(values, NAMES, ("risk",) * 3, (0,) * 3)
    where = np.ones((4, 50), dtype=bool)
    for method in ("rank", "gauss", "zscore"):
        scaled = CrossSectionalScaler(method).fit_transform(features, where)
        assert (scaled[1, :, 0] == 0).all()
        assert len(np.unique(scaled[2, :, 1])) == 1
        assert np.isfinite(scaled).all()
    plain = CrossSectionalScaler("none").fit(features, np.array([0, 3])).transform(features, where)
    np.testing.assert_allclose(plain[1, :, 0], np.nanmedian(values[[0, 3], :, 0]))


def test_it_survives_its_file(tmp_path):
    features = table()
    where = universe(features)
    scaler = CrossSectionalScaler("none", winsorise=0.05).fit(features)
    scaler.save(tmp_path / "scaler.json")
    again = CrossSectionalScaler.load(tmp_path / "scaler.json")
    assert np.array_equal(again.transform(features, where), scaler.transform(features, where))
    with pytest.raises(DataError, match="no state of a scaler"):
        CrossSectionalScaler.from_state({"method": "rank"})


def test_what_is_refused():
    features = table()
    where = universe(features)
    scaler = CrossSectionalScaler().fit(features)
    labels = forward_returns(made_panel(30))
    for call in (scaler.fit, lambda given: scaler.transform(given, where)):
        with pytest.raises(DataError, match="got a Labels"):
            call(labels)
        with pytest.raises(DataError, match="got a ndarray"):
            call(labels.returns)
    with pytest.raises(DataError, match="differ in fourth"):
        scaler.transform(table(names=("first", "second", "fourth")), where)
    with pytest.raises(DataError, match="another order"):
        scaler.transform(table(names=("second", "first", "third")), where)
    with pytest.raises(DataError, match="where has the shape"):
        scaler.transform(features, where[:3])
    with pytest.raises(NotFittedError):
        CrossSectionalScaler().transform(features, where)
    with pytest.raises(ConfigError, match="method"):
        CrossSectionalScaler("minmax")
    with pytest.raises(ConfigError, match="winsorise"):
        CrossSectionalScaler(winsorise=0.5)
