"""The whole MovieLens job as a user of a peer would put it together: what does not depend on the library.

Raw files to encoded columns, leave-one-out on likes, four negatives a like drawn anew each epoch, validation after
each epoch, the best epoch's weights to the test set. pandas reads, numpy does the rest, nothing loops over rows.
"""

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from ranking import K, metrics_of_rows
from worker import Contender
from workload import Columns, Field, Rows, Workload

LIKED, NEGATIVES, GENRES, MAX_GENRES = 4, 4, 19, 6
AGES = [1, 18, 25, 35, 45, 50, 56]
MOVIE_COLUMNS = ["movie_id", "title", "released", "video", "url", *range(GENRES)]
Ids = NDArray[np.int64]


class MovieLens:
    """Encoded tables of users and movies, the split, and the evaluation candidates.

    Args:
        folder: u.data, u.user and u.item.
        num_candidates: negatives a user in validation and test.
        seed: of candidates and training negatives.
    """

    def __init__(self, folder: Path, num_candidates: int, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        names = ["user_id", "movie_id", "rating", "time"]
        ratings = pd.read_csv(folder / "u.data", sep="\t", names=names)
        names = ["user_id", "years", "gender", "occupation", "zip"]
        users = pd.read_csv(folder / "u.user", sep="|", names=names, dtype={"zip": str}, quoting=3)
        movies = pd.read_csv(folder / "u.item", sep="|", names=MOVIE_COLUMNS, encoding="latin-1", quoting=3)
        ratings["user"] = pd.Index(users["user_id"]).get_indexer(ratings["user_id"])
        ratings["movie"] = pd.Index(movies["movie_id"]).get_indexer(ratings["movie_id"])
        self.rated = np.zeros((len(users), len(movies)), dtype=bool)
        self.rated[ratings["user"], ratings["movie"]] = True
        likes = ratings[ratings["rating"] >= LIKED].sort_values(["user", "time"], kind="stable")
        left = likes.groupby("user").cumcount(ascending=False)
        enough = likes.groupby("user")["user"].transform("size") >= 3
        train, validation, test = likes[(left > 1) | ~enough], likes[(left == 1) & enough], likes[(left == 0) & enough]
        self.likes = train["user"].to_numpy(), train["movie"].to_numpy()
        self.user_columns, self.movie_columns, self.fields = _encode(users, movies, *self.likes)
        self.validation, self.test = (self._candidates(part, num_candidates) for part in (validation, test))

    def training_rows(self) -> Rows:
        """Each like followed by its negatives, drawn anew."""
        users, movies = self.likes
        negatives = self.rng.integers(self.rated.shape[1], size=(len(users), NEGATIVES))
        while (wrong := self.rated[users[:, None], negatives]).any():
            negatives[wrong] = self.rng.integers(self.rated.shape[1], size=int(wrong.sum()))
        items = np.concatenate([movies[:, None], negatives], axis=1)
        labels = np.zeros(items.shape, dtype=np.float32)
        labels[:, 0] = 1.0
        return self._rows(np.repeat(users, 1 + NEGATIVES), items.reshape(-1), labels.reshape(-1))

    def _candidates(self, held_out: pd.DataFrame, count: int) -> Rows:
        """Each user's positive, then up to `count` distinct movies that the user has not rated."""
        users = held_out["user"].to_numpy()
        keys = self.rng.random((len(users), self.rated.shape[1]))
        keys[self.rated[users]] = 2.0
        order = np.argsort(keys, axis=1)[:, :count]
        unrated = np.take_along_axis(keys, order, axis=1) < 2.0
        items = np.concatenate([held_out["movie"].to_numpy()[:, None], order], axis=1)
        valid = np.concatenate([np.ones((len(users), 1), dtype=bool), unrated], axis=1)
        labels = np.zeros(items.shape, dtype=np.float32)
        labels[:, 0] = 1.0
        sizes = valid.sum(axis=1)
        rows = self._rows(np.repeat(users, sizes), items[valid], labels[valid])
        return replace(rows, offsets=np.concatenate([[0], sizes.cumsum()]))

    def _rows(self, users: Ids, movies: Ids, labels: NDArray[np.float32]) -> Rows:
        columns = {name: column[users] for name, column in self.user_columns.items()}
        return Rows(columns | {name: column[movies] for name, column in self.movie_columns.items()}, labels)


def _encode(
    users: pd.DataFrame, movies: pd.DataFrame, liking: Ids, liked: Ids
) -> tuple[Columns, Columns, tuple[Field, ...]]:
    """Ids from 1 for what the training likes know, 0 for the rest."""
    raw = {
        "user_id": users["user_id"],
        "gender": users["gender"],
        "age": pd.Series(np.searchsorted(AGES, users["years"], side="right")),
        "occupation": users["occupation"],
        "zip_prefix": users["zip"].str[:3],
        "movie_id": movies["movie_id"],
    }
    encoded, fields = {}, []
    for name, column in raw.items():
        known = column.iloc[np.unique(liked if name == "movie_id" else liking)].unique()
        encoded[name] = pd.Categorical(column, categories=known).codes.astype(np.int64) + 1
        fields.append(Field(name, "sparse", len(known) + 1))
    flags = movies[list(range(GENRES))].to_numpy() == 1
    order = np.argsort(~flags, axis=1, kind="stable")[:, :MAX_GENRES]
    genres = np.where(np.take_along_axis(flags, order, axis=1), order + 1, 0)
    fields.append(Field("genres", "sequence", GENRES + 1, MAX_GENRES))
    return encoded, {"movie_id": encoded.pop("movie_id"), "genres": genres}, tuple(fields)


def run_job(make: Callable[[Workload], Contender], workload: Workload) -> dict[str, Any]:
    """From raw files to the test metrics of the epoch that validates best."""
    data = MovieLens(Path(workload.raw_data), workload.num_candidates, workload.seed)
    contender = make(replace(workload, fields=data.fields))
    loaded = {name: contender.load(getattr(data, name), shuffle=False) for name in ("validation", "test")}

    def evaluate(name: str) -> dict[str, float]:
        rows = getattr(data, name)
        return metrics_of_rows(contender.score(loaded[name]), rows.labels, rows.offsets)

    best, weights, losses = -1.0, {}, []
    for _ in range(workload.epochs):
        losses.append(contender.train(contender.load(data.training_rows(), shuffle=True)))
        metrics = evaluate("validation")
        if metrics[f"ndcg@{K}"] > best:
            best, weights = metrics[f"ndcg@{K}"], copy.deepcopy(contender.model.state_dict())
    contender.model.load_state_dict(weights)
    return {"metrics": evaluate("test"), "losses": losses, "parameters": contender.num_parameters()}
