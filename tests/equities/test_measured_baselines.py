"""The rules on the real panel against the figures that were measured elsewhere."""

import numpy as np
import polars as pl
import pytest

from deepfm.equities.evaluation.daily_summary import summarise_days
from deepfm.equities.evaluation.metrics import rank_ic
from deepfm.equities.features import compute_features
from deepfm.equities.labels import forward_returns
from deepfm.equities.panels.files import read_panel
from deepfm.equities.panels.settings import PanelOptions
from tests.equities.made_panels import REAL

HORIZON = 5


@pytest.mark.slow
@pytest.mark.skipif(REAL is None, reason="the real panel is not here")
def test_reversal_and_momentum_are_as_measured():
    options = PanelOptions(bad_prints="two_sided", drop_partial_last=False)  # as the figures were made
    panel = read_panel(REAL / "nasdaq_pit_ohlcv_2009_2017.parquet", options=options)
    table = compute_features(panel, ["ret5", "mom250_20"])
    labels = forward_returns(panel, [HORIZON])
    tested = panel.sessions >= np.datetime64("2013-01-01")
    where, returns = panel.eligible[tested], labels.returns[tested, :, 0]
    rows = pl.read_csv(REAL / "baselines_pit_rule_ridge.csv").filter(delay=1, h=HORIZON).to_dicts()
    measured = {row["model"]: row for row in rows}
    for name, scores in {"rev5": -table.column("ret5"), "mom12_1": table.column("mom250_20")}.items():
        row = measured[name]
        found = summarise_days(rank_ic(scores[tested], returns, where), panel.sessions[tested], HORIZON)
        assert found.days == row["days"]
        assert found.mean == pytest.approx(row["rankic"], abs=0.1 * row["se_nw"])  # far inside the two errors asked for
        assert found.error == pytest.approx(row["se_nw"], rel=0.02)
        assert found.ratio == pytest.approx(row["icir"], abs=0.005)
        assert [year.mean for year in found.years] == pytest.approx(
            [row[f"ic{year}"] for year in range(2013, 2018)], abs=0.002
        )
