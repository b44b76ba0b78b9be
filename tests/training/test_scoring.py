"""Scoring users and items once each gives what the model gives row by row."""

import dataclasses
import threading

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from deepfm.data.interactions import InteractionDataset
from deepfm.models.layers.dnn import _HiddenLayer
from deepfm.models.layers.kernels import plain_kernels
from deepfm.training import scoring
from deepfm.training.evaluation import score_rows
from deepfm.training.scoring import PairRows, scorer
from tests.clicks import (
    INTERACTION_OPTIONS,
    MODEL_OPTIONS,
    clicks,
    dense,
    model_of,
    pairs,
    randomise,
    schema_of,
    sequence,
    sparse,
)

ROWS = 80
kinds = pytest.mark.parametrize("kind", MODEL_OPTIONS)

# Which side a field is on, letter by letter in the schema's order: users and items in blocks and interleaved.
SIDES = {
    "users first": "uuuuiiii",
    "items first": "iiiiuuuu",
    "in turns": "uiuiuiui",
    "one user field within": "iiuiiiii",
    "one item field at the end": "uuuuuuui",
    "one item field at the start": "iuuuuuuu",
}
FIELDS = (
    sparse("a", 12), dense("b", 4), sequence("c", "mean"), sparse("d", 9, 4),
    sequence("e", "max"), dense("f", 4), sparse("g", 7), sequence("h", "sum"),
)  # fmt: skip
OWN_WIDTHS = tuple(dataclasses.replace(field, embedding_dim=2 + number % 3) for number, field in enumerate(FIELDS))


def case(kind, sides, *overrides, fields=FIELDS, **sizes):
    """A model with statistics and weights of some size, in training mode, and pairs of users and items."""
    schema = schema_of(*fields)
    names = [field.name for field, side in zip(fields, sides, strict=True) if side == "u"]
    return randomise(model_of(kind, *overrides, schema=schema)).train(), pairs(schema, names, **{"rows": ROWS, **sizes})


def row_by_row(model, dataset):
    """The model's own forward pass in evaluation mode, a row at a time."""
    mode = model.training
    model.eval()
    with torch.no_grad():
        logits = [model(dataset.batch(slice(row, row + 1))[0]) for row in range(len(dataset))]
    model.train(mode)
    return torch.cat(logits).squeeze(1).numpy()


def assert_same_scores(model, dataset, tolerance=1e-5):
    got, wanted = score_rows(model, dataset), row_by_row(model, dataset)
    assert got.shape == (len(dataset),)
    assert got.dtype == np.float32
    assert wanted.std() > 0.1
    np.testing.assert_allclose(got, wanted, rtol=tolerance, atol=tolerance * max(1.0, abs(wanted).max()))


@pytest.fixture
def embedded(monkeypatch):
    """The rows that each forward pass of an embedding has had."""
    from deepfm.models.layers import FeatureEmbedding

    rows, forward = [], FeatureEmbedding.forward

    def counted(self, batch):
        views = forward(self, batch)
        rows.append(len(views[0]))
        return views

    monkeypatch.setattr(FeatureEmbedding, "forward", counted)
    return rows


