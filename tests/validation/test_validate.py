"""Sound models pass, and each planted fault is found by the check that is meant to find it."""

import json
import math

import numpy as np
import pytest
import torch

from deepfm.config import ExperimentConfig
from deepfm.data.dataset import TabularDataset
from deepfm.errors import ConfigError, DataError, SchemaError
from deepfm.models import DIN, DeepFM
from deepfm.validation import DEFAULT_MODELS, print_report, validate
from tests.validation import faults
from tests.validation.faults import CONFIG, Linear, sets

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def sound():
    """Every model that ships, on data with a history."""
    return validate(*sets(), config=CONFIG, epochs=2)


def findings_of(*models, data=None, epochs=1):
    """The report, and by check what failed."""
    report = validate(*(data or sets(history=False)), models, CONFIG, epochs=epochs)
    return report, {finding.check: finding for finding in report.findings if finding.failed}


class TestSound:
    def test_all_six_pass(self, sound):
        assert [str(finding) for finding in sound.findings if finding.failed] == []
        assert sound.passed
        assert tuple(model.name for model in sound.models) == DEFAULT_MODELS
        assert sound.skipped == {}

    def test_the_figures_are_what_they_are_called(self, sound):
        for model in sound.models:
            assert model.start.loss < 1.2
            assert abs(model.start.mean) < 1 > model.start.spread / 3
            assert model.one_batch_loss < 0.05
            assert model.metrics["auc"] > sound.popularity["auc"] > 0.55
            assert model.seconds > 0
        report = {model.name: model for model in sound.models}["deepfm"]
        weights = DeepFM(faults.schema_of_rows(history=False), CONFIG).parameters()
        assert report.num_parameters == sum(weight.numel() for weight in weights)
        assert sound.data.entropy <= math.log(2)
        assert (sound.data.train_rows, sound.data.validation_rows, sound.data.num_groups) == (2000, 600, 0)

    def test_shapes_follow_the_forward_pass(self, sound):
        parts = {model.name: [str(part) for part in model.parts] for model in sound.models}
        assert parts["xdeepfm"] == [
            "embedding (B, 1) + (B, 4, 4) + (B, 16)",
            "cin (B, 7)",
            "cin_output (B, 1)",
            "dnn (B, 6)",
            "dnn_output (B, 1)",
            "logits (B, 1)",
        ]
        assert parts["din"][1:3] == ["history tokens (B, 6, 4)", "attention.history (B, 4)"]
        assert "fusion (B, 8)" in parts["sin"]
        assert [str(column) for column in sound.inputs][-1] == "history (B, 6)"

    def test_a_class_of_ones_own(self):
        report, found = findings_of(Linear, epochs=5)
        assert found == {}
        names = [part.name for part in report.models[0].parts]
        assert names == ["tables.user", "tables.item", "tower", "output", "logits"]
        assert report.models[0].parts[-1].output == "(B, 1)"

    def test_a_subclass_and_a_function(self):
        class Mine(DeepFM):
            """One of the package's own kind."""

        def by_function(schema, config):
            return Linear(schema, config)

        report, found = findings_of(Mine, by_function, epochs=5)
        assert found == {}
        assert [model.name for model in report.models] == ["Mine", "by_function"]

    def test_own_module_reads_a_history_of_each_row(self, small_adapter):
        small_adapter.max_history = 5
        schema, train, validation, _ = small_adapter.build()
        seen = set()

        class Reader(torch.nn.Module):
            def __init__(self, schema, config):
                super().__init__()
                self.movies = torch.nn.Embedding(schema.fields["movie_id"].vocabulary_size, 8, padding_idx=0)
                self.bias = torch.nn.Embedding(schema.fields["movie_id"].vocabulary_size, 1)

            def forward(self, batch):
                seen.add(len(batch["history"]) == len(batch["movie_id"]))
                history = self.movies(batch["history"]).mean(dim=1)
                return (history * self.movies(batch["movie_id"])).sum(dim=1) + self.bias(batch["movie_id"]).squeeze(1)

        report = validate(schema, train, validation, [Reader], CONFIG)
        assert {finding.check for finding in report.findings} <= {"step 0", "quality"}
        assert report.models[0].metrics["ndcg@10"] > 0
        assert seen == {True}

    def test_without_a_history_the_models_that_need_one_are_skipped(self):
        report = validate(*sets(history=False), ["deepfm", "din", DIN], CONFIG)
        assert [model.name for model in report.models] == ["deepfm"]
        assert report.passed
        assert set(report.skipped) == {"din", "DIN"}
        assert "no behaviour sequence" in report.skipped["din"]

    def test_without_an_item_the_bar_is_a_constant(self):
        schema, *rows = sets(history=False)
        report, found = findings_of("deepfm", data=(faults.without_item_field(schema), *rows))
        assert found == {}
        assert report.popularity["auc"] == 0.5
        assert "no item_field" in report.popularity_rule

    def test_the_same_again(self):
        first, second = (validate(*sets(history=False), ["deepfm"], CONFIG, epochs=1).to_dict() for _ in range(2))
        for report in (first, second):
            report["models"][0].pop("seconds")
        assert first == second

    def test_rows_and_model_are_left_as_they_were(self):
        schema, train, validation = sets()
        before = {name: column.clone() for name, column in train.features.items()}
        validate(schema, train, validation, ["deepfm"], CONFIG, epochs=1)
        assert all(torch.equal(before[name], column) for name, column in train.features.items())

    def test_popularity_is_the_baseline_of_that_name(self, small_adapter):
        from deepfm.training.evaluation import evaluate_scores
        from deepfm.validation.popularity import evaluate_popularity, fit_popularity

        schema, train, validation, _ = small_adapter.build()
        counts = np.bincount(small_adapter.training_likes()[1], minlength=small_adapter.num_items)
        ours = evaluate_popularity(fit_popularity(schema, train), schema, validation)
        theirs = evaluate_scores(counts[validation.items].astype(np.float32), validation, (10,), are_logits=False)
        assert ours.metrics == theirs.metrics

    def test_long_validation_sets_are_scored_in_part(self, small_adapter, monkeypatch):
        monkeypatch.setattr("deepfm.validation.brief.MAX_VALIDATION_ROWS", 600)
        small_adapter.max_history = 5
        schema, train, validation, _ = small_adapter.build()
        report = validate(schema, train, validation, ["din"], CONFIG, epochs=1)
        assert (report.data.validation_rows, report.data.scored_rows, report.data.num_groups) == (3060, 561, 11)
        assert report.models[0].metrics["ndcg@10"] > 0
        assert len(validation) == 3060


