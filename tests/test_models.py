import dataclasses

import numpy as np
import pytest
import torch

from deepfm.config import FMConfig, load_config
from deepfm.data.interactions import InteractionDataset
from deepfm.data.movielens import MovieLensAdapter
from deepfm.data.schema import DatasetSchema, FeatureType, FieldSchema
from deepfm.engine.optim import build_optimizer
from deepfm.engine.task import ParameterGroup
from deepfm.errors import ConfigError, SchemaError
from deepfm.models import MODELS, BaseCTRModel, create_model, model_class
from deepfm.models.layers import DNN
from deepfm.training.evaluation import score_rows
from deepfm.utils import load_checkpoint, save_checkpoint
from tests.conftest import zero_padding

B = 8
SMALL = (
    "feature.fm_embed_dim=4",
    "dnn.hidden_units=[12,6]",
    "dnn.dropout=0.0",
    "dnn.activation=tanh",
    "cin.layer_sizes=[4,3]",
    "attention.num_heads=2",
    "attention.attention_dim=6",
    "bst.num_heads=1",
    "bst.dropout=0.0",
    "sin.num_heads=1",
    "sin.dropout=0.0",
    "autoint.attention_dim=6",
    "afm.attention_dim=5",
    "final_mlp.hidden_units_1=[8,6]",
    "final_mlp.hidden_units_2=[4]",
    "final_mlp.dropout_1=0.0",
    "final_mlp.dropout_2=0.0",
    "final_mlp.num_heads=2",
    "final_mlp.selection_hidden_units=[7]",
    "mask_net.block_dim=5",
)
USER = FieldSchema("user", FeatureType.SPARSE, 9, 3)
PRICE = FieldSchema("price", FeatureType.DENSE, embedding_dim=2)
TAGS = FieldSchema("tags", FeatureType.SEQUENCE, 7, 5, max_length=4)
BEST = FieldSchema("best", FeatureType.SEQUENCE, 7, 4, max_length=4, combiner="max")
ITEM = FieldSchema("item", FeatureType.SPARSE, 6, 4)
HISTORY = FieldSchema(
    "history", FeatureType.SEQUENCE, 6, 4, max_length=5, combiner="none", shares_embedding_with="item"
)


def schema_of(*fields):
    return DatasetSchema({field.name: field for field in fields}, "label")


def with_history(schema):
    """The schema with a behaviour sequence, and the item that it is a history of."""
    return dataclasses.replace(schema, fields={**schema.fields, "item": ITEM, "history": HISTORY})


def schema_for(name, schema):
    return with_history(schema) if MODELS[name].reads_behaviour else schema


MIXED = schema_of(USER, PRICE, TAGS, BEST, ITEM)
everywhere = pytest.mark.parametrize("name", list(MODELS))


@pytest.fixture(autouse=True)
def _own_random_state():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def config_of(*overrides):
    return load_config(overrides=[*SMALL, *overrides])


def make(name, *overrides, schema=MIXED):
    model = create_model(name, schema_for(name, schema), config_of(*overrides))
    with torch.no_grad():  # of a size at which every part shows
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) * 0.3)
    zero_padding(model)
    return model


def batch_of(schema=MIXED, rows=B):
    batch = {}
    for field in with_history(schema).fields.values():
        if field.feature_type is FeatureType.DENSE:
            batch[field.name] = torch.randn(rows)
        elif field.feature_type is FeatureType.SPARSE:
            batch[field.name] = torch.arange(rows) % field.vocabulary_size
        else:
            batch[field.name] = torch.arange(rows * field.max_length).reshape(rows, -1) % field.vocabulary_size
    return batch


def close(got, wanted):
    torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-5)


