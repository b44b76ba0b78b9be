"""Generated data in MovieLens-100K's format: no row of the real data, but tastes that a model can learn."""

from pathlib import Path
from typing import Any

import numpy as np

from deepfm.data.grouplens.columns import GENRES
from deepfm.data.grouplens.fields import SAMPLE_TITLE
from deepfm.errors import DataError
from deepfm.utils import random_stream
from deepfm.utils.io import write_bytes

TASTES = 6  # width of the latent taste vectors
MIN_RATINGS = 20  # per user, where the sizes allow it
MIN_LIKES = 3
RATING_SHARES = (0.06, 0.12, 0.27, 0.34, 0.21)  # of the ratings 1 to 5
WINDOW = (874_800_000, 893_200_000)  # the first and last second of a rating: September 1997 to April 1998
OCCUPATIONS = (
    *(
        "administrator",
        "artist",
        "doctor",
        "educator",
        "engineer",
        "entertainment",
        "executive",
        "healthcare",
    ),
    *("homemaker", "lawyer", "librarian", "marketing", "none", "other", "programmer", "retired", "salesman"),
    *("scientist", "student", "technician", "writer"),
)
_README = """This folder holds GENERATED data in the format of MovieLens-100K, written by deepfm.
It contains no row of the real data; users, movies, titles and ratings are invented (seed {seed}).
Numbers measured on it say nothing about MovieLens.
"""


def generate_sample(
    seed: int = 0, *, num_users: int = 943, num_movies: int = 1682, num_ratings: int = 100_000
) -> dict[str, bytes]:
    """The contents of u.data, u.user and u.item; the same arguments give the same bytes.

    Tastes of users depend on their occupation, age and gender and on themselves; those of movies on their
    genres and on themselves. What a user rates follows popularity and affinity, how it is rated follows
    affinity and quality.
    Each user has at least 20 ratings where `num_ratings` allows it, and three likes.

    Raises:
        DataError: a negative seed, or fewer ratings than users, or more than user-movie pairs.
    """
    if min(num_users, num_movies) < 1 or not num_users <= num_ratings <= num_users * num_movies:
        raise DataError(
            f"a sample of {num_ratings} ratings by {num_users} users of {num_movies} movies is impossible; "
            "expected at least one rating per user and at most one per user and movie; change the sizes"
        )
    if seed < 0:
        raise DataError(f"the sample's seed is {seed}; expected 0 or more; give another seed")
    users, user_tastes = _users(random_stream("sample users", seed), num_users)
    movies, movie_tastes, genres = _movies(random_stream("sample movies", seed), num_movies)
    # einsum, unlike BLAS, sums in one order whatever the number of threads: the same bytes everywhere.
    affinity = np.einsum("uk,mk->um", user_tastes, movie_tastes) / np.sqrt(TASTES)  # (U, M), about unit variance
    draw = random_stream("sample ratings", seed)
    quality = draw.normal(size=num_movies)
    counts = _ratings_per_user(draw, num_users, num_movies, num_ratings)
    user, movie = _choose(draw, affinity, quality, counts)  # (N,) each, users in order
    liking = 1.5 * affinity[user, movie] + 0.6 * quality[movie] + 0.3 * draw.normal(size=num_users)[user]
    rating = _ratings(liking + 0.8 * draw.normal(size=num_ratings), user)
    user, movie, rating, time = _timeline(draw, user, movie, rating, genres)
    shuffled = draw.permutation(num_ratings)
    columns = {"user": user + 1, "movie": movie + 1, "rating": rating, "time": time}
    data = _text({name: column[shuffled] for name, column in columns.items()}, "\t")
    return {"u.data": data, "u.user": _text(users, "|"), "u.item": _text(movies, "|")}


