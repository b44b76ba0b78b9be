"""Rows of a user and a movie as a MovieLens model reads them, with what a run kept of both where a row does not say."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from deepfm.data.entities import Entities
from deepfm.data.grouplens.columns import AGE_BUCKETS
from deepfm.data.grouplens.fields import HISTORY, ITEM_FIELDS, USER_FIELDS, ZIP_PREFIX_LENGTH
from deepfm.data.grouplens.files import RawMovieLens
from deepfm.data.history import event_order
from deepfm.data.tables import columns as cells
from deepfm.data.tables.columns import Where
from deepfm.data.tables.files import require_columns
from deepfm.errors import DataError

USER, ITEM, TITLE = "user_id", "movie_id", "title"
USER_COLUMNS, ITEM_COLUMNS = ("gender", "age", "occupation", "zip_code"), ("genres",)
PLACE = "place of the user"  # nobody's column has this name
GENRE_SEPARATOR = "|"


def movielens_entities(
    raw: RawMovieLens, likes: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]] | None, max_history: int
) -> Entities:
    """What a run keeps: users with their latest likes, oldest first, movies with titles, and all rated pairs.

    Args:
        likes: users, order numbers and movies, each `(E,)`, of the likes that a history of the test may hold, so that a
            run gives its test rows the scores that it reported; None without histories.
        max_history: how many likes of a user are kept.
    """
    users = pl.DataFrame({name: raw.users[name].tolist() for name in (USER, *USER_COLUMNS) if name in raw.users})
    if likes is not None:
        places, numbers, movies = likes
        order = np.lexsort((numbers, places))
        liked = pl.DataFrame({USER: raw.users[USER][places[order]], HISTORY: raw.movies[ITEM][movies[order]]})
        latest = liked.group_by(USER, maintain_order=True).agg(pl.col(HISTORY).tail(max_history))
        users = users.join(latest, on=USER, how="left", maintain_order="left")
    movies_table = {ITEM: raw.movies[ITEM], TITLE: raw.movies[TITLE].tolist()}
    items = pl.DataFrame(movies_table | {"genres": [list(genres) for genres in raw.movies["genres"]]})
    order = event_order(raw.timestamps).argsort()
    seen = pl.DataFrame({"user": raw.user_ids[order], "item": raw.movie_ids[order]})
    return Entities(users, items, seen)


class MovieLensRows:
    """Encodes rows with `user_id` and `movie_id`; the other columns are the run's own where rows lack them.

    Args:
        encoders: the run's.
        max_history: the length of behaviour histories; 0 for none.
        entities: what the run kept.

    Raises:
        DataError: the run kept no likes and the model needs them.
    """

    def __init__(self, encoders: Mapping[str, Any], max_history: int, entities: Entities) -> None:
        self.encoders, self.max_history = encoders, max_history
        self._users = entities.users.with_row_index(PLACE)
        self._items = entities.items
        fields = {"zip_code": "zip_prefix"}
        self._user_columns = tuple(name for name in USER_COLUMNS if fields.get(name, name) in encoders)
        self._histories = self._encode_histories(entities.users) if max_history else None

    @staticmethod
    def fits(encoders: Mapping[str, Any]) -> bool:
        """Whether these are a MovieLens run's encoders."""
        return {USER, ITEM, *ITEM_FIELDS} <= {*encoders} <= {*USER_FIELDS, *ITEM_FIELDS}

    def transform(self, table: pl.LazyFrame, where: Where = "the table", first_row: int = 0) -> dict[str, NDArray[Any]]:
        """The features: ids `(N,)`, genres `(N, max_length)` and histories `(N, L)`.

        Args:
            first_row: what errors count rows from, where `table` is a part of a whole.

        Raises:
            DataError: an id column is missing, or an id or an age is no number; the row and the value are named.
        """
        require_columns(table, (USER, ITEM), where)
        there = [name for name in (USER, ITEM, *USER_COLUMNS, *ITEM_COLUMNS) if name in table.collect_schema()]
        frame = table.select(there).collect()
        users = self._side(frame, USER, self._users, self._user_columns, where, first_row)
        items = self._side(frame, ITEM, self._items, ITEM_COLUMNS, where, first_row)
        raw: dict[str, Any] = {USER: users[USER].to_numpy(), ITEM: items[ITEM].to_numpy()}
        raw["genres"] = [genres or [] for genres in items["genres"].to_list()]
        for name in self._user_columns:
            raw[name] = users[name].to_numpy() if name == "age" else _texts(users[name])
        if "age" in raw:
            ages, groups = raw["age"], np.array(AGE_BUCKETS)
            buckets = groups[np.searchsorted(groups, ages, side="right").clip(min=1) - 1]
            raw["age"] = np.where(ages < 0, -1, buckets)
        if "zip_code" in raw:
            raw["zip_prefix"] = raw.pop("zip_code").astype(f"U{ZIP_PREFIX_LENGTH}")
        features = {name: self.encoders[name].transform(column) for name, column in raw.items()}
        if self._histories is not None:
            unknown = len(self._histories) - 1
            features[HISTORY] = self._histories[users[PLACE].fill_null(unknown).to_numpy()]
        return features

    def pairs(self, user: str, items: list[str]) -> pl.DataFrame:
        """Rows of one user with some items, whatever else they need being the run's own."""
        return pl.DataFrame({USER: [user] * len(items), ITEM: items}, schema={USER: pl.String, ITEM: pl.String})

    def _side(
        self, frame: pl.DataFrame, key: str, known: pl.DataFrame, names: tuple[str, ...], where: Where, first_row: int
    ) -> pl.DataFrame:
        """One side's columns: what the rows say, else what the run kept, else nothing."""
        ids = _whole_numbers(frame, key, where, first_row)
        rows = ids.to_frame().join(known, on=key, how="left", maintain_order="left")
        for name in names:
            if name not in frame.columns:
                given = None
            elif name == "age":
                given = _whole_numbers(frame, name, where, first_row).replace(-1, None)
            elif name == "genres":
                given = _lists(frame, name, where)
            else:
                given = frame.select(cells.text(pl.col(name), frame.schema[name], name, where)).to_series()
                given = given.replace("", None)
            if given is not None:
                rows = rows.with_columns(pl.coalesce(given, pl.col(name)).alias(name))
        return rows.with_columns(pl.col("age").fill_null(-1)) if "age" in names else rows

    def _encode_histories(self, users: pl.DataFrame) -> NDArray[np.int32]:
        """`(U + 1, L)`: each user's history, right-aligned, and an empty one for unknown users."""
        if HISTORY not in users.columns:
            raise DataError("the run kept no likes of its users, and its model reads them; train again to have them")
        matrix = np.zeros((len(users) + 1, self.max_history), dtype=np.int32)
        for place, movies in enumerate(users[HISTORY].to_list()):
            if movies:
                latest = self.encoders[ITEM].transform(np.array(movies[-self.max_history :]))
                matrix[place, -len(latest) :] = latest
        return matrix


