"""What a network said of stocks and days: rows in a file, arrays beside a panel, and the mean of several seeds."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from deepfm.equities.labels import rank_within_day
from deepfm.equities.panels.panel import Panel
from deepfm.errors import DataError
from deepfm.utils.io import atomic_path

LEARNED_UNTIL = "learned until"  # in a file's metadata


@dataclass(frozen=True, eq=False)
class Predictions:
    """Scores and quantiles of some rows, a stock on a day each.

    Args:
        dates: `(R,)`, never falling.
        tickers: `(R,)`.
        scores: higher is better, `(R, K)`.
        quantiles: of what was learned, `(R, K, Q)`.
        horizons: the `K` horizons in sessions.
        levels: the `Q` quantile levels.
    """

    dates: NDArray[np.datetime64]
    tickers: NDArray[np.str_]
    scores: NDArray[np.float32]
    quantiles: NDArray[np.float32]
    horizons: tuple[int, ...]
    levels: tuple[float, ...]

    def __len__(self) -> int:
        return len(self.dates)

    def to_rows(self) -> pl.DataFrame:
        """Columns date, ticker, `score_1`, ..., and `q5_1`, ... for the quantile of 5 % over one session."""
        columns: dict[str, Any] = {"date": pl.Series(self.dates).cast(pl.Date), "ticker": self.tickers}
        columns |= {f"score_{horizon}": self.scores[:, at] for at, horizon in enumerate(self.horizons)}
        for at, horizon in enumerate(self.horizons):
            columns |= {
                f"q{_percent(level)}_{horizon}": self.quantiles[:, at, place] for place, level in enumerate(self.levels)
            }
        return pl.DataFrame(columns)

    @classmethod
    def of_rows(cls, rows: pl.DataFrame, what: str = "the predictions") -> "Predictions":
        """The predictions of a table as `to_rows` makes it.

        Raises:
            DataError: it is none.
        """
        names = [name.partition("_") for name in rows.columns]
        horizons = tuple(int(after) for head, _, after in names if head == "score" and after.isdigit())
        levels = tuple(dict.fromkeys(head[1:] for head, _, after in names if head[:1] == "q" and after.isdigit()))
        wanted = ["date", "ticker", *(f"score_{one}" for one in horizons)]
        wanted += [f"q{level}_{one}" for one in horizons for level in levels]
        missing = [name for name in wanted if name not in rows.columns]
        if not horizons or missing:
            raise DataError(
                f"{what} has no column {(missing or ['score_1'])[0]!r}; expected date, ticker, score_1, ... as "
                "`deepfm equities predict` writes them"
            )
        numbers = [name for name in wanted if name not in ("date", "ticker")]
        date = pl.col("date").str.to_date() if rows.schema["date"] == pl.String else pl.col("date").cast(pl.Date)
        try:
            rows = rows.with_columns(date, pl.col(numbers).cast(pl.Float32))
        except pl.exceptions.PolarsError as error:
            raise DataError(
                f"{what}: a date that is none, or text among the scores; expected dates and numbers, as "
                "`deepfm equities predict` writes them"
            ) from error
        quantiles = np.empty((len(rows), len(horizons), len(levels)), np.float32)
        for at, one in enumerate(horizons):
            for place, level in enumerate(levels):
                quantiles[:, at, place] = rows[f"q{level}_{one}"].to_numpy()
        return cls(
            rows["date"].to_numpy().astype("datetime64[D]"),
            rows["ticker"].to_numpy().astype(np.str_),
            rows.select([f"score_{one}" for one in horizons]).to_numpy().astype(np.float32),
            quantiles,
            horizons,
            tuple(float(level) / 100 for level in levels),
        )

    def dense(self, panel: Panel) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The scores `(T, N, K)` and quantiles `(T, N, K, Q)` beside a panel; NaN where there are none.

        Raises:
            DataError: a date or a ticker is not the panel's, or a pair stands twice.
        """
        session = np.searchsorted(panel.sessions, self.dates)
        found = panel.sessions[np.minimum(session, panel.num_sessions - 1)] == self.dates
        order = np.argsort(panel.tickers)
        names = np.asarray(panel.tickers)[order]
        column = np.minimum(np.searchsorted(names, self.tickers), len(names) - 1)
        found &= names[column] == self.tickers
        if not found.all():
            at = int(np.argmin(found))
            raise DataError(
                f"the predictions hold {self.tickers[at]} on {self.dates[at]}, which the panel does not; give the "
                "panel that they were made on, with --override data.path=FILE"
            )
        place = session * panel.num_stocks + order[column]
        if len(np.unique(place)) < len(place):
            raise DataError("the predictions hold a ticker twice on one day; expected each once")
        shape = (panel.num_sessions, panel.num_stocks)
        scores = np.full((shape[0] * shape[1], len(self.horizons)), np.nan, np.float32)
        quantiles = np.full((*scores.shape, len(self.levels)), np.nan, np.float32)
        scores[place], quantiles[place] = self.scores, self.quantiles
        return scores.reshape(*shape, -1), quantiles.reshape(*shape, *quantiles.shape[1:])


def write_predictions(path: str | Path, parts: Iterable[Predictions], metadata: Mapping[str, str] | None = None) -> int:
    """Write predictions as Parquet, part by part as they come, whole or not at all; how many rows there are.

    Args:
        path: the file.
        parts: such as a day each; memory does not grow with their number.
        metadata: what the file carries, such as the data's hash.

    Raises:
        DataError: there is no row.
        RunError: the disk refuses the file.
    """
    import pyarrow.parquet as pq

    rows = 0
    with atomic_path(path) as beside, ExitStack() as opened:
        writer: Any = None
        for part in parts:
            table = part.to_rows().to_arrow(compat_level=pl.CompatLevel.oldest()).replace_schema_metadata(metadata)
            if writer is None:
                writer = opened.enter_context(pq.ParquetWriter(beside, table.schema, compression="zstd"))
            writer.write_table(table)
            rows += len(part)
        if not rows:
            raise DataError(
                "no stock of the sessions asked for is in the universe with min_history closes in its look-back; a "
                "file without the column elig needs 252 rows of a stock before it is (data.panel.eligibility)"
            )
        opened.close()
    return rows


def learned_until_of(path: str | Path) -> str | None:
    """The last session that the network behind a file of predictions learned from; None where the file does not say."""
    import pyarrow.parquet as pq

    try:
        metadata = pq.read_metadata(path).metadata or {}
    except (OSError, ValueError):
        return None
    found = metadata.get(LEARNED_UNTIL.encode())
    return None if found is None else found.decode()


def read_predictions(path: str | Path) -> Predictions:
    """What `write_predictions` wrote.

    Raises:
        DataError: the file is missing, or holds something else.
    """
    try:
        rows = pl.read_parquet(path)
    except FileNotFoundError as error:
        raise DataError(f"predictions {path} do not exist; expected a file of `deepfm equities predict`") from error
    except (OSError, pl.exceptions.PolarsError) as error:
        raise DataError(f"predictions {path} cannot be read; expected Parquet") from error
    return Predictions.of_rows(rows, str(path))


def mean_of_seeds(scores: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """The mean rank of each stock within its day over several seeds' scores, `(T, N, K)`; NaN where one has none."""
    total = np.zeros(scores[0].shape, np.float32)
    for one in scores:
        total += rank_within_day(one, np.asarray(np.isfinite(one).all(axis=2)))
    return total / np.float32(len(scores))


def _percent(level: float) -> str:
    return f"{100 * level:g}"
