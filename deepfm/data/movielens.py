"""MovieLens of any size: the encoded fields, leave-one-out, sampled negatives, fixed evaluation candidates.

The only module that names MovieLens' features; whatever comes after it reads the schema.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from deepfm.config import DataConfig
from deepfm.data.adapter import DataInfo
from deepfm.data.grouplens.archive import ARCHIVES
from deepfm.data.grouplens.columns import AGE_BUCKETS
from deepfm.data.grouplens.fields import HISTORY, ITEM_FIELDS, MAX_GENRES, USER_FIELDS, ZIP_PREFIX_LENGTH
from deepfm.data.grouplens.files import RawMovieLens, load_movielens
from deepfm.data.history import Histories, event_order, histories_before
from deepfm.data.interactions import InteractionDataset, TrainingInteractions
from deepfm.data.negatives import (
    Candidates,
    NegativeSampler,
    candidates_fingerprint,
    draw_candidates,
    save_candidates,
)
from deepfm.data.saved_encoders import save_encoders
from deepfm.data.schema import DatasetSchema, FeatureType, FieldSchema
from deepfm.data.split import Split, split_events
from deepfm.data.transforms import LabelEncoder, MultiHotEncoder
from deepfm.engine.memory import require_memory
from deepfm.engine.run import RunFolder
from deepfm.errors import DataError
from deepfm.utils.logging import get_logger
from deepfm.utils.seeding import random_stream

CANDIDATE_BYTES = 60  # of an evaluation row: user, item and label, and what drawing takes for a while

Table = dict[str, NDArray[Any]]
log = get_logger(__name__)


class MovieLensAdapter:
    """Builds the data sets of MovieLens-100K, or of another version, with the fields of users that it has.

    Args:
        data_dir: the folder with the files (see `DataConfig.source` for the alternatives).
        config: split, label and sampling.
        seed: with the epoch, what training negatives depend on; also a random split's seed.
        max_history: the longest behaviour history, of which the latest likes are kept; 0 for none.

    Example:
        >>> adapter = MovieLensAdapter("data/ml-100k", DataConfig(source="sample"))
        >>> schema, train, validation, test = adapter.build()  # doctest: +SKIP
    """

    has_candidates: ClassVar[bool] = True

    def __init__(self, data_dir: str | Path, config: DataConfig, *, seed: int = 42, max_history: int = 0) -> None:
        if max_history < 0:
            raise DataError(f"max_history is {max_history}; expected the number of events to keep, or 0 for none")
        self.config, self.seed, self.max_history = config, seed, max_history
        self.raw: RawMovieLens = _load(config.dataset_name, data_dir, config.source)
        source = (
            "sample" if self.raw.name.endswith("-sample") else self.raw.source
        )  # also where it was written to files
        self.info = DataInfo(self.raw.name, self.raw.hash, source)
        self.encoders: dict[str, Any] = {}
        self.candidates: dict[str, Candidates] = {}
        self._users = _positions(self.raw.users["user_id"], self.raw.user_ids)
        self._movies = _positions(self.raw.movies["movie_id"], self.raw.movie_ids)
        self._numbers: NDArray[np.int64] | None = None
        self.split = self._split_likes()

    def __repr__(self) -> str:
        return f"MovieLensAdapter({self.raw!r}, {self.split!r})"

    def build(
        self, encoders: Mapping[str, Any] | None = None, candidates: Mapping[str, Candidates] | None = None
    ) -> tuple[DatasetSchema, TrainingInteractions, InteractionDataset, InteractionDataset]:
        """The schema, and the training, validation and test sets.

        Args:
            encoders, candidates: those of a finished run, used as they are; None to fit and to draw them.
        """
        self.encoders = dict(encoders) if encoders is not None else self._fit_encoders()
        self.candidates = dict(candidates) if candidates is not None else self._draw_candidates()
        tables = self._encode_tables()
        train = TrainingInteractions(
            tables,
            self._users[self.split.train],
            self._movies[self.split.train],
            sampler=self._negative_sampler(self.config.train_negatives),
            num_negatives=self.config.num_neg_train,
            seed=self.seed,
            histories=self._histories("train", tables[1]),
        )
        validation, test = (
            InteractionDataset.from_candidates(tables, self.candidates[name], self._histories(name, tables[1]))
            for name in ("validation", "test")
        )
        self._log_facts()
        self._log_histories({"training": train, "validation": validation, "test": test})
        return self._schema(), train, validation, test

    def save(self, run: RunFolder) -> None:
        """Write what later commands need: encoders and candidates, users, movies and what was rated."""
        from deepfm.data.grouplens.rows import movielens_entities  # polars is loaded where it is needed

        save_encoders(self.encoders, run.encoders)
        save_candidates(self.candidates, run.candidates)
        likes = self.visible_likes("test") if self.max_history else None
        movielens_entities(self.raw, likes, self.max_history).save(run)

    def training_likes(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """`(P,)` users and `(P,)` movies of the training likes, as positions in the tables."""
        return self._users[self.split.train], self._movies[self.split.train]

    def visible_likes(self, split: str) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Users, order numbers and movies, each `(E,)`, of the likes that a history in `split` may hold, in file order.

        Training and validation see the training likes, and the test sees the validation likes too. What lies before a
        moment is up to its order number (`moments_of`).
        """
        parts = (self.split.train, self.split.validation) if split == "test" else (self.split.train,)
        rows = np.sort(np.concatenate(parts))  # the file's order, which stays that of equal order numbers
        return self._users[rows], self._order_numbers()[rows], self._movies[rows]

    def moments_of(self, split: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Users and order numbers of a split's moments: `(P,)` for each training like, `(U,)` for each group.

        A group of candidates with several positives has the moment of the first, so that none sees what came after.
        """
        numbers = self._order_numbers()
        if split == "train":
            return self._users[self.split.train], numbers[self.split.train]
        rows = getattr(self.split, split)
        first = np.full(self.num_users, np.iinfo(np.int64).max)
        np.minimum.at(first, self._users[rows], numbers[rows])
        users = self.candidates[split].users
        missing = np.isin(users, self._users[rows], invert=True)
        if missing.any():
            raise DataError(
                f"the candidates name user number {users[missing][0]}, who has no {split} like here; use the data and "
                "the split that they were drawn for"
            )
        return users, first[users]

    @property
    def num_users(self) -> int:
        """Rows of the user table."""
        return len(self.raw.users["user_id"])

    @property
    def num_items(self) -> int:
        """Rows of the movie table: the catalogue from which negatives and candidates are drawn."""
        return len(self.raw.movies["movie_id"])

    def protocol(self) -> dict[str, Any]:
        """What must be equal for two runs' metrics to be comparable, and how training negatives were drawn."""
        return {
            "split_strategy": self.config.split_strategy,
            "label_threshold": self.config.label_threshold,
            "min_interactions": self.config.min_interactions,
            "num_neg_eval": self.config.num_neg_eval,
            "candidates": candidates_fingerprint(self.candidates),
            "train_negatives": self.config.train_negatives,
            "num_neg_train": self.config.num_neg_train,
            **({"max_history": self.max_history, "history_ties": self.config.history_ties} if self.max_history else {}),
        }

    def num_cold(self, split: str) -> int:
        """How many positives of `validation` or `test` are movies without a training like."""
        candidates = self.candidates[split]
        positives = candidates.items[candidates.labels > 0]
        return int((~np.isin(positives, self._movies[self.split.train])).sum())

    def _split_likes(self) -> Split:
        likes = np.flatnonzero(self.raw.ratings >= self.config.label_threshold)
        split = split_events(
            self.config.split_strategy,
            self._users[likes],
            self.raw.timestamps[likes],
            min_interactions=self.config.min_interactions,
            rng=random_stream("random split", self.seed),
        )
        return Split(likes[split.train], likes[split.validation], likes[split.test])

    def _order_numbers(self) -> NDArray[np.int64]:
        if self._numbers is None:
            self._numbers = event_order(self.raw.timestamps, self.config.history_ties)
        return self._numbers

    def _histories(self, split: str, item_table: Table) -> dict[str, Histories]:
        if not self.max_history:
            return {}
        users, numbers, movies = self.visible_likes(split)
        events = users, numbers, item_table["movie_id"][movies]
        return {HISTORY: histories_before(events, *self.moments_of(split), self.max_history)}

    def _negative_sampler(self, rule: str) -> NegativeSampler:
        """Excludes what a user has ever rated; under `unseen` the held-out positives are drawn like any other."""
        shown = np.ones(len(self._users), dtype=bool)
        if rule == "unseen":
            shown[self.split.validation] = shown[self.split.test] = False
        return NegativeSampler(self._users[shown], self._movies[shown], self.num_users, self.num_items)

    def _draw_candidates(self) -> dict[str, Candidates]:
        sampler = self._negative_sampler("unrated")
        parts = {"validation": self.split.validation, "test": self.split.test}
        users = sum(len(np.unique(self._users[part])) for part in parts.values())
        require_memory(
            users * self.config.num_neg_eval * CANDIDATE_BYTES,
            f"{users:,} groups of {self.config.num_neg_eval:,} candidates",
            "lower data.num_neg_eval",
        )
        return {
            name: draw_candidates(
                self._users[part],
                self._movies[part],
                sampler,
                self.config.num_neg_eval,
                random_stream(f"{name} candidates", self.config.candidate_seed),
            )
            for name, part in parts.items()
        }

    def _raw_tables(self) -> tuple[Table, Table]:
        """Each field's raw column, one row a user and one row a movie."""
        users, movies = self.raw.users, self.raw.movies
        user_columns: Table = {name: users[name] for name in ("user_id", "gender", "occupation") if name in users}
        if "age" in users:
            groups = np.array(AGE_BUCKETS)
            user_columns["age"] = groups[np.searchsorted(groups, users["age"], side="right").clip(min=1) - 1]
        if "zip_code" in users:
            user_columns["zip_prefix"] = users["zip_code"].astype(f"U{ZIP_PREFIX_LENGTH}")
        in_order = {name: user_columns[name] for name in USER_FIELDS if name in user_columns}
        return in_order, {"movie_id": movies["movie_id"], "genres": movies["genres"]}

    def _fit_encoders(self) -> dict[str, Any]:
        """Encoders that know the users and movies of the training likes, and no others."""
        encoders: dict[str, Any] = {}
        for columns, positions in zip(self._raw_tables(), self.training_likes(), strict=True):
            known = np.unique(positions)
            for name, column in columns.items():
                encoder = MultiHotEncoder(MAX_GENRES) if name == "genres" else LabelEncoder()
                encoders[name] = encoder.fit([column[i] for i in known] if name == "genres" else column[known])
        return encoders

    def _encode_tables(self) -> tuple[Table, Table]:
        user_columns, item_columns = self._raw_tables()
        try:
            tables = tuple(
                {name: self.encoders[name].transform(column) for name, column in columns.items()}
                for columns in (user_columns, item_columns)
            )
        except KeyError as error:
            raise DataError(
                f"the encoders have none for field {error.args[0]!r}; use those of a MovieLens run"
            ) from error
        return tables[0], tables[1]

    def _schema(self) -> DatasetSchema:
        fields = {}
        for group, widths in (("user", USER_FIELDS), ("item", ITEM_FIELDS)):
            for name in (name for name in widths if name in self.encoders):
                sequence = name == "genres"
                fields[name] = FieldSchema(
                    name,
                    FeatureType.SEQUENCE if sequence else FeatureType.SPARSE,
                    self.encoders[name].vocabulary_size,
                    widths[name],
                    group=group,
                    max_length=MAX_GENRES if sequence else 0,
                )
        if self.max_history:
            fields[HISTORY] = FieldSchema(
                HISTORY,
                FeatureType.SEQUENCE,
                fields["movie_id"].vocabulary_size,
                fields["movie_id"].embedding_dim,
                group="user",
                max_length=self.max_history,
                combiner="none",
                shares_embedding_with="movie_id",
            )
        return DatasetSchema(
            fields, label_field="label", user_field="user_id", item_field="movie_id", time_field="timestamp"
        )

    def _log_facts(self) -> None:
        likes = len(self.split.train) + len(self.split.validation) + len(self.split.test)
        log.info(
            "data %s (%s, %s): %d ratings, %d likes, %d for training",
            self.info.name, self.info.source, self.info.hash[:12], len(self._users), likes, len(self.split.train),
        )  # fmt: skip
        for name, candidates in self.candidates.items():
            positives = np.add.reduceat(candidates.labels, candidates.offsets[:-1])
            short = int((candidates.sizes - positives < self.config.num_neg_eval).sum())
            log.info(
                "%s: %d users, %d with fewer than %d unrated movies, %d positives unseen in training",
                name, len(candidates.users), short, self.config.num_neg_eval, self.num_cold(name),
            )  # fmt: skip
        if self.encoders["genres"].num_cut:
            log.info(
                "%d movies have more than %d genres; the rest was cut",
                self.encoders["genres"].num_cut,
                MAX_GENRES,
            )

    def _log_histories(self, parts: Mapping[str, InteractionDataset]) -> None:
        if not self.max_history:
            return
        for name, part in parts.items():
            history = part.histories[HISTORY]
            log.info(
                "%s: %d histories, %d of them longer than %d likes and cut to the latest, %d empty",
                name, len(history), history.num_cut, self.max_history, history.num_empty,
            )  # fmt: skip


def _load(dataset_name: str, data_dir: str | Path, source: str) -> RawMovieLens:
    if dataset_name == "movielens" or dataset_name not in ARCHIVES:  # a name of one's own for the first
        return load_movielens(data_dir, source)
    from deepfm.data.grouplens.versions import load_version  # polars is loaded for these alone

    return load_version(dataset_name, data_dir, source)


def _positions(table_ids: NDArray[np.int64], ids: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where each of `ids (N,)` stands in `table_ids (M,)`, which holds them all."""
    order = np.argsort(table_ids, kind="stable")
    return order[np.searchsorted(table_ids[order], ids)]
