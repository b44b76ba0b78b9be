"""Rows that count more or less in training: by their own weight, and by their label's."""

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from deepfm.config import load_config
from deepfm.data.dataset import TabularDataset
from deepfm.engine.loop import fit
from deepfm.errors import ConfigError, DataError
from deepfm.training import objectives
from deepfm.training.evaluation import evaluate_scores, score_rows
from tests.clicks import CPU, ClickTask, clicks, config_of, model_of

ROWS = 12


@pytest.fixture(autouse=True)
def _own_random_state():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def rows_of(chosen, weights=None):
    """Some of the generated rows, by their numbers."""
    whole = clicks(rows=ROWS)
    features = {name: column.numpy()[chosen] for name, column in whole.features.items()}
    return TabularDataset(features, whole.labels.numpy()[chosen], weights)


def gradients(dataset, *overrides):
    """The loss of all rows in one batch, and every weight's gradient."""
    task = ClickTask(model_of(), dataset, config_of("training.batch_size=1024", "dnn.dropout=0", *overrides))
    task.model.eval()
    (batch,) = task.batches(1)
    loss, rows = task.loss(batch)
    assert rows == len(dataset)
    loss.backward()
    return loss.detach(), {name: weight.grad for name, weight in task.model.named_parameters()}


def assert_same(one, other, factor=1.0):
    torch.testing.assert_close(one[0], factor * other[0])
    moved = 0
    for name, gradient in one[1].items():
        if gradient is None:
            assert other[1][name] is None
            continue
        torch.testing.assert_close(gradient, factor * other[1][name], msg=name)
        moved += bool(gradient.any())
    assert moved > 5


class TestTheDataset:
    def test_weights_are_kept_with_the_rows(self):
        rows = rows_of(range(3), [0, 2, 0.5])
        assert rows.weights.dtype == torch.float32
        assert rows.weights.tolist() == [0, 2, 0.5]
        assert rows.nbytes == rows_of(range(3)).nbytes + 12
        assert rows.to("meta").weights.device.type == "meta"
        assert rows_of(range(3)).weights is None

    @pytest.mark.parametrize("wrong", [-0.5, float("nan"), float("inf")])
    def test_a_weight_that_is_none_is_named(self, wrong):
        with pytest.raises(DataError, match=f"row 1 has {wrong} among the row weights; expected finite numbers of 0"):
            rows_of(range(3), [1, wrong, 1])

    def test_nothing_to_learn_from_is_refused(self):
        with pytest.raises(DataError, match=r"all are 0 among the row weights; .* some above 0"):
            rows_of(range(3), [0, 0, 0])

    def test_as_many_weights_as_rows(self):
        with pytest.raises(DataError, match="column 'weights' has 2 rows and the labels have 3"):
            rows_of(range(3), [1, 1])

    def test_a_plain_loader_gives_features_and_labels(self):
        rows = rows_of(range(ROWS), np.arange(ROWS))
        for features, labels in DataLoader(rows, batch_size=5):
            assert features["user"].shape == labels.shape
        assert len(rows[0]) == 2
        assert len(rows.batch(slice(0, 4))) == 2


