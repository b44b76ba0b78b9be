"""The raw files of MovieLens-100K: read, checked to the line, and held as numpy arrays."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from deepfm.data.movielens_download import (
    FILES,
    OFFICIAL_SHA256,
    REPAIR,
    decode_file,
    download_movielens,
    hash_files,
    present_files,
    read_files,
    sample_banner,
)
from deepfm.errors import ConfigError, DataError
from deepfm.utils import get_logger

if TYPE_CHECKING:
    import polars

SOURCES = ("auto", "files", "download", "sample")
GENRES = (
    *("unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary"),
    *("Drama", "Fantasy", "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller"),
    *("War", "Western"),
)
SAMPLE_TITLE = "Sample Movie "  # how every title of the generated sample begins
LIKE = 4  # a rating of at least this is a like
_LARGEST = 2**63 - 1
_COLUMNS = {
    "u.data": ("user id", "movie id", "rating", "timestamp"),
    "u.user": ("user id", "age", "gender", "occupation", "zip code"),
    "u.item": ("movie id", "title", "release date", "video release date", "IMDb URL", *GENRES),
}
_SEPARATORS = {"u.data": "\t", "u.user": "|", "u.item": "|"}


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
    ratings, users, movies = (_Table(where, name, files[name]) for name in FILES)
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


class _Table:
    """One file as columns of strings; every check that fails names the file, the line and the value."""

    def __init__(self, where: str, name: str, content: bytes) -> None:
        import polars

        self.path = str(Path(where) / name)
        self.names = _COLUMNS[name]
        self.separator = _SEPARATORS[name]
        text = decode_file(self.path, content, ascii_only=name == "u.data")
        # Only "\n" ends a line: latin-1 text may hold other characters that str.splitlines would split at.
        lines = polars.Series("line", text.rstrip("\n").split("\n"))
        self._check_column_counts(lines)
        parts = lines.str.split_exact(self.separator, len(self.names) - 1).struct.unnest()
        self.frame: polars.DataFrame = parts.rename(dict(zip(parts.columns, self.names, strict=True)))
        if not text.endswith("\n"):
            self._check_last_line()

    def integers(self, column: str, largest: int = _LARGEST) -> np.ndarray:
        """The column as int64 (rows,), each from 0 to `largest`."""
        import polars

        values = self.frame[column].cast(polars.Int64, strict=False)
        limit = "0 or more" if largest == _LARGEST else f"0 to {largest}"
        good = values.is_not_null() & values.is_between(0, largest)
        self._require(good.fill_null(False).to_numpy(), column, f"expected a whole number, {limit}")
        return values.to_numpy(writable=True)

    def ratings(self) -> np.ndarray:
        """The ratings as float32 (rows,), each from 1 to 5."""
        import polars

        values = self.frame["rating"].cast(polars.Float64, strict=False)
        good = values.is_between(1.0, 5.0).fill_null(False).to_numpy()
        self._require(good, "rating", "expected a number from 1 to 5")
        return values.to_numpy().astype(np.float32)

    def text(self, column: str) -> np.ndarray:
        """The column as unicode strings (rows,)."""
        return self.frame[column].to_numpy().astype(str)

    def genres(self) -> np.ndarray:
        """Each movie's genre names in the order of the columns: tuples in an object array (rows,)."""
        flags = self.frame.select(GENRES).to_numpy()  # (M, 19)
        good = (flags == "0") | (flags == "1")
        for index, genre in enumerate(GENRES):
            self._require(good[:, index], genre, "expected the genre's flag, 0 or 1")
        result = np.empty(len(flags), dtype=object)
        result[:] = [tuple(GENRES[index] for index in np.flatnonzero(row)) for row in flags == "1"]
        return result

    def unique_ids(self, column: str) -> np.ndarray:
        """The column as int64 (rows,), no value twice."""
        values = self.integers(column)
        _, first, inverse = np.unique(values, return_index=True, return_inverse=True)
        before = first[inverse]
        repeated = np.flatnonzero(before != np.arange(len(values)))
        if repeated.size:
            row = int(repeated[0])
            self._fail(row, f"{column} {values[row]} stands on line {before[row] + 1} already, expected it once")
        return values

    def require_known(self, column: str, values: np.ndarray, known: np.ndarray, file: str) -> None:
        """Every id of a rating stands in its own table."""
        self._require(np.isin(values, known), column, f"expected an id that {file} beside it lists")

    def require_distinct_pairs(self, user_ids: np.ndarray, movie_ids: np.ndarray) -> None:
        """No user rates one movie twice."""
        order = np.lexsort((movie_ids, user_ids))  # stable: of equal pairs the earlier line comes first
        same = (np.diff(user_ids[order]) == 0) & (np.diff(movie_ids[order]) == 0)
        if same.any():
            repeated = order[1:][same]
            row = int(repeated.min())
            pair = (user_ids == user_ids[row]) & (movie_ids == movie_ids[row])
            self._fail(
                row,
                f"user {user_ids[row]} rates movie {movie_ids[row]}, as on line {int(np.argmax(pair)) + 1} "
                "already, expected one rating for a user and a movie",
            )

    def _check_column_counts(self, lines: "polars.Series") -> None:
        counts = lines.str.count_matches(self.separator, literal=True).to_numpy().astype(np.int64) + 1
        wrong = np.flatnonzero(counts != len(self.names))
        if not wrong.size:
            return
        row = int(wrong[0])
        line = lines[row]
        separator = "tabs" if self.separator == "\t" else "'|'"
        hint = ""
        if "::" in line:
            hint = " (a '::' separator, as in MovieLens-1M or 10M, which are other data sets)"
        elif counts[row] == 1 and "," in line:
            hint = " (this looks like comma-separated text, which is another format)"
        elif counts[row] < len(self.names) and row == len(lines) - 1 and row > 0:
            hint = " (the last line: the file was cut off)"
        few = "too few" if counts[row] < len(self.names) else "too many"
        self._fail(
            row,
            f"{_show(line)} has {few} columns, {counts[row]}{hint}, "
            f"expected {len(self.names)} separated by {separator}",
        )

    def _check_last_line(self) -> None:
        """A last line may lack its newline, unless its last value is shorter than all others: it was cut."""
        last = self.frame[self.names[-1]]
        lengths = last.str.len_chars().to_numpy()
        if len(lengths) > 1 and lengths[-1] < (shortest := lengths[:-1].min()):
            self._fail(
                len(lengths) - 1,
                f"the file was cut off in the {last.name} {_show(last[-1])}, "
                f"expected {shortest} or more characters and a newline",
            )

    def _require(self, good: np.ndarray, column: str, expected: str) -> None:
        bad = np.flatnonzero(~good)
        if bad.size:
            row = int(bad[0])
            value = self.frame[column][row]
            header = row == 0 and column == self.names[0] and value.replace("_", "").replace(" ", "").isalpha()
            hint = " (a header line, which these files do not have)" if header else ""
            self._fail(row, f"{column} {_show(value)}{hint}, {expected}")

    def _fail(self, row: int, problem: str) -> NoReturn:
        raise DataError(f"{self.path} line {row + 1}: {problem}; {REPAIR}")


def _show(value: str) -> str:
    return repr(value if len(value) <= 60 else value[:57] + "...")


def _load_sample() -> RawMovieLens:
    from deepfm.data.sample import generate_sample

    return parse_movielens(generate_sample(), "the generated sample", "sample")
