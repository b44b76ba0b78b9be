"""The best items of a catalogue for one user, from a run's folder."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl

from deepfm.data.entities import Entities
from deepfm.data.grouplens.rows import TITLE, MovieLensRows
from deepfm.data.tables.csv_files import ReadOptions
from deepfm.data.tables.files import DEFAULT, SUFFIXES, reading, require_columns, scan_table
from deepfm.engine.run import RunFolder
from deepfm.errors import DataError, RunError
from deepfm.inference.pairs import keys_of, pair_rows
from deepfm.inference.predictor import Predictor
from deepfm.utils.logging import get_logger

log = get_logger(__name__)


class Recommender:
    """Ranks items for a user by the model's score.

    Args:
        predictor: scores pairs.
        entities: what the run kept of users, items and what was seen.

    Raises:
        RunError: the data had no user or no item column.

    Example:
        >>> Recommender.load("outputs/clicks").recommend("u7", top=3)  # doctest: +SKIP
    """

    def __init__(self, predictor: Predictor, entities: Entities) -> None:
        if len(predictor.ids) < 2:
            raise RunError(
                "the run's data have no user and item columns to recommend with; name both in the table schema (user "
                "and item) and train again"
            )
        self.predictor, self.entities = predictor, entities
        self.user, self.item = predictor.ids
        self._users = keys_of(entities.users, entities.users.columns[0])
        self._items = keys_of(entities.items, entities.items.columns[0])

    def __repr__(self) -> str:
        return f"Recommender({len(self._users)} users, {len(self._items)} items)"

    @classmethod
    def load(cls, run_path: str | Path, device: str = "auto") -> "Recommender":
        """Read a run's folder; nothing else is needed.

        Raises:
            RunError: files are missing, or the data had no user or no item column.
        """
        run = RunFolder(run_path)
        predictor = Predictor.load(run, device)
        empty = pl.DataFrame({"": []}, schema={"": pl.String})
        return cls(predictor, Entities.load(run) if len(predictor.ids) == 2 else Entities(empty, empty, empty))

    def knows_user(self, user: Any) -> bool:
        """Whether the run kept this user."""
        return _text(user) in self._users

    def recommend(self, user: Any, top: int = 10, exclude_seen: bool = True, candidates: Any = None) -> pl.DataFrame:
        """The items with the highest scores; of equal ones the smaller id comes first.

        Args:
            user: an id, which may be unknown.
            top: how many at most.
            exclude_seen: leave out what the user was seen with in the data.
            candidates: ids, or a file with the item column or one id a line, instead of the whole catalogue.

        Returns:
            columns `rank` (from 1), `item` (as text), `title` where the run has titles, and `probability`.

        Raises:
            DataError: `top` is below 1, or candidates cannot be read.
        """
        if top < 1:
            raise DataError(f"top is {top}; expected at least 1 item")
        key = _text(user)
        if not self.knows_user(user):
            log.warning("user %r is unknown to the run and is scored as an unknown user", key)
        items = self._items.to_list() if candidates is None else self._candidates(candidates)
        if exclude_seen:
            seen = self.entities.seen
            mine = seen.filter(keys_of(seen, "user") == key)
            hidden = set(keys_of(mine, "item").to_list())
            items = [item for item in items if item not in hidden]
        ranked = self._ranked(key, items).head(top)
        return ranked.with_row_index("rank", offset=1).with_columns(pl.col("rank").cast(pl.Int64))

    def _ranked(self, user: str, items: list[str]) -> pl.DataFrame:
        rows = pair_rows(self.predictor.encoder, user, items, self.entities)
        batches = list(self.predictor.batches(rows))
        frame = pl.DataFrame(
            {
                "item": pl.Series(items, dtype=pl.String),
                "logit": pl.concat([pl.Series(batch.logits) for batch in batches]),
                "probability": pl.concat([pl.Series(batch.probabilities) for batch in batches]),
            }
        )
        number = pl.col("item").cast(pl.Int64, strict=False)
        frame = frame.sort(pl.col("logit"), number, pl.col("item"), descending=[True, False, False], nulls_last=True)
        encoder = self.predictor.encoder
        title = TITLE if isinstance(encoder, MovieLensRows) else encoder.schema.title
        if title is None or title not in self.entities.items.columns:
            return frame.select("item", "probability")
        titles = pl.DataFrame({"item": self._items, "title": self.entities.items[title]})
        return frame.join(titles, on="item", how="left", maintain_order="left").select("item", "title", "probability")

    def _candidates(self, candidates: Any) -> list[str]:
        """Distinct ids as text, in the order in which they are given."""
        if isinstance(candidates, str | Path):
            found = candidate_file(Path(candidates), self.item)
        else:
            found = [_text(item) for item in candidates]
        items = list(dict.fromkeys(found))
        unknown = len(set(items) - set(self._items.to_list()))
        if unknown:
            log.warning("%d of %d candidates are unknown to the run and scored as unknown items", unknown, len(items))
        return items


def candidate_file(path: Path, column: str, options: ReadOptions = DEFAULT) -> list[str]:
    """Ids from a table with the item column, or from text with one id a line.

    Raises:
        DataError: the file is missing, no text, or a Parquet file without the column.
    """
    if path.suffix != ".parquet":
        try:
            lines = path.read_text(encoding="utf-8-sig").split("\n")
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is no utf-8 text"
            raise DataError(f"candidates {path} cannot be read: {reason}; name a text or Parquet file") from error
        if not any(line.strip() for line in lines):
            raise DataError(f"candidates {path} is empty; expected the column {column!r}, or one id a line")
        if not path.name.endswith(SUFFIXES) or not _has_column(path, column, options):
            found = [_text(line) for line in lines if line.strip()]
            if any("," in line or "\t" in line for line in found):
                raise DataError(f"candidates {path} has no column {column!r}; expected it, or one id a line")
            return found
    table = scan_table(path, options)
    require_columns(table, [column], path)
    with reading(path):
        frame = table.select(column).collect()
    return keys_of(frame, column).drop_nulls().to_list()


def _has_column(path: Path, column: str, options: ReadOptions) -> bool:
    return column in scan_table(path, options).collect_schema()


def _text(item: Any) -> str:
    """One id as the text that ids are compared as."""
    frame = pl.DataFrame({"id": [item]})
    values: Sequence[str | None] = keys_of(frame, "id").to_list()
    return values[0] or ""