class TestScoreRows:
    @kinds
    @pytest.mark.parametrize("sides", SIDES)
    def test_pairs_score_as_row_by_row_wherever_the_fields_stand(self, kind, sides, embedded):
        model, dataset = case(kind, SIDES[sides])
        assert_same_scores(model, dataset)
        assert embedded == [20, 30, *[1] * ROWS], "20 users and 30 items are embedded, and only then each row"

    @pytest.mark.parametrize("kind", INTERACTION_OPTIONS)
    @pytest.mark.parametrize(("sides", "wide"), [("in turns", True), ("one user field within", False)])
    def test_pairs_score_as_row_by_row_in_models_of_interactions(self, kind, sides, wide, embedded):
        contexts = ("final_mlp.context_1=[a,c]", "final_mlp.context_2=[g,a]") if "contexts" in kind else ()
        if not wide and kind != "lr":
            contexts = (*contexts, "fm.use_first_order=false")
        model, dataset = case(kind, SIDES[sides], *contexts, fields=OWN_WIDTHS)
        assert_same_scores(randomise(model, 0.6, seed=1), dataset)
        assert embedded == [20, 30, *[1] * ROWS]

    @kinds
    @pytest.mark.parametrize("projection", ["always", "if_needed", "none"])
    @pytest.mark.parametrize("sides", ["users first", "in turns"])
    def test_with_every_projection(self, kind, projection, sides):
        fields = FIELDS if projection == "none" else OWN_WIDTHS
        assert_same_scores(*case(kind, SIDES[sides], f"feature.projection={projection}", fields=fields))

    @kinds
    @pytest.mark.parametrize(
        "override",
        [
            "dnn.use_batch_norm=false",
            "dnn.dropout=0",
            "dnn.hidden_units=[5]",
            *(f"dnn.activation={name}" for name in ("gelu", "silu", "leaky_relu", "tanh", "sigmoid")),
            "fm.use_first_order=false",
            "fm.use_second_order=false",
        ],
    )
    def test_with_every_kind_of_tower_and_term(self, kind, override):
        assert_same_scores(*case(kind, SIDES["in turns"], override))

    @pytest.mark.parametrize("sides", ["uuuu", "ui"])
    @pytest.mark.parametrize("make", [sparse, dense, sequence])
    def test_fields_of_one_kind_alone(self, make, sides):
        fields = [make(name) for name in "abcd"[: len(sides)]] + [sparse("other")]
        assert_same_scores(*case("deepfm", sides + "i", fields=fields))

    @pytest.mark.parametrize("side", ["u", "i"])
    def test_all_fields_may_be_the_users_or_the_items(self, side):
        """The other side has a column, such as a number, that the schema does not name."""
        model, dataset = case("deepfm", "u" + "i" * 7)
        columns = {name: dataset._stored_column(name).numpy()[:20] for name in model.schema.fields}
        tables = (columns, {"number": np.arange(30)}) if side == "u" else ({"number": np.arange(20)}, columns)
        positions = dataset.users.numpy(), dataset.items.numpy() % 20
        assert_same_scores(model, InteractionDataset(tables, *positions, dataset.labels.numpy()))

    @kinds
    def test_plain_rows_score_as_row_by_row(self, kind):
        model = randomise(model_of(kind))
        assert_same_scores(model, clicks(rows=70))

    def test_fewer_rows_than_users_and_items_are_scored_as_rows(self, embedded):
        model, dataset = case("deepfm", SIDES["in turns"], rows=49)
        assert_same_scores(model, dataset)
        assert embedded[0] == 49
        embedded.clear()
        model, dataset = case("deepfm", SIDES["in turns"], rows=50)
        assert_same_scores(model, dataset)
        assert embedded[:2] == [20, 30]

    @kinds
    @pytest.mark.parametrize("rows", [1, 7, ROWS - 1, ROWS, ROWS + 1])
    def test_in_parts_of_any_size(self, kind, rows, monkeypatch):
        model, dataset = case(kind, SIDES["in turns"])
        whole = score_rows(model, dataset)
        monkeypatch.setattr(scoring, "SCORING_ROWS", rows)
        np.testing.assert_allclose(score_rows(model, dataset), whole, rtol=1e-5, atol=1e-5)

    @kinds
    def test_weights_that_changed_between_two_calls_change_the_scores(self, kind):
        model, dataset = case(kind, SIDES["in turns"])
        for part in ("embedding.tables.4.weight", "dnn.layers.0.linear.weight", "dnn.layers.1.norm.weight",
                     "dnn.layers.0.norm.running_mean", "dnn.layers.1.norm.running_var"):  # fmt: skip
            before = score_rows(model, dataset)
            with torch.no_grad():
                model.state_dict()[part][1:] *= 1.5
            assert abs(score_rows(model, dataset) - before).max() > 1e-3, part
            assert_same_scores(model, dataset)

    def test_tables_and_rows_that_changed_change_the_scores(self):
        model, dataset = case("deepfm", SIDES["in turns"])
        before = score_rows(model, dataset)
        dataset.items = dataset.items.flip(0)
        assert abs(score_rows(model, dataset) - before).max() > 1e-3
        dataset.user_table["a"] = (dataset.user_table["a"] + 1) % 12
        assert_same_scores(model, dataset)

    @kinds
    @pytest.mark.parametrize("training", [True, False])
    def test_mode_statistics_weights_and_random_numbers_are_left_as_they_were(self, kind, training):
        model, dataset = case(kind, SIDES["in turns"])
        model.train(training)
        before, state = {name: tensor.clone() for name, tensor in model.state_dict().items()}, torch.get_rng_state()
        score_rows(model, dataset)
        assert all(part.training == training for part in model.modules())
        assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
        assert torch.equal(torch.get_rng_state(), state)
        logits = model(dataset.batch(slice(0, 9))[0])
        logits.sum().backward()  # no weight has become part of inference mode
        assert all(weight.grad is not None for weight in model.embedding.table_parameters())

    def test_plain_kernels_score_the_same_unfolded(self):
        model, dataset = case("deepfm", SIDES["in turns"])
        with plain_kernels():
            wanted = score_rows(model, dataset)
        np.testing.assert_allclose(score_rows(model, dataset), wanted, rtol=1e-5, atol=1e-5)

    @kinds
    def test_normalisation_is_folded_once_however_many_batches_follow(self, kind, monkeypatch):
        folds, fold = [], _HiddenLayer._folded
        monkeypatch.setattr(_HiddenLayer, "_folded", lambda layer: folds.append(layer) or fold(layer))
        monkeypatch.setattr(scoring, "SCORING_ROWS", 30)
        model, dataset = case(kind, SIDES["in turns"])
        score_rows(model, dataset)
        assert folds == list(model.dnn.layers)
        score_rows(model, dataset)
        assert folds == [*model.dnn.layers, *model.dnn.layers], "and again in the next call, for weights may differ"
        model.eval()(dataset.batch(slice(0, 5))[0])
        assert len(folds) == 4, "outside of scoring nothing is folded"

    @pytest.mark.parametrize("kind", ["deepfm", "xdeepfm relu split"])
    def test_the_first_layer_is_applied_to_users_and_items_not_to_pairs(self, kind, monkeypatch):
        monkeypatch.setattr(scoring, "SCORING_ROWS", 60)
        with _Products(12) as first_layer:
            score_rows(*case(kind, SIDES["in turns"]))
        assert first_layer.rows == [20, 30]
        with _Products(6) as second_layer:
            score_rows(*case("deepfm", SIDES["in turns"]))
        assert second_layer.rows == [60, ROWS - 60]


