"""One raw file of MovieLens-100K as columns, every value checked."""

from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import numpy as np

from deepfm.data.movielens_download import REPAIR, decode_file
from deepfm.errors import DataError

if TYPE_CHECKING:
    import polars

GENRES = (
    *("unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary"),
    *("Drama", "Fantasy", "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller"),
    *("War", "Western"),
)
_LARGEST = 2**63 - 1
_COLUMNS = {
    "u.data": ("user id", "movie id", "rating", "timestamp"),
    "u.user": ("user id", "age", "gender", "occupation", "zip code"),
    "u.item": ("movie id", "title", "release date", "video release date", "IMDb URL", *GENRES),
}
_SEPARATORS = {"u.data": "\t", "u.user": "|", "u.item": "|"}


class RawTable:
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
