from typing import NamedTuple

import numpy as np
import pytest

from deepfm.data.grouplens.columns import GENRES
from deepfm.data.grouplens.files import FILES, hash_files, load_movielens, parse_movielens
from deepfm.data.sample import OCCUPATIONS, RATING_SHARES, generate_sample, write_sample
from deepfm.errors import DataError

SMALL = {"num_users": 50, "num_movies": 80, "num_ratings": 1500}


@pytest.fixture(scope="module")
def full():
    return load_movielens("unused", "sample")


class TestFormat:
    def test_full_sizes(self, full):
        assert (len(full.ratings), len(full.users["user_id"]), len(full.movies["movie_id"])) == (
            100_000,
            943,
            1682,
        )
        assert (full.name, full.source) == ("ml-100k-sample", "sample")

    @pytest.mark.parametrize("sizes", [SMALL, {"num_users": 20, "num_movies": 30, "num_ratings": 600}])
    @pytest.mark.parametrize("seed", [0, 1, 12345])
    def test_small_sizes(self, sizes, seed):
        raw = parse_movielens(generate_sample(seed, **sizes), "sample", "sample")
        found = (len(raw.users["user_id"]), len(raw.movies["movie_id"]), len(raw.ratings))
        assert found == tuple(sizes.values())
        assert np.bincount(raw.user_ids)[1:].min() >= 20
        assert np.bincount(raw.user_ids[raw.ratings >= 4], minlength=found[0] + 1)[1:].min() >= 3

    @pytest.mark.parametrize("sizes", [(1, 1, 1), (10, 20, 100), (7, 9, 63)])
    def test_sizes_too_small_for_twenty_ratings_each(self, sizes):
        users, movies, ratings = sizes
        files = generate_sample(3, num_users=users, num_movies=movies, num_ratings=ratings)
        raw = parse_movielens(files, "sample", "sample")
        assert np.bincount(raw.user_ids)[1:].min() >= ratings // users
        assert len(raw.ratings) == ratings

    def test_ids_are_dense_and_columns_as_in_the_real_files(self, full):
        assert full.users["user_id"].tolist() == list(range(1, 944))
        assert full.movies["movie_id"].tolist() == list(range(1, 1683))
        assert set(full.users["gender"]) == {"M", "F"}
        assert set(full.users["occupation"]) <= set(OCCUPATIONS)
        assert all(len(code) == 5 for code in full.users["zip_code"])
        assert full.users["age"].min() >= 7
        assert set().union(*full.movies["genres"]) == set(GENRES) - {"unknown"}
        assert {len(genres) for genres in full.movies["genres"]} == {1, 2, 3}
        assert full.movies["title"][0].startswith("Sample Movie 0001 (19")

    def test_bytes_repeat_and_differ_by_seed(self):
        first, again, other = (generate_sample(seed, **SMALL) for seed in (5, 5, 6))
        assert first == again
        assert all(first[name] != other[name] for name in FILES)

    def test_written_files_are_the_same_bytes(self, tmp_path):
        paths = write_sample(tmp_path / "data", seed=2, **SMALL)
        files = generate_sample(2, **SMALL)
        assert {path.name for path in paths} == {"README", *FILES}
        assert {path.name: path.read_bytes() for path in paths if path.name != "README"} == files
        readme = (tmp_path / "data" / "README").read_text()
        assert "GENERATED" in readme
        assert "seed 2" in readme
        raw = load_movielens(tmp_path / "data", "files")
        assert raw.hash == hash_files(files)
        assert (raw.name, raw.source) == ("ml-100k-sample", "files")  # generated, wherever it was read

    @pytest.mark.parametrize(
        "sizes",
        [
            {"num_users": 0, "num_movies": 5, "num_ratings": 5},
            {"num_users": 10, "num_movies": 5, "num_ratings": 9},
            {"num_users": 10, "num_movies": 5, "num_ratings": 51},
        ],
    )
    def test_impossible_sizes(self, sizes):
        with pytest.raises(DataError, match="is impossible; expected at least one rating per user"):
            generate_sample(**sizes)

    def test_negative_seed(self):
        with pytest.raises(DataError, match="seed is -1"):
            generate_sample(-1, **SMALL)