class _Products(TorchDispatchMode):
    """Counts the rows of matrix products that are so wide."""

    def __init__(self, width):
        super().__init__()
        self.width, self.rows = width, []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        name = function.overloadpacket.__name__
        if name in ("linear", "addmm", "mm") and out.shape[1:] == (self.width,):
            self.rows.append(len(out))
        return out


def halves(sides="in turns", rows=40):
    """Rows of pairs that are not written out, and the tensor that they stand for."""
    model, dataset = case("deepfm", SIDES[sides], rows=ROWS)
    with torch.no_grad():
        score = scorer(model.eval(), dataset)
        users, items = dataset.pairs(slice(0, rows))
        wanted = model.embedding(dataset.batch(slice(0, rows))[0])[2]
    return PairRows(score.flat, users, items), wanted


@pytest.mark.parametrize("sides", SIDES)
class TestPairRows:
    """Whatever a model does with its flat embeddings works on them."""

    def close(self, got, wanted):
        assert isinstance(got, torch.Tensor)
        torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-5)

    def test_attributes_are_the_tensors(self, sides):
        rows, wanted = halves(sides)
        assert rows.shape == wanted.shape == (40, 32)
        assert rows.size(1) == 32
        assert rows.dim() == rows.ndim == 2
        assert rows.dtype == torch.float32
        assert rows.device == wanted.device
        assert rows.numel() == wanted.numel()

    def test_methods_are_the_tensors(self, sides):
        rows, wanted = halves(sides)
        self.close(rows.clone(), wanted)
        self.close(rows.narrow(0, 3, 5), wanted[3:8])
        self.close(rows.index_select(1, torch.tensor([5, 0, 31])), wanted[:, [5, 0, 31]])
        self.close(rows.unflatten(1, (8, 4)).sum(dim=1), wanted.unflatten(1, (8, 4)).sum(dim=1))
        self.close(rows.t(), wanted.t())
        self.close(rows.sum(), wanted.sum())
        for got, part in zip(rows.split([10, 22], dim=1), wanted.split([10, 22], dim=1), strict=True):
            self.close(got, part)

    def test_functions_of_torch_see_the_tensor(self, sides):
        rows, wanted = halves(sides)
        other = torch.randn(40, 32)
        self.close(torch.cat([rows, other], dim=1), torch.cat([wanted, other], dim=1))
        self.close(torch.cat([other, rows, rows]), torch.cat([other, wanted, wanted]))
        self.close(torch.stack([rows, other]), torch.stack([wanted, other]))
        self.close(torch.add(rows, other), wanted + other)
        self.close(torch.add(other, rows, alpha=2), other + 2 * wanted)
        self.close(torch.mul(rows, rows), wanted * wanted)
        self.close(torch.mul(rows, 3.0), wanted * 3)
        self.close(torch.relu(rows), wanted.relu())
        self.close(torch.mm(rows, other.t()), wanted @ other.t())
        self.close(F.layer_norm(rows, (32,)), F.layer_norm(wanted, (32,)))
        self.close(F.linear(other, rows), F.linear(other, wanted))
        self.close(torch.nn.BatchNorm1d(32)(rows), torch.nn.BatchNorm1d(32)(wanted))

    def test_a_tensor_on_the_left_of_an_operator_takes_them(self, sides):
        rows, wanted = halves(sides)
        other = torch.randn(40, 32)
        self.close(other + rows, other + wanted)
        self.close(other * rows, other * wanted)
        self.close(other.t() @ rows, other.t() @ wanted)

    def test_a_tensor_on_the_right_of_an_operator_takes_them(self, sides):
        rows, wanted = halves(sides)
        other = torch.randn(40, 32)
        self.close(rows - other, wanted - other)
        self.close(rows @ other.t(), wanted @ other.t())

    @pytest.mark.parametrize("with_bias", [True, False])
    def test_a_linear_layer_is_the_tensors(self, sides, with_bias):
        for call in (
            lambda layer, rows: layer(rows),
            lambda layer, rows: F.linear(rows, layer.weight, layer.bias),
            lambda layer, rows: F.linear(rows, layer.weight, bias=layer.bias),
            lambda layer, rows: F.linear(rows, weight=layer.weight, bias=layer.bias),
        ):
            rows, wanted = halves(sides)
            layer = torch.nn.Linear(32, 6, bias=with_bias)
            for _ in range(2):
                self.close(call(layer, rows), layer(wanted))

    def test_several_linear_layers_do_not_mix(self, sides):
        rows, wanted = halves(sides)
        one, other = torch.nn.Linear(32, 6), torch.nn.Linear(32, 6)
        for layer in (one, other, one, other):
            self.close(layer(rows), layer(wanted))

    def test_weights_that_are_gone_leave_nothing_to_those_in_their_place(self, sides):
        rows, wanted = halves(sides)
        for seed in range(20):
            weight = torch.randn(3, 32, generator=torch.Generator().manual_seed(seed))
            self.close(F.linear(rows, weight), F.linear(wanted, weight))


