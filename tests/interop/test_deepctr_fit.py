"""compile, fit, evaluate and predict, and the callbacks: what Keras' users and DeepCTR-Torch's know."""

import copy
import re

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.metrics import accuracy_score, log_loss, mean_squared_error, roc_auc_score

from deepfm.engine.optim import GivenOptimizer
from deepfm.errors import ConfigError, DataError, RunError, TrainingError
from deepfm.interop.deepctr import fitting
from deepfm.interop.deepctr.callbacks import Callback, CallbackList, EarlyStopping, History, ModelCheckpoint
from deepfm.interop.deepctr.inputs import DenseFeat, SparseFeat
from deepfm.interop.deepctr.models import DeepFM
from deepfm.interop.deepctr.weights import deepctr_weights

ROWS = 96
COLUMNS = [SparseFeat("a", 6), SparseFeat("b", 5), DenseFeat("d")]
RNG = np.random.default_rng(0)
X = {"a": RNG.integers(0, 6, ROWS), "b": RNG.integers(0, 5, ROWS), "d": RNG.normal(size=ROWS)}
Y = (X["a"] % 2).astype(np.float32)


def model_of(optimizer="adam", loss="binary_crossentropy", metrics=("auc",), **options):
    """A small model; `optimizer` may be a function of it."""
    options = {"dnn_hidden_units": (6, 4), "init_std": 0.1, **options}
    model = DeepFM(COLUMNS, COLUMNS, **options)
    model.compile(optimizer(model) if callable(optimizer) else optimizer, loss, list(metrics))
    return model


def weights_of(model):
    return {name: weight.clone() for name, weight in deepctr_weights(model).items()}


def assert_same(one, other, tolerance=0.0):
    for name in one:
        torch.testing.assert_close(one[name], other[name], rtol=tolerance, atol=tolerance, msg=lambda t, n=name: n + t)


def part(rows):
    return {name: column[rows] for name, column in X.items()}


class Recorder(Callback):
    """What a callback is told, in order."""

    def __init__(self):
        super().__init__()
        self.told = []

    def on_train_begin(self, logs=None):
        self.told.append("begin")

    def on_train_end(self, logs=None):
        self.told.append("end")

    def on_epoch_begin(self, epoch, logs=None):
        self.told.append(("epoch", epoch))

    def on_epoch_end(self, epoch, logs=None):
        self.told.append((epoch, sorted(logs)))


class Given(Callback):
    """Puts made values into the logs."""

    def __init__(self, name, values):
        super().__init__()
        self.name, self.values = name, values

    def on_epoch_end(self, epoch, logs=None):
        logs[self.name] = self.values[epoch]


