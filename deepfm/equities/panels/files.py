"""Panels in files: rows of (date, ticker, prices) read, held to their columns, and laid out as sessions by tickers."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from deepfm.engine.settings import check_settings
from deepfm.equities.panels.cleaning import is_partial_last, jumps, known_bad_prints, trailing_eligible
from deepfm.equities.panels.panel import PRICES, Panel
from deepfm.equities.panels.report import Jump, PanelReport
from deepfm.equities.panels.sector_lists import sectors_of
from deepfm.equities.panels.settings import PanelOptions
from deepfm.errors import DataError
from deepfm.utils.io import atomic_path

NUMBERS = (*PRICES, "volume")
COLUMNS = ("date", "ticker", *NUMBERS)
CLEANED = "deepfm_panel"  # in a file's metadata: its prices were cleaned when it was written
DAY = np.timedelta64(1, "D")


def read_panel(
    path: str | Path, sectors: str | Path | Mapping[str, str] | None = None, options: PanelOptions | None = None
) -> Panel:
    """Read a panel from Parquet or CSV with the columns date, ticker, open, high, low, close, volume [, elig, sector].

    Args:
        path: the file; the calendar is the dates it holds, sorted.
        sectors: a CSV with the columns ticker and sector (or industry), or a mapping; the file's own otherwise.
        options: what is done with data that cannot be right.

    Raises:
        DataError: a column is missing or of the wrong type, a (date, ticker) stands twice, a ticker has two sectors,
            or there is no row.
    """
    return check_panel(path, sectors, options)[0]


def check_panel(
    path: str | Path, sectors: str | Path | Mapping[str, str] | None = None, options: PanelOptions | None = None
) -> tuple[Panel, PanelReport]:
    """The panel of a file as `read_panel` gives it, and what was found in the file."""
    path = Path(path)
    rows, cleaned = _read_rows(path)
    return panel_from_rows(rows, sectors, options, what=str(path), cleaned=cleaned)


def panel_from_rows(
    rows: pl.DataFrame,
    sectors: str | Path | Mapping[str, str] | None = None,
    options: PanelOptions | None = None,
    what: str = "the panel",
    cleaned: bool = False,
) -> tuple[Panel, PanelReport]:
    """The panel of rows with the columns of `read_panel`; `what` names them in errors.

    Args:
        cleaned: whether bad prints and a partial last session are gone already.
    """
    options = options or PanelOptions()
    check_settings(options)
    rows = _typed(rows, what)
    layout = _Layout.of(rows, what)
    wide = {name: layout.wide(rows[name]) for name in NUMBERS}
    counts = _clean(wide, options, what)
    keep = np.asarray(np.isfinite(wide["close"]).any(axis=1))
    empty = layout.sessions[~keep]
    if not keep.any():
        raise DataError(f"{what} has no close above zero; expected prices")
    partial = not cleaned and is_partial_last(wide["close"][keep], wide["volume"][keep])
    partial_last = str(layout.sessions[keep][-1]) if partial else None
    if partial and options.drop_partial_last:
        keep[np.flatnonzero(keep)[-1]] = False
    sessions, wide = layout.sessions[keep], {name: values[keep] for name, values in wide.items()}

    close = wide["close"].astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        jumped, undone, changes = jumps(close)
        masks = {"known": known_bad_prints, "two_sided": lambda _: undone, "keep": lambda _: np.zeros_like(undone)}
        bad = masks["keep" if cleaned else options.bad_prints](close)
    for values in wide.values():
        values[bad] = np.nan
    listed = np.isfinite(wide["close"])
    if "elig" in rows.columns:
        eligible = listed & (layout.wide(rows["elig"])[keep] > 0)
    else:
        close = np.where(bad, np.nan, close)
        eligible = trailing_eligible(close, wide["volume"].astype(np.float64), options.eligibility)
    places, names = sectors_of(rows, layout.tickers, sectors, what)
    panel = Panel(sessions, layout.tickers, **wide, eligible=eligible, sectors=places, sector_names=names)
    per_day = eligible.sum(axis=1)
    per_day = per_day[per_day > 0] if per_day.any() else np.zeros(1, dtype=int)
    first = np.argmax(listed, axis=0)
    last = len(listed) - 1 - np.argmax(listed[::-1], axis=0)
    has_any = listed.any(axis=0)
    report = PanelReport(
        rows=len(rows),
        sessions=panel.num_sessions,
        tickers=panel.num_stocks,
        first=str(sessions[0]),
        last=str(sessions[-1]),
        was_sorted=layout.was_sorted,
        **counts,
        empty_sessions=tuple(map(str, empty)),
        gaps=tuple((str(sessions[at]), str(sessions[at + 1])) for at in np.flatnonzero(np.diff(sessions) > 4 * DAY)),
        partial_last=partial_last,
        dropped_last=partial and options.drop_partial_last,
        undone=_named(undone, changes, panel),
        jumped=_named(jumped & ~undone & ~_after(undone, close), changes, panel),
        masked=int(bad.sum()),
        listed_later=int((has_any & (first > 0)).sum()),
        ended_early=int((has_any & (last < len(listed) - 6)).sum()),
        holes=int((last - first + 1 - listed.sum(axis=0))[has_any].sum()),
        unknown_sectors=tuple(np.array(layout.tickers)[places < 0].tolist()),
        eligible=(int(per_day.min()), int(np.median(per_day)), int(per_day.max())),
        computed_eligibility="elig" not in rows.columns,
    )
    return panel, report


def panel_to_rows(panel: Panel) -> pl.DataFrame:
    """The panel's prints as rows that `read_panel` reads back to the same panel."""
    at, stock = np.nonzero(panel.listed)
    tickers = pl.Series("ticker", panel.tickers)
    rows = pl.DataFrame(
        {
            "date": pl.Series(panel.sessions[at]).cast(pl.Date),
            "ticker": tickers.gather(stock),
            **{name: pl.Series(getattr(panel, name)[at, stock], nan_to_null=True) for name in NUMBERS},
            "elig": panel.eligible[at, stock].astype(np.int8),
        }
    )
    if not panel.sector_names:
        return rows
    names = [panel.sector_names[place] if place >= 0 else None for place in panel.sectors]
    return rows.with_columns(pl.Series("sector", names, dtype=pl.String).gather(stock))