class TestScorer:
    def test_rows_may_be_given_by_number_in_any_order(self):
        model, dataset = case("deepfm", SIDES["in turns"])
        whole, order = score_rows(model, dataset), torch.randperm(ROWS)[:57]
        with torch.no_grad():
            got = scorer(model.eval(), dataset)(order)
        np.testing.assert_allclose(got.numpy(), whole[order.numpy()], rtol=1e-5, atol=1e-5)

    def test_columns_that_the_schema_does_not_name_are_left_alone(self):
        model, dataset = case("deepfm", SIDES["in turns"])
        before = score_rows(model, dataset)
        extra = ({"x": np.ones(20)}, {"y": np.ones((30, 2))})
        tables = [
            {name: column.numpy() for name, column in table.items()} | more
            for table, more in zip((dataset.user_table, dataset.item_table), extra, strict=True)
        ]
        wider = InteractionDataset(tuple(tables), dataset.users.numpy(), dataset.items.numpy(), dataset.labels.numpy())
        np.testing.assert_array_equal(score_rows(model, wider), before)


@pytest.mark.parametrize(
    "use",
    [
        lambda rows: rows + 1.0,
        lambda rows: rows * rows,
        lambda rows: 2.0 * rows,
        lambda rows: rows[:, 3:9],
        lambda rows: -rows,
        lambda rows: torch.full((1,), float(len(rows))),
    ],
    ids=["+", "*", "2 *", "[]", "-", "len"],
)
def test_pythons_operators_are_the_tensors(use):
    rows, wanted = halves()
    torch.testing.assert_close(use(rows), use(wanted))


def test_a_linear_layer_may_be_called_by_the_names_of_its_arguments():
    rows, wanted = halves()
    weight = torch.randn(3, 32)
    torch.testing.assert_close(F.linear(input=rows, weight=weight), F.linear(wanted, weight), rtol=1e-5, atol=1e-5)


def test_one_weight_may_come_with_another_bias():
    rows, wanted = halves()
    weight = torch.randn(3, 32)
    for bias in (None, torch.randn(3), torch.randn(3)):
        torch.testing.assert_close(F.linear(rows, weight, bias), F.linear(wanted, weight, bias), rtol=1e-5, atol=1e-5)


class TestWhatScoringLeavesBehind:
    def test_threads_that_score_at_once_do_not_see_each_others_folds(self):
        from deepfm.models.layers import kernels

        entered, left = threading.Event(), threading.Event()

        def other():
            with kernels.scoring_kernels():
                entered.set()
                left.wait(10)

        thread = threading.Thread(target=other)
        with kernels.scoring_kernels():
            thread.start()
            assert entered.wait(10)
        assert not kernels.scoring()
        left.set()
        thread.join()
        assert not kernels.scoring()
