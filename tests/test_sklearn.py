"""The classifier under scikit-learn: its own checks, cross-validation, pipelines, DataFrames, and what is refused."""

import importlib
import sys

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.exceptions import NotFittedError
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from deepfm.data.tables.frames import polars_frame
from deepfm.models import MODELS
from deepfm.sklearn import CTRClassifier, _held_out

pytestmark = pytest.mark.usefixtures("one_thread")
SMALL = {
    **{"dnn__hidden_units": (16,), "training__num_epochs": 8, "training__lr": 0.01, "feature__fm_embed_dim": 4},
    "device": "cpu",
}


def small(model: str = "deepfm", **changes) -> CTRClassifier:
    return CTRClassifier(model, random_state=0, **{**SMALL, **changes})


@parametrize_with_checks([CTRClassifier(**SMALL)])
def test_scikit_learns_own_checks(estimator, check):
    """All of them, none expected to fail; multi-class checks do not apply, as the tags say."""
    check(estimator)


@pytest.fixture(scope="module")
def clicks():
    """Clicks that a user and a weekday decide together; the price says nothing."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            **{"user": rng.choice(list("abcdefgh"), 800), "weekday": rng.integers(0, 7, 800)},
            **{"price": rng.random(800) * 100, "mobile": rng.random(800) < 0.5},
        }
    )
    wanted = (frame["user"].map(ord) * 3 + frame["weekday"] * 5) % 7 < 3
    return frame, np.where(wanted ^ (rng.random(800) < 0.05), "click", "none")


class TestLearning:
    def test_a_dataframe_of_ids_and_numbers(self, clicks):
        rows, y = clicks
        model = small().fit(rows[:600], y[:600])
        assert {name: field["type"] for name, field in model.encoder_.schema.to_dict()["columns"].items()} == {
            **{"user": "sparse", "weekday": "sparse", "price": "dense", "mobile": "sparse"}
        }
        assert model.feature_names_in_.tolist() == ["user", "weekday", "price", "mobile"]
        assert (model.n_features_in_, model.classes_.tolist()) == (4, ["click", "none"])
        assert 1 <= model.n_iter_ <= 8
        probabilities = model.predict_proba(rows[600:])
        assert probabilities.shape == (200, 2)
        assert np.allclose(probabilities.sum(axis=1), 1.0, atol=1e-12)
        assert roc_auc_score(y[600:] == "none", probabilities[:, 1]) > 0.85
        assert model.score(rows[600:], y[600:]) > 0.8
        logits = model.decision_function(rows[600:])
        assert np.allclose(probabilities[:, 1], 1 / (1 + np.exp(-logits)), atol=1e-12)
        assert (model.predict(rows[600:]) == np.where(logits > 0, "none", "click")).all()

    def test_predictions_are_the_models(self, clicks):
        rows, y = clicks
        model = small(validation_fraction=0).fit(rows, y)
        ids = {
            "user": sorted(set(rows["user"])),
            "weekday": sorted(map(str, set(rows["weekday"]))),
            "mobile": ["false", "true"],
        }
        texts = {name: [str(value) for value in rows[name][:50]] for name in ids}
        texts["mobile"] = [text.lower() for text in texts["mobile"]]
        batch = {name: torch.tensor([1 + ids[name].index(text) for text in column]) for name, column in texts.items()}
        low, high = rows["price"].min(), rows["price"].max()
        batch["price"] = torch.tensor(((rows["price"][:50] - low) / (high - low)).to_numpy(), dtype=torch.float32)
        expected = model.model_.predict(batch).squeeze(1).numpy()
        assert np.allclose(model.predict_proba(rows[:50])[:, 1], expected, atol=1e-6)

    def test_pandas_and_polars_and_types_give_the_same(self, clicks):
        rows, y = clicks[0][:300], clicks[1][:300]
        expected = small().fit(rows, y).predict_proba(rows)
        other = rows.assign(user=rows["user"].astype("category"), weekday=rows["weekday"].astype("int8"))
        assert np.array_equal(small().fit(other, y).predict_proba(rows), expected)
        frame = pl.DataFrame({name: rows[name].to_list() for name in rows})
        assert np.array_equal(small().fit(frame, y).predict_proba(frame), expected)

    def test_new_categories_and_missing_ids_are_unknown(self, clicks):
        rows, y = clicks
        model = small().fit(rows, y)
        strange = rows[:3].assign(user=["zz", None, "another"])
        same = rows[:1].loc[[0, 0, 0]].assign(weekday=rows["weekday"][:3].tolist(), mobile=rows["mobile"][:3].tolist())
        same = same.assign(price=rows["price"][:3].tolist(), user="unheard of")
        assert np.array_equal(model.predict_proba(strange), model.predict_proba(same))

    def test_columns_say_otherwise(self, clicks):
        rows, y = clicks
        columns = {"weekday": {"type": "dense"}, "user": {"min_count": 100, "oov": "learned"}}
        schema = small(columns=columns, validation_fraction=0).fit(rows, y).encoder_.dataset_schema()
        assert schema.fields["weekday"].feature_type == "dense"
        assert schema.fields["user"].vocabulary_size == (rows["user"].value_counts() >= 100).sum() + 2
        codes = np.stack([rows["weekday"], rows["price"]], axis=1)
        fitted = small(columns={0: {"type": "sparse"}}).fit(codes, y)
        assert fitted.encoder_.dataset_schema().fields["x0"].vocabulary_size == 8
        assert not hasattr(fitted, "feature_names_in_")

    def test_lists_are_sequences(self):
        rng = np.random.default_rng(0)
        tags = ["|".join(rng.choice(list("abcd"), rng.integers(1, 4), replace=False)) for _ in range(400)]
        y = np.array(["a" in tag for tag in tags])
        rows = pd.DataFrame({"tags": tags, "noise": rng.random(400)})
        model = small(columns={"tags": {"type": "sequence", "max_length": 3, "combiner": "sum"}}).fit(rows, y)
        assert model.score(rows, y) == 1.0

    @pytest.mark.parametrize("model", [name for name in MODELS if name not in ("bst", "din", "sin")])
    def test_any_registered_model(self, model, clicks):
        rows, _ = clicks
        y = rows["user"].isin(list("abcd")) ^ (np.arange(800) % 20 == 0)  # what a linear model can learn
        fitted = small(model, training__lr=0.03).fit(rows[:600], y[:600])
        assert roc_auc_score(y[600:], fitted.predict_proba(rows[600:])[:, 1]) > 0.85


class TestColumns:
    def types(self, rows, y, **settings):
        schema = CTRClassifier(training__num_epochs=1, random_state=0, **settings).fit(rows, y).encoder_.schema
        return {name: column.type for name, column in schema.columns.items()}

    def test_objects_are_what_they_hold(self, clicks):
        """pandas makes objects of numbers with gaps; they stay the same ids."""
        rows, y = clicks
        model = small(training__num_epochs=2).fit(rows, y)
        gap = rows[:6].assign(weekday=[1.0, None, 2.0, 3.0, None, 6.0], mobile=rows["mobile"][:6].astype(object))
        held = gap.astype(object).where(gap.notna(), None)
        codes = model.encoder_.transform(polars_frame(held).lazy())
        assert codes["weekday"].tolist() == [2, 0, 3, 4, 0, 7]  # 0 to 6 are 1 to 7
        assert np.array_equal(model.predict_proba(held), model.predict_proba(gap))
        assert self.types(rows.astype(object), y) == {
            **{"user": "sparse", "weekday": "sparse", "price": "dense", "mobile": "sparse"}
        }

    def test_types_decide_what_is_an_id(self, clicks):
        day, y = clicks[0]["weekday"], clicks[1]
        rows = pd.DataFrame(
            {
                **{"category": (day / 2).astype("category"), "gaps": day.astype("Int64").where(day > 0)},
                **{"ranges": pd.cut(day, 3), "fraction": (day / 2).astype("Float64")},
            }
        )
        assert self.types(rows, y) == {
            **{"category": "sparse", "gaps": "sparse", "ranges": "sparse", "fraction": "dense"}
        }
        frame = polars_frame(rows)
        assert frame["category"][:20].to_list() == [f"{d / 2:g}" for d in day[:20]]
        assert frame["gaps"][:20].to_list() == [d or None for d in day[:20]]

    def test_a_number_is_a_name_in_a_frame(self):
        rng = np.random.default_rng(0)
        rows = pd.DataFrame({2: rng.random(60), 0: rng.random(60), 1: rng.integers(0, 3, 60)})
        y = np.arange(60) % 2
        assert self.types(rows, y, columns={2: {"type": "sparse"}}) == {"2": "sparse", "0": "dense", "1": "sparse"}

    def test_arrays_and_frames_meet_by_position(self):
        rng = np.random.default_rng(0)
        rows = pd.DataFrame({"x1": rng.random(300), "x0": rng.random(300), "on": rng.random(300) < 0.5})
        y = rows["x1"] > rows["x0"]
        framed, array = small().fit(rows, y), rows.to_numpy()
        with pytest.warns(UserWarning, match="feature names"):
            assert np.array_equal(framed.predict_proba(array), framed.predict_proba(rows))
        arrayed, named = small().fit(array, y), rows.set_axis(["a", "b", "c"], axis=1)
        with pytest.warns(UserWarning, match="feature names"):
            assert np.array_equal(arrayed.predict_proba(named.astype(float)), arrayed.predict_proba(array))

    def test_held_out_rows_teach_the_encoders_nothing(self):
        """Each id stands once and each price too: what is known is what was trained on."""
        rows = pd.DataFrame({"user": [f"u{row}" for row in range(100)], "price": np.arange(100.0)})
        fitted = small(validation_fraction=0.2).fit(rows, np.arange(100) % 2)
        assert len(fitted.encoder_.encoders["user"].values) == 80
        known = {int(user[1:]) for user in fitted.encoder_.encoders["user"].values}
        assert fitted.encoder_.encoders["price"].to_dict() | {"low": min(known), "high": max(known)} == (
            fitted.encoder_.encoders["price"].to_dict()
        )


class TestTools:
    def test_cross_validation(self, clicks):
        rows, y = clicks
        scores = cross_val_score(small(), rows, y, cv=3, scoring="roc_auc")
        assert scores.shape == (3,)
        assert scores.min() > 0.8

    def test_a_pipeline_on_arrays_and_frames(self, clicks):
        rows, y = clicks
        numbers = rows[["price"]].to_numpy()
        assert make_pipeline(StandardScaler(), small()).fit(numbers, y).predict(numbers).shape == (800,)
        kept = ColumnTransformer([("keep", "passthrough", ["user", "weekday"])], verbose_feature_names_out=False)
        pipeline = make_pipeline(kept.set_output(transform="pandas"), small()).fit(rows, y)
        assert pipeline.score(rows, y) > 0.8
        doubled = make_pipeline(FunctionTransformer(lambda frame: frame), small())
        assert doubled.fit(rows, y).score(rows, y) > 0.8

    def test_a_search_over_settings(self, clicks):
        rows, y = clicks
        search = GridSearchCV(small(), {"training__lr": [1e-6, 0.01]}, cv=2, scoring="roc_auc").fit(rows, y)
        assert search.best_params_ == {"training__lr": 0.01}
        grid = {"training__lr": np.logspace(-6, -2, 2), "dnn__use_batch_norm": np.array([True])}
        search = GridSearchCV(small(training__num_epochs=np.int64(8)), grid, cv=2, scoring="roc_auc").fit(rows, y)
        assert search.best_params_["training__lr"] == 0.01

    def test_numpys_values_are_pythons(self):
        model = small(dnn__hidden_units=np.array([8, 4]), training__lr=np.float64(0.5), columns={})
        config = model._settings(100, 0)
        assert (config.dnn.hidden_units, config.training.lr) == ((8, 4), 0.5)
        assert {type(width) for width in config.dnn.hidden_units} == {int}

    def test_a_section_given_whole_keeps_the_defaults(self):
        config = CTRClassifier(training={"num_epochs": 1}, training__lr=0.5)._settings(4000, 0).training
        assert (config.num_epochs, config.lr, config.metric, config.batch_size) == (1, 0.5, "logloss", 40)

    def test_a_clone_has_every_setting(self):
        model = small(columns={"a": {"type": "dense"}}).set_params(training__lr=0.5, validation_fraction=0.2)
        copy = clone(model)
        assert copy.get_params() == model.get_params()
        assert copy.get_params()["training__lr"] == 0.5
        assert "training__lr=0.5" in repr(copy)

    def test_the_random_state_decides_alone(self, clicks):
        rows, y = clicks
        states = np.random.get_state()[1].tolist(), torch.get_rng_state()  # noqa: NPY002 - is it left as it was?
        first = small().fit(rows, y).predict_proba(rows)
        assert np.random.get_state()[1].tolist() == states[0]  # noqa: NPY002
        assert torch.equal(torch.get_rng_state(), states[1])
        torch.manual_seed(99)
        assert np.array_equal(small().fit(rows, y).predict_proba(rows), first)
        other = CTRClassifier(random_state=1, **SMALL).fit(rows, y).predict_proba(rows)
        assert not np.array_equal(other, first)

    def test_epochs_are_printed_only_on_request(self, clicks, capsys):
        rows, y = clicks
        small(training__num_epochs=1).fit(rows, y)
        assert capsys.readouterr().out == ""
        small(training__num_epochs=1, verbose=True).fit(rows, y)
        assert "epoch 1" in capsys.readouterr().out


def test_what_is_missing_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.base", None)
    monkeypatch.delitem(sys.modules, "deepfm.sklearn")
    with pytest.raises(ImportError, match=r"deepfm\[sklearn\]"):
        importlib.import_module("deepfm.sklearn")


class TestHeldOut:
    def test_each_class_gives_its_share(self):
        codes = np.array([0] * 40 + [1] * 8 + [0])
        chosen = _held_out(codes, 0.25, np.random.default_rng(0))
        assert [int(chosen[codes == code].sum()) for code in (0, 1)] == [10, 2]
        assert _held_out(np.array([0, 0, 1, 1]), 0.01, np.random.default_rng(0)).sum() == 2
        assert _held_out(np.array([0, 0, 1, 1]), 0.99, np.random.default_rng(0)).sum() == 2
        assert not _held_out(np.array([0, 0, 0, 1]), 0.5, np.random.default_rng(0)).any()
        assert not _held_out(codes, 0.0, np.random.default_rng(0)).any()

    def test_a_class_of_one_row_still_trains(self):
        rows = np.array([[0.0], [0.1], [0.2], [1.0]])
        assert small().fit(rows, [0, 0, 0, 1]).predict_proba(rows).shape == (4, 2)


class TestRefusals:
    @pytest.mark.parametrize(
        ("settings", "words"),
        [
            ({"training__learning_rate": 1}, ["training.learning_rate", "did you mean 'training.lr'"]),
            ({"training__lr": "fast"}, ["training.lr = 'fast'", "a number"]),
            ({"training__loss": "softmax"}, ["training.loss", "bce"]),
            ({"training__metric": "ndcg@10"}, ["training.metric", "auc or logloss"]),
            ({"dnn__hidden_units": 64}, ["dnn.hidden_units = 64", "a list"]),
            ({"seed": 3}, ["seed", "random_state"]),
            ({"data__data_dir": "x"}, ["data__data_dir", "columns"]),
            ({"columns": {"usr": {"type": "dense"}}}, ["'usr'", "did you mean 'user'?"]),
            ({"columns": {"user": {"min_cont": 2}}}, ["column 'user'", "did you mean 'min_count'?"]),
            ({"columns": {"user": {"type": "dense"}}}, ["'user'", "no number"]),
            ({"validation_fraction": 1.0}, ["validation_fraction = 1.0"]),
            ({"validation_fraction": None}, ["validation_fraction = None", "a number"]),
            ({"columns": "user"}, ["columns = 'user'", "names with keys"]),
            ({"columns": {"user": None}}, ["None for 'user'", "expected keys"]),
            ({"columns": {0: {"type": "dense"}}}, ["columns describes 0, no column of X", "known: user"]),
            ({"training": 5}, ["training = 5"]),
            ({"output_dir": "x"}, ["output_dir is not set here; leave it out"]),
        ],
    )
    def test_a_wrong_setting_is_one_sentence(self, clicks, settings, words):
        rows, y = clicks
        with pytest.raises(ValueError, match=r".") as refusal:
            small(**settings).fit(rows, y)
        for word in words:
            assert word in str(refusal.value)
        assert "\n" not in str(refusal.value)

    @pytest.mark.parametrize(
        "values",
        [
            pd.period_range("2020", periods=4),
            pd.interval_range(0, 4),
            pd.timedelta_range("1D", periods=4),
            [1j, 2j, 3j, 4j],
            [{1}, {2}, {3}, {4}],
            [{"a": 1}] * 4,
        ],
    )
    def test_a_column_of_no_use(self, values):
        with pytest.raises(ValueError, match=r"column 'when' of X is of type \w+.*; expected text or whole numbers"):
            small().fit(pd.DataFrame({"when": values}), [0, 1, 0, 1])

    @pytest.mark.parametrize("position", [-1, 2])
    def test_a_position_that_is_not_there(self, position):
        with pytest.raises(ValueError, match=rf"columns describes {position}, no column of X; expected 0 to 1"):
            small(columns={position: {"type": "sparse"}}).fit(np.eye(2)[[0, 1, 0, 1]], [0, 1, 0, 1])

    @pytest.mark.parametrize("labels", [[None, 1, 0, 1], ["a", 1, "a", 1], ["a", None, "b", "a"]])
    @pytest.mark.parametrize("kind", [np.asarray, pd.DataFrame])
    def test_labels_that_have_no_order(self, labels, kind):
        with pytest.raises(ValueError, match=r"y holds labels of type .*; expected numbers or texts, none missing"):
            small().fit(kind(np.eye(4)), np.array(labels, dtype=object))

    def test_an_unknown_model(self, clicks):
        with pytest.raises(ValueError, match="did you mean 'deepfm'"):
            small("deepfn").fit(*clicks)

    def test_an_unknown_parameter(self):
        with pytest.raises(ValueError, match=r"Invalid parameter 'modell'.*'model'"):
            small().set_params(modell="lr")

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            (lambda rows: rows.assign(price=rows["price"].where(rows.index != 2)), "'price' of X holds nan in row 3"),
            (lambda rows: rows.rename(columns={"price": "prize"}), "feature names"),
            (lambda rows: rows[["user", "weekday"]], "feature names"),
            (lambda rows: rows[:0], "0 sample"),
        ],
    )
    def test_rows_that_do_not_fit(self, clicks, change, words):
        rows, y = clicks
        model = small(training__num_epochs=1).fit(rows, y)
        with pytest.raises(ValueError, match=words):
            model.predict(change(rows))
        assert model.predict(rows).shape == y.shape  # still usable

    def test_labels_that_do_not_fit(self, clicks):
        rows, _ = clicks
        with pytest.raises(ValueError, match="one class, 'a'"):
            small().fit(rows, ["a"] * len(rows))
        with pytest.raises(ValueError, match="Only binary"):
            small().fit(rows, np.arange(len(rows)) % 3)
        with pytest.raises(ValueError, match="inconsistent"):
            small().fit(rows, [0, 1])
        with pytest.raises(ValueError, match="NaN"):
            small().fit(rows, [np.nan, *[0.0, 1.0] * 399, 1.0])

    def test_before_fit(self, clicks):
        for method in ("predict", "predict_proba", "decision_function"):
            with pytest.raises(NotFittedError):
                getattr(small(), method)(clicks[0])
