"""Small panels and rankings for the tests of evaluation."""

import numpy as np

from deepfm.equities.panels.panel import Panel

FIRST = np.datetime64("2015-01-01")


def panel_of(close, eligible=None, sectors=None, sector_names=()):
    """A panel whose prices are all the close, on consecutive dates."""
    close = np.asarray(close, dtype=np.float32)
    sessions, stocks = close.shape
    return Panel(
        FIRST + np.arange(sessions),
        tuple(f"S{number}" for number in range(stocks)),
        close,
        close,
        close,
        close,
        np.where(np.isfinite(close), np.float32(1000), np.float32(np.nan)),
        np.isfinite(close) if eligible is None else np.asarray(eligible, dtype=bool),
        np.full(stocks, -1, np.int16) if sectors is None else np.asarray(sectors, np.int16),
        sector_names,
    )


def random_panel(seed, sessions=90, stocks=60, missing=0.02):
    """Random walks with holes, two sectors and some stocks of none."""
    rng = np.random.default_rng(seed)
    close = 50 * np.exp(np.cumsum(rng.normal(0, 0.02, (sessions, stocks)), axis=0))
    close[rng.random(close.shape) < missing] = np.nan
    return panel_of(close, sectors=rng.integers(-1, 2, stocks), sector_names=("iron", "wool"))
