"""LR to MaskNet: their formulas row by row in NumPy, hand-computed layers, and published parameter counts."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from deepfm.data.schema import DatasetSchema, FeatureType, FieldSchema
from deepfm.engine.acceleration import checkpoint_activations
from deepfm.errors import ConfigError
from deepfm.models import create_model
from deepfm.models.layers import (
    BiInteraction,
    BilinearFusion,
    CrossNet,
    CrossNetV2,
    FeatureGate,
    FieldNorm,
    MaskBlock,
    PairAttention,
)
from deepfm.models.layers.attention import attend
from deepfm.models.layers.kernels import plain_kernels
from tests.clicks import INTERACTION_OPTIONS, SCHEMA, columns, config_of, dense, model_of, randomise, schema_of, sparse

B, D = 7, 4
everywhere = pytest.mark.parametrize("kind", INTERACTION_OPTIONS)


@pytest.fixture(autouse=True)
def _own_random_state():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def make(kind, *overrides, schema=SCHEMA, scale=0.3):
    return randomise(model_of(kind, *overrides, schema=schema), scale)


def batch_of(schema=SCHEMA, rows=B):
    return {name: torch.as_tensor(column) for name, column in columns(schema, rows).items()}


def close(got, wanted, tolerance=1e-5):
    torch.testing.assert_close(got, wanted, rtol=tolerance, atol=tolerance)


def array(weight):
    return weight.detach().double().numpy()


# The formulas once more, in float64 and with loops, from weights alone.


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def softmax(x):
    powers = np.exp(x - x.max())
    return powers / powers.sum()


def embedded(model, row, first_order=False):
    """What each field gives: its vector, or its linear term."""
    vectors = []
    for field in model.schema.interacting_fields:
        table, value = array(model.embedding.field_weight(field.name, first_order)), row[field.name]
        if field.feature_type is FeatureType.DENSE:
            vectors.append(float(value) * table[0])
        elif field.feature_type is FeatureType.SPARSE:
            vectors.append(table[int(value)])
        else:
            tokens = [table[token] for token in value.tolist() if token]
            pool = {"mean": np.mean, "sum": np.sum, "max": np.max}[field.combiner]
            vectors.append(pool(tokens, axis=0) if tokens else np.zeros(table.shape[1]))
    return vectors


def projected(model, row):
    vectors = []
    for field, vector in zip(model.schema.interacting_fields, embedded(model, row), strict=True):
        projection = model.embedding.projection_of(field.name)
        vectors.append(vector if projection is None else array(projection.weight) @ vector)
    return vectors


def linear(layer, x):
    bias = 0 if layer.bias is None else array(layer.bias)
    return array(layer.weight) @ x + bias


def tower(dnn, x):
    for layer in dnn.layers:
        x = linear(layer.linear, x)
        if layer.norm is not None:
            mean, variance = array(layer.norm.running_mean), array(layer.norm.running_var)
            x = (x - mean) / np.sqrt(variance + layer.norm.eps) * array(layer.norm.weight) + array(layer.norm.bias)
        x = np.maximum(x, 0)
    return x


def norm(x, layer):
    return (x - x.mean()) / np.sqrt(x.var() + 1e-5) * array(layer.weight) + array(layer.bias)


def pairs_of(vectors):
    return [vectors[i] * vectors[j] for i in range(len(vectors)) for j in range(i + 1, len(vectors))]


def lr(model, row):
    return array(model.bias)


def fm(model, row):
    return sum(pair.sum() for pair in pairs_of(projected(model, row))) + array(model.bias)


def wide_deep(model, row):
    return linear(model.dnn_output, tower(model.dnn, np.concatenate(embedded(model, row))))


def dcn(model, row):
    start = np.concatenate(embedded(model, row))
    x = start
    for weight, bias in zip(model.cross.weights, array(model.cross.biases), strict=True):
        x = np.outer(start, x) @ array(weight.weight)[0] + bias + x
    return linear(model.output, np.concatenate([x, tower(model.dnn, start)]))


def dcn_v2(model, row):
    cross, options = model.cross, model.config.dcn_v2
    start = np.concatenate(embedded(model, row))
    x, rank = start, options.low_rank
    for layer in cross.layers:
        if rank is None:
            x = start * linear(layer, x) + x
        elif options.num_experts == 1:
            x = start * (array(layer[1].weight) @ array(layer[0].weight) @ x + array(layer[1].bias)) + x
        else:
            shares, total = softmax(array(cross.gate.weight) @ x), 0
            for expert in range(options.num_experts):
                own = slice(expert * rank, (expert + 1) * rank)
                v, u = array(layer.down.weight)[own], array(layer.up.weight)[:, own]
                small = np.tanh(array(layer.core)[expert] @ np.tanh(v @ x))
                total = total + shares[expert] * start * (u @ small + array(layer.up.bias))
            x = total + x
    if options.structure == "stacked":
        return linear(model.output, tower(model.dnn, x))
    return linear(model.output, np.concatenate([x, tower(model.dnn, start)]))


def autoint(model, row):
    options, x = model.config.autoint, projected(model, row)
    width, head = options.attention_dim, options.attention_dim // options.num_heads
    for layer in model.layers:
        query, key, value = np.split(array(layer.query_key_value.weight), 3)
        outputs = []
        for field in x:
            heads = []
            for start in range(0, width, head):
                own = slice(start, start + head)
                scores = np.array([(query[own] @ field) @ (key[own] @ other) for other in x])
                weights = softmax(scores / math.sqrt(head) if options.scale else scores)
                heads.append(sum(weight * (value[own] @ other) for weight, other in zip(weights, x, strict=True)))
            output = np.concatenate(heads)
            if options.use_residual:
                output = output + (field if layer.residual is None else array(layer.residual.weight) @ field)
            outputs.append(np.maximum(norm(output, layer.norm) if options.layer_norm else output, 0))
        x = outputs
    logit = linear(model.attention_output, np.concatenate(x))
    if options.use_dnn:
        logit = logit + linear(model.dnn_output, tower(model.dnn, np.concatenate(embedded(model, row))))
    return logit


def afm(model, row):
    pairs = pairs_of([vector for vector in projected(model, row) if vector.any()])
    hidden, score = model.attention.hidden, array(model.attention.score.weight)[0]
    pooled = np.zeros(D)
    if pairs:
        weights = softmax(np.array([score @ np.maximum(linear(hidden, pair), 0) for pair in pairs]))
        pooled = sum(weight * pair for weight, pair in zip(weights, pairs, strict=True))
    return linear(model.output, pooled)


def nfm(model, row):
    return linear(model.dnn_output, tower(model.dnn, sum(pairs_of(projected(model, row)))))


def final_mlp(model, row):
    options, vectors = model.config.final_mlp, embedded(model, row)
    own, contexts = [], ([], [])
    for field, vector in zip(SCHEMA.interacting_fields, vectors, strict=True):
        parts = iter(np.split(vector, len(vector) // field.embedding_dim))
        own.append(next(parts))
        if options.use_feature_selection:
            for context, names in zip(contexts, (options.context_1, options.context_2), strict=True):
                if field.name in names:
                    context.append(next(parts))
        assert not list(parts)
    flat = np.concatenate(own)
    seen = [flat, flat]
    if options.use_feature_selection:
        for stream, (context, part) in enumerate(zip(contexts, model.gates, strict=True)):
            given = np.concatenate(context) if context else array(part.vector)[0]
            seen[stream] = flat * 2 * sigmoid(linear(part.gate.output, tower(part.gate.dnn, given)))
    x, y = tower(model.tower_1, seen[0]), tower(model.tower_2, seen[1])
    met = linear(model.fusion.left, x) + linear(model.fusion.right, y)
    heads = np.split(x, options.num_heads), array(model.fusion.weight), np.split(y, options.num_heads)
    return met + sum(left @ weight @ right for left, weight, right in zip(*heads, strict=True))


def mask_net(model, row):
    options, fields = model.config.mask_net, projected(model, row)
    embeddings, normed = np.concatenate(fields), fields
    if options.embedding_norm:
        scales, shifts = array(model.norm.weight), array(model.norm.bias)
        normed = [
            (x - x.mean()) / np.sqrt(x.var() + 1e-5) * scale + shift
            for x, scale, shift in zip(fields, scales, shifts, strict=True)
        ]
    hidden, outputs = np.concatenate(normed), []
    for block in model.blocks:
        first, _, second = block.mask
        mask = linear(second, np.maximum(linear(first, embeddings), 0))
        outputs.append(np.maximum(norm(linear(block.linear, mask * hidden), block.norm), 0))
        if options.structure == "serial":
            hidden = outputs[-1]
    if options.structure == "parallel":
        hidden = tower(model.dnn, np.concatenate(outputs))
    return linear(model.output, hidden)


FORMULAS = {
    "lr": lr, "fm": fm, "wide_deep": wide_deep, "dcn": dcn, "dcn_v2": dcn_v2, "autoint": autoint, "afm": afm,
    "nfm": nfm, "final_mlp": final_mlp, "mask_net": mask_net,
}  # fmt: skip


class TestTheWidePart:
    @torch.no_grad()
    @pytest.mark.parametrize(
        ("kind", "wide"),
        [(kind, wide) for kind in INTERACTION_OPTIONS for wide in (True, False) if wide or kind != "lr"],
    )
    def test_the_logit_is_the_papers_with_it_and_without(self, kind, wide):
        """One row has padding alone in its sequences, one is padding throughout."""
        name = INTERACTION_OPTIONS[kind][0]
        model, batch = make(kind, f"fm.use_first_order={str(wide).lower()}").eval(), batch_of()
        for column in batch.values():
            column[1] = 0
        got, wanted = model(batch), []
        for position in range(B):
            row = {field: column[position] for field, column in batch.items()}
            logit = FORMULAS[name](model, row)
            wanted.append(logit.item() + (sum(embedded(model, row, True)).item() if wide else 0.0))
        assert got.shape == (B, 1)
        assert np.std(wanted) > 0.05
        close(got.double(), torch.tensor(wanted).double().unsqueeze(1))

    @pytest.mark.parametrize("kind", [kind for kind in INTERACTION_OPTIONS if kind != "lr"])
    def test_without_it_there_are_no_linear_weights(self, kind):
        with_it, without = make(kind), make(kind, "fm.use_first_order=false")
        gone = with_it.state_dict().keys() - without.state_dict().keys()
        rows = sum(field.vocabulary_size or 1 for field in SCHEMA.fields.values())
        assert all(name.startswith("embedding.tables.") and name.endswith("first_order") for name in gone)
        assert sum(with_it.state_dict()[name].numel() for name in gone) == rows
        without.load_state_dict({name: value for name, value in with_it.state_dict().items() if name not in gone})
        batch = batch_of()
        close(with_it.eval()(batch) - with_it.embedding(batch)[0], without.eval()(batch))
        assert not without.embedding(batch)[0].any()

    def test_alone_it_has_no_vectors(self):
        model = make("lr")
        assert sum(weight.numel() for weight in model.parameters()) == 40 + 12 + 15 + 1 + 25 + 1 + 1 + 15 + 15 + 1
        first_order, fields, flat = model.embedding(batch_of())
        assert (first_order.shape, fields.shape, flat.shape) == ((B, 1), (B, 0, D), (B, SCHEMA.total_embedding_dim))
        assert first_order.any()
        assert not flat.any()


@everywhere
class TestEveryKind:
    def test_gradients_reach_every_parameter(self, kind):
        model = make(
            kind,
            *("dnn.use_batch_norm=false", "final_mlp.use_batch_norm_1=false", "final_mlp.use_batch_norm_2=false"),
            *("dnn.activation=tanh", "dnn.dropout=0"),
        )
        model(batch_of()).sin().sum().backward()
        without = [name for name, weight in model.named_parameters() if weight.grad is None or not weight.grad.any()]
        assert without == []
        assert all(weight.grad.isfinite().all() for weight in model.parameters())

    def test_recomputed_activations_give_the_same_gradients(self, kind):
        gradients = []
        for recompute in (False, True):
            model = make(kind, "dnn.dropout=0.2", "afm.dropout=0.2", "nfm.dropout=0.2", "autoint.dropout=0.2")
            if recompute:
                checkpoint_activations(model)
            torch.manual_seed(5)
            model.train()(batch_of(rows=30)).sin().sum().backward()
            gradients.append([weight.grad for weight in model.parameters()])
        for one, other in zip(*gradients, strict=True):
            close(one, other, 1e-4)

    def test_hand_written_gradients_are_torchs(self, kind):
        gradients = []
        for plain in (False, True):
            model = make(kind, "dnn.activation=tanh").eval()
            if plain:
                with plain_kernels():
                    model(batch_of()).sin().sum().backward()
            else:
                model(batch_of()).sin().sum().backward()
            gradients.append([weight.grad for weight in model.parameters()])
        for one, other in zip(*gradients, strict=True):
            close(one, other, 1e-4)

    def test_bfloat16_is_finite_and_near(self, kind):
        model, batch = make(kind, scale=0.1).eval(), batch_of()
        plain = model(batch)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = model(batch)
        logits.float().square().sum().backward()
        assert all(weight.grad is None or weight.grad.isfinite().all() for weight in model.parameters())
        assert (logits.float() - plain).abs().max() < 0.1 * max(1.0, plain.abs().max().item())


@pytest.mark.parametrize(
    ("kind", "key"),
    [
        *(("autoint", "autoint.dropout"), ("afm", "afm.dropout"), ("nfm", "nfm.dropout")),
        *(
            ("final_mlp", "final_mlp.dropout_1"),
            ("final_mlp", "final_mlp.dropout_2"),
            ("mask_net serial", "dnn.dropout"),
        ),
    ],
)
def test_dropout_is_for_training_alone(kind, key):
    others = ("dnn.dropout=0", "dnn.use_batch_norm=false", "final_mlp.dropout_1=0", "final_mlp.dropout_2=0")
    others = (*others, "final_mlp.use_batch_norm_1=false", "final_mlp.use_batch_norm_2=false", "dnn.activation=tanh")
    with_it, without = (make(kind, *others, f"{key}={share}") for share in (0.4, 0))
    batch = batch_of()
    close(with_it.eval()(batch), without.eval()(batch))
    close(without.train()(batch), without.eval()(batch))
    assert (with_it.train()(batch) - without(batch)).abs().max() > 1e-3


@pytest.mark.parametrize("kind", ["lr", "fm", "afm", "nfm"])
def test_a_padded_field_is_an_absent_one(kind):
    """Padding adds nothing, and takes no weight from what is there."""
    fields = (sparse("user"), dense("price", 3), sparse("shop", 9, 5))
    whole = make(kind, schema=schema_of(*fields, sparse("item"))).eval()
    part = make(kind, schema=schema_of(*fields)).eval()
    with torch.no_grad():
        for field in fields:
            for first_order in (False, True):
                part.embedding.field_weight(field.name, first_order)[:] = whole.embedding.field_weight(
                    field.name, first_order
                )
    own = part.state_dict()
    same = {name: value for name, value in whole.state_dict().items() if not name.startswith("embedding.tables")}
    part.load_state_dict(own | {name: value for name, value in same.items() if name in own})
    batch = batch_of(whole.schema)
    batch["item"][:] = 0
    close(whole(batch), part(batch))
    batch["item"][:] = 3
    assert not torch.allclose(whole(batch), part(batch))


class TestLayersByHand:
    @torch.no_grad()
    def test_cross_layers_by_a_vector(self):
        cross = CrossNet(2, 2)
        cross.weights[0].weight[:], cross.weights[1].weight[:] = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
        cross.biases[0] = torch.tensor([3.0, 4.0])
        # (1, 2)·1 + (3, 4) + (1, 2) = (5, 8), then (1, 2)·8 + (5, 8)
        assert cross(torch.tensor([[1.0, 2.0]])).tolist() == [[13.0, 24.0]]

    @torch.no_grad()
    def test_cross_layers_by_a_matrix(self):
        cross = CrossNetV2(2, 1)
        cross.layers[0].weight[:], cross.layers[0].bias[:] = torch.eye(2).flip(0), torch.tensor([1.0, 0.0])
        assert cross(torch.tensor([[1.0, 2.0]])).tolist() == [[4.0, 4.0]]  # (1, 2)∘(3, 1) + (1, 2)

    @torch.no_grad()
    def test_cross_layers_of_low_rank(self):
        cross = CrossNetV2(2, 1, low_rank=1)
        down, up = cross.layers[0]
        down.weight[:], up.weight[:], up.bias[:] = 1.0, torch.tensor([[1.0], [2.0]]), torch.tensor([0.0, 1.0])
        assert cross(torch.tensor([[1.0, 2.0]])).tolist() == [[4.0, 16.0]]  # (1, 2)∘(3, 7) + (1, 2)

    @torch.no_grad()
    def test_experts_share_by_softmax(self):
        cross = CrossNetV2(2, 1, low_rank=1, num_experts=2)
        cross.gate.weight[:] = torch.tensor([[0.0, 0.0], [math.log(3.0), 0.0]])  # shares ¼ and ¾ at (1, 2)
        layer = cross.layers[0]
        layer.down.weight[:] = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
        layer.core[:] = torch.tensor([1.0, 2.0]).view(2, 1, 1)
        layer.up.weight[:], layer.up.bias[:] = torch.tensor([[1.0, 0.0], [0.0, 1.0]]), 0.5
        small = math.tanh(math.tanh(1.0)) / 4, math.tanh(2 * math.tanh(-1.0)) * 3 / 4
        wanted = [[1 * (small[0] + 0.5) + 1, 2 * (small[1] + 0.5) + 2]]
        close(cross(torch.tensor([[1.0, 2.0]])), torch.tensor(wanted))

    def test_pairs_are_pooled(self):
        x = torch.tensor([[[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]])
        assert BiInteraction()(x).tolist() == [[23.0, 44.0]]  # 3 + 5 + 15, 8 + 12 + 24

    @torch.no_grad()
    def test_pairs_are_weighted(self):
        attention = PairAttention(3, 2, 1)
        attention.hidden.weight[:], attention.hidden.bias[:] = torch.tensor([1.0, 0.0]), 0.0
        x = torch.tensor([[[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]])
        attention.score.weight[:] = 0.0
        close(attention(x), torch.tensor([[23.0, 44.0]]) / 3)
        attention.score.weight[:] = 1.0  # scores 3, 5 and 15
        weights = torch.tensor([3.0, 5.0, 15.0]).softmax(dim=0)
        close(attention(x)[0], weights @ torch.tensor([[3.0, 8.0], [5.0, 12.0], [15.0, 24.0]]))

    @torch.no_grad()
    def test_absent_fields_have_no_pairs(self):
        attention, x = PairAttention(3, 2, 4), torch.tensor([[[1.0, 2.0], [0.0, 0.0], [5.0, 6.0]]])
        close(attention(x), torch.tensor([[5.0, 12.0]]))
        assert not attention(x * torch.tensor([0.0, 0.0, 1.0]).view(1, 3, 1)).any()
        assert not PairAttention(1, 2, 4)(x[:, :1]).any()

    @torch.no_grad()
    def test_each_field_is_normalised_by_itself(self):
        layer = FieldNorm(2, 2)
        layer.weight[1], layer.bias[1] = torch.tensor([3.0, 5.0]), 1.0
        got = layer(torch.tensor([[[0.0, 200.0], [700.0, 100.0]]]))
        close(got, torch.tensor([[[-1.0, 1.0], [4.0, -4.0]]]))

    @torch.no_grad()
    def test_a_mask_multiplies_what_the_block_sees(self):
        block = MaskBlock(2, 1, 2, 2)
        first, _, second = block.mask
        first.weight[:], first.bias[:] = 1.0, -2.0
        second.weight[:], second.bias[:] = torch.tensor([[1.0], [3.0]]), torch.tensor([0.0, 1.0])
        block.linear.weight[:] = torch.eye(2)
        block.norm = nn.Identity()
        hidden = torch.tensor([[10.0, 10.0]])
        assert block(torch.tensor([[1.0, 2.0]]), hidden).tolist() == [[10.0, 40.0]]  # a mask of (1, 4)
        assert block(torch.tensor([[1.0, 0.0]]), hidden).tolist() == [[0.0, 10.0]]  # the mask's own ReLU: (0, 1)
        assert block(torch.tensor([[1.0, 2.0]]), -hidden).tolist() == [[0.0, 0.0]]

    @torch.no_grad()
    def test_a_gate_of_nothing_lets_everything_through(self):
        gate = FeatureGate(3, [4], 5)
        gate.output.weight.zero_()
        gate.output.bias[:] = torch.tensor([0.0, 0.0, 100.0, -100.0, math.log(3.0)])
        close(gate(torch.randn(2, 3)), torch.tensor([1.0, 1.0, 2.0, 0.0, 1.5]).expand(2, 5))

    @torch.no_grad()
    def test_two_streams_meet_head_by_head(self):
        fusion = BilinearFusion(4, 2, 2)
        fusion.weight[:] = torch.tensor([[[1.0], [2.0]], [[3.0], [4.0]]])
        fusion.left.weight[:], fusion.left.bias[:] = torch.tensor([1.0, 0.0, 0.0, 0.0]), 0.25
        fusion.right.weight[:], fusion.right.bias[:] = torch.tensor([0.0, 1.0]), 0.5
        x, y = torch.tensor([[1.0, 2.0, 3.0, 4.0]]), torch.tensor([[1.0, 10.0]])
        assert fusion(x, y).item() == (1 * 1 + 2 * 2) * 1 + (3 * 3 + 4 * 4) * 10 + 1 + 0.25 + 10 + 0.5

    def test_attention_is_that_of_each_head(self):
        """One field attends to itself alone; of two, a score apart of log 3 makes shares of ¼ and ¾."""
        x = torch.tensor([[[0.0, 0.0, 7.0]]])
        assert attend(x, 1).tolist() == [[[7.0]]]
        fields = torch.tensor([[[2.0, 0.0, 8.0], [2.0, math.log(3.0) / 2, 16.0]]])  # query, key and value of one head
        close(attend(fields, 1, scale=1.0), torch.tensor([[[14.0], [14.0]]]))
        close(attend(fields, 1, scale=0.0), torch.tensor([[[12.0], [12.0]]]))


# Frappe_x1's ten fields with FuxiCTR 1's rows (BARS), 5,389 in all; version 2 counts one more a field.
FRAPPE = {
    "user": 955, "item": 4083, "daytime": 8, "weekday": 8, "isweekend": 3, "homework": 4, "cost": 3, "weather": 10,
    "country": 81, "city": 234,
}  # fmt: skip
FUXICTR = ("feature.projection=none", "feature.fm_embed_dim=10", "feature.embedding_dim=10")
TOWER = ("dnn.hidden_units=[400,400,400]", "dnn.use_batch_norm=true")
DEEP = (1000 + 10) * 40 + 800 + 2 * (400 * 400 + 400 + 800)  # 100 → 400 → 400 → 400 with batch norm
NO_WIDE = "fm.use_first_order=false"
PUBLISHED = {  # BARS' logs of Frappe_x1; the first three by hand
    "lr": ((), 5_389 + 1),
    "fm": ((), 5_389 * 11 + 1),
    "wide_deep": (TOWER, 5_389 * 11 + DEEP + 401),
    "nfm": (("dnn.hidden_units=[400,400,400]", "dnn.use_batch_norm=false"), 384_880),
    "afm": (("afm.attention_dim=128",), 60_826),
    "dcn": ((*TOWER, "dcn.num_layers=3", NO_WIDE), 418_591),
    "dcn_v2": ((*TOWER, "dcn_v2.num_layers=4", NO_WIDE), 458_391),
    "autoint": (
        (
            *(*TOWER, NO_WIDE, "autoint.num_layers=5", "autoint.num_heads=4", "autoint.attention_dim=128"),
            *("autoint.layer_norm=true", "autoint.scale=true", "autoint.residual_projection=if_needed"),
        ),
        622_180,
    ),
    "mask_net": (
        (
            *("dnn.hidden_units=[400,400,400]", "dnn.use_batch_norm=false", NO_WIDE, "mask_net.block_dim=50"),
            *("mask_net.num_blocks=3", "mask_net.reduction_ratio=2", "mask_net.embedding_norm=false"),
        ),
        571_691,
    ),
    "final_mlp": (
        (
            *("final_mlp.hidden_units_1=[400]", "final_mlp.hidden_units_2=[100]", "final_mlp.num_heads=5", NO_WIDE),
            *("final_mlp.selection_hidden_units=[400]", "final_mlp.context_1=[user]", "final_mlp.context_2=[item]"),
        ),
        253_392,
    ),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_number_of_parameters_is_the_published_one(name):
    overrides, count = PUBLISHED[name]
    more = 1 if name == "final_mlp" else 0
    fields = {field: FieldSchema(field, FeatureType.SPARSE, rows + more) for field, rows in FRAPPE.items()}
    model = create_model(name, DatasetSchema(fields, "label"), config_of(*FUXICTR, *overrides))
    assert sum(FRAPPE.values()) == 5_389
    assert sum(weight.numel() for weight in model.parameters()) == count


def test_further_parameters_by_hand():
    """What no published model has: gates without a context, experts, serial blocks and a residual a layer."""
    schema = schema_of(sparse("a", 10), sparse("b", 5), dense("c"))  # F = 3, T = 12, no projection at width 4
    rows = 16 * 4

    def count(name, *overrides):
        model = create_model(name, schema, config_of("feature.projection=none", NO_WIDE, *overrides))
        return sum(weight.numel() for weight in model.parameters()) - rows

    towers = (12 * 8 + 8 + 16) + (8 * 6 + 6 + 12), 12 * 4 + 4 + 8
    gate = 4 + (4 * 7 + 7) + (7 * 12 + 12)
    assert count("final_mlp") == sum(towers) + 2 * gate + 7 + 5 + 2 * 3 * 2
    deep = (12 * 12 + 12 + 24) + (12 * 6 + 6 + 12)
    assert count("dcn_v2", "dcn_v2.low_rank=2") == 3 * (2 * 12 * 2 + 12) + deep + 12 + 6 + 1
    experts = ("dcn_v2.low_rank=2", "dcn_v2.num_experts=3", "dcn_v2.structure=stacked")
    assert count("dcn_v2", *experts) == 3 * 12 + 3 * (2 * 12 * 6 + 3 * 4 + 12) + deep + 6 + 1
    blocks = (12 * 6 + 6 + 6 * 12 + 12 + 12 * 5 + 10) + (12 * 2 + 2 + 2 * 5 + 5 + 5 * 5 + 10)
    serial = ("mask_net.structure=serial", "mask_net.num_blocks=2", "mask_net.reduction_ratio=0.5")
    assert count("mask_net", *serial) == 2 * 12 + blocks + 5 + 1
    layers = 4 * 4 * 6 + 2 * 4 * 6 * 6
    assert count("autoint", "autoint.use_dnn=false") == layers + 3 * 6 + 1


class TestFinalMLPContexts:
    def test_a_contexts_embedding_is_its_own(self):
        model = make("final_mlp contexts")
        widths = {name: field.embedding_dim for name, field in model.schema.fields.items()}
        assert (widths["user"], widths["mean"], widths["item"], widths["city"]) == (12, 8, 6, 4)
        assert model.embedding.field_weight("user").shape == (40, 12)
        assert model.features.tolist()[:4] == [0, 1, 2, 3]
        assert [gate.columns.tolist() for gate in model.gates] == [
            [4, 5, 6, 7, 20, 21, 22, 23],  # user's second part, mean's second part
            [8, 9, 10, 11, 30, 31, 32],  # user's third part, item's second part
        ]

    def test_fields_of_one_table_stay_as_wide_as_each_other(self):
        friend = FieldSchema("friend", FeatureType.SPARSE, 30, 4, shares_embedding_with="user")
        model = make("final_mlp", "final_mlp.context_1=[user]", schema=schema_of(sparse("user"), friend))
        assert model.embedding.field_weight("user").shape == (30, 8)
        assert model.features.tolist() == [0, 1, 2, 3, 8, 9, 10, 11]
        assert model.gates[0].columns.tolist() == [4, 5, 6, 7]

    def test_the_context_alone_decides_the_gate(self):
        model, batch = make("final_mlp contexts").eval(), batch_of()
        flat = model.embedding(batch)[2]
        other = model.embedding(batch | {"city": batch["city"].flip(0), "item": batch["item"].flip(0)})[2]
        assert torch.equal(model.gates[0](flat), model.gates[0](other))
        assert not torch.allclose(model.gates[1](flat), model.gates[1](other))

    def test_a_context_that_is_no_field_is_refused_with_the_nearest(self):
        with pytest.raises(ConfigError, match=r"final_mlp\.context_2 names 'usr', no field; did you mean 'user'\?"):
            make("final_mlp", "final_mlp.context_2=[usr]")


@pytest.mark.parametrize(
    ("kind", "overrides", "message"),
    [
        ("lr", ("fm.use_first_order=false",), "leaves model_name = 'lr' without weights; expected true"),
        ("fm", ("fm.use_second_order=false",), "model_name = 'fm' without pairs; expected true, or model_name=lr"),
        ("autoint", ("autoint.num_heads=4",), "autoint.attention_dim = 6 is not a multiple of autoint.num_heads = 4"),
        ("dcn_v2", ("dcn_v2.num_experts=2",), "dcn_v2.low_rank is none; expected a rank, such as dcn_v2.low_rank=32"),
        ("final_mlp", ("final_mlp.num_heads=3",), "final_mlp.hidden_units_2 ends in 4, which is not a multiple"),
        ("final_mlp", ("final_mlp.context_1=[user,user]",), "names a field twice; expected each once"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_in_one_sentence(kind, overrides, message):
    with pytest.raises(ConfigError) as caught:
        make(kind, *overrides)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "override",
    [
        *("dcn.num_layers=0", "dcn_v2.num_layers=0", "dcn_v2.structure=serial", "dcn_v2.low_rank=0"),
        *("dcn_v2.num_experts=0", "autoint.num_layers=0", "autoint.attention_dim=0", "autoint.dropout=1"),
        *("autoint.residual_projection=never", "afm.attention_dim=0", "afm.dropout=1", "nfm.dropout=-0.1"),
        *("final_mlp.hidden_units_1=[]", "final_mlp.dropout_2=1", "final_mlp.selection_hidden_units=[0]"),
        *("final_mlp.num_heads=0", "final_mlp.context_1=user", "mask_net.structure=stacked", "mask_net.num_blocks=0"),
        *("mask_net.block_dim=0", "mask_net.reduction_ratio=0"),
    ],
)
def test_a_setting_out_of_range_is_refused_by_its_key(override):
    with pytest.raises(ConfigError, match="^" + override.partition("=")[0].replace(".", r"\.")):
        config_of(override)


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        *(("cross_num", "dcn.num_layers"), ("dcn_v2.model_structure", "dcn_v2.structure"), ("use_fs", "final_mlp.use")),
        *(("att_head_num", "autoint.num_heads"), ("afm_dropout", "afm.dropout"), ("bi_dropout", "nfm.dropout")),
        *(("fs1_context", "final_mlp.context_1"), ("parallel_num_blocks", "mask_net.num_blocks")),
        *(("mlp1_hidden_units", "final_mlp.hidden_units_1"), ("emb_layernorm", "mask_net.embedding_norm")),
    ],
)
def test_other_libraries_names_lead_to_ours(typed, meant):
    with pytest.raises(ConfigError, match=f"did you mean '{meant}"):
        config_of(f"{typed}=1")