def write_sample(folder: str | Path, seed: int = 0, **sizes: int) -> list[Path]:
    """Write the sample's three files, and a README that says what they are, to `folder`; returns the paths.

    Args:
        folder: made if missing; files of these names in it are replaced.
        seed: of the generator.
        sizes: `num_users`, `num_movies`, `num_ratings` of `generate_sample`.

    Raises:
        DataError: impossible sizes.
        RunError: the folder cannot be written.
    """
    files = generate_sample(seed, **sizes)
    contents = {"README": _README.format(seed=seed).encode(), **files}
    paths = []
    for name, content in contents.items():
        path = Path(folder).expanduser() / name
        write_bytes(path, content)
        paths.append(path)
    return paths


def _users(draw: np.random.Generator, count: int) -> tuple[dict[str, Any], np.ndarray]:
    """Columns of u.user and taste vectors (U, K)."""
    weights = 1.0 / (1.0 + np.arange(len(OCCUPATIONS)))
    occupation = draw.choice(len(OCCUPATIONS), size=count, p=draw.permutation(weights / weights.sum()))
    gender = (draw.random(count) < 0.3).astype(np.int64)  # 1 is female
    age = np.clip(np.round(18 + draw.gamma(2.0, 8.0, size=count)), 7, 80).astype(np.int64)
    zip_code = draw.integers(0, 100_000, size=count)
    by_group = (
        draw.normal(size=(len(OCCUPATIONS), TASTES))[occupation]
        + draw.normal(size=(2, TASTES))[gender]
        + draw.normal(size=(9, TASTES))[age // 10]
    )
    tastes = 0.4 * by_group + 0.7 * draw.normal(size=(count, TASTES))  # about unit variance
    table = {
        "id": np.arange(1, count + 1),
        "age": age,
        "gender": np.array(["M", "F"])[gender],
        "occupation": np.array(OCCUPATIONS)[occupation],
        "zip": [f"{code:05d}" for code in zip_code],
    }
    return table, tastes


def _movies(draw: np.random.Generator, count: int) -> tuple[dict[str, Any], np.ndarray, np.ndarray]:
    """Columns of u.item, taste vectors (M, K) and each movie's first genre (M,)."""
    weights = 1.0 / (2.0 + np.arange(len(GENRES) - 1))
    keys = np.log(draw.permutation(weights)) + draw.gumbel(size=(count, len(GENRES) - 1))
    ranks = np.argsort(np.argsort(-keys, axis=1), axis=1)
    number = 1 + draw.choice(3, size=count, p=[0.5, 0.33, 0.17])
    flags = ranks < number[:, None]  # (M, 18): one to three genres, never "unknown"
    of_genres = draw.normal(size=(len(GENRES) - 1, TASTES))
    by_genre = np.einsum("mg,gk->mk", flags.astype(float), of_genres) / np.sqrt(number)[:, None]
    tastes = 0.7 * by_genre + 0.7 * draw.normal(size=(count, TASTES))
    year = 1998 - np.minimum(draw.geometric(0.15, size=count), 70)
    day = draw.integers(1, 29, size=count)
    month = np.array(["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"])
    month = month[draw.integers(0, 12, size=count)]
    ids = np.arange(1, count + 1)
    table: dict[str, Any] = {
        "id": ids,
        "title": [f"{SAMPLE_TITLE}{i:04d} ({y})" for i, y in zip(ids, year, strict=True)],
        "released": [f"{d:02d}-{m}-{y}" for d, m, y in zip(day, month, year, strict=True)],
        "video": [""] * count,
        "url": [f"http://example.org/sample-movie-{i:04d}" for i in ids],
        "unknown": np.zeros(count, dtype=np.int64),
    }
    table |= {genre: flags[:, index].astype(np.int64) for index, genre in enumerate(GENRES[1:])}
    return table, tastes, np.argmax(flags, axis=1)


def _ratings_per_user(draw: np.random.Generator, users: int, movies: int, ratings: int) -> np.ndarray:
    """How many ratings each user gives (U,): skewed, between a floor and a cap, and `ratings` in all."""
    floor = min(MIN_RATINGS, ratings // users)
    cap = min(movies, max(-(-ratings // users), int(0.45 * movies)))
    spread = draw.lognormal(0.0, 1.3, size=users)
    low, high = 0.0, float(ratings) / spread.min()
    for _ in range(200):  # the scale at which the clipped counts sum to `ratings`, by bisection
        middle = (low + high) / 2
        total = np.clip(floor + np.floor(middle * spread), floor, cap).sum()
        low, high = (middle, high) if total <= ratings else (low, middle)
    counts = np.clip(floor + np.floor(low * spread), floor, cap).astype(np.int64)
    while (missing := ratings - int(counts.sum())) > 0:
        counts[np.flatnonzero(counts < cap)[:missing]] += 1
    return counts


def _choose(
    draw: np.random.Generator, affinity: np.ndarray, quality: np.ndarray, counts: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Which movies each user rates, users in order: the top of popularity, affinity and noise; (N,), (N,)."""
    users, movies = affinity.shape
    rank = np.empty(movies)
    rank[np.argsort(-(quality + draw.normal(size=movies)))] = np.arange(movies)
    popularity = -0.9 * np.log(rank + 0.03 * movies) - 1.5 * rank / movies
    keys = popularity + 0.8 * affinity + draw.gumbel(size=(users, movies))
    order = np.argsort(-keys, axis=1, kind="stable")
    chosen = np.arange(movies) < counts[:, None]
    return np.repeat(np.arange(users), counts), order[chosen]


def _ratings(score: np.ndarray, user: np.ndarray) -> np.ndarray:
    """Ratings 1 to 5 (N,) by the score's quantiles; the three best of a user are liked."""
    place = np.empty(len(score))
    place[np.argsort(score, kind="stable")] = (np.arange(len(score)) + 0.5) / len(score)
    rating = 1 + np.searchsorted(np.cumsum(RATING_SHARES)[:-1], place)
    order = np.lexsort((-score, user))
    best = order[_place_in_group(user) < MIN_LIKES]  # lexsort keeps the users' order, so places fit
    rating[best] = np.maximum(rating[best], 4)
    return rating


def _timeline(
    draw: np.random.Generator, user: np.ndarray, movie: np.ndarray, rating: np.ndarray, genres: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Order each user's ratings by theme, and give each its second: sessions of bursts, with many ties."""
    mood = draw.random((int(user.max()) + 1, len(GENRES)))
    theme = mood[user, genres[movie]] + 0.25 * draw.normal(size=len(user))
    order = np.lexsort((theme, user))
    user, movie, rating = user[order], movie[order], rating[order]
    kind = draw.random(len(user))
    gap = np.where(kind < 0.55, 0.0, np.ceil(draw.exponential(25.0, size=len(user))))
    gap = np.where(kind > 0.975, np.ceil(draw.lognormal(11.0, 1.2, size=len(user))), gap)  # the next session
    place = _place_in_group(user)
    gap[place == 0] = 0.0
    elapsed = np.cumsum(gap)
    starts = np.flatnonzero(place == 0)
    counts = np.diff(np.append(starts, len(user)))
    elapsed -= np.repeat(elapsed[starts], counts)
    span = WINDOW[1] - WINDOW[0]
    length = elapsed[starts + counts - 1]
    scale = np.minimum(1.0, span / np.maximum(length, 1.0))
    begin = WINDOW[0] + draw.random(len(starts)) * (span - length * scale)
    time = np.floor(np.repeat(begin, counts)) + np.floor(elapsed * np.repeat(scale, counts))
    return user, movie, rating, time.astype(np.int64)


def _place_in_group(user: np.ndarray) -> np.ndarray:
    """For users in order (N,): 0, 1, 2, … inside each user's rows."""
    starts = np.flatnonzero(np.diff(user, prepend=-1))
    return np.arange(len(user)) - np.repeat(starts, np.diff(np.append(starts, len(user))))


def _text(columns: dict[str, Any], separator: str) -> bytes:
    """Lines of plain text, in ASCII, as MovieLens writes them."""
    cells = [np.asarray(column).astype(str).tolist() for column in columns.values()]
    return "".join(f"{separator.join(row)}\n" for row in zip(*cells, strict=True)).encode("ascii")
