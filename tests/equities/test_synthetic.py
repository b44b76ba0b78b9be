"""Generated panels hold what they say: prices that can be, and signals that the oracle sees."""

import dataclasses

import numpy as np
import pytest
from scipy.stats import spearmanr

from deepfm.equities.panels.synthetic import SIGNALS, PlantedSettings, planted_panel

NONE = dict.fromkeys(SIGNALS, 0.0)
SMALL = PlantedSettings(num_sessions=260, num_stocks=60, **NONE)


def rank_ic(planted, scores, horizon=1, delay=1):
    """The mean daily rank correlation of `(T, N)` scores with forward returns."""
    close = planted.panel.close
    first, last = close[delay:-horizon], close[delay + horizon :]
    found = []
    for day in range(30, len(last)):
        known = np.isfinite(last[day] / first[day]) & planted.panel.eligible[day]
        found.append(spearmanr(scores[day, known], (last[day] / first[day])[known]).statistic)
    return np.mean(found)


@pytest.mark.parametrize("signal", SIGNALS)
def test_the_oracle_sees_each_signal_and_nothing_where_there_is_none(signal):
    planted = planted_panel(dataclasses.replace(SMALL, **{signal: 0.4}), 1)
    attained = rank_ic(planted, planted.oracle[:, :, 0])
    assert attained > 0.15
    nothing = planted_panel(SMALL, 1)
    assert abs(rank_ic(nothing, nothing.signals[signal])) < 0.03
    assert not nothing.oracle.any()


def test_a_stocks_own_columns_do_not_show_what_others_or_products_decide():
    planted = planted_panel(dataclasses.replace(SMALL, spill_over=0.3, interaction=0.3, day_wide=0.3), 2)
    assert abs(rank_ic(planted, planted.signals["own"])) < 0.045


def test_effects_last_as_long_as_asked():
    long, short = (planted_panel(dataclasses.replace(SMALL, own=0.2, effect_sessions=n), 1) for n in (5, 1))
    attained = rank_ic(long, long.oracle[:, :, 1], horizon=5)
    assert attained > 2 * rank_ic(short, short.oracle[:, :, 1], horizon=5)
    assert attained > 1.2 * rank_ic(long, long.signals["own"], horizon=5)  # earlier signals still move it


def test_the_delay_is_kept():
    planted = planted_panel(dataclasses.replace(SMALL, own=0.4), 4)
    own = planted.signals["own"]
    assert abs(rank_ic(planted, own, delay=0)) < 0.03  # the next session's return does not know yet
    assert rank_ic(planted, own, delay=1) > 0.15


def test_bars_are_possible_and_stocks_come_and_go():
    panel = planted_panel(dataclasses.replace(SMALL, hidden=0.2, late_listings=0.1)).panel
    listed = panel.listed
    with np.errstate(invalid="ignore"):
        assert (panel.high >= np.maximum(panel.open, panel.close))[listed].all()
        assert (panel.low <= np.minimum(panel.open, panel.close))[listed].all()
        assert (panel.low > 0)[listed].all()
    assert 0 < (~listed[0]).sum() == (~listed[-1]).sum() == 6
    assert not panel.eligible[~listed].any()
    assert panel.eligible[-1].any()


def test_the_columns_show_the_signals():
    planted = planted_panel(dataclasses.replace(SMALL, day_wide=0.2), 5)
    panel, listed = planted.panel, planted.panel.listed
    place = (panel.close - panel.low) / (panel.high - panel.low)
    assert spearmanr(place[listed], planted.signals["own"][listed]).statistic > 0.99
    volume = np.log(panel.volume)
    level = np.nanmean(volume - np.nanmedian(volume, axis=0), axis=1)
    sign = np.sign(planted.signals["day_wide"] / planted.signals["own"])[:, 0]
    assert np.mean(np.sign(level) == sign) > 0.95


def test_one_seed_one_panel():
    one, other, third = planted_panel(SMALL, 7), planted_panel(SMALL, 7), planted_panel(SMALL, 8)
    assert np.array_equal(one.panel.close, other.panel.close, equal_nan=True)
    assert not np.array_equal(one.panel.close, third.panel.close, equal_nan=True)
