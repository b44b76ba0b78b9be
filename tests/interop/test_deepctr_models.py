"""The models' formulas by hand, every mix of columns, and what a model is after it was saved."""

import copy
import io

import numpy as np
import pytest
import torch
from torch import nn

from deepfm.errors import ConfigError, DeviceError, SchemaError
from deepfm.interop.deepctr import layers
from deepfm.interop.deepctr.inputs import DenseFeat, SparseFeat, VarLenSparseFeat
from deepfm.interop.deepctr.models import BST, DCN, DIN, SIN, WDL, AutoInt, DeepFM, xDeepFM
from deepfm.interop.deepctr.weights import deepctr_weights

WIDTH = 4
A, B = SparseFeat("a", 6, WIDTH), SparseFeat("b", 5, WIDTH)
D, W = DenseFeat("d"), DenseFeat("w", 2)
GENRES = VarLenSparseFeat(SparseFeat("genres", 7, WIDTH), 3, "mean")
ITEM = SparseFeat("item", 8, WIDTH)
HIST = VarLenSparseFeat(SparseFeat("hist_item", 8, WIDTH, embedding_name="item"), 4, length_name="seq_length")
ALL = [A, B, D, W, GENRES, ITEM, HIST]
PLAIN = [A, B, D, W, GENRES]
SMALL = {"dnn_hidden_units": (6, 5)}
CIN = {"cin_layer_size": (4, 3)}
MODELS = {
    "DeepFM": lambda columns, **options: DeepFM(columns, columns, **SMALL, **options),
    "WDL": lambda columns, **options: WDL(columns, columns, **SMALL, **options),
    "xDeepFM": lambda columns, **options: xDeepFM(columns, columns, **SMALL, **CIN, **options),
    "AutoInt": lambda columns, **options: AutoInt(columns, columns, att_layer_num=2, **SMALL, **options),
    "DCN": lambda columns, **options: DCN(columns, columns, **SMALL, **options),
    "DIN": lambda columns, **options: DIN(columns, ["item"], att_hidden_size=(5, 3), **SMALL, **options),
    "BST": lambda columns, **options: BST(columns, columns, ["item"], **SMALL, **options),
    "SIN": lambda columns, **options: SIN(columns, columns, ["item"], **CIN, fusion_dim=5, **SMALL, **options),
}
WITH_HISTORY = ("DIN", "BST", "SIN")


def made(columns, rows=40, seed=0):
    rng = np.random.default_rng(seed)
    x = {}
    for column in columns:
        if isinstance(column, VarLenSparseFeat):
            x[column.name] = rng.integers(0, column.vocabulary_size, (rows, column.maxlen))
            if column.length_name:
                x[column.length_name] = rng.integers(0, column.maxlen + 1, rows)
        elif isinstance(column, DenseFeat):
            x[column.name] = rng.normal(size=(rows, column.dimension))
        else:
            x[column.name] = rng.integers(0, column.vocabulary_size, rows)
    return x


def randomised(model, seed=1, scale=0.5):
    """Weights of a size at which an error shows, padding rows zero."""
    generator = torch.Generator().manual_seed(seed)
    for weight in deepctr_weights(model).values():
        if weight.dtype.is_floating_point:
            weight.copy_(torch.randn(weight.shape, generator=generator) * scale)
    for name, weight in model.named_buffers():
        if name.endswith("running_var"):
            weight.abs_().add_(0.5)
    return model


def logits_of(model, x):
    return model.score(model.layout.encode(x), 256).numpy().astype(np.float64)


def weights_of(model):
    return {name: weight.numpy().astype(np.float64) for name, weight in deepctr_weights(model).items()}


def pooled(weight, ids, combiner="mean", length=None):
    """One row's vector of a column of several ids, by a loop."""
    valid = [i for place, i in enumerate(ids) if (i != 0 if length is None else place < length)]
    if not valid:
        return np.zeros(weight.shape[1])
    vectors = np.array([weight[i] for i in valid])
    return {"mean": vectors.mean(0), "sum": vectors.sum(0), "max": vectors.max(0)}[combiner]


