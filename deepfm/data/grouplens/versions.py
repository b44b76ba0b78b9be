"""MovieLens-1M (`.dat` files) and MovieLens-latest-small, -20M, -25M and -32M (CSV files), read by whole columns.

A column that holds anything wrong is read a second time, line by line, to say where.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import polars as pl
from numpy.typing import NDArray

from deepfm.data.grouplens.archive import ARCHIVES, Archive, fetch_archive
from deepfm.data.grouplens.download import present_files, require_files
from deepfm.data.grouplens.files import RawMovieLens
from deepfm.data.grouplens.lines import (
    AGES,
    ID,
    RATING_5,
    RATING_HALVES,
    TEXT,
    TIME,
    Layout,
    first_fault,
    is_cut_off,
    source_of,
)
from deepfm.errors import ConfigError, DataError

NO_GENRES = "(no genres listed)"
_DAT = {
    "ratings.dat": Layout({"user id": ID, "movie id": ID, "rating": RATING_5, "timestamp": TIME}, "::"),
    "users.dat": Layout({"user id": ID, "gender": TEXT, "age": AGES, "occupation": ID, "zip code": TEXT}, "::"),
    "movies.dat": Layout({"movie id": ID, "title": TEXT, "genres": TEXT}, "::"),
}
_CSV = {
    "ratings.csv": Layout({"userId": ID, "movieId": ID, "rating": RATING_HALVES, "timestamp": TIME}, ","),
    "movies.csv": Layout({"movieId": ID, "title": TEXT, "genres": TEXT}, ","),
}
_KNOWN_BY = {"user id": "users.dat", "movie id": "movies.dat", "movieId": "movies.csv"}


def load_version(dataset_name: str, data_dir: str | Path, source: str = "auto") -> RawMovieLens:
    """Read one of the versions.

    Args:
        dataset_name: `movielens_1m` and so on.
        data_dir: the folder of its files; a download lands there.
        source: `files` reads them; `download` and `auto` fetch them first where they are not all there.

    Raises:
        ConfigError: `sample`, which is in the form of MovieLens-100K.
        DataError: files that are missing, damaged or foreign, or a download that failed.
    """
    archive, folder = ARCHIVES[dataset_name], Path(data_dir).expanduser()
    if source == "sample":
        raise ConfigError(
            f"data.source = 'sample' makes data in the form of MovieLens-100K, and data.dataset_name is "
            f"{dataset_name!r}; set data.dataset_name=movielens, or data.source=files"
        )
    fetched = source != "files" and len(present_files(folder, archive.files)) < len(archive.files)
    if fetched:
        fetch_archive(archive, folder)
    reader = _Reader(folder, archive, f"or fetch the files again with `deepfm data fetch --dataset {dataset_name}`")
    require_files(folder, archive.files, archive.name, reader.fetch)
    return reader.read("download" if fetched else "files")


@dataclass(frozen=True)
class _Reader:
    folder: Path
    archive: Archive
    fetch: str

    def read(self, source: str) -> RawMovieLens:
        layouts = _DAT if "users.dat" in self.archive.files else _CSV
        ratings, *others = (self._table(name, layouts[name]) for name in self.archive.files)
        users = _user_table(others[0]) if len(others) == 2 else {"user_id": ratings.to_series(0).unique().sort()}
        movies = others[-1]
        ids = [ratings.to_series(number).to_numpy(writable=True) for number in (0, 1)]
        tables = {"movie_id": movies.to_series(0), "title": movies["title"]}
        user_columns, movie_columns = ({k: _array(v) for k, v in table.items()} for table in (users, tables))
        movie_columns["genres"] = _genres(movies["genres"])
        for number, table in ((0, user_columns["user_id"]), (1, movie_columns["movie_id"])):
            unknown = np.flatnonzero(~np.isin(ids[number], table))
            if len(unknown):
                column = ratings.columns[number]
                self._refuse(
                    self.archive.files[0],
                    int(unknown[0]),
                    f"{column} {str(ids[number][unknown[0]])!r}, expected an id that {_KNOWN_BY[column]} beside it "
                    "lists",
                )
        self._require_distinct_pairs(*ids)
        return RawMovieLens(
            user_ids=ids[0],
            movie_ids=ids[1],
            ratings=ratings["rating"].to_numpy(writable=True),
            timestamps=ratings["timestamp"].to_numpy(writable=True),
            users=user_columns,
            movies=movie_columns,
            name=self.archive.name,
            source=source,
            hash=self._hash(),
        )

    def _table(self, name: str, layout: Layout) -> pl.DataFrame:
        """One file, every value checked; the ids of users and movies stand once in their own tables."""
        path = self.folder / name
        advice = f"correct it, {self.fetch}"
        source = source_of(path, layout, advice)
        types: dict[str, Any] = {
            column: pl.Int64 if kind.whole else pl.Float32 if kind.step else pl.String
            for column, kind in layout.columns.items()
        }
        try:
            table = pl.read_csv(
                source, schema=types, has_header=False, skip_rows=int(layout.has_header), separator=layout.single,
                quote_char='"' if layout.has_header else None,
            )  # fmt: skip
            good = table.select(kind.good(pl.col(column)).all() for column, kind in layout.columns.items()).row(0)
            reason = None if all(good) else "a value is out of range"
        except pl.exceptions.NoDataError:
            raise DataError(f"{path} is empty; expected one row per line; {advice}") from None
        except (pl.exceptions.PolarsError, OSError) as error:
            reason = " ".join(str(error).split("\n\n")[0].split())[:150]
        if reason is not None:
            raise DataError(first_fault(path, layout, advice, reason))
        if not len(table):
            raise DataError(f"{path} holds a header and no rows; expected one row per line; {advice}")
        if table.columns[-1] != "genres" and is_cut_off(path, table.to_series(-1)):
            value = str(table.to_series(-1)[-1])
            self._refuse(
                name, len(table) - 1,
                f"the file was cut off in the {table.columns[-1]} {value!r}, expected more characters and a newline",
            )  # fmt: skip
        if name != self.archive.files[0]:
            again = (~table.to_series(0).is_first_distinct()).arg_true()
            if len(again):
                row = int(again[0])
                value = table[row, 0]
                first = int((table.to_series(0) == value).arg_true()[0])
                self._refuse(
                    name, row,
                    f"{table.columns[0]} {value} stands on line {self._line(name, first)} already, expected it once",
                )  # fmt: skip
        return table

    def _require_distinct_pairs(self, users: NDArray[np.int64], movies: NDArray[np.int64]) -> None:
        """No user rates one movie twice."""
        ordered = (np.diff(users) > 0) | ((np.diff(users) == 0) & (np.diff(movies) > 0))
        if ordered.all():  # as all of GroupLens' CSV files are
            return
        order = np.lexsort((movies, users))  # stable: of equal pairs the earlier line comes first
        same = (np.diff(users[order]) == 0) & (np.diff(movies[order]) == 0)
        if not same.any():
            return
        row = int(order[1:][same].min())
        first = int(np.argmax((users == users[row]) & (movies == movies[row])))
        name = self.archive.files[0]
        self._refuse(
            name, row,
            f"user {users[row]} rates movie {movies[row]}, as on line {self._line(name, first)} already, expected one "
            "rating for a user and a movie",
        )  # fmt: skip

    def _refuse(self, name: str, row: int, problem: str) -> NoReturn:
        raise DataError(
            f"{self.folder / name} line {self._line(name, row)}: {problem}; correct it, {self.fetch}"
        ) from None

    def _line(self, name: str, row: int) -> int:
        return row + 1 + {**_DAT, **_CSV}[name].has_header

    def _hash(self) -> str:
        """SHA-256 over names, lengths and bytes of the files, as MovieLens-100K's."""
        digest = hashlib.sha256()
        for name in self.archive.files:
            path = self.folder / name
            digest.update(f"{name}:{path.stat().st_size}:".encode())
            with open(path, "rb") as file:
                while block := file.read(1 << 22):
                    digest.update(block)
        return digest.hexdigest()


def _user_table(table: pl.DataFrame) -> Mapping[str, pl.Series]:
    return {
        "user_id": table["user id"],
        "gender": table["gender"],
        "age": table["age"],
        "occupation": table["occupation"].cast(pl.String),
        "zip_code": table["zip code"],
    }


def _array(column: pl.Series) -> NDArray[Any]:
    return np.array(column.to_list()) if column.dtype == pl.String else column.to_numpy(writable=True)


def _genres(column: pl.Series) -> NDArray[Any]:
    lists = column.replace(NO_GENRES, "").str.split("|").to_list()
    result = np.empty(len(lists), dtype=object)
    result[:] = [tuple(name for name in names if name) for names in lists]
    return result