def test_the_models_are_registered():
    assert {name: kind.__name__ for name, kind in MODELS.items()} == {
        "deepfm": "DeepFM",
        "xdeepfm": "xDeepFM",
        "attention_deepfm": "AttentionDeepFM",
        "bst": "BST",
        "din": "DIN",
        "sin": "SIN",
        "lr": "LR",
        "fm": "FM",
        "wide_deep": "WideDeep",
        "dcn": "DCN",
        "dcn_v2": "DCNv2",
        "autoint": "AutoInt",
        "afm": "AFM",
        "nfm": "NFM",
        "final_mlp": "FinalMLP",
        "mask_net": "MaskNet",
    }


@everywhere
def test_a_model_is_made_by_its_name(name):
    model = make(name)
    assert type(model) is MODELS[name] is model_class(name)
    assert isinstance(model, BaseCTRModel)


@pytest.mark.parametrize(
    ("typed", "hint"),
    [("deepmf", "did you mean 'deepfm'"), ("xdeepfn", "did you mean 'xdeepfm'"), ("attention", "attention_deepfm")],
)
def test_an_unknown_name_is_refused_with_the_nearest(typed, hint):
    with pytest.raises(ConfigError, match=f"model_name = '{typed}' is no known model; .*{hint}"):
        create_model(typed, MIXED, config_of())


@everywhere
def test_logits_are_raw_and_one_a_row(name):
    logits = make(name).eval()(batch_of())
    assert logits.shape == (B, 1)
    assert logits.dtype == torch.float32
    assert (logits.min() < 0) or (logits.max() > 1)


@everywhere
@pytest.mark.parametrize("training", [True, False])
def test_predict_gives_probabilities_and_leaves_the_mode(name, training):
    model, batch = make(name, "dnn.dropout=0.5"), batch_of()
    model.train(training)
    running = {key: value.clone() for key, value in model.state_dict().items()}
    probabilities = model.predict(batch)
    assert model.training == training
    assert all(module.training == training for module in model.modules())
    assert probabilities.shape == (B, 1)
    assert not probabilities.requires_grad
    assert ((probabilities >= 0) & (probabilities <= 1)).all()
    assert probabilities.std() > 0.01
    assert all(torch.equal(value, running[key]) for key, value in model.state_dict().items())
    close(probabilities, torch.sigmoid(model.eval()(batch)))


@everywhere
def test_predict_leaves_the_mode_when_it_fails(name):
    model = make(name).train()
    with pytest.raises(KeyError):
        model.predict({})
    assert model.training


def test_predict_leaves_the_mode_of_a_frozen_part():
    model = make("deepfm").train()
    model.dnn.eval()
    model.predict(batch_of())
    assert model.training
    assert not model.dnn.training


@everywhere
@pytest.mark.parametrize("projection", ["always", "if_needed"])
def test_gradients_reach_every_parameter(name, projection):
    model = make(name, "dnn.use_batch_norm=false", f"feature.projection={projection}")
    model(batch_of()).square().sum().backward()
    without = [key for key, weight in model.named_parameters() if weight.grad is None or not weight.grad.any()]
    assert without == []


@everywhere
def test_gradients_with_batch_norm_are_finite(name):
    model = make(name, "dnn.dropout=0.3", "final_mlp.dropout_1=0.3", "nfm.dropout=0.3", "afm.dropout=0.3")
    model.train()(batch_of()).square().sum().backward()
    assert all(weight.grad is not None and weight.grad.isfinite().all() for weight in model.parameters())


def products(x):
    return sum(x[:, i] * x[:, j] for i in range(x.shape[1]) for j in range(i))


def fm(x):
    return products(x).sum(dim=1, keepdim=True)


def masked(model, fields):
    embeddings, hidden = fields.flatten(1), model.norm(fields).flatten(1)
    return torch.cat([block(embeddings, hidden) for block in model.blocks], dim=1)


