"""The raw files of MovieLens-100K: read, checked to the line, and held as numpy arrays."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from deepfm.data.grouplens.columns import RawTable
from deepfm.data.grouplens.download import (
    FILES,
    OFFICIAL_SHA256,
    download_movielens,
    hash_files,
    present_files,
    read_files,
    sample_banner,
)
from deepfm.data.grouplens.fields import SAMPLE_TITLE
from deepfm.errors import ConfigError, DataError
from deepfm.utils import get_logger

SOURCES = ("auto", "files", "download", "sample")
LIKE = 4  # a rating of at least this is a like


@dataclass(frozen=True, eq=False)
class RawMovieLens:
    """The three files as arrays, rows in the files' order.

    Args:
        user_ids, movie_ids: int64 (N,), one entry per rating of u.data.
        ratings: float32 (N,), from 1 to 5.
        timestamps: int64 (N,), seconds since 1970 in UTC.
        users: columns (U,) of u.user: int64 `user_id`, `age` (years); str `gender`, `occupation`, `zip_code`.
        movies: columns (M,) of u.item: `movie_id` (int64), `title` (str), `genres` (a tuple of names each).
        name: "ml-100k", or "ml-100k-sample" for generated files.
        source: "files", "download" (fetched by this call) or "sample".
        hash: SHA-256 over the files' names and bytes, see `hash_files`.

    Raises:
        DataError: columns of one table differ in length.
    """

    user_ids: np.ndarray
    movie_ids: np.ndarray
    ratings: np.ndarray
    timestamps: np.ndarray
    users: dict[str, np.ndarray]
    movies: dict[str, np.ndarray]
    name: str
    source: str
    hash: str

    def __post_init__(self) -> None:
        ratings = {"movie_ids": self.movie_ids, "ratings": self.ratings, "timestamps": self.timestamps}
        ratings["user_ids"] = self.user_ids
        for table, columns in (("ratings", ratings), ("users", self.users), ("movies", self.movies)):
            lengths = {name: len(column) for name, column in columns.items()}
            if len(set(lengths.values())) > 1:
                raise DataError(f"the columns of {table} have lengths {lengths}; expected one length, give whole rows")

    def __repr__(self) -> str:
        return (
            f"RawMovieLens({len(self.ratings):,} ratings, {len(self.users['user_id']):,} users, "
            f"{len(self.movies['movie_id']):,} movies, name={self.name!r}, source={self.source!r}, "
            f"hash={self.hash[:12]!r}...)"
        )


def load_movielens(data_dir: str | Path, source: str = "auto") -> RawMovieLens:
    """Read MovieLens-100K, or what stands in for it.

    Args:
        data_dir: the folder of u.data, u.user and u.item; a download lands there; `sample` ignores it.
        source: `files` reads them; `download` fetches them unless valid ones are there; `sample` generates
            such data; `auto` is files, else download, else the sample with a warning nobody can miss.

    Raises:
        ConfigError: an unknown source.
        DataError: files that are missing, damaged or foreign (in `auto` too, where any is there), or a
            download that failed.
    """
    if source not in SOURCES:
        raise ConfigError(f"data.source is {source!r}; expected one of {', '.join(SOURCES)}; choose one of them")
    if source == "sample":
        return _load_sample()
    folder = Path(data_dir).expanduser()
    present = present_files(folder)
    if source == "files" or (source == "auto" and present):
        return parse_movielens(read_files(folder), str(folder), "files")
    if len(present) == len(FILES):
        try:
            return parse_movielens(read_files(folder), str(folder), "files")
        except DataError as error:
            get_logger(__name__).warning("the files are fetched again and replaced: %s", error)
    try:
        download_movielens(folder)
    except DataError as error:
        if source == "download":
            raise
        get_logger(__name__).warning(sample_banner(folder, str(error)))
        return _load_sample()
    return parse_movielens(read_files(folder), str(folder), "download")


def check_files(data_dir: str | Path) -> dict[str, Any]:
    """Read the files in `data_dir` with every check and say what they are.

    Returns:
        `name`, `data_dir`, the counts `ratings`, `users`, `movies` and `likes`, `hash` (of the set), `sha256`
        (of each file), `official` (for each file, whether it equals GroupLens's) and `is_official` (all do).

    Raises:
        DataError: the files are missing, damaged or foreign.
    """
    folder = Path(data_dir).expanduser()
    files = read_files(folder)
    raw = parse_movielens(files, str(folder), "files")
    sums = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    official = {name: sums[name] == OFFICIAL_SHA256[name] for name in FILES}
    return {
        "name": raw.name,
        "data_dir": str(folder),
        "ratings": len(raw.ratings),
        "users": len(raw.users["user_id"]),
        "movies": len(raw.movies["movie_id"]),
        "likes": int((raw.ratings >= LIKE).sum()),
        "hash": raw.hash,
        "sha256": sums,
        "official": official,
        "is_official": all(official.values()),
    }


def parse_movielens(files: Mapping[str, bytes], where: str, source: str) -> RawMovieLens:
    """Parse the bytes of the three files.

    Args:
        files: file name to content.
        where: the folder that errors name.
        source: what the result records as its source.

    Raises:
        DataError: the first thing wrong, with file, line, value and what was expected.
    """
    ratings, users, movies = (RawTable(where, name, files[name]) for name in FILES)
    user_table = {
        "user_id": users.unique_ids("user id"),
        "age": users.integers("age", 150),
        "gender": users.text("gender"),
        "occupation": users.text("occupation"),
        "zip_code": users.text("zip code"),
    }
    movie_table = {
        "movie_id": movies.unique_ids("movie id"),
        "title": movies.text("title"),
        "genres": movies.genres(),
    }
    user_ids = ratings.integers("user id")
    movie_ids = ratings.integers("movie id")
    ratings.require_known("user id", user_ids, user_table["user_id"], "u.user")
    ratings.require_known("movie id", movie_ids, movie_table["movie_id"], "u.item")
    ratings.require_distinct_pairs(user_ids, movie_ids)
    generated = np.char.startswith(movie_table["title"], SAMPLE_TITLE).all()
    return RawMovieLens(
        user_ids=user_ids,
        movie_ids=movie_ids,
        ratings=ratings.ratings(),
        timestamps=ratings.integers("timestamp"),
        users=user_table,
        movies=movie_table,
        name="ml-100k-sample" if generated else "ml-100k",
        source=source,
        hash=hash_files(files),
    )


def _load_sample() -> RawMovieLens:
    from deepfm.data.sample import generate_sample

    return parse_movielens(generate_sample(), "the generated sample", "sample")