def save_panel(panel: Panel, path: str | Path) -> None:
    """Write a panel as Parquet, whole or not at all; `read_panel` gives it back bit for bit.

    Sessions without a print and tickers that never print are not written.
    """
    with atomic_path(path) as beside:
        panel_to_rows(panel).write_parquet(beside, compression="zstd", metadata={CLEANED: "cleaned"})


@dataclass(frozen=True)
class _Layout:
    """Where each row of a file stands among sessions and tickers."""

    sessions: NDArray[np.datetime64]
    tickers: tuple[str, ...]
    place: NDArray[np.int64]
    was_sorted: bool

    @classmethod
    def of(cls, rows: pl.DataFrame, what: str) -> "_Layout":
        if not len(rows):
            raise DataError(f"{what} has no row; expected one for each date and ticker")
        tickers = rows["ticker"].unique().sort()
        dates = rows["date"].to_numpy().astype("datetime64[D]")
        sessions = np.unique(dates)
        stock = rows["ticker"].cast(pl.Enum(tickers)).to_physical().to_numpy().astype(np.int64)
        place = np.searchsorted(sessions, dates) * len(tickers) + stock
        counts = np.bincount(place, minlength=1)
        if counts.max() > 1:
            twice = np.flatnonzero(counts > 1)
            shown = ", ".join(
                f"({sessions[at // len(tickers)]}, {tickers[int(at % len(tickers))]})" for at in twice[:3]
            )
            raise DataError(
                f"{what} has {len(twice)} pairs of (date, ticker) more than once, such as {shown}; "
                "expected each once; drop the repeated rows"
            )
        by_stock = np.argsort(stock, kind="stable")
        backwards = (np.diff(dates[by_stock]) < 0 * DAY) & (np.diff(stock[by_stock]) == 0)
        return cls(sessions, tuple(tickers.to_list()), place, not backwards.any())

    def wide(self, column: pl.Series) -> NDArray[np.float32]:
        """A column of the rows as `(T, N)`; NaN where there is no row or no value."""
        laid = np.full(len(self.sessions) * len(self.tickers), np.nan, dtype=np.float32)
        laid[self.place] = column.cast(pl.Float32).fill_null(np.nan).to_numpy()
        return laid.reshape(len(self.sessions), len(self.tickers))