class TestStructure:
    def test_ratings_have_the_shares_of_the_real_ones(self, full):
        shares = np.bincount(full.ratings.astype(int), minlength=6)[1:] / len(full.ratings)
        np.testing.assert_allclose(shares, RATING_SHARES, atol=0.002)
        assert 0.54 < (full.ratings >= 4).mean() < 0.56

    def test_activity_and_popularity_are_skewed(self, full):
        per_user = np.bincount(full.user_ids)[1:]
        per_movie = np.sort(np.bincount(full.movie_ids, minlength=1683)[1:])
        assert per_user.min() >= 20
        assert per_user.max() > 5 * np.median(per_user)
        assert per_movie[-168:].sum() > 0.35 * len(full.ratings)  # the most popular tenth

    def test_sessions(self, full):
        order = np.lexsort((full.timestamps, full.user_ids))
        same_user = np.diff(full.user_ids[order]) == 0
        gap = np.diff(full.timestamps[order])[same_user]
        assert 0.4 < (gap == 0).mean() < 0.7
        assert 0.005 < (gap > 3600).mean() < 0.05
        likes = full.ratings >= 4
        moment = full.user_ids[likes] * 10**10 + full.timestamps[likes]
        _, counts = np.unique(moment, return_counts=True)
        assert counts[counts > 1].sum() / likes.sum() == pytest.approx(0.65, abs=0.05)  # as in the real data

    def test_rows_are_in_no_order(self, full):
        assert abs((np.diff(full.user_ids) > 0).mean() - 0.5) < 0.02
        assert abs((np.diff(full.timestamps) > 0).mean() - 0.5) < 0.02

    def test_groups_differ_in_taste(self, full):
        """Occupations like genres differently, beyond what chance would give."""
        likes = full.ratings >= 4
        occupation = np.unique(full.users["occupation"], return_inverse=True)[1][full.user_ids - 1]
        drama = np.array(["Drama" in genres for genres in full.movies["genres"]])[full.movie_ids - 1]
        shares, errors = [], []
        for each in np.unique(occupation):
            values = likes[drama & (occupation == each)]
            if len(values) > 200:
                shares.append(values.mean())
                errors.append(np.sqrt(0.25 / len(values)))
        assert np.std(shares) > 2 * np.mean(errors)


class HeldOut(NamedTuple):
    train: np.ndarray  # (U, M) likes
    rated: np.ndarray  # (U, M) everything the user rated
    users: np.ndarray  # (T,)
    movies: np.ndarray  # (T,) the like held out


def hold_out_last_like(raw) -> HeldOut:
    users, movies = raw.user_ids - 1, raw.movie_ids - 1
    rows = np.flatnonzero(raw.ratings >= 4)
    rows = rows[np.lexsort((rows, raw.timestamps[rows], users[rows]))]
    last = np.append(np.diff(users[rows]) != 0, True)
    shape = (users.max() + 1, len(raw.movies["movie_id"]))
    train, rated = np.zeros(shape), np.zeros(shape, dtype=bool)
    train[users[rows[~last]], movies[rows[~last]]] = 1
    rated[users, movies] = True
    return HeldOut(train, rated, users[rows[last]], movies[rows[last]])


def ndcg_at_10(scores: np.ndarray, held: HeldOut) -> float:
    """Each held-out like against every movie that its user never rated; ties count against the like."""
    table = scores[held.users]
    positive = table[np.arange(len(table)), held.movies][:, None]
    rank = 1 + ((table >= positive) & ~held.rated[held.users]).sum(axis=1)
    return float(np.where(rank <= 10, 1 / np.log2(rank + 1), 0).mean())


def ease(likes: np.ndarray, ridge: float) -> np.ndarray:
    inverse = np.linalg.inv(likes.T @ likes + ridge * np.eye(likes.shape[1]))
    weights = inverse / -np.diag(inverse)
    np.fill_diagonal(weights, 0)
    return likes @ weights


class TestLearnable:
    def test_models_beat_popularity_and_popularity_beats_chance(self, full):
        held = hold_out_last_like(full)
        chance = ndcg_at_10(np.random.default_rng(0).random(held.train.shape), held)
        popularity = ndcg_at_10(np.tile(held.train.sum(axis=0), (len(held.train), 1)), held)
        left, values, right = np.linalg.svd(held.train, full_matrices=False)
        latent = ndcg_at_10(left[:, :6] * values[:6] @ right[:6], held)
        neighbours = ndcg_at_10(ease(held.train, 200.0), held)
        assert popularity > 5 * chance
        assert latent > 1.25 * popularity
        assert neighbours > 1.25 * popularity

    def test_a_medium_sample_can_be_learnt_too(self):
        files = generate_sample(1, num_users=200, num_movies=300, num_ratings=8000)
        held = hold_out_last_like(parse_movielens(files, "sample", "sample"))
        popularity = ndcg_at_10(np.tile(held.train.sum(axis=0), (len(held.train), 1)), held)
        chance = ndcg_at_10(np.random.default_rng(0).random(held.train.shape), held)
        assert popularity > 2 * chance
        assert ndcg_at_10(ease(held.train, 50.0), held) > popularity

    def test_ratings_follow_a_low_rank_taste(self, full):
        """Users of similar ratings like alike: a held-out rating can be predicted from the others."""
        users, movies = full.user_ids - 1, full.movie_ids - 1
        test = np.random.default_rng(0).random(len(users)) < 0.1
        mean = np.bincount(movies[~test], full.ratings[~test], minlength=1682)
        count = np.bincount(movies[~test], minlength=1682)
        mean = (mean + 3.5 * 5) / (count + 5)
        residual = np.zeros((943, 1682))
        residual[users[~test], movies[~test]] = full.ratings[~test] - mean[movies[~test]]
        left, values, right = np.linalg.svd(residual, full_matrices=False)
        personal = (left[:, :6] * values[:6] @ right[:6])[users[test], movies[test]]
        assert np.corrcoef(personal, full.ratings[test] - mean[movies[test]])[0, 1] > 0.3