class TestFit:
    def test_history_holds_loss_and_metrics_of_each_epoch(self):
        model = model_of(metrics=["auc", "logloss", "acc"])
        history = model.fit(X, Y, epochs=3, verbose=0, validation_split=0.25)
        assert isinstance(history, History)
        assert history is model.history
        assert history.epoch == [0, 1, 2]
        names = ["auc", "logloss", "acc"]
        assert list(history.history) == ["loss", *names, "val_loss", *(f"val_{name}" for name in names)]
        assert all(len(values) == 3 for values in history.history.values())
        assert model.metrics_names == ["loss", *names]

    def test_the_loss_of_an_epoch_is_that_of_its_rows_and_the_penalties(self):
        """One step: the sum over rows, and Σ λ·w² once a step, divided by the rows."""
        model = model_of(l2_reg_embedding=0.1, l2_reg_linear=0.2, l2_reg_dnn=0.3)
        before, penalty = model.predict(X)[:, 0], model.get_regularization_loss().item()
        history = model.fit(X, Y, batch_size=ROWS, epochs=1, verbose=0)
        assert history.history["loss"] == [pytest.approx(log_loss(Y, before) + penalty / ROWS, rel=1e-5)]
        assert history.history["auc"] == [pytest.approx(roc_auc_score(Y, before))]
        assert penalty > 0.1

    def test_training_metrics_are_of_the_epochs_own_predictions(self):
        """Two batches: the second is predicted with the weights that the first one made."""
        model = model_of("sgd", metrics=["mse"])
        first = model.predict(part(slice(0, 48)))
        step = copy.deepcopy(model)
        step.fit(part(slice(0, 48)), Y[:48], batch_size=48, verbose=0, shuffle=False)
        second = step.predict(part(slice(48, None)))
        history = model.fit(X, Y, batch_size=48, verbose=0, shuffle=False)
        wanted = mean_squared_error(Y, np.concatenate([first, second])[:, 0])
        assert history.history["mse"] == [pytest.approx(wanted, rel=1e-5)]
        assert mean_squared_error(Y, model.predict(X)[:, 0]) != pytest.approx(wanted, rel=1e-5)

    def test_a_split_measures_the_last_rows(self):
        split, given = model_of(), model_of()
        one = split.fit(X, Y, epochs=2, verbose=0, validation_split=0.25)
        other = given.fit(
            part(slice(0, 72)), Y[:72], epochs=2, verbose=0, validation_data=(part(slice(72, None)), Y[72:])
        )
        assert one.history == other.history
        assert_same(weights_of(split), weights_of(given))
        assert one.history["val_auc"][-1] == pytest.approx(
            roc_auc_score(Y[72:], split.predict(part(slice(72, None)))[:, 0])
        )
        assert one.history["val_loss"][-1] == pytest.approx(
            log_loss(Y[72:], split.predict(part(slice(72, None)))[:, 0]), rel=1e-5
        )

    def test_validation_data_beat_a_split(self, capsys):
        model = model_of()
        model.fit(X, Y, verbose=0, validation_split=0.5, validation_data=(part(slice(0, 10)), Y[:10], np.ones(10)))
        assert "WARNING: the sample weights in validation_data are not used" in capsys.readouterr().out
        plain = model_of()
        plain.fit(X, Y, verbose=0)
        assert_same(weights_of(model), weights_of(plain))

    def test_validation_changes_nothing_in_training(self):
        """Dropout and batch normalisation act in every epoch."""
        ends = []
        for share in (0.0, 0.25):
            model = model_of(dnn_dropout=0.5, dnn_use_bn=True)
            torch.manual_seed(0)
            rows = X if share else part(slice(0, 72))
            model.fit(rows, Y if share else Y[:72], batch_size=24, epochs=3, verbose=0, validation_split=share)
            ends.append(weights_of(model))
        assert_same(*ends)
        assert int(ends[0]["dnn.bn.0.num_batches_tracked"]) == 9

    def test_initial_epoch_counts_on(self):
        recorder, model = Recorder(), model_of()
        history = model.fit(X, Y, epochs=5, initial_epoch=3, verbose=0, callbacks=[recorder])
        assert history.epoch == [3, 4]
        assert recorder.told == ["begin", ("epoch", 3), (3, ["auc", "loss"]), ("epoch", 4), (4, ["auc", "loss"]), "end"]
        before = weights_of(model)
        assert model.fit(X, Y, epochs=2, initial_epoch=2, verbose=0).epoch == []
        assert_same(weights_of(model), before)

    def test_fits_follow_each_other(self):
        """The optimizer's moments go on; one fit of two epochs and two of one differ by the order of rows alone."""
        whole, halves = model_of(), model_of()
        whole.fit(X, Y, epochs=2, verbose=0, shuffle=False)
        for _ in range(2):
            halves.fit(X, Y, epochs=1, verbose=0, shuffle=False)
        assert_same(weights_of(whole), weights_of(halves))

    def test_each_epoch_has_an_order_of_its_own(self, monkeypatch):
        seen = []
        loss = fitting.ColumnTask.loss
        monkeypatch.setattr(
            fitting.ColumnTask, "loss", lambda self, batch: seen.append(batch[1][:, 0]) or loss(self, batch)
        )
        model = model_of()
        for shuffle in (False, True):
            model.fit(X, Y, batch_size=32, epochs=2, verbose=0, shuffle=shuffle)
        orders = [torch.cat(seen[start : start + 3]).numpy() for start in range(0, 12, 3)]
        numbers = X["d"].astype(np.float32)
        assert all(np.array_equal(order, numbers) for order in orders[:2])
        assert len({tuple(order) for order in orders}) == 3
        assert all(np.array_equal(np.sort(order), np.sort(numbers)) for order in orders)

    def test_the_callers_arrays_stay_as_they_are(self):
        listed = [X["a"].copy(), X["b"].copy(), X["d"].copy()]
        kept, y = list(listed), Y.copy()
        model = model_of()
        model.fit(listed, y, verbose=0)
        model.predict(listed)
        model.evaluate(listed, y)
        assert all(array is one and array.shape == (ROWS,) for array, one in zip(listed, kept, strict=True))
        assert np.array_equal(y, Y)

    def test_a_last_row_joins_its_batch_under_batch_normalisation(self):
        plain, normalised = model_of(), model_of(dnn_use_bn=True)
        steps = []
        for model in (plain, normalised):
            rows = fitting.Labelled(model.layout.encode(part(slice(0, 33))), torch.from_numpy(Y[:33]))
            task = fitting.ColumnTask(model, fitting.Plan(F.mse_loss, {}, 16), rows, None)
            steps.append([len(batch[2]) for batch in task.batches(1)])
            assert task.num_batches() == len(steps[-1])
        assert steps == [[16, 16, 1], [16, 17]]
        with pytest.raises(ConfigError, match="batch normalisation needs two rows a batch; batch_size = 1"):
            normalised.fit(X, Y, batch_size=1, verbose=0)

    def test_large_tables_train_alike(self, monkeypatch):
        """With sparse gradients the optimizers move every row all the same."""
        for optimizer in ("adam", "sgd", "adagrad", "rmsprop"):
            ends = []
            for rows in (10**9, 1):
                monkeypatch.setattr(fitting, "SPARSE_ROWS", rows)
                model = model_of(optimizer, l2_reg_embedding=0.1, l2_reg_linear=0.1)
                model.fit(X, Y, batch_size=24, epochs=2, verbose=0)
                ends.append(weights_of(model))
                assert not any(embedding.sparse_gradients for embedding in model.columns.embeddings)
            assert_same(*ends, tolerance=1e-6)


