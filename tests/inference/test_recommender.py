"""Recommendations are the best of all pairs' predictions."""

import numpy as np
import polars as pl
import pytest

from deepfm import Predictor, Recommender
from deepfm.errors import DataError, RunError
from tests.inference.runs import table_rows, train


def by_hand(rows, scores, items):
    order = sorted(range(len(items)), key=lambda place: (-scores[place], items[place]))
    return [str(items[place]) for place in order], [scores[place] for place in order]


class TestTable:
    def test_the_order_is_that_of_all_predictions(self, clicks):
        run, parts, _ = clicks
        last = parts["train"].filter(pl.col("user") == 3).tail(1)
        items = sorted(parts["train"]["item"].unique().to_list())
        sides = [
            parts["train"].filter(pl.col("item") == item).tail(1).select("item", "price", "tags") for item in items
        ]
        rows = pl.concat(sides).join(last.select("user", "hour"), how="cross")
        expected = by_hand(rows, Predictor.load(run, "cpu").predict(rows), items)
        found = Recommender.load(run, "cpu").recommend(3, top=100, exclude_seen=False)
        assert found.columns == ["rank", "item", "title", "probability"]
        assert found["rank"].to_list() == list(range(1, len(items) + 1))
        assert found["item"].to_list() == expected[0]
        np.testing.assert_allclose(found["probability"], expected[1], atol=1e-6)
        assert found["title"].to_list() == [f"item number {item}" for item in expected[0]]

    def test_seen_items_are_those_with_a_click(self, clicks):
        run, parts, _ = clicks
        every = pl.concat(parts.values()).filter((pl.col("user") == 3) & (pl.col("click") == 1))
        seen = {str(item) for item in every["item"]}
        recommender = Recommender.load(run, "cpu")
        left = recommender.recommend(3, top=100)["item"].to_list()
        both = recommender.recommend(3, top=100, exclude_seen=False)["item"].to_list()
        assert 0 < len(seen) < len(both)
        assert left == [item for item in both if item not in seen]

    def test_candidates_alone_are_ranked(self, clicks, tmp_path, capsys):
        run, *_ = clicks
        recommender = Recommender.load(run, "cpu")
        whole = recommender.recommend("3", top=100, exclude_seen=False)["item"].to_list()
        some = recommender.recommend("3", exclude_seen=False, candidates=[1, 5, 2, 5])["item"].to_list()
        assert some == [item for item in whole if item in {"1", "2", "5"}]
        (tmp_path / "ids.txt").write_text("1\n5\n2\n\n")
        pl.DataFrame({"item": [5, 1, 2], "more": 0}).write_csv(tmp_path / "table.csv")
        pl.DataFrame({"item": [5, 1, 2]}).write_parquet(tmp_path / "table.parquet")
        for name in ("ids.txt", "table.csv", "table.parquet"):
            found = recommender.recommend("3", exclude_seen=False, candidates=tmp_path / name)
            assert found["item"].to_list() == some
        unknown = recommender.recommend("3", exclude_seen=False, candidates=["1", "none"])
        assert set(unknown["item"]) == {"1", "none"}
        assert "1 of 2 candidates are unknown" in capsys.readouterr().out
        pl.DataFrame({"thing": [5], "more": 0}).write_csv(tmp_path / "wrong.csv")
        with pytest.raises(DataError, match="no column 'item'"):
            recommender.recommend("3", candidates=tmp_path / "wrong.csv")

    def test_equal_scores_go_by_id(self, clicks):
        run, *_ = clicks
        recommender = Recommender.load(run, "cpu")
        found = recommender.recommend("3", exclude_seen=False, candidates=["n10", "1000", "n9", "200"])
        assert found["item"].to_list() == ["200", "1000", "n10", "n9"]
        assert found["probability"].n_unique() == 1

    def test_an_unknown_user_is_said(self, clicks, capsys):
        run, *_ = clicks
        recommender = Recommender.load(run, "cpu")
        first = recommender.recommend("nobody")
        assert "user 'nobody' is unknown" in capsys.readouterr().out
        assert first.equals(recommender.recommend("someone else"))
        assert len(first) == 10

    def test_a_top_that_is_none(self, clicks):
        with pytest.raises(DataError, match="top is 0"):
            Recommender.load(clicks[0], "cpu").recommend("3", top=0)


class TestMovieLens:
    def test_the_order_is_that_of_all_predictions(self, films):
        run, _, _, raw = films
        movies, user = raw.movies["movie_id"], int(raw.users["user_id"][4])
        rows = pl.DataFrame({"user_id": [user] * len(movies), "movie_id": movies})
        expected = by_hand(rows, Predictor.load(run, "cpu").predict(rows), movies.tolist())
        recommender = Recommender.load(run, "cpu")
        found = recommender.recommend(user, top=len(movies), exclude_seen=False)
        assert found["item"].to_list() == expected[0]
        titles = dict(zip(movies.tolist(), raw.movies["title"].tolist(), strict=True))
        assert found["title"].to_list() == [titles[int(item)] for item in expected[0]]
        seen = set(raw.movie_ids[raw.user_ids == user].tolist())
        left = recommender.recommend(user, top=len(movies))["item"].to_list()
        assert left == [item for item in expected[0] if int(item) not in seen]


def test_a_table_without_roles_is_a_sentence(tmp_path):
    (tmp_path / "schema.yaml").write_text("label: click\ncolumns: {user: {}, item: {}}\n")
    for seed, part in enumerate(("train", "valid", "test")):
        table_rows(200, seed).write_csv(tmp_path / f"{part}.csv")
    train(tmp_path / "run", "data.dataset_name=table", f"data.data_dir={tmp_path}", "training.metric=auc")
    assert not (tmp_path / "run" / "users.parquet").exists()
    assert Predictor.load(tmp_path / "run", "cpu").predict(table_rows(9, 5)).shape == (9,)
    with pytest.raises(RunError, match="no user and item columns"):
        Recommender.load(tmp_path / "run", "cpu")


def test_the_latest_row_is_kept_where_there_is_a_time(tmp_path):
    (tmp_path / "schema.yaml").write_text(
        "label: click\nuser: user\nitem: item\ntime: at\ncolumns: {user: {}, item: {}, where: {}}\n"
    )
    rows = pl.DataFrame(
        {"click": [1, 0, 1, 0], "user": 7, "item": [1, 2, 1, 2], "at": [9, 4, 1, 3], "where": list("abcd")}
    )
    for part in ("train", "valid", "test"):
        rows.write_csv(tmp_path / f"{part}.csv")
    train(tmp_path / "run", "data.dataset_name=table", f"data.data_dir={tmp_path}", "training.metric=auc")
    users = pl.read_parquet(tmp_path / "run" / "users.parquet")
    assert users.to_dict(as_series=False) == {"user": ["7"], "where": ["a"]}
    seen = pl.read_parquet(tmp_path / "run" / "seen.parquet")
    assert seen.to_dict(as_series=False) == {"user": ["7"], "item": ["1"]}