class TestFaults:
    def test_a_detached_output_learns_nothing(self):
        report, found = findings_of(faults.Detached)
        assert list(found) == ["gradients"]
        assert "detach()" in found["gradients"].meaning
        assert (report.models[0].one_batch_loss, report.models[0].metrics) == (None, {})

    def test_a_detached_part_is_named(self):
        _, found = findings_of(faults.DetachedTower)
        assert found["gradients"].figure == "no gradient reaches tables.user, tables.item, tower"

    def test_a_constant_output(self):
        report, found = findings_of(faults.Constant)
        assert "every row has the same logit" in found["one batch"].figure
        assert report.models[0].one_batch_loss == pytest.approx(math.log(2), abs=0.01)
        assert found["quality"].meaning.startswith("Mend what failed before")

    def test_probabilities_for_logits(self):
        _, found = findings_of(faults.Sigmoid)
        assert "sigmoid" in found["one batch"].meaning

    def test_a_biased_start(self):
        report, found = findings_of(faults.Biased, epochs=5)
        assert list(found) == ["step 0"]
        assert report.models[0].start.mean == pytest.approx(4.0, abs=0.5)
        assert report.models[0].start.loss > 1.5
        assert "output bias" in found["step 0"].meaning

    def test_a_wide_start_is_a_note(self):
        report, found = findings_of(faults.Wide, epochs=5)
        assert found == {}
        assert report.passed
        assert [finding.failed for finding in report.findings] == [False]
        assert "wide of 0" in report.findings[0].meaning

    def test_a_model_that_does_not_read_the_item(self):
        _, found = findings_of(faults.OnlyNoise)
        assert list(found) == ["one batch", "quality"]
        assert "features that the model does not read" in found["one batch"].meaning
        assert "not above popularity's" in found["quality"].figure

    def test_shuffled_labels(self):
        def shuffle(columns, rng):
            rng.shuffle(columns["click"])

        _, found = findings_of("deepfm", data=sets(history=False, change=shuffle))
        assert list(found) == ["quality"]
        assert "is guessing" in found["quality"].figure
        assert "shuffled" in found["quality"].meaning

    def test_ids_encoded_anew_for_validation(self):
        schema, train, _ = sets(history=False)
        anew = np.random.default_rng(5)

        def encode(columns, rng):
            for name, size in (("user", 30), ("item", faults.ITEMS)):
                columns[name] = np.concatenate([[0], 1 + anew.permutation(size - 1)])[columns[name]]
            columns["price"][:] = 0.0

        validation = sets(history=False, change=encode)[2]
        _, found = findings_of("deepfm", data=(schema, train, validation))
        assert list(found) == ["quality"]

    def test_the_label_among_the_features(self):
        def give_away(columns, rng):
            columns["noise"] = 1 + columns["click"].astype(np.int64)

        _, found = findings_of("deepfm", data=sets(history=False, change=give_away), epochs=5)
        assert list(found) == ["leak"]

    def test_numbers_that_are_not_scaled(self):
        def scale(columns, rng):
            columns["price"] *= 1e4

        _, found = findings_of(Linear, data=sets(history=False, change=scale))
        assert "scaled" in found["step 0"].meaning

    @pytest.mark.parametrize(
        ("model", "check", "words"),
        [
            (faults.TwoLogits, "forward", "shape (32, 2)"),
            (faults.NotANumber, "forward", "NaN or infinite"),
            (faults.NotANumberInTraining, "forward", "NaN or infinite"),
            (faults.WrongWidth, "forward", "the forward pass fails after tower"),
            (faults.Unbuildable, "build", "(schema, config)"),
        ],
    )
    def test_a_model_that_does_not_run(self, model, check, words):
        report, found = findings_of(model, "deepfm")
        assert list(found) == [check]
        assert words in str(found[check])
        assert [one.passed for one in report.models] == [False, True]

    def test_an_error_in_ones_own_file_is_given_with_its_line(self):
        _, found = findings_of(faults.WrongWidth)
        assert "faults.py, line" in found["forward"].meaning
        assert "RuntimeError" in found["forward"].meaning

    def test_settings_that_a_model_cannot_have(self):
        config = CONFIG.__class__(**{**vars(CONFIG), "bst": type(CONFIG.bst)(num_heads=3)})
        report = validate(*sets(), ["bst"], config)
        assert [finding.check for finding in report.findings] == ["build"]
        assert "3 attention heads" in report.findings[0].meaning

    def test_advice_is_given_once_for_all_whom_it_concerns(self, capsys):
        def shuffle(columns, rng):
            rng.shuffle(columns["click"])

        report = validate(*sets(history=False, change=shuffle), ["deepfm", "xdeepfm"], CONFIG, epochs=1)
        print_report(report)
        out = capsys.readouterr().out
        assert out.count("labels shuffled against the rows") == 1
        assert "  deepfm: a validation AUC" in out
        assert "2 of 2 models failed: deepfm, xdeepfm" in out