class TestOutput:
    def test_lines_are_deepctr_torchs(self, capsys):
        model_of().fit(X, Y, batch_size=32, epochs=2, verbose=2, validation_split=0.25)
        lines = capsys.readouterr().out.splitlines()
        assert lines[:3] == ["cpu", "Train on 72 samples, validate on 24 samples, 3 steps per epoch", "Epoch 1/2"]
        assert re.fullmatch(r"0s - loss:  0\.\d{4} - auc:  0\.\d{4} - val_auc:  0\.\d{4}", lines[3])
        assert (lines[4], len(lines)) == ("Epoch 2/2", 6)

    def test_quiet_is_quiet(self, capsys):
        model_of().fit(X, Y, verbose=0, validation_split=0.25)
        assert capsys.readouterr().out == ""


class TestEvaluate:
    def test_metrics_are_sklearns(self):
        model = model_of(metrics=["auc", "binary_crossentropy", "logloss", "mse", "accuracy", "acc"])
        model.fit(X, Y, epochs=2, verbose=0)
        predictions = model.predict(X)[:, 0]
        accuracy = accuracy_score(Y, predictions > 0.5)
        assert model.evaluate(X, Y[:, None]) == pytest.approx(
            {
                "auc": roc_auc_score(Y, predictions),
                "binary_crossentropy": log_loss(Y, predictions),
                "logloss": log_loss(Y, predictions),
                "mse": mean_squared_error(Y, predictions),
                "accuracy": accuracy,
                "acc": accuracy,
            }
        )

    def test_one_class_has_no_auc(self):
        result = model_of().evaluate(X, np.ones(ROWS))
        assert list(result) == ["auc"]
        assert np.isnan(result["auc"])

    def test_predictions_do_not_depend_on_the_batch(self):
        model = model_of(dnn_use_bn=True, dnn_dropout=0.3)
        model.fit(X, Y, verbose=0)
        many = {name: np.tile(column, 60) for name, column in X.items()}
        predictions = model.predict(many, batch_size=5760)
        assert predictions.shape == (5760, 1)
        assert predictions.dtype == np.float64
        np.testing.assert_allclose(predictions, model.predict(many, 7), atol=1e-6)
        np.testing.assert_allclose(predictions[:ROWS], model.predict(X), atol=1e-6)
        assert np.array_equal(model.predict(X), model.predict(X))

    def test_a_regression_predicts_numbers(self):
        target = 10.0 * X["d"] + 50.0
        model = model_of(lambda made: torch.optim.Adam(made.parameters(), lr=0.05), "mse", ["mse"], task="regression")
        history = model.fit(X, target, batch_size=16, epochs=60, verbose=0)
        assert history.history["mse"][-1] < 0.05 * target.var()
        assert model.predict(X).max() > 50