INTERACTIONS = {
    "lr": lambda model, fields, flat: model.bias,
    "fm": lambda model, fields, flat: model.bias + fm(fields),
    "wide_deep": lambda model, fields, flat: model.dnn_output(model.dnn(flat)),
    "dcn": lambda model, fields, flat: model.output(torch.cat([model.cross(flat), model.dnn(flat)], dim=1)),
    "dcn_v2": lambda model, fields, flat: model.output(torch.cat([model.cross(flat), model.dnn(flat)], dim=1)),
    "autoint": lambda model, fields, flat: (
        model.attention_output(model.layers(fields).flatten(1)) + model.dnn_output(model.dnn(flat))
    ),
    "afm": lambda model, fields, flat: model.output(model.attention(fields)),
    "nfm": lambda model, fields, flat: model.dnn_output(model.dnn(products(fields))),
    "final_mlp": lambda model, fields, flat: model.fusion(
        model.tower_1(flat * model.gates[0](flat)), model.tower_2(flat * model.gates[1](flat))
    ),
    "mask_net": lambda model, fields, flat: model.output(model.dnn(masked(model, fields))),
}


def formula(name, model, batch):
    """The paper's sum, from the parts."""
    first, fields, flat = model.embedding(batch)
    if name == "deepfm":
        return first + fm(fields) + model.dnn_output(model.dnn(flat))
    if name == "xdeepfm":
        return first + model.cin_output(model.cin(fields)) + model.dnn_output(model.dnn(flat))
    if MODELS[name].reads_behaviour:
        history = model.behaviour(batch, flat)["history"]
        if name == "din":
            seen = model.attention["history"](history)
            return first + model.dnn_output(model.dnn(torch.cat([flat, seen], dim=1)))
        if name == "bst":
            seen = model.encoders["history"](history)
            return first + model.dnn_output(model.dnn(torch.cat([flat, seen], dim=1)))
        sides = model.cin_output(model.cin(fields)), model.transformer_output(model.behaviours["history"](history))
        gate = torch.sigmoid(model.fusion.gate(torch.cat(sides, dim=1)))
        fused = gate * sides[0] + (1 - gate) * sides[1]
        deep = model.dnn_output(model.dnn(torch.cat([flat, fused], dim=1)))
        return first + model.fused_output(fused) + deep
    if name in INTERACTIONS:
        return first + INTERACTIONS[name](model, fields, flat)
    attended = model.attention(fields).reshape(len(fields), -1)
    return first + fm(fields) + model.dnn_output(model.dnn(torch.cat([attended, flat], dim=1)))


@everywhere
def test_a_model_is_the_sum_of_its_parts(name):
    model, batch = make(name).eval(), batch_of()
    close(model(batch), formula(name, model, batch))


def test_the_parts_are_those_of_the_configuration():
    model = make("xdeepfm", "cin.split_half=false", "cin.activation=linear", "dnn.dropout=0.25")
    assert model.cin.output_dim == 7
    assert model.cin.linear
    assert not make("xdeepfm").cin.linear
    assert [layer.p for layer in model.dnn.modules() if isinstance(layer, torch.nn.Dropout)] == [0.25, 0.25]
    model = make("attention_deepfm", "attention.num_layers=3", "attention.use_residual=false")
    assert [layer.use_residual for layer in model.attention.layers] == [False] * 3
    assert model.dnn.layers[0].linear.in_features == MIXED.num_fields * 4 + MIXED.total_embedding_dim


def test_the_deep_tower_sees_the_fields_own_widths():
    assert make("deepfm").dnn.layers[0].linear.in_features == MIXED.total_embedding_dim == 18
    assert make("xdeepfm").dnn.layers[0].linear.in_features == 18


@everywhere
def test_the_l2_loss_is_lambda_times_the_sum_of_squares_of_the_tables(name):
    model = make(name, "feature.embedding_l2_reg=0.03")
    total = 0.0
    for key, weight in model.named_parameters():
        if key.startswith("embedding.tables."):
            total += 0.03 * sum(value**2 for value in weight.detach().double().flatten().tolist())
    loss = model.get_l2_reg_loss()
    assert loss.shape == ()
    assert loss.item() == pytest.approx(total, rel=1e-5)


