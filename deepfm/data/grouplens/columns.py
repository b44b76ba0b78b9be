"""One raw file of MovieLens-100K as columns, every value checked."""

from pathlib import Path
from typing import NoReturn

import numpy as np

from deepfm.data.grouplens.download import REPAIR, decode_file
from deepfm.errors import DataError

GENRES = (
    *("unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary"),
    *("Drama", "Fantasy", "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller"),
    *("War", "Western"),
)
AGE_BUCKETS = (1, 18, 25, 35, 45, 50, 56)  # the youngest of each of MovieLens-1M's groups, in years
_LARGEST = 2**63 - 1
_MOST_DIGITS = 18  # of a number that int64 surely holds
_COLUMNS = {
    "u.data": ("user id", "movie id", "rating", "timestamp"),
    "u.user": ("user id", "age", "gender", "occupation", "zip code"),
    "u.item": ("movie id", "title", "release date", "video release date", "IMDb URL", *GENRES),
}
_SEPARATORS = {"u.data": "\t", "u.user": "|", "u.item": "|"}


class RawTable:
    """One file as columns of strings; every check that fails names the file, the line and the value."""

    def __init__(self, where: str, name: str, content: bytes) -> None:
        self.path = str(Path(where) / name)
        self.names = _COLUMNS[name]
        self.separator = _SEPARATORS[name]
        text = decode_file(self.path, content, ascii_only=name == "u.data")
        # Only "\n" ends a line: latin-1 text may hold other characters that str.splitlines would split at.
        body = text.rstrip("\n")
        self._check_column_counts(body)
        cells = np.array(body.replace("\n", self.separator).split(self.separator)).reshape(-1, len(self.names))
        self.columns = dict(zip(self.names, cells.T, strict=True))
        if not text.endswith("\n"):
            self._check_last_line()

    def integers(self, column: str, largest: int = _LARGEST) -> np.ndarray:
        """The column as int64 (rows,), each from 0 to `largest`."""
        cells = np.ascontiguousarray(self.columns[column])
        limit = "0 or more" if largest == _LARGEST else f"0 to {largest}"
        good = np.char.isdecimal(cells) & (np.char.str_len(cells) <= _MOST_DIGITS)
        values = np.where(good, cells, "0").astype(np.int64)
        self._require(good & (values <= largest), column, f"expected a whole number, {limit}")
        return values

    def ratings(self) -> np.ndarray:
        """The ratings as float32 (rows,), each from 1 to 5."""
        different, inverse = np.unique(np.ascontiguousarray(self.columns["rating"]), return_inverse=True)
        values = np.array([_number(text) for text in different.tolist()])[inverse]  # a handful of different texts
        self._require((values >= 1.0) & (values <= 5.0), "rating", "expected a number from 1 to 5")
        return values.astype(np.float32)

    def text(self, column: str) -> np.ndarray:
        """The column as unicode strings (rows,)."""
        return np.ascontiguousarray(self.columns[column])

    def genres(self) -> np.ndarray:
        """Each movie's genre names in the order of the columns: tuples in an object array (rows,)."""
        flags = np.stack([self.columns[genre] for genre in GENRES], axis=1)  # (M, 19)
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

    def _check_column_counts(self, body: str) -> None:
        characters = np.frombuffer(body.encode("utf-32-le"), dtype=np.uint32)
        ends = np.append(np.flatnonzero(characters == ord("\n")), len(characters))
        separators = np.flatnonzero(characters == ord(self.separator))
        counts = np.diff(np.searchsorted(separators, ends), prepend=0) + 1
        wrong = np.flatnonzero(counts != len(self.names))
        if not wrong.size:
            return
        row = int(wrong[0])
        line = body[ends[row - 1] + 1 if row else 0 : ends[row]]
        separator = "tabs" if self.separator == "\t" else "'|'"
        hint = ""
        if "::" in line:
            hint = " (a '::' separator, as in MovieLens-1M or 10M, which are other data sets)"
        elif counts[row] == 1 and "," in line:
            hint = " (this looks like comma-separated text, which is another format)"
        elif counts[row] < len(self.names) and row == len(ends) - 1 and row > 0:
            hint = " (the last line: the file was cut off)"
        few = "too few" if counts[row] < len(self.names) else "too many"
        self._fail(
            row,
            f"{_show(line)} has {few} columns, {counts[row]}{hint}, "
            f"expected {len(self.names)} separated by {separator}",
        )

    def _check_last_line(self) -> None:
        """A last line may lack its newline, unless its last value is shorter than all others: it was cut."""
        name, last = self.names[-1], self.columns[self.names[-1]]
        lengths = np.char.str_len(last)
        if len(lengths) > 1 and lengths[-1] < (shortest := lengths[:-1].min()):
            self._fail(
                len(lengths) - 1,
                f"the file was cut off in the {name} {_show(str(last[-1]))}, "
                f"expected {shortest} or more characters and a newline",
            )

    def _require(self, good: np.ndarray, column: str, expected: str) -> None:
        bad = np.flatnonzero(~good)
        if bad.size:
            row = int(bad[0])
            value = str(self.columns[column][row])
            header = row == 0 and column == self.names[0] and value.replace("_", "").replace(" ", "").isalpha()
            hint = " (a header line, which these files do not have)" if header else ""
            self._fail(row, f"{column} {_show(value)}{hint}, {expected}")

    def _fail(self, row: int, problem: str) -> NoReturn:
        raise DataError(f"{self.path} line {row + 1}: {problem}; {REPAIR}")


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")


def _show(value: str) -> str:
    return repr(value if len(value) <= 60 else value[:57] + "...")
