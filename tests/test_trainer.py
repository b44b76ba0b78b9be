"""The trainer as a library: what it ends with, what it repeats, what it refuses."""

import copy
import json

import numpy as np
import pytest
import torch

from deepfm.config import DataConfig, load_config
from deepfm.data.dataset import TabularDataset
from deepfm.data.movielens import MovieLensAdapter
from deepfm.data.schema import DatasetSchema, FeatureType, FieldSchema
from deepfm.engine.loop import Observer, fit
from deepfm.engine.run import RunFolder
from deepfm.engine.task import ParameterGroup
from deepfm.errors import CheckpointError, ConfigError, SchemaError, TrainingError
from deepfm.models import MODELS, create_model
from deepfm.training import scoring
from deepfm.training.task import CTRTask
from deepfm.training.trainer import Trainer
from deepfm.utils import seed_everything

pytestmark = pytest.mark.usefixtures("one_thread")
TINY = [
    "device=cpu",
    "training.batch_size=256",
    "training.num_epochs=3",
    "dnn.hidden_units=[8]",
    "cin.layer_sizes=[4]",
    "attention.attention_dim=8",
    "feature.fm_embed_dim=4",
]
CPU = torch.device("cpu")


@pytest.fixture
def make_trainer(small_dir):
    def make(*overrides, model="deepfm", **options):
        config = load_config(None, [*TINY, *overrides])
        history = 5 if MODELS[model].reads_behaviour else 0
        data = DataConfig(source="files", num_neg_eval=50)
        adapter = MovieLensAdapter(small_dir, data, seed=config.seed, max_history=history)
        schema, train, validation, test = adapter.build()
        seed_everything(config.seed)
        return Trainer(create_model(model, schema, config), schema, config, train, validation, test, **options)

    return make


