"""Rules and ridge on the real panel against what was measured elsewhere.

LightGBM takes minutes, and `benchmarks/equities_baselines.py` holds it against its figures.
"""

import numpy as np
import polars as pl
import pytest

from deepfm.equities.baselines import rank_features, walk_forward_scores
from deepfm.equities.evaluation.daily_summary import summarise_days
from deepfm.equities.evaluation.metrics import rank_ic
from deepfm.equities.features import DEFAULT_FEATURES, compute_features
from deepfm.equities.labels import forward_returns
from deepfm.equities.panels.files import read_panel
from deepfm.equities.panels.settings import PanelOptions
from deepfm.equities.walk_forward import WalkForwardSplit
from tests.equities.made_panels import REAL

HORIZONS = (1, 5, 10, 20)
NAMES = {"reversal 5": "rev5", "momentum 20": "mom20", "momentum 12-1": "mom12_1", "ridge": "ridge"}
YEARS = tuple(range(2013, 2018))

pytestmark = [pytest.mark.slow, pytest.mark.skipif(REAL is None, reason="the real panel is not here")]


@pytest.fixture(scope="module")
def measured():
    """Each baseline's scores, `(T, N, K)`, with what they are measured on."""
    options = PanelOptions(bad_prints="two_sided", drop_partial_last=False)  # as the figures were made
    panel = read_panel(REAL / "nasdaq_pit_ohlcv_2009_2017.parquet", options=options)
    labels = forward_returns(panel, HORIZONS)
    names = [item.name for item in DEFAULT_FEATURES.features if item.group != "sector"]
    features = rank_features(compute_features(panel, names), panel.eligible)
    folds = WalkForwardSplit(test_years=YEARS, validation_sessions=0, first_session="2010-01-04").folds(
        panel.sessions, HORIZONS, 1
    )
    scores = walk_forward_scores(list(NAMES), features, labels.ranked(panel.eligible), folds)
    return panel, labels, np.concatenate([fold.test for fold in folds]), scores


@pytest.mark.parametrize("name", NAMES)
def test_baselines_are_as_measured(measured, name):
    panel, labels, tested, scores = measured
    rows = pl.read_csv(REAL / "baselines_pit_rule_ridge.csv").filter(delay=1, model=NAMES[name]).to_dicts()
    assert sorted(row["h"] for row in rows) == list(HORIZONS)
    errors = 0.5 if name == "ridge" else 0.1  # both far inside the two that are asked for
    for row in rows:
        at = HORIZONS.index(row["h"])
        daily = rank_ic(scores[name][tested, :, at], labels.returns[tested, :, at], panel.eligible[tested])
        found = summarise_days(daily, panel.sessions[tested], row["h"])
        assert found.days == row["days"]
        assert found.mean == pytest.approx(row["rankic"], abs=errors * row["se_nw"])
        assert found.error == pytest.approx(row["se_nw"], rel=0.05 if name == "ridge" else 0.02)
        assert found.ratio == pytest.approx(row["icir"], abs=0.01 if name == "ridge" else 0.005)
        if name != "ridge":
            yearly = [row[f"ic{year}"] for year in YEARS]
            assert [year.mean for year in found.years] == pytest.approx(yearly, abs=0.002)