class TestOptimizers:
    @pytest.mark.parametrize(
        ("name", "make"),
        [
            ("sgd", lambda model: torch.optim.SGD(model.parameters(), lr=0.01)),
            ("adam", lambda model: torch.optim.Adam(model.parameters())),
            ("adagrad", lambda model: torch.optim.Adagrad(model.parameters())),
            ("rmsprop", lambda model: torch.optim.RMSprop(model.parameters())),
        ],
    )
    def test_a_name_is_torchs_optimizer_with_its_defaults(self, name, make):
        ends = []
        for optimizer in (name, make):
            model = model_of(optimizer, l2_reg_embedding=0.1, l2_reg_linear=0.2, l2_reg_dnn=0.05)
            model.fit(X, Y, batch_size=24, epochs=3, verbose=0)
            ends.append(weights_of(model))
        assert_same(*ends, tolerance=1e-5)

    def test_adamws_penalty_is_in_its_gradients(self):
        """The same as the penalty written into a plain loop's loss."""
        model = model_of(lambda made: torch.optim.AdamW(made.parameters(), lr=0.01), l2_reg_embedding=0.1)
        plain = model_of(l2_reg_embedding=0.1)
        optimizer = torch.optim.AdamW(plain.parameters(), lr=0.01)
        rows, tables = plain.layout.encode(X), plain.columns.table_parameters()
        linear = plain.columns.linear_parameters()
        for start in list(range(0, ROWS, 24)) * 2:
            logits = plain.logits(rows.take(slice(start, start + 24))).squeeze(1)
            loss = F.binary_cross_entropy_with_logits(logits, torch.from_numpy(Y[start : start + 24]), reduction="sum")
            loss = loss + 0.1 * sum(w.square().sum() for w in tables) + 1e-5 * sum(w.square().sum() for w in linear)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        model.fit(X, Y, batch_size=24, epochs=2, verbose=0, shuffle=False)
        assert_same(weights_of(model), weights_of(plain), tolerance=1e-5)

    def test_a_rate_that_a_callback_sets_is_kept(self):
        class Freeze(Callback):
            def on_epoch_end(self, epoch, logs=None):
                for group in self.model.optim.param_groups:
                    group["lr"] = 0.0

        for optimizer in ("sgd", lambda model: torch.optim.SGD(model.parameters(), lr=0.01)):
            once, frozen = model_of(optimizer), model_of(optimizer)
            once.fit(X, Y, epochs=1, verbose=0)
            frozen.fit(X, Y, epochs=4, verbose=0, callbacks=[Freeze()])
            assert_same(weights_of(once), weights_of(frozen))

    def test_parameters_that_are_frozen_stay(self):
        model = DeepFM(COLUMNS, COLUMNS, init_std=0.1)
        for weight in model.columns.table_parameters():
            weight.requires_grad_(False)
        model.compile("adam", "binary_crossentropy")
        before = weights_of(model)
        model.fit(X, Y, verbose=0)
        after = weights_of(model)
        still = [name for name in before if torch.equal(before[name], after[name])]
        assert still == ["embedding_dict.a.weight", "embedding_dict.b.weight"]

    @pytest.mark.parametrize(
        ("optimizer", "match"),
        [
            ("adm", "optimizer = 'adm' is unknown; did you mean 'adam'?"),
            (3, "optimizer = 3 is a int; expected one of sgd, adam, adagrad, rmsprop, or a torch.optim optimizer"),
            (
                lambda model: torch.optim.Adam(DeepFM(COLUMNS, COLUMNS).parameters()),
                "optimizer Adam has none of this model's parameters",
            ),
            (
                lambda model: torch.optim.LBFGS(model.parameters()),
                "optimizer LBFGS computes the loss many times a step",
            ),
        ],
    )
    def test_what_cannot_train_is_refused(self, optimizer, match):
        with pytest.raises(ConfigError, match=re.escape(match)):
            model_of(optimizer)

    def test_the_wrapper_is_in_use(self):
        model = model_of(lambda made: torch.optim.SGD(made.parameters(), lr=0.01))
        (part_,) = model.optim.parts
        assert isinstance(part_, GivenOptimizer)


