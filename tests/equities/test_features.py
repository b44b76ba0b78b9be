"""Features by hand, by oracles, and blind to the future."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from deepfm.equities.features import DEFAULT_FEATURES, Feature, FeatureRegistry, FeatureTable, compute_features, feature
from deepfm.equities.features.windows import (
    carry_forward,
    rolling_max,
    rolling_mean,
    rolling_min,
    rolling_skew,
    rolling_std,
)
from deepfm.equities.panels.panel import PRICES
from deepfm.errors import ConfigError, DataError
from tests.equities.made_panels import made_panel

CUT = 300
PLAIN = ("open", "high", "low", "close", "volume")


@pytest.fixture(scope="module")
def panel():
    return made_panel()


@pytest.fixture(scope="module")
def table(panel):
    return compute_features(panel)


@pytest.mark.parametrize("sessions", [1, 2, 3, 5, 7, 20, 60, 200])
def test_windows_are_numpys(sessions):
    values = np.random.default_rng(0).normal(size=(130, 4))
    for rolled, oracle in (
        (rolling_mean, np.mean),
        (rolling_max, np.max),
        (rolling_min, np.min),
        (rolling_std, lambda window: np.std(window, ddof=1) if len(window) > 1 else 0.0),
        (rolling_skew, stats.skew),
    ):
        if rolled is rolling_skew and sessions == 1:
            continue
        found = rolled(values, sessions)
        for end in (sessions - 1, 77, 129):
            if sessions - 1 <= end < len(values):
                for stock in range(4):
                    window = values[end - sessions + 1 : end + 1, stock]
                    np.testing.assert_allclose(found[end, stock], oracle(window), rtol=1e-9, atol=1e-12)
        assert np.isnan(found[: max(0, int(np.ceil(0.75 * sessions)) - 1)]).all()


def test_a_window_needs_three_quarters_of_its_sessions():
    values = np.array([[1.0], [np.nan], [3.0], [5.0], [np.nan], [np.nan]])
    np.testing.assert_allclose(rolling_mean(values, 4)[:, 0], [np.nan, np.nan, np.nan, 3, np.nan, np.nan])


def test_closes_are_carried_at_most_five_sessions():
    carried = carry_forward(np.array([[2.0]] + [[np.nan]] * 7 + [[3.0]]))
    np.testing.assert_array_equal(carried[:, 0], [2, 2, 2, 2, 2, 2, np.nan, np.nan, 3])


def test_features_by_their_definitions(panel, table):
    """Every feature of one stock on one session, written out from the notes in plain numpy."""
    t, n = 311, 5
    assert not any(np.isnan(getattr(panel, name)[t, n]) for name in PLAIN)
    close = carry_forward(panel.close.astype(np.float64))
    returns = np.clip(close[1:] / close[:-1] - 1, -0.5, 0.5)
    returns = np.vstack([np.full((1, close.shape[1]), np.nan), returns])
    market = np.array(
        [np.nanmean(np.where(panel.eligible[s], returns[s], np.nan)) if s else np.nan for s in range(320)]
    )
    dollars = panel.close[:, n].astype(np.float64) * panel.volume[:, n]
    logs = np.log1p(dollars)
    c, r = close[: t + 1, n], returns[: t + 1, n]
    o, h, low = (float(getattr(panel, name)[t, n]) for name in ("open", "high", "low"))
    last = lambda values, count: values[: t + 1][-count:]  # noqa: E731
    slope, cut = np.polyfit(last(market, 60), last(r, 60), 1)
    left = last(r, 60) - cut - slope * last(market, 60)
    expected = {f"ret{k}": c[-1] / c[-1 - k] - 1 for k in (1, 2, 3, 5, 10, 20, 60, 120)}
    expected |= {f"vol{k}": last(r, k).std(ddof=1) for k in (5, 20, 60)}
    expected |= {f"ma{k}": c[-1] / last(c, k).mean() - 1 for k in (5, 10, 20, 60)}
    expected |= {
        "mom250_20": c[-21] / c[-251] - 1,
        "gap": o / c[-2] - 1,
        "intra": c[-1] / o - 1,
        "range": (h - low) / c[-1],
        "clv": (c[-1] - low) / (h - low) - 0.5,
        "dvol20": np.sqrt((np.minimum(last(r, 20), 0) ** 2).mean()),
        "max20": last(r, 20).max(),
        "min20": last(r, 20).min(),
        "skew20": stats.skew(last(r, 20)),
        "ldv20": np.nanmean(last(logs, 20)),
        "vshock": logs[t] - np.nanmean(last(logs, 20)),
        "v5_60": np.nanmean(last(logs, 5)) - np.nanmean(last(logs, 60)),
        "amihud": np.log(np.nanmean(np.abs(last(r, 20)) / (last(dollars, 20) + 1e4))),
        "turnvol": np.nanstd(last(logs, 20), ddof=1),
        "hi250": c[-1] / last(c, 250).max() - 1,
        "rsi14": 100 * np.maximum(last(r, 14), 0).sum() / np.abs(last(r, 14)).sum(),
        "beta60": slope,
        "ivol60": np.sqrt((left**2).sum() / 58),
        "res5": c[-1] / c[-6] - 1 - slope * last(market, 5).sum(),
    }
    peers = panel.eligible[t] & (panel.sectors == panel.sectors[n])
    for k in (5, 20):
        past = close[t] / close[t - k] - 1
        expected[f"irel{k}"] = past[n] - np.nanmedian(past[peers])
    assert set(expected) == set(table.names)
    for name, value in expected.items():
        np.testing.assert_allclose(table.column(name)[t, n], value, rtol=2e-5, atol=1e-7, err_msg=name)


def test_the_future_changes_no_bit(panel, table):
    for cut in (5, 100, CUT):
        known = compute_features(panel.until(cut))
        assert np.array_equal(known.values, table.values[: cut + 1], equal_nan=True)
    lied = {name: getattr(panel, name).copy() for name in PLAIN}
    for values in lied.values():
        values[CUT + 1 :] *= 7
    other = compute_features(replace(panel, **lied, eligible=panel.eligible & (np.arange(320) <= CUT)[:, None]))
    assert np.array_equal(other.values[: CUT + 1], table.values[: CUT + 1], equal_nan=True)


def test_a_few_stocks_at_a_time_give_the_same_bits(panel, table, monkeypatch):
    monkeypatch.setattr("deepfm.equities.features.table.CHUNK", 5)
    assert np.array_equal(compute_features(panel).values, table.values, equal_nan=True)


def test_nothing_before_the_lookback_changes_a_bit(panel, table):
    """So that a new day can be predicted from its last sessions alone."""
    for place, name in enumerate(table.names):
        start = CUT - table.lookbacks[place]
        timed = {each: getattr(panel, each)[start : CUT + 1] for each in ("sessions", *PRICES, "volume", "eligible")}
        recent = compute_features(replace(panel, **timed), [name])
        assert np.array_equal(recent.values[-1, :, 0], table.values[CUT, :, place], equal_nan=True), name


def test_the_order_of_stocks_does_not_matter(panel, table):
    order = np.random.default_rng(0).permutation(panel.num_stocks)
    moved = compute_features(panel.of_stocks(order))
    np.testing.assert_allclose(moved.values, table.values[:, order], rtol=1e-5, atol=1e-7)


def test_a_stock_listed_midway_starts_without_history(panel, table):
    first = int(np.argmax(panel.listed[:, 1]))
    assert first > 100
    assert np.isnan(table.values[:first, 1]).all()
    assert np.isnan(table.column("ret5")[first : first + 5, 1]).all()
    assert np.isfinite(table.column("ret5")[first + 5 : first + 9, 1]).any()


def test_a_day_without_any_print_is_survived():
    panel = made_panel(80, 5, missing=0.0)
    empty = {name: getattr(panel, name).copy() for name in PLAIN}
    for values in empty.values():
        values[50] = np.nan
    table = compute_features(replace(panel, **empty, eligible=panel.eligible & (np.arange(80) != 50)[:, None]))
    assert np.isnan(table.column("intra")[50]).all()
    assert table.column("ret1")[50, 0] == 0  # carried
    assert np.isfinite(table.column("beta60")[79, 0])


def test_without_sectors_the_34_and_no_relative_ones(panel):
    bare = replace(panel, sectors=np.full(panel.num_stocks, -1, dtype=np.int16), sector_names=())
    table = compute_features(bare.until(30))
    assert len(table.names) == 34
    assert "sector" not in table.groups
    with pytest.raises(ConfigError, match="'irel5' needs sectors"):
        compute_features(bare.until(30), ["irel5"])


def test_a_sector_of_fewer_than_three_has_no_median(panel):
    few = panel.of_stocks(np.arange(5)).until(60)  # sectors -1 0 1 -1 0
    assert np.isnan(compute_features(few, ["irel5"]).values).all()


class TestRegistry:
    def test_groups_names_and_lookbacks(self, table):
        assert len(DEFAULT_FEATURES) == len(table.names) == 36
        assert set(table.groups) == {"value", "momentum", "volume", "risk", "sector"}
        assert table.lookback == DEFAULT_FEATURES.lookback == 255
        assert table.group_ids[table.names.index("beta60")] == 3

    def test_a_users_own_operation(self, panel):
        @feature("turnover", "volume", 0)
        def turnover(history):
            """Close times volume."""
            return history.dollar_volume

        registry = DEFAULT_FEATURES.with_feature(turnover)
        table = compute_features(panel.until(20), ["turnover", "ret1"], registry)
        np.testing.assert_allclose(table.column("turnover"), (panel.close * panel.volume)[:21], rtol=1e-6)
        assert registry.to_table().rows[-1] == ("turnover", "volume", 0, "Close times volume")
        assert DEFAULT_FEATURES.to_table().rows[3][3] == "Close over the close of 5 sessions before, minus 1"

    def test_what_is_refused(self, panel):
        with pytest.raises(ConfigError, match="registered twice"):
            DEFAULT_FEATURES.with_feature(Feature("ret1", "momentum", 1, lambda history: history.close))
        with pytest.raises(ConfigError, match="group 'price'"):
            Feature("x", "price", 1, lambda history: history.close)
        with pytest.raises(ConfigError, match="'ret4' is not registered"):
            compute_features(panel, ["ret4"])
        flat = FeatureRegistry((Feature("flat", "risk", 0, lambda history: history.market),))
        with pytest.raises(ConfigError, match="answers the shape"):
            compute_features(panel, registry=flat)
        with pytest.raises(DataError, match="one of each a feature"):
            FeatureTable(np.zeros((2, 3, 2), np.float32), ("a",), ("risk",), (0,))