@everywhere
def test_the_l2_loss_pulls_the_tables_and_nothing_else(name):
    model = make(name, "feature.embedding_l2_reg=0.5")
    model.get_l2_reg_loss().backward()
    tables = {id(weight) for weight in model.embedding.table_parameters()}
    for weight in model.parameters():
        if id(weight) in tables:
            close(weight.grad, weight.detach())  # 2 * 0.5 * w
        else:
            assert weight.grad is None


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
def test_the_optimizers_own_l2_is_that_of_the_loss(optimizer):
    """A step with the penalty in the optimizer is a step on loss + λ·Σw²."""
    batch, weights = batch_of(), []
    for in_loss in (True, False):
        torch.manual_seed(0)
        model = make("deepfm", "feature.embedding_l2_reg=0.1")
        tables = model.embedding.table_parameters()
        step = build_optimizer(
            optimizer, 0.1, [ParameterGroup(tables, l2=0.0 if in_loss else 0.1)], torch.device("cpu")
        )
        for _ in range(3):
            step.zero_grad()
            loss = model(batch).square().mean() + (model.get_l2_reg_loss() if in_loss else 0.0)
            loss.backward()
            step.step()
        weights.append([weight.detach() for weight in tables])
    for one, other in zip(*weights, strict=True):
        close(one, other)


def test_no_l2_is_zero():
    assert make("deepfm", "feature.embedding_l2_reg=0").get_l2_reg_loss().item() == 0


@pytest.mark.parametrize("name", ["deepfm", "attention_deepfm"])
@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("second", [True, False])
def test_the_fm_switches_take_their_terms_out(name, first, second):
    model, batch = make(name).eval(), batch_of()
    first_order, fields, _ = model.embedding(batch)
    whole = model(batch)
    model.config = dataclasses.replace(model.config, fm=FMConfig(first, second))
    wanted = whole - (0 if first else first_order) - (0 if second else fm(fields))
    close(model(batch), wanted)
    assert torch.equal(model(batch), whole) == (first and second)


def test_xdeepfm_has_a_first_order_and_no_second():
    model, batch = make("xdeepfm").eval(), batch_of()
    whole = model(batch)
    model.config = dataclasses.replace(model.config, fm=FMConfig(False, True))
    close(model(batch), whole - model.embedding(batch)[0])


@everywhere
def test_the_order_of_rows_does_not_matter_in_evaluation(name):
    model, batch = make(name, "dnn.dropout=0.5").eval(), batch_of()
    order = torch.randperm(B)
    close(model({key: column[order] for key, column in batch.items()}), model(batch)[order])
    close(model({key: column[3:4] for key, column in batch.items()}), model(batch)[3:4])


@everywhere
def test_a_batch_may_hold_more_than_the_schema(name):
    model, batch = make(name).eval(), batch_of()
    assert torch.equal(model(batch | {"unused": torch.zeros(B)}), model(batch))


@everywhere
def test_saved_weights_give_equal_logits(name, tmp_path):
    model, batch = make(name), batch_of()
    model.train()(batch)  # moves the running statistics
    model.eval()
    save_checkpoint(model.state_dict(), tmp_path / "weights.pt")
    other = make(name).eval()
    assert not torch.equal(other(batch), model(batch))
    other.load_state_dict(load_checkpoint(tmp_path / "weights.pt"))
    assert torch.equal(other(batch), model(batch))


@everywhere
def test_the_seed_decides_the_weights(name):
    batch, logits = batch_of(), []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        logits.append(create_model(name, schema_for(name, MIXED), config_of()).eval()(batch))
    assert torch.equal(logits[0], logits[1])
    assert not torch.equal(logits[0], logits[2])


@everywhere
def test_embedding_dim_replaces_every_fields_width(name):
    model = make(name, "feature.embedding_dim=7")
    assert model.schema.total_embedding_dim == 7 * MIXED.num_fields
    assert {model.embedding.field_weight(field).shape[1] for field in model.schema.fields} == {0 if name == "lr" else 7}
    assert list(model.embedding.tables) == ["7"]
    assert model(batch_of()).shape == (B, 1)
    assert MIXED.total_embedding_dim == 18