def _whole_numbers(frame: pl.DataFrame, name: str, where: Where, first_row: int) -> pl.Series:
    """A column as int64, -1 where a cell is empty."""
    kind = frame.schema[name]
    numbers = cells.number(name, kind, where)
    whole = pl.when(numbers == numbers.round()).then(numbers.cast(pl.Int64, strict=False))
    empty = cells.is_empty(name, kind)
    answer = frame.select(whole.alias(name), (whole.is_null() & ~empty).alias("bad"))
    rows = answer["bad"].arg_true()
    if len(rows):
        raise DataError(
            f"column {name!r} of {where} holds {frame[name][rows[0]]!r} in row {first_row + rows[0] + 1}; expected a "
            "whole number"
        )
    return answer[name].fill_null(-1)


def _lists(frame: pl.DataFrame, name: str, where: Where) -> pl.Series:
    """Lists of text, from lists or from text between bars; null where a cell is empty."""
    kind = frame.schema[name]
    if isinstance(kind, pl.List):
        return frame[name].cast(pl.List(pl.String))
    if kind not in (pl.String, pl.Null):
        raise DataError(f"column {name!r} of {where} is of type {kind}; expected text such as Drama|War, or lists")
    text = pl.col(name).cast(pl.String)
    return frame.select(pl.when(text != "").then(text.str.split(GENRE_SEPARATOR))).to_series()


def _texts(column: pl.Series) -> NDArray[Any]:
    return np.array(column.fill_null("").to_list(), dtype=str)