class TestLosses:
    def test_a_function_is_a_loss(self):
        """Called as torch's losses are: predictions, labels, and `reduction='sum'`."""
        seen = []

        def loss(predictions, labels, reduction):
            seen.append((predictions.shape, labels.shape, reduction))
            return F.binary_cross_entropy(predictions, labels, reduction=reduction)

        given, named = model_of(loss=loss), model_of()
        for model in (given, named):
            model.fit(X, Y, epochs=2, verbose=0)
        assert seen[0] == ((ROWS,), (ROWS,), "sum")
        assert_same(weights_of(given), weights_of(named), tolerance=1e-5)

    @pytest.mark.parametrize(("loss", "formula"), [("mse", np.square), ("mae", np.abs)])
    def test_losses_of_predictions(self, loss, formula):
        model = model_of(loss=loss, l2_reg_embedding=0, l2_reg_linear=0)
        before = model.predict(X)[:, 0]
        history = model.fit(X, Y, batch_size=ROWS, verbose=0)
        assert history.history["loss"] == [pytest.approx(formula(before - Y).mean(), rel=1e-5)]

    def test_none_is_the_tasks_own(self):
        named, default = model_of(), model_of(loss=None)
        for model in (named, default):
            model.fit(X, Y, verbose=0)
        assert_same(weights_of(named), weights_of(default))
        regression = model_of(loss=None, metrics=["mse"], task="regression", l2_reg_embedding=0, l2_reg_linear=0)
        history = regression.fit(X, Y, batch_size=ROWS, verbose=0).history
        assert history["loss"] == pytest.approx(history["mse"], rel=1e-5)

    @pytest.mark.parametrize(
        ("options", "match"),
        [
            (
                {"loss": "hinge"},
                "loss = 'hinge' is unknown; expected one of binary_crossentropy, mse, mae, or a function",
            ),
            ({"loss": ["mse"]}, r"loss = \['mse'\] is unknown"),
            ({"task": "regression"}, "loss = 'binary_crossentropy' needs probabilities, and task is 'regression'"),
            ({"metrics": ["AUC"]}, "metric 'AUC' is unknown"),
        ],
    )
    def test_what_does_not_go_together_is_refused(self, options, match):
        with pytest.raises(ConfigError, match=match):
            model_of(**options)

    def test_a_loss_that_is_no_sum_is_refused(self):
        model = model_of(loss=lambda predictions, labels, reduction: (predictions - labels).square())
        with pytest.raises(ConfigError, match=r"the loss gave \(96,\); expected one number, the sum over rows"):
            model.fit(X, Y, verbose=0)

    def test_a_loss_that_is_no_number_ends_the_fit(self):
        model = model_of(lambda made: torch.optim.SGD(made.parameters(), lr=1e30))
        with pytest.raises(
            TrainingError, match=r"the loss is .* in epoch .*; make the model anew with a lower learning"
        ):
            model.fit(X, Y, batch_size=16, epochs=3, verbose=0)


class TestBadInput:
    """One sentence, and the model is as it was."""

    @pytest.mark.parametrize(
        ("change", "y", "match"),
        [
            ({"a": X["a"][:-1]}, Y, "input 'b' has 96 rows and 'a' has 95"),
            ({"a": X["a"] + 1}, Y, "input 'a' holds id 6 in row"),
            ({"b": X["b"] - 1}, Y, "input 'b' holds id -1 in row"),
            ({"d": np.where(X["d"] > 1, np.nan, X["d"])}, Y, "dense input 'd' holds nan in row"),
            ({"c": X["a"], "a": None}, Y, "input 'a' has"),
            ({}, Y + 1, "label .* expected 0 or 1"),
            ({}, Y[:-1], r"y has shape \(95,\)"),
        ],
    )
    def test_a_fitted_model_stays_usable(self, change, y, match):
        model = model_of()
        model.fit(X, Y, verbose=0)
        before, predictions = weights_of(model), model.predict(X)
        bad = {**X, **change}
        if change.get("a", 0) is None:
            del bad["a"]
            match = "input 'a' is missing"
        for call in (
            lambda: model.fit(bad, y, verbose=0),
            lambda: model.evaluate(bad, y),
            lambda: model.fit(X, Y, verbose=0, validation_data=(bad, y)),
        ):
            with pytest.raises(DataError, match=match):
                call()
        assert_same(weights_of(model), before)
        assert np.array_equal(model.predict(X), predictions)

    def test_options_are_checked(self):
        model = DeepFM(COLUMNS, COLUMNS)
        for call in (lambda: model.fit(X, Y), lambda: model.evaluate(X, Y)):
            with pytest.raises(ConfigError, match=r"DeepFM is not compiled; call compile\(optimizer, loss, metrics\)"):
                call()
        model.compile("adam", "binary_crossentropy")
        for options, match in (
            ({"batch_size": 0}, "batch_size = 0; expected at least 1"),
            ({"validation_split": 1.0}, "validation_split = 1.0; expected a share"),
        ):
            with pytest.raises(ConfigError, match=match):
                model.fit(X, Y, verbose=0, **options)
        with pytest.raises(DataError, match=r"validation_split = 0.5 of 1 rows leaves 0 to train and 1 to validate"):
            model.fit(part(slice(0, 1)), Y[:1], verbose=0, validation_split=0.5)
        with pytest.raises(DataError, match="validation_data has 1 parts"):
            model.fit(X, Y, verbose=0, validation_data=(X,))
        with pytest.raises(DataError, match="y is None"):
            model.fit(X, verbose=0)