def weights(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def assert_equal_weights(one, other):
    assert one.keys() == other.keys()
    assert [name for name in one if not torch.equal(one[name], other[name])] == []


def untimed(history):
    return [{key: value for key, value in record.items() if "second" not in key} for record in history]


class TestWhatTrainingEndsWith:
    @pytest.mark.parametrize("metric", ["ndcg@10", "auc", "logloss"])
    def test_the_best_epoch_not_the_last(self, make_trainer, metric):
        epochs = []

        class Spoiled(Observer):
            """The last epoch ends with scores that mean nothing, whatever the numbers of a machine."""

            def evaluating(self, done, total):
                if len(epochs) == 3 and not done:
                    with torch.no_grad():
                        trainer.model.dnn_output.weight.normal_(std=10.0)

            def epoch_finished(self, state, improved):
                epochs.append(improved)

        trainer = make_trainer(
            "training.lr=0.03",
            "training.num_epochs=4",
            "training.scheduler=none",
            f"training.metric={metric}",
            observers=[Spoiled()],
        )
        state = trainer.train()
        values = [record[metric] for record in state.history]
        best = (min if metric == "logloss" else max)(values)
        assert state.best_epoch == values.index(best) + 1
        assert state.best_epoch < state.epoch, "this test needs a run that gets worse"
        found = trainer.evaluate(trainer.val_ds, "validation")
        assert found == {name: state.history[state.best_epoch - 1][name] for name in found}
        assert found[metric] != values[-1]

    def test_early_stopping_ends_the_run(self, make_trainer):
        state = make_trainer(
            "training.lr=0.05",
            "training.num_epochs=40",
            "training.scheduler=none",
            "training.early_stopping_patience=2",
        ).train()
        assert state.epoch == state.best_epoch + 2 < 40

    def test_a_run_folder_follows_the_epochs(self, make_trainer, tmp_path):
        run = RunFolder(tmp_path / "run").create()
        seen = []

        class Look(Observer):
            def epoch_finished(self, state, improved):
                seen.append((run.checkpoint.exists(), state.epoch))

        trainer = make_trainer(run=run, observers=[Look()])
        state = trainer.train()
        assert seen == [(True, 1), (True, 2), (True, 3)]
        assert [json.loads(line) for line in run.metrics.read_text().splitlines()] == state.history
        saved = run.load_weights({"schema": trainer.schema.fingerprint(), "model": "deepfm"})
        assert_equal_weights(saved, state.best_weights)

    @pytest.mark.parametrize("model", MODELS)
    @pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
    def test_padding_rows_stay_exactly_zero(self, make_trainer, model, optimizer):
        trainer = make_trainer(
            f"training.optimizer={optimizer}",
            "training.num_epochs=1",
            "training.weight_decay=0.1",
            "feature.embedding_l2_reg=0.01",
            "training.lr=0.01",
            model=model,
        )

        def rows_of_fields():
            return {
                (name, first_order): trainer.model.embedding.field_weight(name, first_order)
                for name in trainer.schema.fields
                if name != "history"  # it reads the movies' rows
                for first_order in (False, True)
            }

        before = {key: rows.clone() for key, rows in rows_of_fields().items()}
        trainer.train()
        assert len(before) == 14
        for key, rows in rows_of_fields().items():
            assert not rows[0].any(), key
            assert not rows.numel() or not torch.equal(rows, before[key]), key  # `lr` has no vectors


class TestTheSameSeed:
    def test_gives_the_same_run_bit_for_bit_and_another_seed_another(self, make_trainer):
        trained = []
        for seed in (1, 1, 2):
            trainer = make_trainer(f"seed={seed}")
            history = untimed(trainer.train().history)
            trained.append((weights(trainer.model), history, trainer.evaluate(trainer.test_ds, "test")))
        one, same, other = trained
        assert_equal_weights(one[0], same[0])
        assert one[1:] == same[1:]
        assert not torch.equal(one[0]["dnn_output.weight"], other[0]["dnn_output.weight"])
        assert one[1] != other[1]

    def test_draws_and_order_are_a_pure_function_of_seed_and_epoch(self, make_trainer):
        one, other = make_trainer(), make_trainer()
        list(other._task.batches(1))
        for epoch in (2, 1, 2):
            for (features, labels), (features2, labels2) in zip(
                one._task.batches(epoch), other._task.batches(epoch), strict=True
            ):
                assert torch.equal(labels, labels2)
                assert all(torch.equal(features[name], features2[name]) for name in features)

    def test_each_epoch_sees_every_like_once_with_its_negatives(self, make_trainer):
        trainer = make_trainer()
        batches = list(trainer._task.batches(1))
        assert len(batches) == trainer._task.num_batches()
        labels = torch.cat([labels for _, labels in batches])
        assert len(labels) == len(trainer.train_ds)
        assert labels.sum() == len(trainer.train_ds) / 5


class TestEvaluation:
    def test_every_user_counts(self, make_trainer):
        trainer = make_trainer()
        metrics = trainer.evaluate(trainer.test_ds, "test")
        result = trainer.evaluations["test"]
        users = trainer.test_ds.users[trainer.test_ds.labels > 0]
        assert len(users) == len(users.unique()) == 60
        assert len(result.ranks) == 60
        assert result.groups.tolist() == list(range(60))
        assert len(result.scores) == 60 * 51
        assert metrics["hr@10"] == (result.ranks <= 10).mean()
        assert metrics["ndcg@10"] == pytest.approx(
            np.where(result.ranks <= 10, 1 / np.log2(1 + result.ranks), 0).mean()
        )

    def test_scoring_in_parts_changes_nothing_and_leaves_the_mode(self, make_trainer, monkeypatch):
        trainer, seen = make_trainer(), []
        trainer.model.train()
        whole = trainer.evaluate(trainer.test_ds, "test")
        monkeypatch.setattr(scoring, "SCORING_ROWS", 97)
        parts = trainer.evaluate(trainer.test_ds, "test", lambda done, total: seen.append((done, total)))
        assert parts == pytest.approx(whole, abs=1e-6)
        rows = len(trainer.test_ds)
        assert seen[0] == (97, rows)
        assert seen[-1] == (rows, rows)
        assert trainer.model.training

    @pytest.mark.parametrize("value", [float("nan"), float("inf")])
    def test_a_score_that_is_no_number_names_model_and_batch(self, make_trainer, monkeypatch, value):
        trainer = make_trainer()
        monkeypatch.setattr(scoring, "SCORING_ROWS", 1000)
        forward, calls = trainer.model._forward_components, []

        def poisoned(*views):
            calls.append(None)
            logits = forward(*views)
            if len(calls) == 3:
                logits[7] = value
            return logits

        monkeypatch.setattr(trainer.model, "_forward_components", poisoned)
        with pytest.raises(TrainingError, match=rf"DeepFM gives the score {value} in batch 3 .*row 2007"):
            trainer.evaluate(trainer.test_ds, "test")
        assert "test" not in trainer.evaluations

    def test_a_poisoned_weight_ends_training_and_names_the_batch(self, make_trainer):
        trainer = make_trainer()
        with torch.no_grad():
            trainer.model.dnn_output.bias.fill_(float("nan"))
        with pytest.raises(TrainingError, match="the loss is nan in epoch 1, batch 1"):
            trainer.train()


SCHEMA = DatasetSchema(
    {
        "shop": FieldSchema("shop", FeatureType.SPARSE, 12, 4),
        "price": FieldSchema("price", FeatureType.DENSE, embedding_dim=3),
        "tags": FieldSchema("tags", FeatureType.SEQUENCE, 9, 5, max_length=4),
    },
    "bought",
)
VISITS = FieldSchema("visits", FeatureType.SEQUENCE, 12, 4, max_length=3, combiner="none", shares_embedding_with="shop")
SEQUENCE_SCHEMA = DatasetSchema({**SCHEMA.fields, "visits": VISITS}, "bought")


def table(rows, seed):
    """Clicks that follow the price and one tag; the visits are there for whoever reads them."""
    rng = np.random.default_rng(seed)
    features = {
        "shop": rng.integers(0, 12, rows),
        "price": rng.random(rows).astype(np.float32),
        "tags": rng.integers(0, 9, (rows, 4)),
        "visits": np.random.default_rng(seed + 100).integers(0, 12, (rows, 3)),
    }
    liking = 6 * features["price"] - 3 + 3 * (features["tags"] == 5).any(axis=1)
    return TabularDataset(features, (rng.random(rows) < 1 / (1 + np.exp(-liking))).astype(np.float32))


def tabular_trainer(*overrides, rows=513, model="deepfm", schema=SCHEMA):
    config = load_config(None, [*TINY, "training.metric=auc", "training.lr=0.02", *overrides])
    seed_everything(0)
    model = create_model(model, schema, config)
    return Trainer(model, schema, config, table(rows, 0), table(300, 1), table(300, 2))


class TestOwnRows:
    @pytest.mark.parametrize("model", MODELS)
    def test_rows_without_groups_train(self, model):
        schema = SEQUENCE_SCHEMA if MODELS[model].reads_behaviour else SCHEMA
        longer = {"lr": ("training.num_epochs=15", "training.lr=0.3"), "nfm": ("training.lr=0.05",)}.get(model, ())
        trainer = tabular_trainer("training.num_epochs=6", *longer, model=model, schema=schema)
        assert trainer._task.num_batches() == 2  # 256 + 257: a batch of one row would stop batch normalisation
        assert [len(labels) for _, labels in trainer._task.batches(1)] == [256, 257]
        state = trainer.train()
        metrics = trainer.evaluate(trainer.test_ds, "test")
        assert metrics.keys() == {"auc", "logloss"}
        assert metrics["auc"] > 0.7
        assert state.history[-1]["loss"] < state.history[0]["loss"]
        result = trainer.evaluations["test"]
        assert (len(result.ranks), result.num_candidates) == (0, 0)

    @pytest.mark.parametrize(("rows", "sizes"), [(2, [2]), (255, [255]), (256, [256]), (258, [256, 2]), (257, [257])])
    def test_every_row_is_in_one_batch(self, rows, sizes):
        trainer = tabular_trainer(rows=rows)
        batches = list(trainer._task.batches(1))
        assert [len(labels) for _, labels in batches] == sizes
        assert trainer._task.num_batches() == len(sizes)
        prices = torch.cat([features["price"] for features, _ in batches])
        assert torch.equal(prices.sort().values, trainer.train_ds.features["price"].sort().values)

    def test_a_ranking_metric_needs_groups(self):
        with pytest.raises(ConfigError, match=r"training.metric = 'ndcg@10' needs .*groups.*; use auc or logloss"):
            tabular_trainer("training.metric=ndcg@10")

    @pytest.mark.parametrize("case", ["batches of one row", "one row in all"])
    def test_batch_normalisation_on_single_rows_is_refused_in_words(self, case):
        single = case == "one row in all"
        with pytest.raises(ConfigError, match="batch"):
            tabular_trainer("training.batch_size=1", rows=1 if single else 5).train()

    def test_single_rows_train_without_batch_normalisation(self):
        state = tabular_trainer("training.batch_size=1", "dnn.use_batch_norm=false", rows=5).train()
        assert state.epoch == 3

    def test_data_that_do_not_fit_the_schema_are_refused(self):
        fields = dict(SCHEMA.fields)
        fields["shop"] = FieldSchema("shop", FeatureType.SPARSE, 5, 4)
        with pytest.raises(SchemaError, match=r"field 'shop' holds id \d+ in row \d+; expected 0 to 4"):
            tabular_trainer(schema=DatasetSchema(fields, "bought"))
        fields = {"city": FieldSchema("city", FeatureType.SPARSE, 5, 4)}
        with pytest.raises(SchemaError, match="'city'"):
            tabular_trainer(schema=DatasetSchema(fields, "bought"))

    def test_resuming_without_a_folder_is_refused(self):
        with pytest.raises(CheckpointError, match="give the run's folder"):
            tabular_trainer().train(resume=True)

    def test_it_prints_what_it_is(self):
        assert repr(tabular_trainer()) == "Trainer(DeepFM, TabularDataset(513 rows), device=cpu)"


class ExplicitPenalty(CTRTask):
    """The contract's λ in loss + λ·Σw², written out."""

    def loss(self, batch):
        value, rows = super().loss(batch)
        return value + self.model.get_l2_reg_loss(), rows

    def parameter_groups(self):
        return [ParameterGroup(group.parameters, 0.0, group.weight_decay) for group in super().parameter_groups()]


class TestSettings:
    @pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
    def test_the_optimizers_l2_is_the_one_in_the_loss(self, optimizer):
        config = load_config(
            None,
            [
                *TINY,
                "training.metric=auc",
                "training.gradient_clip_norm=null",
                "training.num_epochs=4",
                "training.scheduler=none",
                "training.batch_size=128",
                f"training.optimizer={optimizer}",
                f"training.lr={0.2 if optimizer == 'sgd' else 0.01}",
                "feature.embedding_l2_reg=0.01",
                "dnn.dropout=0",
                "dnn.use_batch_norm=false",  # behind it a bias has no gradient but noise, which Adam makes large
            ],
        )
        torch.manual_seed(0)
        start = create_model("deepfm", SCHEMA, config)
        ends, rows = [], table(512, 0)
        for task_class in (CTRTask, ExplicitPenalty):
            task = task_class(copy.deepcopy(start), config, rows, rows)
            fit(task, config.training, device=CPU)
            ends.append(weights(task.model))
        for name, tensor in ends[0].items():
            torch.testing.assert_close(tensor, ends[1][name], rtol=1e-4, atol=1e-5, msg=name)
        free = load_config(None, [*TINY, "feature.embedding_l2_reg=0", "training.metric=auc"])
        assert CTRTask(start, free, rows, rows).parameter_groups()[0].l2 == 0
        norm = sum(weight.square().sum() for weight in start.embedding.table_parameters())
        assert start.get_l2_reg_loss().item() == pytest.approx(0.01 * norm.item(), rel=1e-5)

    def test_the_penalty_shrinks_the_tables(self):
        sizes = []
        for penalty in (0, 0.03):
            trainer = tabular_trainer(f"feature.embedding_l2_reg={penalty}", "training.num_epochs=5")
            trainer.train()
            sizes.append(sum(weight.square().sum().item() for weight in trainer.model.embedding.table_parameters()))
        assert sizes[1] < 0.7 * sizes[0]

    @pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
    @pytest.mark.parametrize("scheduler", ["reduce_on_plateau", "cosine", "none"])
    def test_every_optimizer_and_schedule_learns(self, optimizer, scheduler):
        trainer = tabular_trainer(
            f"training.optimizer={optimizer}",
            f"training.scheduler={scheduler}",
            f"training.lr={0.3 if optimizer == 'sgd' else 0.02}",
            "training.num_epochs=5",
            "training.warmup_steps=3",
            "training.accumulation_steps=2",
            "training.batch_size=64",
        )
        state = trainer.train()
        assert state.history[-1]["loss"] < 0.97 * state.history[0]["loss"]
        assert trainer.evaluate(trainer.test_ds, "test")["auc"] > 0.65
        rates = [record["lr"] for record in state.history]
        if scheduler == "cosine":
            assert rates == sorted(rates, reverse=True)
            assert rates[-1] < 0.1 * rates[0]
        if scheduler == "none":
            assert rates == [trainer.config.training.lr] * 5

    def test_weight_decay_leaves_the_tables_alone(self):
        config = load_config(None, [*TINY, "training.weight_decay=0.5", "training.metric=auc"])
        task = CTRTask(create_model("xdeepfm", SCHEMA, config), config, table(20, 0), table(20, 1))
        tables, others = task.parameter_groups()
        assert (tables.l2, tables.weight_decay, others.l2, others.weight_decay) == (1e-5, 0.0, 0.0, 0.5)
        everything = {id(weight) for weight in task.model.parameters()}
        assert {id(weight) for weight in tables.parameters + others.parameters} == everything
        assert len(tables.parameters) + len(others.parameters) == len(everything)
        assert len(tables.parameters) == 6