class TestTheLoss:
    @pytest.mark.parametrize("hidden", [None, torch.tensor([[False, True], [False, False], [True, False]])])
    def test_it_is_a_loop(self, hidden):
        logits, labels, weights = torch.randn(3, 2), torch.randint(2, (3, 2)).float(), torch.rand(3, 2)
        seen = torch.ones(3, 2, dtype=torch.bool) if hidden is None else ~hidden
        losses = [
            w * -torch.log(torch.sigmoid(x if y else -x))
            for x, y, w in zip(logits[seen], labels[seen], weights[seen], strict=True)
        ]
        torch.testing.assert_close(
            objectives.bce(logits, labels, hidden, weights), sum(losses) / len(losses), rtol=1e-5, atol=1e-6
        )

    def test_weights_follow_their_shuffled_rows(self):
        rows = clicks(rows=200)
        rows.weights = rows.features["price"].exp()
        task = ClickTask(model_of(), rows)
        batches = list(task.batches(1))
        assert len(batches) > 1
        for features, _, weights in batches:
            assert torch.equal(weights, features["price"].exp())
        assert len(next(task_batches(clicks(rows=200)))) == 2

    def test_twice_the_weight_is_the_row_twice(self):
        weighted = gradients(rows_of(range(ROWS), [2, 2, *[1] * (ROWS - 2)]))
        assert_same(weighted, gradients(rows_of([0, 1, *range(ROWS)])), factor=(ROWS + 2) / ROWS)

    def test_no_weight_is_no_row(self):
        weighted = gradients(rows_of(range(ROWS), [0, 0, 0, *[1] * (ROWS - 3)]))
        assert_same(weighted, gradients(rows_of(range(3, ROWS))), factor=(ROWS - 3) / ROWS)

    def test_equal_weights_change_nothing(self):
        assert_same(gradients(rows_of(range(ROWS), np.ones(ROWS))), gradients(rows_of(range(ROWS))))

    @pytest.mark.parametrize("positive", [0.25, 3.0])
    @pytest.mark.parametrize("own", [None, np.linspace(0, 2, ROWS)])
    def test_the_positive_weight_is_that_of_rows_of_label_1(self, positive, own):
        labels = rows_of(range(ROWS)).labels.numpy()
        assert 0 < labels.sum() < ROWS
        written_out = np.where(labels == 1, positive, 1.0) * (1.0 if own is None else own)
        got = gradients(rows_of(range(ROWS), own), f"training.positive_weight={positive}")
        assert_same(got, gradients(rows_of(range(ROWS), written_out)))


def task_batches(rows):
    return ClickTask(model_of(), rows).batches(1)


class TestTraining:
    @staticmethod
    def fitted(weights, *overrides):
        rows = clicks()
        rows = TabularDataset({n: c.numpy() for n, c in rows.features.items()}, rows.labels.numpy(), weights)
        task = ClickTask(model_of(), rows, config_of("training.num_epochs=2", "dnn.dropout=0", *overrides))
        fit(task, task.config.training, device=CPU)
        return task.model.eval(), rows

    def test_weighted_rows_train_another_model(self):
        labels = clicks().labels.numpy()
        plain, rows = self.fitted(None)
        weighted, _ = self.fitted(1 + 4 * labels)
        by_label, _ = self.fitted(None, "training.positive_weight=5")
        means = [float(model.predict(rows.features).mean()) for model in (plain, weighted, by_label)]
        assert means[1] > means[0] + 0.1
        assert means[2] == pytest.approx(means[1], abs=1e-5)

    def test_metrics_count_rows_equally(self):
        model, rows = self.fitted(np.linspace(0, 3, 640))
        scores = score_rows(model, rows)
        found = evaluate_scores(scores, rows, (5,)).metrics
        rows.weights = None
        assert found == evaluate_scores(scores, rows, (5,)).metrics


class TestTheSetting:
    @pytest.mark.parametrize("name", ["positive_weight", "pos_weight", "class_weight"])
    def test_its_names(self, name):
        if name == "positive_weight":
            assert load_config(None, [f"training.{name}=2"]).training.positive_weight == 2.0
        else:
            with pytest.raises(ConfigError, match=r"training\.positive_weight"):
                load_config(None, [f"training.{name}=2"])

    @pytest.mark.parametrize("value", ["0", "-1", ".inf"])
    def test_it_is_above_zero(self, value):
        with pytest.raises(ConfigError, match=r"training\.positive_weight = "):
            load_config(None, [f"training.positive_weight={value}"])

    @pytest.mark.parametrize("loss", ["bpr", "softmax"])
    def test_a_ranking_loss_has_none(self, loss):
        with pytest.raises(ConfigError, match=f"positive_weight = 2.0 goes with training.loss bce, got {loss}"):
            ClickTask(model_of(), clicks(), config_of("training.positive_weight=2", f"training.loss={loss}"))
