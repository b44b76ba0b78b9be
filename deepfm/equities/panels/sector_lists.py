"""Which sector each stock is of, by a list of its own or a column of the prices."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from deepfm.errors import DataError

UNKNOWN = ("", "n/a", "na", "none", "unknown")


def sectors_of(
    rows: pl.DataFrame, tickers: tuple[str, ...], given: str | Path | Mapping[str, str] | None, what: str
) -> tuple[NDArray[np.int16], tuple[str, ...]]:
    """Each ticker's place among the sectors, `(N,)`, -1 where it is unknown, and the sectors' names in order.

    Args:
        rows: of prices, which may have a column `sector`.
        tickers: of the panel, N.
        given: a CSV of tickers and sectors, or a mapping; either goes before the rows' column.
        what: the rows' name in an error.

    Raises:
        DataError: the list cannot be read, or gives a ticker two sectors.
    """
    if isinstance(given, Mapping):
        table = pl.DataFrame({"ticker": list(given), "sector": list(given.values())}, strict=False)
    elif given is not None:
        what, table = str(given), _read_sectors(Path(given))
    elif "sector" in rows.columns:
        table = rows.select("ticker", "sector")
    else:
        return np.full(len(tickers), -1, dtype=np.int16), ()
    named = table.select(pl.col("ticker").cast(pl.String), pl.col("sector").cast(pl.String).str.strip_chars()).filter(
        pl.col("sector").is_not_null() & ~pl.col("sector").str.to_lowercase().is_in(UNKNOWN)
    )
    named = named.unique().sort("ticker", "sector")
    if named["ticker"].n_unique() < len(named):
        pair = named.filter(pl.col("ticker").is_duplicated()).head(2)
        raise DataError(
            f"{what} gives {pair['ticker'][0]} the sectors {pair['sector'].to_list()}; expected one for each ticker"
        )
    own = pl.DataFrame({"ticker": tickers}).join(named, on="ticker", how="left", maintain_order="left")["sector"]
    names = own.drop_nulls().unique().sort()
    places = own.cast(pl.Enum(names)).to_physical().cast(pl.Int16).fill_null(-1).to_numpy()
    return places.astype(np.int16), tuple(names.to_list())


def _read_sectors(path: Path) -> pl.DataFrame:
    try:
        table = pl.read_csv(path, infer_schema=False)
    except FileNotFoundError as error:
        raise DataError(f"sectors {path} do not exist; expected a CSV with the columns ticker and sector") from error
    except (OSError, pl.exceptions.PolarsError) as error:
        raise DataError(f"sectors {path} cannot be read; expected a CSV with the columns ticker and sector") from error
    name = "sector" if "sector" in table.columns else "industry"
    if "ticker" not in table.columns or name not in table.columns:
        raise DataError(f"sectors {path} has the columns {table.columns}; expected ticker and sector (or industry)")
    return table.select("ticker", pl.col(name).alias("sector"))