class TestEarlyStopping:
    def stopped(self, values, name="val_made", **options):
        stopping = EarlyStopping(name, **options)
        model = model_of()
        history = model.fit(X, Y, epochs=len(values), verbose=0, callbacks=[Given(name, values), stopping])
        return stopping, history.epoch[-1]

    @pytest.mark.parametrize(
        ("values", "options", "last"),
        [
            ([3, 2, 1, 0], {}, 3),
            ([3, 2, 2, 0], {}, 2),  # patience 0 and 1 both stop at the first epoch without improvement
            ([3, 2, 2, 0], {"patience": 1}, 2),
            ([3, 4, 4, 2, 5, 5, 0], {"patience": 2}, 2),
            ([3, 4, 2, 5, 1, 5, 5, 0], {"patience": 2}, 6),
            ([1, 2, 3, 3], {"mode": "max"}, 3),
            ([3, 2.95, 2.9, 0], {"min_delta": 0.5}, 1),
            ([3, 2.95, 2.4, 2.3], {"min_delta": 0.5, "patience": 2}, 3),
            ([3, 0], {"baseline": 2.0}, 0),
        ],
    )
    def test_when_it_stops(self, values, options, last):
        assert self.stopped(values, **options)[1] == last

    @pytest.mark.parametrize(("name", "last"), [("val_auc", 1), ("val_acc", 1), ("val_loss", 3)])
    def test_what_should_grow(self, name, last):
        assert self.stopped([4, 3, 2, 1], name)[1] == last

    @pytest.mark.parametrize(("values", "best"), [([3, 1, 2, 2], 1), ([3, 2, 1], 2), ([3, 1, 2], 1)])
    def test_the_best_weights_come_back(self, values, best):
        """Whether patience ran out or the epochs did."""
        seen = []

        class Keep(Callback):
            def on_epoch_end(self, epoch, logs=None):
                seen.append(weights_of(self.model))

        model = model_of()
        stopping = EarlyStopping("made", patience=2, restore_best_weights=True)
        model.fit(X, Y, epochs=len(values), verbose=0, callbacks=[Given("made", values), Keep(), stopping])
        assert_same(weights_of(model), seen[best])
        assert len(seen) == len(values)
        plain = model_of()
        plain.fit(X, Y, epochs=len(values), verbose=0)
        assert_same(weights_of(plain), seen[-1])

    def test_it_says_so(self, capsys):
        stopping, _ = self.stopped([1, 2, 3], verbose=1)
        assert "Epoch 00002: early stopping" in capsys.readouterr().out
        assert stopping.stopped_epoch == 2

    def test_what_is_not_measured_is_told_once(self, capsys):
        model = model_of()
        model.fit(X, Y, epochs=3, verbose=0, callbacks=[EarlyStopping("val_auc")])
        assert model.history.epoch == [0, 1, 2]
        out = capsys.readouterr().out
        assert out.count("EarlyStopping watches 'val_auc', which this fit does not measure, and does nothing") == 1
        with pytest.raises(ConfigError, match="mode = 'most' is unknown"):
            EarlyStopping(mode="most")

    def test_one_callback_serves_two_fits(self):
        stopping = EarlyStopping("made", mode="min")
        model = model_of()
        for _ in range(2):
            history = model.fit(X, Y, epochs=3, verbose=0, callbacks=[Given("made", [1, 2, 3]), stopping])
            assert history.epoch == [0, 1]

    def test_a_callback_may_stop_before_the_first_epoch(self):
        class Never(Callback):
            def on_train_begin(self, logs=None):
                self.model.stop_training = True

        model = model_of()
        assert model.fit(X, Y, epochs=3, verbose=0, callbacks=[Never()]).epoch == []
        assert model.fit(X, Y, epochs=1, verbose=0).epoch == [0]