class TestBadInput:
    def test_labels_that_are_no_clicks(self):
        schema, train, validation = sets(history=False)
        stars = TabularDataset(
            {name: column.numpy() for name, column in train.features.items()}, np.full(len(train), 0.5)
        )
        with pytest.raises(DataError, match=r"training label 0 is 0\.5"):
            validate(schema, stars, validation, ["deepfm"], CONFIG)

    def test_labels_of_one_class(self):
        schema, train, validation = sets(history=False)
        validation.labels[:] = 0.0
        with pytest.raises(DataError, match="the validation rows hold 0 clicks in 600 rows"):
            validate(schema, train, validation, ["deepfm"], CONFIG)

    def test_rows_that_all_look_alike(self):
        def same(columns, rng):
            for name in ("user", "item", "noise", "price"):
                columns[name][:] = 1

        with pytest.raises(DataError, match="only 1 of them differ"):
            validate(*sets(history=False, change=same), ["deepfm"], CONFIG)

    def test_rows_that_do_not_fit_the_schema(self):
        schema, train, validation = sets(history=False)
        train.features["item"][3] = 99
        with pytest.raises(SchemaError, match="holds id 99 in row 3"):
            validate(schema, train, validation, ["deepfm"], CONFIG)

    @pytest.mark.parametrize(
        ("models", "words"),
        [
            (["depfm"], "did you mean 'deepfm'"),
            ([], "there is no model to check"),
            ([3], "a int; expected a registered name"),
            (["sin"], r"none of the models can be checked \(sin\)"),
        ],
    )
    def test_models_that_are_none(self, models, words):
        with pytest.raises(ConfigError, match=words):
            validate(*sets(history=False), models, ExperimentConfig())

    def test_no_epoch(self):
        with pytest.raises(ConfigError, match="epochs = 0"):
            validate(*sets(history=False), ["deepfm"], CONFIG, epochs=0)


def test_json_holds_the_whole_report(sound):
    plain = json.loads(json.dumps(sound.to_dict(), allow_nan=False))
    assert plain["passed"] is True
    assert plain["data"]["ln2"] == pytest.approx(0.6931, abs=1e-4)
    assert [model["name"] for model in plain["models"]] == list(DEFAULT_MODELS)
    assert set(plain["models"][0]) >= {
        "parts",
        "num_parameters",
        "start",
        "one_batch_loss",
        "metrics",
        "seconds",
    }
