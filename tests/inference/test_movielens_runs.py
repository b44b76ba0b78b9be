"""A MovieLens run's folder scores pairs of ids as training did; rows may say more than the run kept."""

import numpy as np
import polars as pl
import pytest

from deepfm import Predictor
from deepfm.data.entities import Entities
from deepfm.data.grouplens.rows import MovieLensRows
from deepfm.data.saved_encoders import load_encoders
from deepfm.engine.run import RunFolder
from deepfm.errors import DataError


def test_logits_are_those_of_training(films):
    run, pairs, scores, _ = films
    np.testing.assert_allclose(Predictor.load(run, "cpu").logits(pairs), scores, atol=1e-6)


def test_what_the_rows_say_is_what_the_run_kept(films):
    run, pairs, scores, raw = films
    users = pl.DataFrame({name: column.tolist() for name, column in raw.users.items()})
    movies = pl.DataFrame({"movie_id": raw.movies["movie_id"], "genres": ["|".join(g) for g in raw.movies["genres"]]})
    rows = pairs.join(users, on="user_id", how="left", maintain_order="left")
    rows = rows.join(movies, on="movie_id", how="left", maintain_order="left")
    predictor = Predictor.load(run, "cpu")
    np.testing.assert_allclose(predictor.logits(rows), scores, atol=1e-6)
    assert not np.allclose(predictor.logits(rows.with_columns(genres=pl.lit("War"))), scores, atol=1e-6)
    assert not np.allclose(predictor.logits(rows.with_columns(age=1)), scores, atol=1e-6)


def test_unknown_users_and_movies(films):
    run, *_ = films
    found = Predictor.load(run, "cpu").predict({"user_id": ["99999", ""], "movie_id": ["1", "88888"]})
    assert ((found > 0) & (found < 1)).all()


def test_an_id_that_is_none(films):
    run, *_ = films
    with pytest.raises(DataError, match="'movie_id' of the table holds 'Alien' in row 2; expected a whole number"):
        Predictor.load(run, "cpu").predict({"user_id": [1, 1], "movie_id": ["1", "Alien"]})


def test_a_lost_id_column_is_a_sentence(films):
    with pytest.raises(DataError, match="no column 'movie_id'"):
        Predictor.load(films[0], "cpu").predict({"user_id": [1], "movie": [1]})


def test_a_version_without_columns_of_users(films):
    run = RunFolder(films[0])
    kept, encoders = Entities.load(run), load_encoders(run.encoders)
    few = {name: encoders[name] for name in ("user_id", "movie_id", "genres")}
    assert MovieLensRows.fits(few)
    rows = MovieLensRows(few, 0, Entities(kept.users.select("user_id"), kept.items, kept.seen))
    found = rows.transform(films[1].lazy())
    whole = Predictor.load(run, "cpu").encoder.transform(films[1].lazy())
    assert set(found) == set(few)
    assert all((found[name] == whole[name]).all() for name in few)