def tower(w, x):
    for layer in range(2):
        x = np.maximum(w[f"dnn.linears.{layer}.weight"] @ x + w[f"dnn.linears.{layer}.bias"], 0)
    return x


def views(w, x, row):
    """One row's linear term, fields and numbers."""
    fields, linear = [], 0.0
    for name in ("a", "b"):
        fields.append(w[f"embedding_dict.{name}.weight"][x[name][row]])
        linear += w[f"linear_model.embedding_dict.{name}.weight"][x[name][row], 0]
    fields.append(pooled(w["embedding_dict.genres.weight"], x["genres"][row]))
    linear += pooled(w["linear_model.embedding_dict.genres.weight"], x["genres"][row])[0]
    numbers = np.concatenate([x["d"][row], x["w"][row]])
    return linear + numbers @ w["linear_model.weight"][:, 0], np.array(fields), numbers


def softmax(scores):
    powers = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


class TestFormulas:
    """Row by row in numpy."""

    x = made(PLAIN)

    def check(self, model, deep):
        randomised(model)
        w, got = weights_of(model), logits_of(model, self.x)
        for row in range(len(got)):
            linear, fields, numbers = views(w, self.x, row)
            wanted = linear + deep(w, fields, numbers) + w["out.bias"][0]
            assert got[row] == pytest.approx(wanted, abs=1e-4), row
        assert np.ptp(got) > 1

    def test_deepfm(self):
        def deep(w, fields, numbers):
            pairs = sum(fields[i] @ fields[j] for i in range(3) for j in range(i))
            return pairs + w["dnn_linear.weight"][0] @ tower(w, np.concatenate([fields.ravel(), numbers]))

        self.check(MODELS["DeepFM"](PLAIN), deep)

    def test_wdl(self):
        self.check(
            MODELS["WDL"](PLAIN),
            lambda w, fields, numbers: w["dnn_linear.weight"][0] @ tower(w, np.concatenate([fields.ravel(), numbers])),
        )

    def test_xdeepfm_with_halves(self):
        def deep(w, fields, numbers):
            maps, out = fields, []
            for layer, size in enumerate((4, 3)):
                kernel = w[f"cin.conv1ds.{layer}.weight"][:, :, 0]
                products = np.array([maps[h] * fields[m] for h in range(len(maps)) for m in range(3)])  # (H·F, D)
                made = np.maximum(kernel @ products + w[f"cin.conv1ds.{layer}.bias"][:, None], 0)
                maps, direct = (made[: size // 2], made[size // 2 :]) if layer == 0 else (None, made)
                out.append(direct.sum(axis=1))
            value = w["cin_linear.weight"][0] @ np.concatenate(out)
            return value + w["dnn_linear.weight"][0] @ tower(w, np.concatenate([fields.ravel(), numbers]))

        self.check(MODELS["xDeepFM"](PLAIN), deep)

    def test_autoint(self):
        def deep(w, fields, numbers):
            x = fields
            for layer in range(2):
                query, key, value, kept = (
                    x @ w[f"int_layers.{layer}.{n}"] for n in ("W_Query", "W_key", "W_Value", "W_Res")
                )
                heads = [slice(0, 2), slice(2, 4)]
                mixed = [softmax(query[:, h] @ key[:, h].T) @ value[:, h] for h in heads]
                x = np.maximum(np.concatenate(mixed, axis=1) + kept, 0)
            both = np.concatenate([x.ravel(), tower(w, np.concatenate([fields.ravel(), numbers]))])
            return w["dnn_linear.weight"][0] @ both

        self.check(MODELS["AutoInt"](PLAIN), deep)

    @pytest.mark.parametrize("kind", ["vector", "matrix"])
    def test_dcn(self, kind):
        def deep(w, fields, numbers):
            first = np.concatenate([fields.ravel(), numbers])
            x = first
            for kernel, bias in zip(w["crossnet.kernels"], w["crossnet.bias"], strict=True):
                if kind == "vector":
                    x = first * (x @ kernel[:, 0]) + bias[:, 0] + x
                else:
                    x = first * (kernel @ x + bias[:, 0]) + x
            return w["dnn_linear.weight"][0] @ np.concatenate([x, tower(w, first)])

        self.check(MODELS["DCN"](PLAIN, cross_parameterization=kind), deep)

    @pytest.mark.parametrize("normalize", [False, True])
    def test_din(self, normalize):
        columns, x = [A, D, ITEM, HIST], made([A, D, ITEM, HIST])
        model = randomised(DIN(columns, ["item"], att_hidden_size=(5, 3), att_weight_normalization=normalize, **SMALL))
        w, got = weights_of(model), logits_of(model, x)
        unit = "attention.local_att."

        def dice(value, layer):
            name = f"{unit}dnn.activation_layers.{layer}."
            mean, variance = w[name + "bn.running_mean"], w[name + "bn.running_var"]
            normed = (value - mean) / np.sqrt(variance + 1e-8) * w[name + "bn.weight"] + w[name + "bn.bias"]
            share = 1 / (1 + np.exp(-normed))
            return share * value + (1 - share) * w[name + "alpha"][:, 0] * value

        for row in range(len(got)):
            item, length = w["embedding_dict.item.weight"][x["item"][row]], x["seq_length"][row]
            events = w["embedding_dict.item.weight"][x["hist_item"][row]][:length]
            scores = []
            for event in events:
                hidden = np.concatenate([item, event, item - event, item * event])
                for layer in range(2):
                    name = f"{unit}dnn.linears.{layer}."
                    hidden = dice(w[name + "weight"] @ hidden + w[name + "bias"], layer)
                scores.append(w[unit + "dense.weight"][0] @ hidden + w[unit + "dense.bias"][0])
            scores = softmax(np.array(scores)) if normalize and length else scores
            interest = sum((s * e for s, e in zip(scores, events, strict=True)), np.zeros(WIDTH))
            fields = [w["embedding_dict.a.weight"][x["a"][row]], item, interest, x["d"][row]]
            wanted = w["dnn_linear.weight"][0] @ tower(w, np.concatenate(fields)) + w["out.bias"][0]
            assert got[row] == pytest.approx(wanted, abs=1e-4), row
        assert (x["seq_length"] == 0).any()

    def test_dense_features_stay_out_of_interactions(self):
        """Without a tower a number enters by its linear weight alone."""
        for model in (DeepFM(PLAIN, PLAIN, dnn_hidden_units=()), xDeepFM(PLAIN, PLAIN, dnn_hidden_units=(), **CIN)):
            randomised(model)
            moved = {**self.x, "d": self.x["d"] + 2.0}
            change = logits_of(model, moved) - logits_of(model, self.x)
            np.testing.assert_allclose(change, 2.0 * model.columns.linear_weight[0].item(), atol=1e-5)

    @pytest.mark.parametrize("combiner", ["mean", "sum", "max"])
    @pytest.mark.parametrize("length_name", [None, "n"])
    def test_pooling(self, combiner, length_name):
        """Empty rows give zeros, ids 0 within a length count."""
        column = VarLenSparseFeat(SparseFeat("v", 5, WIDTH), 3, combiner, length_name)
        x = {"v": np.array([[0, 0, 0], [1, 0, 2], [4, 4, 4], [0, 3, 0]]), "n": np.array([0, 2, 3, 1])}
        model = randomised(WDL([column], [column], dnn_hidden_units=()))
        w, got = weights_of(model), logits_of(model, x)
        for row in range(4):
            length = None if length_name is None else x["n"][row]
            term = pooled(w["linear_model.embedding_dict.v.weight"], x["v"][row], combiner, length)[0]
            assert got[row] == pytest.approx(term + w["out.bias"][0], abs=1e-5)


class TestHistories:
    x = made(ALL)

    @pytest.mark.parametrize("name", ["BST", "SIN"])
    def test_what_stands_behind_a_history_is_not_read(self, name):
        model = randomised(MODELS[name](ALL))
        torch.nn.init.normal_(model.dnn.layers[0].linear.weight)
        other = copy.deepcopy(self.x)
        padding = np.arange(4) >= self.x["seq_length"][:, None]
        other["hist_item"][padding] = 7 - other["hist_item"][padding]
        linear_less = MODELS[name]([A, B, D, W, GENRES, ITEM, HIST])
        linear_less.load_state_dict(model.state_dict())
        np.testing.assert_allclose(logits_of(linear_less, other), logits_of(model, self.x), atol=1e-5)
        assert padding.any(axis=1).sum() > 20

    @pytest.mark.parametrize("name", WITH_HISTORY)
    def test_the_history_is_read_event_by_event(self, name):
        model = MODELS[name](ALL) if name == "DIN" else None
        model = model or {"BST": BST, "SIN": SIN}[name]([A], ALL, ["item"], **SMALL)
        randomised(model)
        full = {**self.x, "seq_length": np.full(40, 4)}
        other = {**full, "hist_item": (full["hist_item"] + [[1, 0, 0, 0]]) % 8}
        assert (abs(logits_of(model, full) - logits_of(model, other)) > 1e-4).mean() > 0.5

    @pytest.mark.parametrize("name", WITH_HISTORY)
    @pytest.mark.parametrize("normalize", [False, True])
    def test_empty_histories_give_finite_logits_and_gradients(self, name, normalize):
        options = {"att_weight_normalization": normalize} if name == "DIN" else {}
        model = randomised(MODELS[name](ALL, **options))
        empty = {**self.x, "seq_length": np.zeros(40, int)}
        rows = model.layout.encode(empty)
        model.logits(rows).sum().backward()
        assert np.isfinite(logits_of(model, empty)).all()
        assert all(weight.grad is None or weight.grad.isfinite().all() for weight in model.parameters())

    def test_without_lengths_id_zero_is_no_event(self):
        bare = VarLenSparseFeat(SparseFeat("hist_item", 8, WIDTH, embedding_name="item"), 4)
        x = {**self.x, "hist_item": np.tile([[3, 5, 0, 0]], (40, 1)), "seq_length": np.full(40, 2)}
        model, other = (randomised(DIN([A, ITEM, hist], ["item"], **SMALL)) for hist in (HIST, bare))
        np.testing.assert_allclose(logits_of(model, x), logits_of(other, x), atol=1e-6)

    def test_several_histories_are_one(self):
        cat = SparseFeat("cat", 4, 2)
        hist = VarLenSparseFeat(SparseFeat("hist_cat", 4, 2, embedding_name="cat"), 4, length_name="seq_length")
        columns = [cat, *ALL, hist]
        model = BST(columns, columns, ["cat", "item"], **SMALL)
        assert (model.histories.names, model.histories.candidates) == (("hist_item", "hist_cat"), ("item", "cat"))
        assert model.histories.width == 6
        assert logits_of(model, made(columns)).shape == (40,)

    def test_the_gate_joins_two_sides(self):
        model = randomised(MODELS["SIN"](ALL))
        seen = []
        model.fused.fusion.values.register_forward_hook(lambda module, args, output: seen.append(output))
        torch.nn.init.normal_(model.fused.fusion.gate.weight)
        with torch.no_grad():
            model.logits(model.layout.encode(self.x))
        assert seen[0].shape == (40, 5)
        assert 0 < seen[0].min() < 0.4 < 0.6 < seen[0].max() < 1

    @pytest.mark.parametrize(
        ("columns", "listed", "match"),
        [
            (ALL, [], "history_feature_list is empty"),
            (ALL, ["movie"], "names 'movie'; expected a SparseFeat of that name"),
            ([A, ITEM], ["item"], "'item' has no history; expected a VarLenSparseFeat named 'hist_item'"),
            (
                [ITEM, VarLenSparseFeat(SparseFeat("hist_item", 8, 2), 4)],
                ["item"],
                "'hist_item' has embedding_dim 2 and its candidate 'item' 4",
            ),
            (
                [A, VarLenSparseFeat(SparseFeat("hist_a", 6, 4), 3), ITEM, HIST],
                ["a", "item"],
                "'hist_item' has maxlen 4 and 'hist_a' 3",
            ),
        ],
    )
    def test_what_does_not_go_together_is_refused(self, columns, listed, match):
        with pytest.raises(ConfigError, match=match):
            DIN(columns, listed)


MIXES = {
    "all": PLAIN,
    "no dense": [A, B, GENRES],
    "no sparse": [D, W],
    "no single": [GENRES, D],
    "one sparse": [A],
    "one dense": [D],
    "one sequence": [GENRES],
}


@pytest.mark.parametrize("mix", MIXES)
@pytest.mark.parametrize("name", MODELS)
def test_every_model_takes_every_mix(name, mix):
    """It learns a batch by heart, predicts, and is the same after saving; models of histories have theirs besides."""
    columns = MIXES[mix] + ([ITEM, HIST] if name in WITH_HISTORY else [])
    x, y = made(columns, rows=24), np.arange(24) % 2
    model = MODELS[name](columns, init_std=0.1)
    model.compile("adagrad", "binary_crossentropy", ["auc"])
    losses = model.fit(x, y, batch_size=8, epochs=12, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    predictions = model.predict(x)
    assert predictions.shape == (24, 1)
    assert predictions.dtype == np.float64
    assert ((predictions > 0) & (predictions < 1)).all()
    other = MODELS[name](columns, seed=5)
    assert not np.array_equal(other.predict(x), predictions)
    other.load_state_dict(model.state_dict())
    assert np.array_equal(other.predict(x), predictions)


class TestPersistence:
    def test_a_whole_model_goes_on_as_if_nothing_had_happened(self, tmp_path):
        x, y = made(ALL), np.arange(40) % 2
        model = MODELS["SIN"](ALL, dnn_dropout=0.2)
        model.compile("adam", "binary_crossentropy", ["auc"])
        model.fit(x, y, batch_size=16, epochs=2, verbose=0)
        torch.save(model, tmp_path / "model.pt")
        other = torch.load(tmp_path / "model.pt", weights_only=False)
        assert np.array_equal(other.predict(x), model.predict(x))
        ends = []
        for one in (model, other):
            torch.manual_seed(0)
            one.fit(x, y, batch_size=16, epochs=2, verbose=0)
            ends.append(one.predict(x))
        assert np.array_equal(*ends)
        assert other.history.history == model.history.history

    @pytest.mark.parametrize("name", MODELS)
    def test_weights_go_through_a_file(self, name):
        file = io.BytesIO()
        model, x = randomised(MODELS[name](ALL)), made(ALL)
        torch.save(model.state_dict(), file)
        file.seek(0)
        other = MODELS[name](ALL, seed=3)
        other.load_state_dict(torch.load(file, weights_only=True))
        assert np.array_equal(other.predict(x), model.predict(x))

    def test_two_models_of_the_same_columns_share_nothing(self):
        first, second = DeepFM(PLAIN, PLAIN), DeepFM(PLAIN, PLAIN)
        before = copy.deepcopy(second.state_dict())
        with torch.no_grad():
            for weight in first.parameters():
                weight.add_(1.0)
        assert all(torch.equal(weight, before[name]) for name, weight in second.state_dict().items())


def test_large_ids_stay_apart():
    """Two ids that are one number in float32 have rows of their own, and train them."""
    size = 2**24 + 2
    column = SparseFeat("user", size, 1)
    options = {"dnn_hidden_units": (3,), "dnn_activation": "linear", "init_std": 1.0, "l2_reg_embedding": 0}
    model = WDL([], [column], **options)
    x = {"user": np.array([2**24, 2**24 + 1])}
    assert np.float32(x["user"][0]) == np.float32(x["user"][1])
    w = model.embedding_dict["user"].weight
    assert w.shape == (size, 1)
    torch.nn.init.normal_(model.dnn.layers[0].linear.weight)
    first, second = logits_of(model, x)
    assert first != second
    model.compile("sgd", "binary_crossentropy")
    before = w[-3:].clone()
    model.fit({"user": x["user"][1:]}, np.array([1]), verbose=0)
    assert (w[-3:] != before).squeeze(1).tolist() == [False, False, True]


class TestBeginnings:
    def test_weights_begin_as_deepctr_torchs_do(self):
        large = [SparseFeat("a", 4000, 8), SparseFeat("b", 4000, 8)]
        w = deepctr_weights(DeepFM(large, large, init_std=0.02, dnn_hidden_units=(128, 64)))
        for name, std in (
            ("embedding_dict.a.weight", 0.02),
            ("linear_model.embedding_dict.b.weight", 1e-4),
            ("dnn.linears.0.weight", 0.02),
            ("dnn.linears.1.weight", 0.02),
        ):
            assert w[name].std().item() == pytest.approx(std, rel=0.05), name
        assert w["out.bias"].item() == 0
        assert w["dnn.linears.0.bias"].abs().max() > 0  # torch's own

    def test_a_seed_decides_everything(self):
        def trained(seed):
            model = DeepFM(PLAIN, PLAIN, dnn_dropout=0.3, seed=seed)
            model.compile("adam", "binary_crossentropy")
            model.fit(made(PLAIN), np.arange(40) % 2, batch_size=8, epochs=2, verbose=0)
            return model.predict(made(PLAIN))

        assert np.array_equal(trained(7), trained(7))
        assert not np.array_equal(trained(7), trained(8))

    def test_padding_stays_zero_and_every_id_learns(self):
        columns = [A, GENRES]
        model = DeepFM(columns, columns, init_std=0.1)
        before = {name: weight.clone() for name, weight in deepctr_weights(model).items()}
        model.compile("sgd", "binary_crossentropy")
        x = {"a": np.array([0, 1]), "genres": np.array([[0, 2, 0], [3, 3, 0]])}
        model.fit(x, np.array([1, 0]), epochs=2, verbose=0, shuffle=False)
        moved = {
            name: (weight != before[name]).any(dim=1).tolist()
            for name, weight in deepctr_weights(model).items()
            if name.startswith("embedding_dict")
        }
        assert all(all(rows) for rows in moved.values())  # the penalty moves every row; without it, those that occur
        free = DeepFM(columns, columns, init_std=0.1, l2_reg_embedding=0, l2_reg_linear=0)
        free.compile("sgd", "binary_crossentropy")
        free.fit(x, np.array([1, 0]), epochs=2, verbose=0, shuffle=False)
        moved = [
            (deepctr_weights(free)[f"embedding_dict.{name}.weight"] != before[f"embedding_dict.{name}.weight"]).any(1)
            for name in ("a", "genres")
        ]
        assert moved[0].tolist() == [True, True, False, False, False, False]
        assert moved[1].tolist() == [False, False, True, True, False, False, False]
        for embedding in free.columns.embeddings:
            assert not any(embedding.field_weight(name)[0].any() for name in ("a", "genres"))


def test_inputs_as_tensors_give_the_same_predictions():
    model, x = randomised(MODELS["DeepFM"](PLAIN)), made(PLAIN)
    model.eval()
    named = {name: torch.from_numpy(column) for name, column in x.items()}
    joined = torch.cat([named[name].view(40, -1).float() for name in model.feature_index], dim=1)
    with torch.no_grad():
        for form in (named, joined):
            np.testing.assert_allclose(model(form).numpy(), model.predict(x), atol=1e-6)


@pytest.mark.parametrize("name", ["DeepFM", "SIN"])
def test_models_export_with_any_number_of_rows(name):
    model = randomised(MODELS[name](ALL)).eval()
    x = {key: torch.from_numpy(column) for key, column in made(ALL).items()}
    batch = torch.export.Dim("batch", min=2)
    program = torch.export.export(model, (x,), dynamic_shapes=({key: {0: batch} for key in x},))
    some = {key: column[:7] for key, column in x.items()}
    with torch.no_grad():
        torch.testing.assert_close(program.module()(some), model(some), rtol=1e-5, atol=1e-6)


class Doubled(nn.Module):
    def forward(self, x):
        return 2 * x


class TestOptions:
    @pytest.mark.parametrize("activation", ["relu", "sigmoid", "linear", "prelu", "dice", "Dice", Doubled])
    def test_towers_take_deepctr_torchs_activations(self, activation):
        model = randomised(DeepFM(PLAIN, PLAIN, dnn_activation=activation, **SMALL))
        w, got = weights_of(model), logits_of(model, made(PLAIN))
        plain = randomised(DeepFM(PLAIN, PLAIN, **SMALL))
        assert (np.abs(got - logits_of(plain, made(PLAIN))).max() < 1e-6) == (activation == "relu")
        assert any("alpha" in name for name in w) == (str(activation).lower() == "dice")

    @pytest.mark.parametrize(
        ("make", "error", "match"),
        [
            (lambda: DeepFM(PLAIN, PLAIN, gpus=[0, 1]), ConfigError, r"gpus = \[0, 1\] names 2 devices; expected one"),
            (lambda: DeepFM(PLAIN, PLAIN, gpus=[0]), ConfigError, r"gpus = \[0\] and device = 'cpu' differ"),
            (lambda: DeepFM(PLAIN, PLAIN, task="multiclass"), ConfigError, "task = 'multiclass' is unknown"),
            (lambda: DeepFM(PLAIN, PLAIN, device="cuda:77"), DeviceError, "device = 'cuda:77' is not on this machine"),
            (lambda: DeepFM(PLAIN, PLAIN, dnn_activation="mish"), ConfigError, "activation 'mish' is unknown"),
            (lambda: DeepFM([], []), SchemaError, "there are no feature columns"),
            (
                lambda: DeepFM([A], [A, SparseFeat("c", 5, 8)]),
                ConfigError,
                "embedding_dim is 4 in 'a' and 8 in 'c'; expected one width",
            ),
            (lambda: AutoInt(PLAIN, PLAIN, att_head_num=3), ConfigError, "att_head_num = 3 heads do not divide"),
            (lambda: AutoInt([D], [D], dnn_hidden_units=()), ConfigError, "AutoInt has att_layer_num = 3"),
            (lambda: DCN([A], [A], cross_num=0, dnn_hidden_units=()), ConfigError, "DCN has cross_num = 0"),
            (lambda: DCN([A], [A], cross_parameterization="tensor"), ConfigError, "expected vector or matrix"),
            (lambda: xDeepFM(PLAIN, PLAIN, cin_layer_size=(3, 2)), ConfigError, "an even number in every layer but"),
            (lambda: xDeepFM(PLAIN, PLAIN, cin_activation="tanh"), ConfigError, "activation = 'tanh' is not supported"),
            (lambda: BST(ALL, ALL, ["item"], dnn_hidden_units=()), ConfigError, "BST needs a tower"),
            (lambda: DIN(ALL, ["item"], dnn_hidden_units=()), ConfigError, "hidden_units is empty"),
        ],
    )
    def test_what_cannot_be_is_refused(self, make, error, match):
        with pytest.raises(error, match=match):
            make()

    def test_penalties_are_the_parts_own(self):
        columns = [A, D]
        model = xDeepFM(
            columns, columns, **SMALL, **CIN, l2_reg_linear=0.1, l2_reg_embedding=0.2, l2_reg_dnn=0.3, l2_reg_cin=0.4
        )
        randomised(model)
        w = weights_of(model)
        wanted = 0.0
        for name, weight in w.items():
            if name.startswith("linear_model"):
                wanted += 0.1 * (weight**2).sum()
            elif name.startswith("embedding_dict"):
                wanted += 0.2 * (weight**2).sum()
            elif name.startswith("dnn") and name.endswith("weight"):
                wanted += 0.3 * (weight**2).sum()
            elif name.startswith("cin.") and name.endswith("weight"):
                wanted += 0.4 * (weight**2).sum()
        assert model.get_regularization_loss().item() == pytest.approx(wanted, rel=1e-5)

    def test_a_linear_part_of_its_own_columns(self):
        """Columns of the linear part only are looked up for it, and those of the rest have no linear weight."""
        model = randomised(WDL([B, W], [A, D], **SMALL))
        names = [name for name in deepctr_weights(model) if "embedding_dict" in name]
        assert names == ["embedding_dict.a.weight", "linear_model.embedding_dict.b.weight"]
        x = made([A, B, D, W])
        w, got = weights_of(model), logits_of(model, x)
        for row in range(40):
            linear = (
                w["linear_model.embedding_dict.b.weight"][x["b"][row], 0] + x["w"][row] @ w["linear_model.weight"][:, 0]
            )
            inputs = np.concatenate([w["embedding_dict.a.weight"][x["a"][row]], x["d"][row]])
            wanted = linear + w["dnn_linear.weight"][0] @ tower(w, inputs) + w["out.bias"][0]
            assert got[row] == pytest.approx(wanted, abs=1e-4)
        assert model.embedding_dict.keys() == {"a"}


class TestLayers:
    """What the models do not reach."""

    def test_names(self):
        wanted = {"FM", "CIN", "DNN", "InteractingLayer", "CrossNet", "PredictionLayer", "SequencePoolingLayer",
                  "AttentionSequencePoolingLayer", "LocalActivationUnit", "Dice", "activation_layer", "concat_fun",
                  "slice_arrays"}  # fmt: skip
        assert set(layers.__all__) == wanted

    def test_scaled_attention_and_no_residual(self):
        layer = layers.InteractingLayer(4, 2, use_res=False, scaling=True)
        x = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0))
        query, key, value = (x[0] @ weight for weight in (layer.W_Query, layer.W_key, layer.W_Value))
        heads = [torch.softmax(query[:, h] @ key[:, h].T / 2**0.5, 1) @ value[:, h] for h in (slice(0, 2), slice(2, 4))]
        torch.testing.assert_close(layer(x)[0], torch.relu(torch.cat(heads, dim=1)))

    def test_predictions(self):
        layer = layers.PredictionLayer("regression")
        nn.init.constant_(layer.bias, 2.0)
        assert layer(torch.ones(1, 1)).item() == 3.0
        assert layers.PredictionLayer("binary", use_bias=False)(torch.zeros(1, 1)).item() == 0.5

    def test_attention_scores(self):
        layer = layers.AttentionSequencePoolingLayer((3,), "relu", return_score=True, embedding_dim=2)
        scores = layer(torch.ones(2, 1, 2), torch.ones(2, 3, 2), torch.tensor([[1], [0]]))
        assert scores.shape == (2, 1, 3)
        assert scores[0, 0, 1:].tolist() == [0, 0]
        assert not scores[1].any()
        with pytest.raises(ConfigError, match="a history needs its lengths or a mask"):
            layer(torch.ones(2, 1, 2), torch.ones(2, 3, 2), None)

    def test_arrays_are_cut(self):
        arrays = [np.arange(5), None]
        assert layers.slice_arrays(arrays, 1, 3)[0].tolist() == [1, 2]
        assert layers.slice_arrays(np.arange(5), [0, 4]).tolist() == [0, 4]
        assert layers.slice_arrays(None) == [None]
        assert layers.concat_fun([arrays[0]]) is arrays[0]