@everywhere
def test_equal_widths_need_no_projection(name):
    model, batch = make(name, "feature.embedding_dim=4", "feature.projection=none").eval(), batch_of()
    assert not model.embedding.projections
    close(model(batch), formula(name, model, batch))


@everywhere
def test_other_widths_without_projection_are_refused_where_the_fields_are_read(name):
    pairs = [f"{name}.second_order=true"] if name in ("bst", "din") else []  # without them, nobody reads the fields
    if name in ("lr", "wide_deep", "dcn", "dcn_v2", "final_mlp"):
        assert make(name, "feature.projection=none")(batch_of()).shape == (B, 1)
        return
    with pytest.raises(ConfigError, match=r"feature\.projection = 'none'"):
        make(name, "feature.projection=none", *pairs)


@pytest.mark.parametrize(
    ("name", "override", "message"),
    [
        ("xdeepfm", "cin.layer_sizes=[5,4]", "cin.layer_sizes"),
        ("attention_deepfm", "attention.num_heads=4", "attention.attention_dim = 6 is not a multiple"),
    ],
)
def test_sizes_that_do_not_fit_together_are_refused_by_their_key(name, override, message):
    with pytest.raises(ConfigError, match=message):
        make(name, override)


@everywhere
def test_nothing_is_float64(name):
    """MPS has none."""
    model = make(name)
    tensors = [*model.named_parameters(), *model.named_buffers()]
    assert [key for key, tensor in tensors if tensor.dtype == torch.float64] == []
    assert model(batch_of()).dtype == torch.float32


@everywhere
def test_two_models_share_no_weights(name):
    one, two = make(name), make(name)
    assert not {id(weight) for weight in one.parameters()} & {id(weight) for weight in two.parameters()}


def test_the_towers_of_all_models_are_one_class():
    towers = {name: [part for part in make(name).children() if isinstance(part, DNN)] for name in MODELS}
    counts = {"lr": 0, "fm": 0, "afm": 0, "final_mlp": 2}
    assert {name: len(found) for name, found in towers.items()} == {name: counts.get(name, 1) for name in MODELS}


@everywhere
def test_the_models_fit_the_small_data(name, small_dir, small_config):
    history = 5 if MODELS[name].reads_behaviour else 0
    schema, train, _, test = MovieLensAdapter(small_dir, small_config, max_history=history).build()
    model = create_model(name, schema, config_of())
    for part in (train, test):
        features, _ = part.batch(slice(0, 40))
        assert model.predict(features).shape == (40, 1)


@pytest.mark.parametrize("value", [-1, 4, 2**32 + 1])
def test_an_id_outside_its_vocabulary_is_no_row_of_another_field(value):
    schema = DatasetSchema(
        {name: FieldSchema(name, FeatureType.SPARSE, 4, 3) for name in ("before", "here", "after")}, "label"
    )
    model = create_model("deepfm", schema, load_config())
    batch = {name: torch.tensor([1, 2]) for name in schema.fields}
    batch["here"] = torch.tensor([1, value])
    with pytest.raises(SchemaError, match=rf"field 'here' holds id {value} in row 1 of a batch; expected 0 to 3"):
        model.predict(batch)


def test_a_formula_of_ones_own_is_what_is_scored():
    class Shifted(type(create_model("deepfm", schema_of_pairs(), load_config()))):
        def forward(self, batch):
            return super().forward(batch) + 100

    model = Shifted(schema_of_pairs(), load_config())
    data = InteractionDataset(
        ({"user": np.arange(4)}, {"item": np.arange(4)}), np.arange(4).repeat(4), np.tile(np.arange(4), 4), np.zeros(16)
    )
    assert score_rows(model, data).min() > 50


def schema_of_pairs():
    return DatasetSchema({name: FieldSchema(name, FeatureType.SPARSE, 4, 3) for name in ("user", "item")}, "label")
