"""Generated data in the formats of MovieLens' larger versions."""

from pathlib import Path

from deepfm.data.grouplens.columns import GENRES
from deepfm.data.movielens import AGE_BUCKETS
from deepfm.data.sample import generate_sample

SIZES = {"num_users": 60, "num_movies": 150, "num_ratings": 2400}


def _cells(content: bytes, separator: str) -> list[list[str]]:
    return [line.split(separator) for line in content.decode("latin-1").splitlines()]


def _genres(cells: list[str]) -> str:
    return "|".join(genre for genre, flag in zip(GENRES, cells[5:], strict=True) if flag == "1")


def write_1m(folder: Path) -> Path:
    """The sample as ratings.dat, users.dat and movies.dat."""
    files = generate_sample(seed=1, **SIZES)
    folder.mkdir(parents=True, exist_ok=True)
    jobs = sorted({cells[3] for cells in _cells(files["u.user"], "|")})
    ages = {age: max(bucket for bucket in AGE_BUCKETS if bucket <= max(age, 1)) for age in range(100)}
    tables = {
        "ratings.dat": _cells(files["u.data"], "\t"),
        "users.dat": [
            [cells[0], cells[2], str(ages[int(cells[1])]), str(jobs.index(cells[3])), cells[4]]
            for cells in _cells(files["u.user"], "|")
        ],
        "movies.dat": [[cells[0], cells[1] + " \xe9", _genres(cells)] for cells in _cells(files["u.item"], "|")],
    }
    for name, rows in tables.items():
        (folder / name).write_text("".join("::".join(row) + "\n" for row in rows), "latin-1", newline="")
    return folder


def write_csv(folder: Path) -> Path:
    """The sample as ratings.csv and movies.csv, in the order of users and movies, half a star less where it is 1."""
    files = generate_sample(seed=1, **SIZES)
    folder.mkdir(parents=True, exist_ok=True)
    ratings = sorted(_cells(files["u.data"], "\t"), key=lambda cells: (int(cells[0]), int(cells[1])))
    rows = [[user, movie, "0.5" if stars == "1" else f"{stars}.0", time] for user, movie, stars, time in ratings]
    movies = [
        [cells[0], f'"{cells[1]}, with ""quotes"" \xe9"', "(no genres listed)" if cells[0] == "3" else _genres(cells)]
        for cells in _cells(files["u.item"], "|")
    ]
    for name, header, lines in (
        ("ratings.csv", "userId,movieId,rating,timestamp", rows),
        ("movies.csv", "movieId,title,genres", movies),
    ):
        (folder / name).write_text("\n".join([header, *(",".join(line) for line in lines)]) + "\n", "utf-8", newline="")
    return folder
