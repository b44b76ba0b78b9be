import copy
import dataclasses
import inspect

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call

import deepfm.models.layers as layers
from deepfm.data.schema import DatasetSchema, FeatureType, FieldSchema
from deepfm.engine.optim import build_optimizer
from deepfm.engine.task import ParameterGroup
from deepfm.errors import ConfigError
from deepfm.models.layers import CIN, DNN, FeatureEmbedding, FMInteraction, MultiHeadSelfAttention, kernels
from deepfm.models.layers.dnn import Dropout
from tests.conftest import zero_padding

B, D = 6, 4
COMBINERS = ("mean", "sum", "max")


@pytest.fixture(autouse=True)
def _own_random_state():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def close(got, wanted, tolerance=1e-5):
    torch.testing.assert_close(got, wanted, rtol=tolerance, atol=tolerance)


def randomise(module, scale=0.5):
    """Weights of a size at which an error shows, and padding rows still zero."""
    with torch.no_grad():
        for weight in module.parameters():
            weight.normal_(std=scale)
    zero_padding(module)
    return module


class TestFMInteraction:
    @pytest.mark.parametrize("fields", [1, 2, 3, 7])
    def test_is_the_double_sum_over_pairs(self, fields):
        x = torch.randn(B, fields, D)
        pairs = torch.zeros(B, 1)
        for i in range(fields):
            for j in range(i + 1, fields):
                pairs += (x[:, i] * x[:, j]).sum(dim=1, keepdim=True)
        got = FMInteraction()(x)
        assert got.shape == (B, 1)
        close(got, pairs)

    def test_has_no_parameters(self):
        assert not list(FMInteraction().parameters())