class TestModelCheckpoint:
    def test_each_epoch_has_a_file(self, tmp_path):
        path = tmp_path / "made" / "{epoch:02d}-{val_auc:.1f}.pt"
        model = model_of()
        model.fit(X, Y, epochs=2, verbose=0, validation_split=0.25, callbacks=[ModelCheckpoint(path)])
        files = sorted(file.name for file in (tmp_path / "made").iterdir())
        assert [re.fullmatch(r"0[12]-[01]\.\d\.pt", name) is not None for name in files] == [True, True]
        loaded = torch.load(tmp_path / "made" / files[1], weights_only=False)
        assert np.array_equal(loaded.predict(X), model.predict(X))

    def test_the_best_weights_alone(self, tmp_path, capsys):
        path, seen = tmp_path / "best.pt", []

        class Keep(Callback):
            def on_epoch_end(self, epoch, logs=None):
                seen.append({name: weight.clone() for name, weight in self.model.state_dict().items()})

        saving = ModelCheckpoint(path, "made", verbose=1, save_best_only=True, save_weights_only=True)
        callbacks = [Given("made", [3.0, 1.0, 2.0]), Keep(), saving]
        model_of().fit(X, Y, epochs=3, verbose=0, callbacks=callbacks)
        assert_same(torch.load(path, weights_only=True), seen[1])
        out = capsys.readouterr().out
        assert f"Epoch 00002: made improved from 3.00000 to 1.00000, saving model to {path}" in out
        assert "Epoch 00003: made did not improve from 1.00000" in out

    def test_a_period_passes_epochs_over(self, tmp_path):
        saving = ModelCheckpoint(str(tmp_path / "{epoch}.pt"), save_weights_only=True, period=2)
        model_of().fit(X, Y, epochs=5, verbose=0, callbacks=[saving])
        assert sorted(file.name for file in tmp_path.iterdir()) == ["2.pt", "4.pt"]

    def test_trouble_is_told(self, tmp_path):
        with pytest.raises(
            ConfigError, match="asks for 'val_auc', which this fit does not measure; known: epoch, loss"
        ):
            model_of().fit(X, Y, verbose=0, callbacks=[ModelCheckpoint(tmp_path / "{val_auc}.pt")])
        (tmp_path / "file").write_text("")
        with pytest.raises(RunError, match="cannot write"):
            model_of().fit(X, Y, verbose=0, callbacks=[ModelCheckpoint(tmp_path / "file" / "model.pt")])


class TestCallbacks:
    def test_params_and_model_are_set(self):
        recorder, model = Recorder(), model_of()
        model.fit(X, Y, batch_size=48, epochs=1, verbose=0, callbacks=[recorder])
        assert recorder.model is model
        assert recorder.params == {"batch_size": 48, "epochs": 1, "verbose": 0, "metrics": ["auc"]}

    def test_an_error_is_no_end(self):
        class Fails(Recorder):
            def on_epoch_end(self, epoch, logs=None):
                raise KeyboardInterrupt

        recorder, failing = Recorder(), Fails()
        with pytest.raises(KeyboardInterrupt):
            model_of().fit(X, Y, verbose=0, callbacks=[recorder, failing])
        assert recorder.told[-1] == (0, ["auc", "loss"])

    def test_something_else_is_refused(self):
        with pytest.raises(ConfigError, match="callback 'stop' is a str; expected a"):
            model_of().fit(X, Y, verbose=0, callbacks=["stop"])
        listed = CallbackList()
        listed.append(Recorder())
        assert len(listed.callbacks) == 1
