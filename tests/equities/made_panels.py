"""Small panels of random walks, for tests."""

from pathlib import Path

import numpy as np
import polars as pl

from deepfm.equities.panels.panel import Panel

ROOT = Path(__file__).resolve().parents[2]
PLACES = (ROOT.parent, ROOT, Path("/work"))
REAL = next((at / "shared/datasets/equities" for at in PLACES if (at / "shared/datasets/equities").is_dir()), None)


def weekdays(count: int, first: str = "2012-01-02") -> np.ndarray:
    return np.busday_offset(np.datetime64(first), np.arange(count), roll="forward").astype("datetime64[D]")


def made_panel(sessions: int = 320, stocks: int = 12, seed: int = 0, missing: float = 0.01) -> Panel:
    """Random walks with a common factor, some holes, a stock listed mid-way and one that is delisted."""
    rng = np.random.default_rng(seed)
    moves = 0.01 * rng.normal(size=(sessions, 1)) + 0.02 * rng.normal(size=(sessions, stocks))
    close = 20 * np.exp(np.cumsum(moves, axis=0))
    opened = close * np.exp(0.005 * rng.normal(size=close.shape))
    high = np.maximum(opened, close) * np.exp(0.004 * rng.random(close.shape))
    low = np.minimum(opened, close) * np.exp(-0.004 * rng.random(close.shape))
    volume = np.exp(13 + 0.5 * rng.normal(size=close.shape))
    gone = rng.random(close.shape) < missing
    gone[: sessions // 2, 1:2] = True
    gone[2 * sessions // 3 :, 2:3] = True
    prices = [np.where(gone, np.nan, values).astype(np.float32) for values in (opened, high, low, close, volume)]
    eligible = ~gone & (rng.random(close.shape) < 0.9)
    sectors = (np.arange(stocks) % 3 - 1).astype(np.int16)
    return Panel(
        weekdays(sessions),
        tuple(f"S{stock:03d}" for stock in range(stocks)),
        *prices,
        eligible=eligible,
        sectors=sectors,
        sector_names=("banks", "drugs"),
    )


def rows_of(closes: dict[str, list[float | None]], first: str = "2012-01-02") -> pl.DataFrame:
    """Rows of a few closes by ticker, one a weekday; None for no row."""
    length = max(map(len, closes.values()))
    days = weekdays(length, first)
    rows = [
        {"date": day, "ticker": ticker, "open": price, "high": price, "low": price, "close": price, "volume": 1e6}
        for ticker, prices in closes.items()
        for day, price in zip(days.tolist(), prices, strict=False)
        if price is not None
    ]
    return pl.DataFrame(rows, schema_overrides={"date": pl.Date}, infer_schema_length=None)