def _read_rows(path: Path) -> tuple[pl.DataFrame, bool]:
    """A file's rows, and whether `save_panel` wrote them."""
    try:
        if path.suffix.lower() == ".csv":
            return pl.read_csv(path, infer_schema_length=None, try_parse_dates=True), False
        known = [name for name in pl.read_parquet_schema(path) if name in (*COLUMNS, "elig", "sector")]
        return pl.read_parquet(path, columns=known), CLEANED in pl.read_parquet_metadata(path)
    except FileNotFoundError as error:
        raise DataError(f"panel {path} does not exist; expected Parquet, or CSV with a header") from error
    except (OSError, pl.exceptions.PolarsError) as error:
        raise DataError(f"panel {path} cannot be read; expected Parquet, or CSV with a header") from error


def _typed(rows: pl.DataFrame, what: str) -> pl.DataFrame:
    """The rows, their dates and tickers as such, and their numbers held to be numbers."""
    for name in COLUMNS:
        if name not in rows.columns:
            raise DataError(f"{what} has no column {name!r}; expected {', '.join(COLUMNS)}; got {rows.columns}")
    if not len(rows):
        raise DataError(f"{what} has no row; expected one for each date and ticker")
    for name in ("date", "ticker"):
        if empty := rows[name].null_count():
            raise DataError(f"{what} has {empty} rows without a {name}; expected one in each; drop or fill them")
    for name in (*NUMBERS, *(["elig"] if "elig" in rows.columns else [])):
        kind = rows[name].dtype
        if not (kind.is_numeric() or kind in (pl.Null(), pl.Boolean())):
            raise DataError(f"{what} has a column {name!r} of type {kind}; expected numbers")
    kind = rows["date"].dtype
    if not (kind.is_temporal() or kind == pl.String()):
        raise DataError(f"{what} has a column 'date' of type {kind}; expected dates, such as 2017-01-31")
    try:
        dates = rows["date"].str.to_date() if kind == pl.String() else rows["date"].cast(pl.Date)
        return rows.with_columns(dates.alias("date"), pl.col("ticker").cast(pl.String))
    except pl.exceptions.PolarsError as error:
        raise DataError(f"{what} has a column 'date' that holds no dates; expected such as 2017-01-31") from error


def _clean(wide: dict[str, NDArray[np.float32]], options: PanelOptions, what: str) -> dict[str, int]:
    """Turn impossible prices and volumes to missing, in place, and count them."""
    bad_prices = 0
    for name in PRICES:
        values = wide[name]
        bad = (values <= 0) | np.isinf(values)
        bad_prices += int(bad.sum())
        values[bad] = np.nan
    if bad_prices and options.refuse_bad_prices:
        raise DataError(
            f"{what} has {bad_prices} prices of zero or less; expected none; mend them or allow them missing"
        )
    bad = (wide["volume"] < 0) | np.isinf(wide["volume"])
    bad_volumes = int(bad.sum())
    wide["volume"][bad] = np.nan
    crossed = wide["high"] < wide["low"]
    wide["high"][crossed] = wide["low"][crossed] = np.nan
    outside = int(((wide["close"] > wide["high"]) | (wide["close"] < wide["low"])).sum())
    for name in NUMBERS:
        if name != "close":
            wide[name][np.isnan(wide["close"])] = np.nan
    return {
        "bad_prices": bad_prices,
        "bad_volumes": bad_volumes,
        "high_below_low": int(crossed.sum()),
        "outside_range": outside,
    }


def _after(undone: NDArray[np.bool_], close: NDArray[np.float64]) -> NDArray[np.bool_]:
    """The print after each undone jump: the way back, which is no jump of its own."""
    at = np.where(np.isfinite(close), np.arange(len(close))[:, None], -1)
    before = np.vstack([np.full((1, close.shape[1]), -1), np.maximum.accumulate(at, axis=0)[:-1]])
    return (before >= 0) & np.take_along_axis(undone, np.maximum(before, 0), axis=0)


def _named(where: NDArray[np.bool_], changes: NDArray[Any], panel: Panel) -> tuple[Jump, ...]:
    found = zip(*np.nonzero(where), strict=True)
    return tuple(
        Jump(panel.tickers[stock], str(panel.sessions[at]), round(float(changes[at, stock]), 4)) for at, stock in found
    )