def slow_cin(module, x, sizes, split_half, activation):
    """Equations 6 to 8 of Lian et al., a scalar at a time."""
    batch, fields, dim = x.shape
    rows = []
    for b in range(batch):
        maps, outputs = x[b], []
        for depth, (size, compress) in enumerate(zip(sizes, module.compressions, strict=True)):
            weight = compress.weight.reshape(size, len(maps), fields)
            new = torch.zeros(size, dim)
            for h in range(size):
                for d in range(dim):
                    total = compress.bias[h]
                    for i in range(len(maps)):
                        for j in range(fields):
                            total = total + weight[h, i, j] * maps[i, d] * x[b, j, d]
                    new[h, d] = total
            new = new.relu() if activation == "relu" else new
            last = depth == len(sizes) - 1
            if split_half and not last:
                maps, leaving = new[: size // 2], new[size // 2 :]
            else:
                maps, leaving = new, new
            outputs.append(leaving.sum(dim=1))
        rows.append(torch.cat(outputs))
    return torch.stack(rows)


class TestCIN:
    @pytest.mark.parametrize("activation", ["relu", "linear"])
    @pytest.mark.parametrize("split_half", [True, False])
    @pytest.mark.parametrize("sizes", [(3,), (4, 3), (2, 4, 3)])
    @torch.no_grad()
    def test_is_the_papers_sums(self, sizes, split_half, activation):
        module = randomise(CIN(3, 2, sizes, split_half, activation))
        x = torch.randn(3, 3, 2)
        got = module(x)
        assert got.shape == (3, module.output_dim)
        close(got, slow_cin(module, x, sizes, split_half, activation))

    @pytest.mark.parametrize(
        ("sizes", "split_half", "width"),
        [((128, 128), True, 192), ((128, 128), False, 256), ((7,), True, 7), ((8, 6, 5), True, 12), ([4, 2], False, 6)],
    )
    def test_output_dim_counts_what_leaves(self, sizes, split_half, width):
        module = CIN(3, D, sizes, split_half)
        assert module.output_dim == width
        assert module(torch.randn(2, 3, D)).shape == (2, width)

    @pytest.mark.parametrize("rows", [1, 4, 7, 8, 9])
    def test_chunks_change_nothing(self, rows, monkeypatch):
        module, x = randomise(CIN(3, D, (4, 3), True)), torch.randn(B, 3, D)
        whole = module(x)
        monkeypatch.setattr(kernels, "CHUNK_ROWS", rows)
        assert kernels.chunk_size(x) == max(1, rows // D) < B
        close(module(x), whole, 1e-6)

    def test_a_row_does_not_depend_on_the_others(self):
        module, x = randomise(CIN(3, D, (4, 3), True)), torch.randn(B, 3, D)
        close(module(x[2:3]), module(x)[2:3])
        assert module(x[:0]).shape == (0, module.output_dim)

    def test_an_odd_layer_that_would_be_split_is_refused(self):
        with pytest.raises(ConfigError, match=r"cin.layer_sizes = \[4, 5, 4\] has 5 maps to split in halves"):
            CIN(3, D, (4, 5, 4), True)
        CIN(3, D, (4, 5), True)
        CIN(3, D, (5, 5), False)

    def test_no_layer_and_unknown_activations_are_refused(self):
        with pytest.raises(ConfigError, match=r"cin\.layer_sizes"):
            CIN(3, D, ())
        with pytest.raises(ConfigError, match=r"cin\.activation = 'tanh' is unknown; expected relu or linear"):
            CIN(3, D, (4,), True, "tanh")


def slow_attention(module, x):
    for layer in module.layers:
        query, key, value = layer.query_key_value(x).chunk(3, dim=-1)
        heads = []
        for q, k, v in zip(*(part.chunk(layer.num_heads, dim=-1) for part in (query, key, value)), strict=True):
            weights = torch.softmax(q @ k.transpose(1, 2) / q.shape[-1] ** 0.5, dim=-1)
            heads.append(weights @ v)
        mixed = torch.cat(heads, dim=-1) @ layer.output.weight.T
        x = layer.norm(x + mixed if layer.use_residual else mixed)
    return x


class TestMultiHeadSelfAttention:
    @pytest.mark.parametrize("use_residual", [True, False])
    @pytest.mark.parametrize("heads", [1, 2, 4])
    def test_one_layer_is_torchs_own_attention(self, heads, use_residual):
        module, x = randomise(MultiHeadSelfAttention(8, heads, 8, 1, use_residual)), torch.randn(B, 5, 8)
        layer, fields_first = module.layers[0], x.transpose(0, 1)
        mixed, _ = F.multi_head_attention_forward(
            fields_first, fields_first, fields_first, 8, heads, layer.query_key_value.weight, None, None, None, False,
            0.0, layer.output.weight, None,
        )  # fmt: skip
        mixed = mixed.transpose(0, 1)
        wanted = F.layer_norm(x + mixed if use_residual else mixed, (8,), layer.norm.weight, layer.norm.bias)
        close(module(x), wanted)

    @pytest.mark.parametrize("use_residual", [True, False])
    @pytest.mark.parametrize(("heads", "width", "depth"), [(1, 6, 1), (2, 6, 2), (4, 64, 3)])
    def test_stacked_layers_are_softmax_attention_by_hand(self, heads, width, depth, use_residual):
        module = randomise(MultiHeadSelfAttention(D, heads, width, depth, use_residual), 0.3)
        x = torch.randn(B, 5, D)
        got = module(x)
        assert got.shape == x.shape
        assert len(module.layers) == depth
        close(got, slow_attention(module, x))

    def test_fields_are_a_set(self):
        module, x, order = randomise(MultiHeadSelfAttention(D, 2, 6, 2)), torch.randn(B, 5, D), [3, 0, 4, 1, 2]
        close(module(x[:, order]), module(x)[:, order])

    def test_a_row_does_not_depend_on_the_others(self):
        module, x = randomise(MultiHeadSelfAttention(D, 2, 6)), torch.randn(B, 5, D)
        close(module(x[2:3]), module(x)[2:3])

    @pytest.mark.parametrize(("heads", "width"), [(4, 6), (3, 64), (8, 4)])
    def test_heads_that_do_not_divide_the_width_are_refused(self, heads, width):
        with pytest.raises(ConfigError, match=f"attention_dim = {width} is not a multiple of .*num_heads = {heads}"):
            MultiHeadSelfAttention(D, heads, width)


def parts_of(tower):
    return [type(part) for layer in tower.layers for part in layer.children()]


class TestDNN:
    def test_a_layer_is_linear_norm_activation_dropout(self):
        tower = DNN(5, [8, 3], "gelu", dropout=0.2, use_batch_norm=True)
        assert parts_of(tower) == [nn.Linear, nn.BatchNorm1d, nn.GELU, Dropout] * 2
        assert [part.p for part in tower.modules() if isinstance(part, nn.Dropout)] == [0.2, 0.2]
        assert tower.output_dim == 3

    def test_the_parts_work_in_that_order(self):
        tower, x = randomise(DNN(5, [8, 3], "sigmoid", dropout=0.4, use_batch_norm=True)), torch.randn(B, 5)
        torch.manual_seed(3)
        got = tower(x)
        torch.manual_seed(3)
        for layer in tower.layers:
            x = layer.dropout(layer.activation(layer.norm(layer.linear(x))))
        assert torch.equal(got, x)
        assert (got == 0).any(), "dropout is last: the sigmoid's own values are never zero"

    def test_without_norm_and_dropout_these_are_left_out(self):
        assert parts_of(DNN(5, [8])) == [nn.Linear, nn.ReLU]

    @pytest.mark.parametrize("units", [[7], (8, 3), [2, 9, 5]])
    def test_output_dim_is_the_last_width(self, units):
        tower = DNN(5, units)
        assert tower.output_dim == units[-1]
        assert tower(torch.randn(B, 5)).shape == (B, units[-1])

    def test_is_the_formula_by_hand(self):
        tower, x = randomise(DNN(5, [8, 3], use_batch_norm=True)), torch.randn(B, 5)
        wanted = x
        for linear, norm in ((layer.linear, layer.norm) for layer in tower.layers):
            hidden = wanted @ linear.weight.T + linear.bias
            centred = (hidden - hidden.mean(dim=0)) / (hidden.var(dim=0, unbiased=False) + norm.eps).sqrt()
            wanted = (centred * norm.weight + norm.bias).relu()
        close(tower(x), wanted)

    @pytest.mark.parametrize(
        ("name", "function"),
        [
            ("relu", F.relu),
            ("gelu", F.gelu),
            ("silu", F.silu),
            ("leaky_relu", F.leaky_relu),
            ("tanh", torch.tanh),
            ("sigmoid", torch.sigmoid),
        ],
    )
    def test_each_activation_is_torchs(self, name, function):
        tower, x = DNN(5, [3], name), torch.randn(B, 5)
        close(tower(x), function(tower.layers[0].linear(x)))

    def test_no_layer_and_unknown_activations_are_refused(self):
        with pytest.raises(ConfigError, match=r"dnn\.hidden_units"):
            DNN(5, [])
        with pytest.raises(ConfigError, match="activation 'rleu' is unknown; expected one of relu, gelu"):
            DNN(5, [3], "rleu")


def field(name, kind="sparse", width=3, combiner="mean"):
    sizes = {"sparse": (9, 0), "dense": (0, 0), "sequence": (7, 5)}[kind]
    return FieldSchema(name, FeatureType(kind), sizes[0], width, max_length=sizes[1], combiner=combiner)


def schema_of(*fields):
    return DatasetSchema({one.name: one for one in fields}, "label")


MIXED = schema_of(
    field("user", width=3),
    field("price", "dense", width=2),
    field("mean", "sequence", 5, "mean"),
    field("sum", "sequence", 4, "sum"),
    field("max", "sequence", 1, "max"),
)


def batch_of(schema, rows=B, seed=0):
    generator = torch.Generator().manual_seed(seed)
    batch = {}
    for one in schema.fields.values():
        if one.feature_type is FeatureType.DENSE:
            batch[one.name] = torch.randn(rows, generator=generator)
        elif one.feature_type is FeatureType.SPARSE:
            batch[one.name] = torch.randint(0, one.vocabulary_size, (rows,), generator=generator)
        else:
            ids = torch.randint(0, one.vocabulary_size, (rows, one.max_length), generator=generator)
            ids[0] = 0  # a row of padding alone
            batch[one.name] = ids
    return batch


def weights_of(embedding, first_order=False):
    """Each field's rows, a view of the table that it shares with the fields of its width."""
    return [embedding.field_weight(name, first_order) for name in embedding.schema.fields]


def projections_of(embedding):
    return [embedding.projection_of(name) for name in embedding.schema.fields]


def slow_vector(one, weight, value):
    """The own vector of one field of one row."""
    if one.feature_type is FeatureType.DENSE:
        return value * weight[0]
    if one.feature_type is FeatureType.SPARSE:
        return weight[value] if value else torch.zeros(weight.shape[1])
    vectors = [weight[token] for token in value.tolist() if token]
    if not vectors:
        return torch.zeros(weight.shape[1])
    stacked = torch.stack(vectors)
    return {"mean": stacked.mean(0), "sum": stacked.sum(0), "max": stacked.amax(0)}[one.combiner]


def slow_views(embedding, batch):
    rows = len(next(iter(batch.values())))
    first, fields, flat = torch.zeros(rows, 1), [], []
    for row in range(rows):
        own, linear = (
            [
                slow_vector(one, weight, batch[one.name][row])
                for one, weight in zip(embedding.schema.fields.values(), weights_of(embedding, order), strict=True)
            ]
            for order in (False, True)
        )
        first[row] = torch.cat(linear).sum()
        fields.append(
            torch.stack(
                [
                    vector if p is None else p.weight @ vector
                    for vector, p in zip(own, projections_of(embedding), strict=True)
                ]
            )
        )
        flat.append(torch.cat(own))
    return first, torch.stack(fields), torch.stack(flat)


def assert_same_views(got, wanted):
    for one, other in zip(got, wanted, strict=True):
        close(one, other)


class TestFeatureEmbedding:
    def test_gives_three_views_of_the_contracts_shapes(self):
        first, fields, flat = FeatureEmbedding(MIXED, D)(batch_of(MIXED))
        assert first.shape == (B, 1)
        assert fields.shape == (B, 5, D)
        assert flat.shape == (B, MIXED.total_embedding_dim) == (B, 15)

    @torch.no_grad()
    def test_is_a_loop_over_rows_fields_and_tokens(self):
        embedding = randomise(FeatureEmbedding(MIXED, D))
        batch = batch_of(MIXED)
        assert_same_views(embedding(batch), slow_views(embedding, batch))

    @pytest.mark.parametrize(
        ("projection", "widths"),
        [("none", (D,)), *((kind, own) for kind in ("always", "if_needed") for own in ((D,), (3,), (D, 3), (3, D, 5)))],
    )
    @pytest.mark.parametrize("order", ["sdqsqdds", "ssssqqdd", "qdqdqd", "ss", "dd", "qq", "s", "d", "q"])
    @torch.no_grad()
    def test_fields_that_share_a_table_stay_apart(self, order, projection, widths):
        """Sparse (s), dense (d) and sequence (q) fields in any order, of one width or of several in turns."""
        kinds = {"s": "sparse", "d": "dense", "q": "sequence"}
        schema = schema_of(
            *(
                field(f"f{place}", kinds[kind], widths[place % len(widths)], COMBINERS[place % 3])
                for place, kind in enumerate(order)
            )
        )
        embedding, batch = randomise(FeatureEmbedding(schema, D, projection)), batch_of(schema)
        assert sorted(embedding.tables) == sorted({str(widths[place % len(widths)]) for place in range(len(order))})
        assert_same_views(embedding(batch), slow_views(embedding, batch))
        with kernels.plain_kernels():
            assert_same_views(embedding(batch), slow_views(embedding, batch))

    @torch.no_grad()
    def test_ids_may_be_narrow_or_wide_or_both(self):
        schema = schema_of(field("a"), field("b"), field("tags", "sequence"), field("more", "sequence"))
        embedding, batch = randomise(FeatureEmbedding(schema, D)), batch_of(schema)
        wanted = embedding(batch)
        for narrow in (["a"], ["tags"], ["b", "more"], list(batch)):
            views = embedding({name: ids.int() if name in narrow else ids for name, ids in batch.items()})
            for view, other in zip(views, wanted, strict=True):
                assert torch.equal(view, other)

    @pytest.mark.parametrize("combiner", COMBINERS)
    @pytest.mark.parametrize(
        "tokens", [[1, 2, 3, 0, 0], [0, 0, 4, 0, 0], [2, 2, 2, 2, 2], [0, 3, 0, 1, 1], [0, 0, 0, 0, 0]]
    )
    @torch.no_grad()
    def test_a_combiner_sees_only_tokens_that_are_no_padding(self, combiner, tokens):
        schema = schema_of(field("tags", "sequence", combiner=combiner))
        embedding, ids = randomise(FeatureEmbedding(schema, D)), torch.tensor([tokens])
        _, _, flat = embedding({"tags": ids})
        wanted = slow_vector(schema.fields["tags"], weights_of(embedding)[0], ids[0])
        close(flat[0], wanted)

    def test_the_maximum_of_negative_numbers_is_negative(self):
        embedding = FeatureEmbedding(schema_of(field("tags", "sequence", combiner="max")), D)
        with torch.no_grad():
            weights_of(embedding)[0][1:] = -1.0
        _, _, flat = embedding({"tags": torch.tensor([[1, 0, 0, 0, 0]])})
        assert flat.tolist() == [[-1.0] * 3]

    def test_a_number_multiplies_a_learned_vector(self):
        schema = schema_of(field("price", "dense"))
        embedding = randomise(FeatureEmbedding(schema, D))
        first, fields, flat = embedding({"price": torch.tensor([2.0, -0.5, 0.0])})
        vector = weights_of(embedding)[0][0]
        close(flat, torch.stack([2 * vector, -0.5 * vector, 0 * vector]))
        close(fields[:, 0], flat @ embedding.projection_of("price").weight.T)
        close(first, torch.tensor([[2.0], [-0.5], [0.0]]) * weights_of(embedding, first_order=True)[0])

    def test_numbers_may_come_as_a_column_or_as_integers(self):
        embedding = randomise(FeatureEmbedding(schema_of(field("price", "dense")), D))
        plain = embedding({"price": torch.tensor([2.0, 3.0])})
        assert_same_views(embedding({"price": torch.tensor([[2.0], [3.0]])}), plain)
        assert_same_views(embedding({"price": torch.tensor([2, 3])}), plain)

    @torch.no_grad()
    def test_every_field_is_projected_always(self):
        schema = schema_of(field("a", width=3), field("b", width=D))
        embedding, batch = randomise(FeatureEmbedding(schema, D, "always")), batch_of(schema)
        assert len(embedding.projections) == 2
        assert_same_views(embedding(batch), slow_views(embedding, batch))

    @torch.no_grad()
    def test_only_other_widths_are_projected_if_needed(self):
        schema = schema_of(field("a", width=3), field("b", width=D))
        embedding, batch = randomise(FeatureEmbedding(schema, D, "if_needed")), batch_of(schema)
        assert len(embedding.projections) == 1
        assert embedding.projection_of("a").weight.shape == (D, 3)
        assert embedding.projection_of("b") is None
        assert_same_views(embedding(batch), slow_views(embedding, batch))

    @torch.no_grad()
    def test_nothing_is_projected_with_none(self):
        schema = schema_of(field("a", width=D), field("b", "dense", width=D))
        embedding, batch = randomise(FeatureEmbedding(schema, D, "none")), batch_of(schema)
        assert not embedding.projections
        _, fields, flat = embedding(batch)
        assert torch.equal(fields.flatten(1), flat)

    def test_none_refuses_another_width_by_name(self):
        with pytest.raises(ConfigError, match="'b' is 3 wide"):
            FeatureEmbedding(schema_of(field("a", width=D), field("b", width=3)), D, "none")

    def test_projections_have_no_bias(self):
        assert all(projection.bias is None for projection in FeatureEmbedding(MIXED, D).projections.values())

    def test_weights_start_xavier_uniform_and_padding_zero(self):
        embedding = FeatureEmbedding(schema_of(FieldSchema("id", "sparse", 1000, 20)), D)
        weight = weights_of(embedding)[0]
        bound = (6 / 1020) ** 0.5
        assert not weight[0].any()
        assert weight.abs().max() <= bound
        assert weight[1:].std().item() == pytest.approx(bound / 3**0.5, rel=0.02)
        linear = weights_of(embedding, first_order=True)[0]
        assert not linear[0].any()
        assert linear[1:].std().item() == pytest.approx((6 / 1001) ** 0.5 / 3**0.5, rel=0.05)
        projection = embedding.projection_of("id").weight
        assert projection.abs().max() <= (6 / 24) ** 0.5

    def test_the_penalised_tables_are_those_of_both_orders(self):
        embedding = FeatureEmbedding(MIXED, D)
        penalised = {id(weight) for weight in embedding.table_parameters()}
        projections = {id(weight) for weight in embedding.projections.parameters()}
        assert len(embedding.table_parameters()) == len(penalised) == 10
        assert penalised | projections == {id(weight) for weight in embedding.parameters()}
        assert not penalised & projections


IDS_ONLY = schema_of(
    field("user"), *(field(combiner, "sequence", combiner=combiner) for combiner in COMBINERS), field("item", width=D)
)


class TestPadding:
    def all_padding(self, rows=3):
        return {
            one.name: torch.zeros((rows, one.max_length) if one.max_length else rows, dtype=torch.int64)
            for one in IDS_ONLY.fields.values()
        }

    @pytest.mark.parametrize("projection", ["always", "if_needed"])
    def test_padding_is_exactly_zero_in_every_view(self, projection):
        for view in FeatureEmbedding(IDS_ONLY, D, projection)(self.all_padding()):
            assert torch.equal(view, torch.zeros_like(view))

    @pytest.mark.parametrize("name", ["adam", "adamw", "sgd"])
    def test_padding_is_exactly_zero_after_training_with_decay(self, name):
        embedding = FeatureEmbedding(IDS_ONLY, D)
        tables = embedding.table_parameters()
        others = list(embedding.projections.parameters())
        groups = [ParameterGroup(tables, l2=0.1, weight_decay=0.1), ParameterGroup(others, weight_decay=0.1)]
        optimizer = build_optimizer(name, 0.1, groups, torch.device("cpu"))
        before = [weight.clone() for weight in embedding.parameters()]
        for step in range(5):
            optimizer.zero_grad()
            first, fields, flat = embedding(batch_of(IDS_ONLY, rows=30, seed=step))
            ((first - 1).square().mean() + (fields - 1).square().mean() + (flat - 1).square().mean()).backward()
            optimizer.step()
        for weight, old in zip(embedding.parameters(), before, strict=True):
            assert not torch.equal(weight, old)
        for view in embedding(self.all_padding()):
            assert torch.equal(view, torch.zeros_like(view))
        for weight in (*weights_of(embedding), *weights_of(embedding, first_order=True)):
            assert torch.equal(weight[0], torch.zeros_like(weight[0]))

    @pytest.mark.parametrize("combiner", COMBINERS)
    def test_gradients_of_padding_alone_are_finite_and_zero(self, combiner):
        embedding = FeatureEmbedding(schema_of(field("tags", "sequence", combiner=combiner)), D)
        first, fields, flat = embedding({"tags": torch.zeros(2, 5, dtype=torch.int64)})
        (first.sum() + fields.sum() + flat.sum()).backward()
        for weight in embedding.table_parameters():
            assert torch.equal(weight.grad, torch.zeros_like(weight))

    @pytest.mark.parametrize("combiner", COMBINERS)
    def test_more_padding_changes_nothing(self, combiner):
        embedding = randomise(FeatureEmbedding(schema_of(field("tags", "sequence", combiner=combiner)), D))
        short, long = torch.tensor([[3, 1]]), torch.tensor([[3, 1, 0, 0, 0, 0]])
        assert_same_views(embedding({"tags": short}), embedding({"tags": long}))


AWKWARD_NAMES = (
    "keys", "values", "items", "pop", "type", "forward", "weight", "a.b", "a b", "ä/ö", "0", "T_destination",
    "training", "_modules",
)  # fmt: skip


class TestFieldNames:
    @pytest.mark.parametrize("name", AWKWARD_NAMES)
    def test_any_name_works(self, name):
        schema = schema_of(field(name), field("other", "dense"))
        embedding, batch = FeatureEmbedding(schema, D), batch_of(schema)
        views = embedding(batch)
        again = FeatureEmbedding(schema, D)
        again.load_state_dict(embedding.state_dict())
        assert_same_views(again(batch), views)

    @pytest.mark.parametrize("names", [("a.b", "a__b"), ("keys", "keys_"), ("a..b", "a.__b"), ("type", "type_")])
    def test_two_names_never_share_a_table(self, names):
        """Two fields with one table would train each other's weights in silence."""
        schema = schema_of(*(field(name, width=width) for name, width in zip(names, (3, 5), strict=True)))
        embedding = FeatureEmbedding(schema, D)
        assert len(embedding.table_parameters()) == 4
        assert len(embedding.projections) == 2
        _, _, flat = embedding({name: torch.tensor([1, 2]) for name in names})
        assert flat.shape == (2, 8)

    @pytest.mark.parametrize("names", [("a.b", "a__b"), ("keys", "keys_"), ("type", "type_"), ("user", "item")])
    @pytest.mark.parametrize("kind", ["sparse", "dense", "sequence"])
    def test_fields_of_one_width_have_rows_of_their_own(self, names, kind):
        embedding = FeatureEmbedding(schema_of(*(field(name, kind) for name in names)), D)
        for first_order in (False, True):
            one, other = weights_of(embedding, first_order)
            before = other.clone()
            with torch.no_grad():
                one.fill_(7.0)
            assert torch.equal(other, before)
            assert not (other == 7.0).any()
        one, other = projections_of(embedding)
        assert one is not other


def gradcheck(module, *inputs):
    """Autograd against finite differences in float64, with respect to the inputs and every parameter."""
    module = randomise(module.double())
    names = [name for name, _ in module.named_parameters()]
    weights = [weight.detach().clone().requires_grad_() for weight in module.parameters()]

    def function(*values):
        return functional_call(module, dict(zip(names, values[: len(names)], strict=True)), values[len(names) :])

    return torch.autograd.gradcheck(function, (*weights, *inputs), fast_mode=False)


def doubles(*shape):
    return torch.randn(*shape, dtype=torch.float64, requires_grad=True)


class TestGradients:
    def test_of_fm(self):
        assert gradcheck(FMInteraction(), doubles(2, 3, 4))

    @pytest.mark.parametrize(("split_half", "activation"), [(True, "relu"), (True, "linear"), (False, "relu")])
    def test_of_cin(self, split_half, activation):
        assert gradcheck(CIN(3, 2, (4, 2), split_half, activation), doubles(2, 3, 2))

    @pytest.mark.parametrize("activation", ["relu", "linear"])
    def test_of_cin_in_chunks(self, activation, monkeypatch):
        """Chunks are for float32, where finite differences are too coarse: these are held to float64 in one piece."""
        module, x = randomise(CIN(2, 2, (2, 2), activation=activation)), torch.randn(5, 2, 2)
        gradients = []
        for dtype in (torch.float64, torch.float32):
            copied, values = copy.deepcopy(module).to(dtype), x.to(dtype).requires_grad_()
            assert kernels.chunk_size(values) == (5 if dtype is torch.float64 else 2048)
            monkeypatch.setattr(kernels, "CHUNK_ROWS", 4)
            assert kernels.chunk_size(values) == (5 if dtype is torch.float64 else 2)
            copied(values).square().sum().backward()
            monkeypatch.undo()
            gradients.append([values.grad.float(), *(weight.grad.float() for weight in copied.parameters())])
        for one, other in zip(*gradients, strict=True):
            close(other, one)

    @pytest.mark.parametrize(("num_layers", "use_residual"), [(1, False), (2, True)])
    def test_of_attention(self, num_layers, use_residual):
        assert gradcheck(MultiHeadSelfAttention(3, 2, 2, num_layers, use_residual), doubles(1, 3, 3))

    @pytest.mark.parametrize("activation", ["relu", "gelu", "tanh"])
    def test_of_dnn(self, activation):
        assert gradcheck(DNN(3, (4, 2), activation), doubles(2, 3))

    @pytest.mark.parametrize("combiner", COMBINERS)
    def test_of_embedding(self, combiner):
        """The padding row apart: autograd holds it at zero on purpose, and here it is not moved."""
        schema = schema_of(field("user"), field("price", "dense"), field("tags", "sequence", combiner=combiner))
        embedding = randomise(FeatureEmbedding(schema, 2).double())
        batch = batch_of(schema, rows=3) | {"price": torch.randn(3, dtype=torch.float64)}
        rows_of = {name: torch.arange(len(weight)) for name, weight in embedding.named_parameters()}
        for width, table in embedding.tables.items():
            learned = torch.ones(len(table.weight), dtype=torch.bool)
            learned[[0, schema.fields["user"].vocabulary_size]] = False  # where each field begins
            for name in ("weight", "first_order"):
                rows_of[f"tables.{width}.{name}"] = learned.nonzero().squeeze(1)
        shapes = {name: weight.shape for name, weight in embedding.named_parameters()}
        weights = [weight.detach()[rows_of[name]].clone() for name, weight in embedding.named_parameters()]

        def function(*values):
            full = {
                name: value.new_zeros(shapes[name]).index_copy(0, rows, value)
                for (name, rows), value in zip(rows_of.items(), values, strict=True)
            }
            return functional_call(embedding, full, (batch,))

        assert torch.autograd.gradcheck(function, tuple(weight.requires_grad_() for weight in weights))


def modules_of_the_package():
    found = {}
    for _, module in inspect.getmembers(layers, inspect.ismodule):
        for name, kind in inspect.getmembers(module, inspect.isclass):
            if issubclass(kind, nn.Module) and kind.__module__.startswith(layers.__name__):
                found[name] = kind
    return found


def test_no_constructor_takes_more_than_five_arguments():
    found = modules_of_the_package()
    assert set(layers.__all__) <= set(found)
    counts = {name: len(inspect.signature(kind).parameters) for name, kind in found.items()}
    assert {name: count for name, count in counts.items() if count > 5} == {}


def test_an_embedding_leaves_its_schema_alone():
    before = dataclasses.replace(MIXED)
    FeatureEmbedding(MIXED, D)
    assert before == MIXED
