"""BST, DIN and SIN: their formulas pair by pair, and what may not change a logit."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from torch import nn

from deepfm.config import FMConfig
from deepfm.data.schema import DatasetSchema
from deepfm.engine.acceleration import checkpoint_activations
from deepfm.engine.loop import fit
from deepfm.engine.optim import build_optimizer
from deepfm.errors import ConfigError, SchemaError
from deepfm.models import SequenceModel, create_model
from deepfm.models.layers import FeatureEmbedding
from deepfm.models.layers.kernels import plain_kernels
from deepfm.utils import load_checkpoint, save_checkpoint
from tests.clicks import (
    BEHAVIOUR_SCHEMA,
    CPU,
    MODEL_OPTIONS,
    SEQUENCE_OPTIONS,
    SEQUENCE_SMALL,
    ClickTask,
    behaviour,
    clicks,
    columns,
    config_of,
    dense,
    model_of,
    randomise,
    schema_of,
    sequence_model_of,
    sparse,
)
from tests.test_sequence_layers import naive_weights, torchs

B, L, E = 10, 6, 4
everywhere = pytest.mark.parametrize("kind", SEQUENCE_OPTIONS)
one_of_each = pytest.mark.parametrize(
    "kind",
    ["bst target 1", "bst mean 2", "bst all 1", "din normalize=true recency=true", "sin gate attends",
     "sin encoded 2 layers", "sin gate product"],
)  # fmt: skip


@pytest.fixture(autouse=True)
def _own_random_state():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def close(got, wanted, tolerance=1e-6):
    torch.testing.assert_close(got, wanted, rtol=tolerance, atol=tolerance)


def batch_of(schema=BEHAVIOUR_SCHEMA, rows=B, seed=0):
    """Random values; histories of every length from none to all, padded at the left, at the right and within."""
    batch = {name: torch.as_tensor(column) for name, column in columns(schema, rows, seed).items()}
    for field in schema.behaviour_fields:
        ids = torch.randint(1, field.vocabulary_size, (rows, field.max_length)).int()
        for row in range(rows):
            if row % 3 == 0:
                ids[row, : row % (field.max_length + 1)] = 0
            elif row % 3 == 1:
                ids[row, field.max_length - row % (field.max_length + 1) :] = 0
            else:
                ids[row, torch.rand(field.max_length) < 0.4] = 0
        ids[0] = 0
        ids[1] = torch.arange(1, field.max_length + 1)
        batch[field.name] = ids
    batch["item"][:2] = torch.tensor([3, 0])  # for an empty history a known candidate, and an unknown one for a full
    return batch


def repeated(batch, copies):
    """Rows of U users with a few candidates each, histories once a user: the batch, and the same written out."""
    shared = {name: column.repeat_interleave(copies, dim=0) for name, column in batch.items()}
    shared["item"] = torch.randint(0, 25, shared["item"].shape)
    return shared | {"history": batch["history"]}, shared


@everywhere
class TestEveryKind:
    def test_logits_are_raw_and_one_a_row(self, kind):
        logits = sequence_model_of(kind).eval()(batch_of())
        assert logits.shape == (B, 1)
        assert logits.dtype == torch.float32
        assert logits.isfinite().all()
        assert logits.std() > 0.05

    def test_gradients_reach_every_part_of_the_formula(self, kind):
        """Every weight there is moves the logit, but for the tables of fields that an inner product does not read."""
        model = sequence_model_of(kind, "dnn.use_batch_norm=false", "dnn.activation=tanh", "feature.projection=always")
        model.eval()(batch_of()).square().sum().backward()
        unread = (
            "embedding.projections",
            *(["embedding.tables.3", "embedding.tables.5"] if "products" in kind else []),
        )
        for name, weight in model.named_parameters():
            if not name.startswith(unread):
                assert weight.grad is not None, name
                assert weight.grad.isfinite().all(), name
                assert weight.grad.any(), name

    @torch.no_grad()
    def test_padding_appended_at_either_end_changes_nothing(self, kind):
        """Also far beyond the longest history that the model knows."""
        model, batch = sequence_model_of(kind).eval(), batch_of()
        wanted = model(batch)
        for pad in ((1, 0), (0, 1), (3, 0), (0, 3), (9, 0), (0, 9), (2, 11)):
            close(model(batch | {"history": nn.functional.pad(batch["history"], pad)}), wanted)

    @torch.no_grad()
    def test_where_padding_stands_does_not_matter(self, kind):
        model, batch = sequence_model_of(kind).eval(), batch_of()
        for right_aligned in (True, False):
            history = torch.zeros_like(batch["history"])
            for row, ids in enumerate(batch["history"]):
                seen = ids[ids > 0]
                places = slice(L - len(seen), L) if right_aligned else slice(0, len(seen))
                history[row, places] = seen
            close(model(batch | {"history": history}), model(batch))

    @torch.no_grad()
    def test_the_order_of_rows_does_not_matter(self, kind):
        model, batch, order = sequence_model_of(kind).eval(), batch_of(), torch.randperm(B)
        whole = model(batch)
        close(model({name: column[order] for name, column in batch.items()}), whole[order])
        for row in range(B):
            close(model({name: column[row : row + 1] for name, column in batch.items()}), whole[row : row + 1])

    @pytest.mark.parametrize("copies", [1, 2, 5])
    def test_shared_histories_are_those_written_out(self, kind, copies):
        gradients, logits = [], []
        for batch in repeated(batch_of(), copies):
            model = sequence_model_of(kind, "dnn.use_batch_norm=false").eval()
            logits.append(model(batch))
            logits[-1].sin().sum().backward()
            gradients.append([weight.grad for weight in model.parameters()])
        assert logits[0].shape == (B * copies, 1)
        close(*logits)
        for one, other in zip(*gradients, strict=True):
            assert (one is None) == (other is None)
            if one is not None:
                close(one, other, 1e-4)

    @pytest.mark.parametrize("length", [1, L])
    def test_empty_histories_are_finite_forwards_and_backwards(self, kind, length):
        model = sequence_model_of(kind)
        batch = batch_of() | {"history": torch.zeros(B, length, dtype=torch.int32)}
        model.train()(batch).square().sum().backward()
        for name, weight in model.named_parameters():
            assert weight.grad is None or weight.grad.isfinite().all(), name
        assert model.eval()(batch).isfinite().all()

    def test_an_unknown_candidate_is_finite_whatever_the_history(self, kind):
        model, batch = sequence_model_of(kind), batch_of()
        batch |= {"item": torch.zeros(B, dtype=torch.int64)}
        model.train()(batch).square().sum().backward()
        assert all(weight.grad is None or weight.grad.isfinite().all() for weight in model.parameters())
        probabilities = model.predict(batch)
        assert ((probabilities > 0) & (probabilities < 1)).all()

    @torch.no_grad()
    def test_the_history_is_read_unless_its_side_is_left_out(self, kind):
        model, batch = sequence_model_of(kind).eval(), batch_of()
        batch["history"][:] = torch.randint(1, 25, (B, L))
        other = batch | {"history": torch.randint(1, 25, (B, L)).int()}
        moved = (model(other) - model(batch)).abs()
        if "sin cin" in kind:
            assert not moved.any()
        else:
            assert (moved > 1e-6).all()

    @torch.no_grad()
    def test_the_order_of_the_history_is_read_unless_the_model_has_none(self, kind):
        model, batch = sequence_model_of(kind).eval(), batch_of()
        batch["history"][:] = torch.randint(1, 25, (B, L))
        moved = (model(batch | {"history": batch["history"].flip(1)}) - model(batch)).abs().max()
        ordered = "recency=true" in kind or not kind.startswith("din")
        assert (moved > 1e-5) == (ordered and "sin cin" not in kind)

    @pytest.mark.parametrize("training", [True, False])
    def test_bfloat16_is_finite_and_near(self, kind, training):
        model, batch = sequence_model_of(kind, "dnn.dropout=0", "bst.dropout=0", "sin.dropout=0"), batch_of()
        model.train(training)
        plain = model(batch)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = model(batch)
        logits.float().square().sum().backward()
        assert logits.isfinite().all()
        assert all(weight.grad is None or weight.grad.isfinite().all() for weight in model.parameters())
        assert (logits.float() - plain).abs().max() < 0.15 * max(1.0, plain.abs().max().item())

    def test_two_behaviour_sequences_are_both_read(self, kind):
        """One in the item's table, and one of another length in a table of its own, whose candidate is the item."""
        own = dataclasses.replace(behaviour("seen", vocabulary_size=9, max_length=4), shares_embedding_with=None)
        schema = DatasetSchema({**BEHAVIOUR_SCHEMA.fields, "seen": own}, "click", item_field="item")
        model, batch = sequence_model_of(kind, schema=schema).eval(), batch_of(schema)
        logits = model(batch)
        assert logits.shape == (B, 1)
        reads = "sin cin" not in kind
        for name, size in (("history", 25), ("seen", 9)):
            other = batch | {name: (batch[name] + 3) % (size - 1) + 1}
            assert ((model(other) - logits).abs().max() > 1e-5) == reads, name
            padded = batch | {name: nn.functional.pad(batch[name], (2, 1))}
            close(model(padded), logits)
        shared, written_out = repeated(batch, 3)
        close(model(shared | {"seen": batch["seen"]}), model(written_out))
        logits.sum().backward()
        assert model.embedding.field_weight("seen").shape == (9, 4)


@one_of_each
class TestOneOfEach:
    @pytest.mark.parametrize("training", [True, False])
    def test_predict_is_deterministic_and_leaves_the_mode(self, kind, training):
        model, batch = sequence_model_of(kind, "dnn.dropout=0.5").train(training), batch_of()
        one, two = model.predict(batch), model.predict(batch)
        assert torch.equal(one, two)
        assert ((one > 0) & (one < 1)).all()
        assert all(part.training == training for part in model.modules())
        close(one, torch.sigmoid(model.eval()(batch)))

    def test_a_fit_moves_the_tables_and_leaves_padding_at_zero(self, kind):
        model = sequence_model_of(kind)
        before = model.embedding.field_weight("item").clone()
        task = ClickTask(model, clicks(BEHAVIOUR_SCHEMA, 200), config_of("training.num_epochs=3", "training.lr=0.02"))
        state = fit(task, task.config.training, device=CPU)
        assert state.history[-1]["loss"] < state.history[0]["loss"]
        assert not torch.equal(model.embedding.field_weight("item"), before)
        assert not model.embedding.field_weight("item")[0].any()
        assert not model.embedding.field_weight("history")[0].any()

    def test_histories_that_do_not_divide_the_rows_are_refused(self, kind):
        model, batch = sequence_model_of(kind), batch_of()
        for histories in (3, B + 1, 0):
            history = torch.ones(histories, L, dtype=torch.int32)
            with pytest.raises(SchemaError, match=f"'history' has {histories} histories for {B} rows; expected one a"):
                model(batch | {"history": history})

    @torch.no_grad()
    def test_ids_may_be_narrow_or_wide(self, kind):
        model, batch = sequence_model_of(kind).eval(), batch_of()
        close(model(batch | {"history": batch["history"].long()}), model(batch))

    def test_nothing_is_float64(self, kind):
        model = sequence_model_of(kind)
        tensors = [*model.named_parameters(), *model.named_buffers()]
        assert [name for name, tensor in tensors if tensor.dtype == torch.float64] == []
        seen = []

        def look(_, inputs, output):
            outputs = output if isinstance(output, tuple) else (output,)
            seen.extend(t.dtype for t in (*inputs, *outputs) if isinstance(t, torch.Tensor))

        for part in model.modules():
            part.register_forward_hook(look)
        model(batch_of())
        assert len(seen) > 10
        assert torch.float64 not in seen

    def test_saved_weights_give_equal_logits(self, kind, tmp_path):
        model, batch = sequence_model_of(kind), batch_of()
        model.train()(batch)
        save_checkpoint(model.eval().state_dict(), tmp_path / "weights.pt")
        other = sequence_model_of(kind, seed=1).eval()
        assert not torch.equal(other(batch), model(batch))
        other.load_state_dict(load_checkpoint(tmp_path / "weights.pt"))
        assert torch.equal(other(batch), model(batch))

    def test_plain_operations_give_the_same_logits_and_gradients(self, kind):
        outcomes = []
        for plain in (False, True):
            model, batch = sequence_model_of(kind, "dnn.use_batch_norm=false").eval(), batch_of()
            if plain:
                with plain_kernels():
                    logits = model(batch)
                    logits.sin().sum().backward()
            else:
                logits = model(batch)
                logits.sin().sum().backward()
            outcomes.append([logits, *(weight.grad for weight in model.parameters() if weight.grad is not None)])
        for one, other in zip(*outcomes, strict=True):
            close(one, other, 1e-5)

    def test_sparse_gradients_are_the_dense_ones(self, kind):
        gradients = []
        for sparse_gradients in (False, True):
            model = sequence_model_of(kind).eval()
            model.embedding.sparse_gradients = sparse_gradients
            model(batch_of()).sin().sum().backward()
            found = [weight.grad for weight in model.embedding.table_parameters() if weight.grad is not None]
            assert any(grad.is_sparse for grad in found) == sparse_gradients
            gradients.append([grad.to_dense() for grad in found])
        for one, other in zip(*gradients, strict=True):
            close(one, other)

    def test_recomputed_activations_give_the_same_gradients(self, kind):
        gradients = []
        for recompute in (False, True):
            model = sequence_model_of(kind).train()
            if recompute:
                checkpoint_activations(model)
            torch.manual_seed(7)
            model(batch_of(seed=3)).sin().sum().backward()
            gradients.append([weight.grad for weight in model.parameters() if weight.grad is not None])
        for one, other in zip(*gradients, strict=True):
            close(one, other)

    def test_the_first_order_can_be_left_out(self, kind):
        model, batch = sequence_model_of(kind).eval(), batch_of()
        whole = model(batch)
        model.config = dataclasses.replace(model.config, fm=FMConfig(False, True))
        close(model(batch), whole - model.embedding(batch)[0], 1e-5)

    def test_a_schema_without_behaviour_is_refused(self, kind):
        name, options = SEQUENCE_OPTIONS[kind]
        fields = [field for field in BEHAVIOUR_SCHEMA.fields.values() if not field.is_behaviour]
        with pytest.raises(ConfigError, match=r"(BST|DIN|SIN) needs a behaviour sequence and the schema has none; add"):
            create_model(name, schema_of(*fields), config_of(*SEQUENCE_SMALL, *options))


@pytest.mark.parametrize("kind", ["bst target 1", "din normalize=false recency=false", "sin transformer attends"])
def test_no_weight_is_there_for_nothing(kind):
    """A projection to the CIN's width that nothing reads is a parameter that is counted, and decayed, in vain."""
    model = sequence_model_of(kind, "dnn.use_batch_norm=false", "feature.projection=always")
    model.eval()(batch_of()).square().sum().backward()
    assert [name for name, weight in model.named_parameters() if weight.grad is None] == []


@pytest.mark.parametrize("kind", ["deepfm", "bst target 1", "din normalize=false recency=false", "sin gate attends"])
@torch.no_grad()
def test_no_rows_give_no_logits(kind):
    """As the other models do."""
    model = model_of(kind, schema=BEHAVIOUR_SCHEMA) if kind in MODEL_OPTIONS else sequence_model_of(kind)
    assert model.eval()({name: column[:0] for name, column in batch_of().items()}).shape == (0, 1)


@torch.no_grad()
def test_a_candidate_encoded_by_no_layer_is_refused_or_still_sees_the_history():
    """`sin.candidate=encoded` with `sin.num_layers=0` must not become a model that has no history, in silence."""
    name, overrides = "sin", (*SEQUENCE_SMALL, "sin.candidate=encoded", "sin.num_layers=0")
    try:
        torch.manual_seed(0)
        model = randomise(create_model(name, BEHAVIOUR_SCHEMA, config_of(*overrides))).eval()
    except ConfigError:
        return
    batch = batch_of()
    other = batch | {"history": torch.randint(1, 25, (B, L)).int()}
    assert not torch.equal(model(other), model(batch))


def naive_encoder(encoder, norm_first, tokens):
    """torch's own layers over one sequence without padding."""
    x = tokens.unsqueeze(0)
    for layer in torchs(encoder, norm_first):
        x = layer(x)
    return x[0]


def tokens_of(model, batch, row):
    """The vectors of one row's events, oldest first, without padding, from the item's own table."""
    ids = batch["history"][row]
    return model.embedding.field_weight("item")[ids[ids > 0].long()]


def placed(tokens, positions):
    """With the vectors of their ages, where the candidate's is 0 and the latest event's is 1."""
    return torch.stack(
        [token + positions[len(tokens) - place] for place, token in enumerate(tokens)] or [tokens.sum(0)]
    )


def naive_attention(attention, candidate, encoded):
    """Target attention over one history without padding; zeros for none."""
    heads, width = attention.num_heads, len(candidate)
    size, out = width // heads, torch.zeros(width)
    for head in range(heads if len(encoded) else 0):
        part, scores = slice(head * size, (head + 1) * size), []
        for place, token in enumerate(encoded):
            score = attention.recency.bias[head, len(encoded) - 1 - place]
            if attention.query is not None:
                query, key = attention.query.weight @ candidate, attention.key.weight @ token
                score = score + query[part] @ key[part] / math.sqrt(size)
            scores.append(score)
        out[part] = torch.stack(scores).softmax(0) @ (encoded @ attention.value.weight.T)[:, part]
    return out


def naive_pooled(model, batch, row, candidate):
    """What one candidate finds in one history on SIN's Transformer side."""
    side, sin = model.behaviours["history"], model.config.sin
    tokens, positions = tokens_of(model, batch, row), side.positions.weight
    narrow = side.lower is not None
    assert narrow == (sin.encoder_dim not in (None, E) and sin.num_layers > 0)

    def encoded(x):
        if not len(x):
            return x
        return (
            x + naive_encoder(side.encoder, sin.norm_first, x @ side.lower.weight.T) @ side.lift.weight.T
            if (narrow)
            else naive_encoder(side.encoder, sin.norm_first, x)
        )

    seen = placed(tokens, positions) if len(tokens) else tokens
    if sin.candidate == "encoded":
        return encoded(torch.cat([seen, (candidate + positions[0]).unsqueeze(0)]))[-1]
    return naive_attention(side.attention, candidate, encoded(seen))


def naive_sin(model, batch):
    """The formula of the specification, a row at a time."""
    first, fields, flat = model.embedding(batch)
    sin, logits = model.config.sin, []
    candidates = model.embedding.field_weight("item")[batch["item"].long()]
    for row in range(len(flat)):
        sides = {}
        if sin.fusion != "transformer":
            sides["cin"] = model.cin_output(model.cin(fields[row : row + 1]))[0]
        if sin.fusion != "cin":
            pooled = naive_pooled(model, batch, row, candidates[row])
            found = torch.cat([pooled, pooled * (model.behaviours["history"].match.weight @ candidates[row])])
            sides["transformer"] = model.transformer_output.weight @ found + model.transformer_output.bias
        if sin.fusion == "gate":
            both = torch.cat([sides["cin"], sides["transformer"]])
            gate = torch.sigmoid(model.fusion.gate.weight @ both + model.fusion.gate.bias)
            fused = gate * sides["cin"] + (1 - gate) * sides["transformer"]
        else:
            fused = sum(sides.values())
        logit = first[row] + model.fused_output.weight @ fused + model.fused_output.bias
        if sin.use_dnn:
            logit = logit + model.dnn_output(model.dnn(torch.cat([flat[row], fused]).unsqueeze(0)))[0]
        logits.append(logit)
    return torch.stack(logits)


def naive_pairs(model, fields, seen):
    """The double sum over pairs of fields and of what was found in the history, where that is asked for."""
    if model.fm is None:
        return 0.0
    vectors = [*fields, model.fm.projections[0].weight @ seen]
    return sum(vectors[i] @ vectors[j] for i in range(len(vectors)) for j in range(i))


def naive_bst(model, batch):
    first, fields, flat = model.embedding(batch)
    candidates = model.embedding.field_weight("item")[batch["item"].long()]
    part, config, logits = model.encoders["history"], model.config.bst, []
    for row in range(len(flat)):
        tokens, positions = tokens_of(model, batch, row), part.positions.weight
        behind = (candidates[row] + positions[0]).unsqueeze(0)
        sequence = torch.cat([placed(tokens, positions), behind]) if len(tokens) else behind
        encoded = naive_encoder(part.encoder, config.norm_first, sequence)
        if config.pooling == "target":
            seen = encoded[-1]
        elif config.pooling == "mean":
            seen = encoded.mean(dim=0)
        else:  # all places, the candidate first and then by age
            seen = nn.functional.pad(encoded.flip(0), (0, 0, 0, L + 1 - len(encoded))).flatten()
        deep = model.dnn_output(model.dnn(torch.cat([flat[row], seen]).unsqueeze(0)))[0]
        logits.append(first[row] + deep + naive_pairs(model, fields[row], seen))
    return torch.stack(logits)


def naive_din(model, batch):
    first, fields, flat = model.embedding(batch)
    candidates = model.embedding.field_weight("item")[batch["item"].long()]
    part, config, logits = model.attention["history"], model.config.din, []
    for row in range(len(flat)):
        tokens = tokens_of(model, batch, row)
        seen = torch.zeros(E)
        if len(tokens):
            weights = naive_weights(part.unit, candidates[row].view(1, 1, E), tokens.unsqueeze(0))[0, 0]
            if config.recency:
                weights = weights + part.recency.bias[0, : len(tokens)].flip(0)
            seen = (weights.softmax(0) if config.normalize else weights) @ tokens
        deep = model.dnn_output(model.dnn(torch.cat([flat[row], seen]).unsqueeze(0)))[0]
        logits.append(first[row] + deep + naive_pairs(model, fields[row], seen))
    return torch.stack(logits)


NAIVE = {"sin": naive_sin, "bst": naive_bst, "din": naive_din}


@everywhere
@torch.no_grad()
def test_a_model_is_its_formula_row_by_row(kind):
    model, batch = sequence_model_of(kind).eval(), batch_of()
    close(model(batch), NAIVE[SEQUENCE_OPTIONS[kind][0]](model, batch), 1e-5)


@torch.no_grad()
def test_a_sin_by_hand():
    """One event, one field, width 1 everywhere, no Transformer layer and no tower: numbers that a pencil gives."""
    schema = schema_of(sparse("item", 3, 1), behaviour(vocabulary_size=3, width=1, max_length=2))
    config = config_of("feature.fm_embed_dim=1", "cin.layer_sizes=[1]", "cin.activation=linear", "sin.fusion_dim=1",
                       "sin.num_heads=1", "sin.num_layers=0", "sin.use_dnn=false")  # fmt: skip
    model = create_model("sin", schema, config).eval()
    side = model.behaviours["history"]
    for weight, value in {
        model.embedding.field_weight("item"): [[0.0], [2.0], [-3.0]],
        model.embedding.field_weight("item", first_order=True): [[0.0], [0.5], [0.25]],
        model.embedding.projection_of("item").weight: [[1.5]],
        model.cin.compressions[0].weight.view(1, 1): [[2.0]],
        model.cin.compressions[0].bias: [1.0],
        model.cin_output.weight: [[0.1]],
        model.cin_output.bias: [0.2],
        side.positions.weight: [[9.0], [0.5], [7.0]],
        side.attention.query.weight: [[1.0]],
        side.attention.key.weight: [[1.0]],
        side.attention.value.weight: [[2.0]],
        side.match.weight: [[0.5]],
        model.transformer_output.weight: [[0.25, -0.5]],
        model.transformer_output.bias: [1.0],
        model.fusion.gate.weight: [[0.2, -0.1]],
        model.fusion.gate.bias: [0.3],
        model.fused_output.weight: [[3.0]],
        model.fused_output.bias: [-1.0],
    }.items():
        weight.copy_(torch.tensor(value))
    logit = model({"item": torch.tensor([1]), "history": torch.tensor([[0, 2]])})
    cin = 0.1 * (2.0 * 3.0 * 3.0 + 1.0) + 0.2  # the field is 1.5 · 2 = 3
    pooled = 2.0 * (-3.0 + 0.5)  # the one event, whose age is 1 behind the candidate's 0
    transformer = 0.25 * pooled - 0.5 * pooled * (0.5 * 2.0) + 1.0
    gate = 1 / (1 + math.exp(-(0.2 * cin - 0.1 * transformer + 0.3)))
    close(logit, torch.tensor([[0.5 + 3.0 * (gate * cin + (1 - gate) * transformer) - 1.0]]))


class TestSIN:
    @pytest.mark.parametrize("candidate", ["attends", "encoded", "product"])
    @pytest.mark.parametrize(("bias", "fusion"), [(1e4, "cin"), (-1e4, "transformer")])
    @pytest.mark.parametrize("training", [True, False])
    def test_a_forced_gate_is_exactly_the_ablation(self, candidate, bias, fusion, training):
        gated = sequence_model_of(f"sin gate {candidate}").train(training)
        with torch.no_grad():
            gated.fusion.gate.bias.fill_(bias)
        side = sequence_model_of(f"sin {fusion} {candidate}", seed=1).train(training)
        side.load_state_dict({name: gated.state_dict()[name] for name in side.state_dict()})
        batch, logits = batch_of(), []
        for model in (gated, side):
            logits.append(_undropped(model)(batch))
        assert torch.equal(*logits)

    @pytest.mark.parametrize("candidate", ["attends", "encoded", "product"])
    @torch.no_grad()
    def test_the_sum_is_twice_the_gate_at_one_half(self, candidate):
        gated, summed = (sequence_model_of(f"sin {fusion} {candidate}", "sin.use_dnn=false").eval()
                         for fusion in ("gate", "sum"))  # fmt: skip
        summed.load_state_dict({name: gated.state_dict()[name] for name in summed.state_dict()})
        gated.fusion.gate.weight.zero_()
        gated.fusion.gate.bias.zero_()
        batch = batch_of()
        first = gated.embedding(batch)[0] + gated.fused_output.bias
        close(summed(batch) - first, 2 * (gated(batch) - first), 1e-5)

    @pytest.mark.parametrize("candidate", ["attends", "encoded", "product"])
    def test_gradients_reach_both_sides_the_gate_and_the_tables(self, candidate):
        model = sequence_model_of(f"sin gate {candidate}")
        model.train()(batch_of()).square().sum().backward()
        for prefix in ("cin.", "cin_output", "behaviours.history.encoder", "behaviours.history.match",
                       "behaviours.history.positions", "transformer_output", "fusion.gate", "fused_output",
                       "embedding.tables.4.weight", "dnn.", "dnn_output"):  # fmt: skip
            found = [weight.grad for name, weight in model.named_parameters() if name.startswith(prefix)]
            assert found, prefix
            assert all(grad is not None and grad.isfinite().all() for grad in found), prefix
            assert any(grad.abs().max() > 1e-6 for grad in found), prefix

    def test_a_gate_that_starts_leaves_both_sides_about_a_half(self):
        torch.manual_seed(0)
        model = create_model("sin", BEHAVIOUR_SCHEMA, config_of(*SEQUENCE_SMALL, "sin.fusion_dim=32"))
        seen = []
        model.monitors()["gate"].register_forward_hook(lambda *args: seen.append(args[2]))
        model.eval()(batch_of(rows=200))
        assert seen[0].shape == (200, 32)
        assert seen[0].mean().item() == pytest.approx(0.5, abs=0.05)

    def test_what_an_ablation_leaves_out_is_not_built(self):
        names = {
            fusion: {name.split(".")[0] for name, _ in sequence_model_of(f"sin {fusion} attends").named_parameters()}
            for fusion in ("gate", "sum", "cin", "transformer")
        }
        assert names["gate"] - names["sum"] == {"fusion"}
        assert names["sum"] - names["cin"] == {"behaviours", "transformer_output"}
        assert names["sum"] - names["transformer"] == {"cin", "cin_output"}
        assert not sequence_model_of("sin sum attends").monitors()

    @pytest.mark.parametrize("kind", ["sin of products", "sin of products 6 wide"])
    @pytest.mark.parametrize("first_order", ["true", "false"])
    @torch.no_grad()
    def test_a_catalogues_logits_are_the_pairs_up_to_one_constant_a_row(self, kind, first_order):
        model, batch = sequence_model_of(kind, f"fm.use_first_order={first_order}").eval(), batch_of()
        items = {name: torch.as_tensor(column) for name, column in columns(schema_of(
            *(BEHAVIOUR_SCHEMA.fields[name] for name in ("tags", "price", "item"))), 17, seed=4).items()}  # fmt: skip
        items["item"][:2] = torch.tensor([0, 7])
        logits = model.catalogue_logits(batch, items)
        assert logits.shape == (B, 17)
        whole = {name: column.repeat_interleave(17, dim=0) for name, column in batch.items() if name != "history"}
        whole |= {name: column.repeat(B, *[1] * (column.dim() - 1)) for name, column in items.items()}
        pairs = model(whole | {"history": batch["history"]}).view(B, 17)
        constants = pairs - logits
        close(constants, constants[:, :1].expand_as(constants), 1e-5)
        assert logits.std(dim=1).max() > 0.05

    @torch.no_grad()
    def test_a_catalogues_logits_with_two_behaviour_sequences(self):
        own = dataclasses.replace(behaviour("seen", vocabulary_size=9, max_length=4), shares_embedding_with=None)
        schema = DatasetSchema({**BEHAVIOUR_SCHEMA.fields, "seen": own}, "click", item_field="item")
        model, batch = sequence_model_of("sin of products", schema=schema).eval(), batch_of(schema)
        items = {"item": torch.arange(25)}
        whole = {name: column.repeat_interleave(25, dim=0) for name, column in batch.items()}
        pairs = model(whole | {"item": torch.arange(25).repeat(B)}).view(B, 25)
        constants = pairs - model.catalogue_logits(batch, items)
        close(constants, constants[:, :1].expand_as(constants), 1e-5)

    @pytest.mark.parametrize("kind", ["sin gate product", "sin transformer attends", "sin without tower"])
    def test_a_catalogue_is_refused_in_any_other_form(self, kind):
        with pytest.raises(
            ConfigError, match=r"full_softmax' needs .*sin.fusion=transformer, sin.candidate=product and"
        ):
            sequence_model_of(kind).catalogue_logits(batch_of(), {"item": torch.arange(25)})

    @pytest.mark.parametrize("kind", ["bst target 1", "din normalize=false recency=false"])
    def test_a_catalogue_is_refused_by_other_models_by_name(self, kind):
        model = sequence_model_of(kind)
        with pytest.raises(
            ConfigError, match=f"{type(model).__name__} is none; use training.loss=softmax, or model_na"
        ):
            model.catalogue_logits(batch_of(), {"item": torch.arange(25)})

    def test_heads_that_do_not_divide_the_width_are_refused(self):
        for options in (("sin.num_heads=3",), ("sin.encoder_dim=6", "sin.num_heads=4")):
            with pytest.raises(ConfigError, match=r"attention heads do not divide a width of"):
                sequence_model_of("sin gate attends", *options)
        with pytest.raises(ConfigError, match="3 attention heads do not divide a width of 4"):
            sequence_model_of("bst target 1", "bst.num_heads=3")


def _undropped(model):
    """Without dropout, whose draws two models would use up differently."""
    for part in model.modules():
        if isinstance(part, nn.Dropout):
            part.p = 0.0
    return model


class TestSharedTables:
    def embedding(self, schema=BEHAVIOUR_SCHEMA):
        torch.manual_seed(0)
        return randomise(FeatureEmbedding(schema, 4))

    def test_a_history_reads_the_items_rows(self):
        embedding, batch = self.embedding(), batch_of()
        tokens, mask = embedding.sequences(batch)["history"]
        assert tokens.shape == (B, L, E)
        assert mask.dtype == torch.bool
        assert torch.equal(mask, batch["history"] > 0)
        assert torch.equal(tokens, embedding.field_weight("item")[batch["history"].long()])
        assert not tokens[~mask].any()
        assert embedding.field_weight("history").data_ptr() == embedding.field_weight("item").data_ptr()

    def test_there_is_one_table_in_the_state_and_its_rows_count_once(self):
        shared, without = (
            self.embedding(schema)
            for schema in (
                BEHAVIOUR_SCHEMA,
                schema_of(*(field for field in BEHAVIOUR_SCHEMA.fields.values() if not field.is_behaviour)),
            )
        )
        assert {name: tensor.shape for name, tensor in shared.state_dict().items()} == {
            name: tensor.shape for name, tensor in without.state_dict().items()
        }
        assert shared.num_rows == without.num_rows == 40 + 15 + 25 + 12
        own = dataclasses.replace(behaviour(), shares_embedding_with=None)
        apart = self.embedding(dataclasses.replace(BEHAVIOUR_SCHEMA, fields=BEHAVIOUR_SCHEMA.fields | {"history": own}))
        assert apart.num_rows == shared.num_rows + 25
        with torch.no_grad():
            apart.field_weight("history").fill_(3.0)
        assert not (apart.field_weight("item") == 3.0).any()

    @pytest.mark.parametrize("sparse_gradients", [False, True])
    def test_a_gradient_through_the_history_reaches_the_items_rows_and_no_others(self, sparse_gradients):
        embedding, batch = self.embedding(), batch_of()
        embedding.sparse_gradients = sparse_gradients
        embedding.sequences(batch)["history"][0].sum().backward()
        grad = embedding.tables["4"].weight.grad.to_dense()
        rows = embedding.tables["4"]._first_rows["item"]
        counts = torch.bincount(batch["history"].flatten().long(), minlength=25).float()
        counts[0] = 0  # padding
        assert torch.equal(grad[rows : rows + 25], counts.unsqueeze(1).expand(25, 4))
        others = torch.ones(len(grad), dtype=torch.bool)
        others[rows : rows + 25] = False
        assert not grad[others].any()
        first_order = embedding.tables["4"].first_order.grad
        assert first_order is None or not first_order.to_dense().any(), "a history is not in the first order"

    @pytest.mark.parametrize("projection", ["always", "if_needed"])
    @torch.no_grad()
    def test_the_three_views_are_those_of_a_schema_without_it(self, projection):
        torch.manual_seed(0)
        with_history = randomise(FeatureEmbedding(BEHAVIOUR_SCHEMA, 4, projection))
        plain_schema = schema_of(*(field for field in BEHAVIOUR_SCHEMA.fields.values() if not field.is_behaviour))
        without = FeatureEmbedding(plain_schema, 4, projection)
        without.load_state_dict(with_history.state_dict())
        batch = batch_of()
        for one, other in zip(with_history(batch), without(batch), strict=True):
            assert torch.equal(one, other)
        first, fields, flat = with_history(batch)
        assert (first.shape, fields.shape, flat.shape) == ((B, 1), (B, 5, 4), (B, 4 + 4 + 3 + 4 + 5))
        assert (BEHAVIOUR_SCHEMA.num_fields, BEHAVIOUR_SCHEMA.total_embedding_dim) == (5, 20)
        assert with_history.projection_of("history") is None
        assert without.sequences(batch) == {}

    @torch.no_grad()
    def test_a_history_of_another_width_than_any_field_has_a_table_of_its_own(self):
        """Which nobody reads but `sequences`."""
        own = dataclasses.replace(behaviour(width=7), shares_embedding_with=None)
        embedding = self.embedding(schema_of(sparse("a"), own))
        batch = {"a": torch.tensor([1, 2]), "history": torch.tensor([[0, 3], [4, 5]])}
        assert [view.shape[-1] for view in embedding(batch)] == [1, 4, 4]
        assert embedding.sequences(batch)["history"][0].shape == (2, 2, 7)

    def test_shared_sequences_stay_short_and_sequences_are_written_out(self):
        embedding = self.embedding()
        shared, written_out = repeated(batch_of(), 3)
        tokens, mask = embedding.shared_sequences(shared)["history"]
        assert (tokens.shape, mask.shape) == ((B, L, E), (B, L))
        for one, other in zip(
            embedding.sequences(shared)["history"], embedding.sequences(written_out)["history"], strict=True
        ):
            assert torch.equal(one, other)

    def test_an_id_outside_the_vocabulary_is_refused_in_scoring(self):
        model, batch = sequence_model_of("sin gate attends").eval(), batch_of()
        batch["history"][2, 3] = 25
        with pytest.raises(SchemaError, match="field 'history' holds id 25 in row 2 of a batch; expected 0 to 24"):
            model(batch)

    @pytest.mark.parametrize("optimizer", ["rowwise_adagrad", "same"])
    @pytest.mark.parametrize("kind", ["din normalize=false recency=false", "sin gate attends"])
    def test_a_step_on_sparse_gradients_is_the_step_on_dense_ones(self, optimizer, kind):
        """An item that is both a candidate and an event has one row, and both its gradients."""
        weights = []
        for sparse_gradients in (False, True):
            overrides = f"training.embedding_optimizer={optimizer}", "feature.embedding_l2_reg=0"
            model = sequence_model_of(kind, *overrides).eval()
            task = ClickTask(model, clicks(BEHAVIOUR_SCHEMA, 64))
            step = build_optimizer("adam", 0.05, task.parameter_groups(), CPU)
            model.embedding.sparse_gradients = sparse_gradients
            for seed in range(3):
                step.zero_grad()
                model(batch_of(seed=seed)).sin().sum().backward()
                step.step()
            weights.append({name: weight.detach() for name, weight in model.named_parameters()})
        for name, weight in weights[0].items():
            close(weight, weights[1][name], 1e-5)


class TestCandidates:
    def test_a_history_without_a_candidate_is_refused(self):
        own = dataclasses.replace(behaviour(), shares_embedding_with=None)
        schema = dataclasses.replace(BEHAVIOUR_SCHEMA, fields=BEHAVIOUR_SCHEMA.fields | {"history": own})
        for name in ("bst", "din", "sin"):
            with pytest.raises(ConfigError, match="behaviour sequence 'history' has no candidate; set its shares_emb"):
                create_model(name, schema, config_of(*SEQUENCE_SMALL))

    def test_a_candidate_of_another_width_is_refused(self):
        own = dataclasses.replace(behaviour(width=6), shares_embedding_with=None)
        schema = DatasetSchema({"item": sparse("item"), "history": own}, "click", item_field="item")
        for name in ("bst", "din", "sin"):
            with pytest.raises(ConfigError, match="'history' is 6 wide and its candidate 'item' 4; expected the same"):
                create_model(name, schema, config_of(*SEQUENCE_SMALL))

    def test_a_candidate_that_is_a_behaviour_sequence_itself_is_refused(self):
        own = dataclasses.replace(behaviour("other"), shares_embedding_with=None)
        schema = DatasetSchema(
            {"item": sparse("item"), "other": own, "history": behaviour(of="other")}, "click", item_field="item"
        )
        for name in ("bst", "din", "sin"):
            with pytest.raises(ConfigError):
                create_model(name, schema, config_of(*SEQUENCE_SMALL))

    @one_of_each
    @torch.no_grad()
    def test_the_candidate_is_found_wherever_it_stands(self, kind):
        """Fields in another order, of several widths: the same weights give the same logits."""
        names = list(BEHAVIOUR_SCHEMA.fields)
        model, batch = sequence_model_of(kind, "cin.layer_sizes=[4]").eval(), batch_of()
        for order in (names[::-1], names[2:] + names[:2]):
            schema = schema_of(*(BEHAVIOUR_SCHEMA.fields[name] for name in order))
            other = sequence_model_of(kind, "cin.layer_sizes=[4]", schema=schema)
            history = other.behaviour(batch, other.embedding(batch)[2])["history"]
            wanted = other.embedding.field_weight("item")[batch["item"].long()]
            assert torch.equal(history.candidates[:, 0], wanted)
            assert isinstance(other, SequenceModel)
        history = model.behaviour(batch, model.embedding(batch)[2])["history"]
        assert torch.equal(history.candidates[:, 0], model.embedding.field_weight("item")[batch["item"].long()])


class TestOtherModels:
    """DeepFM, xDeepFM and AttentionDeepFM ignore behaviour sequences."""

    PLAIN = schema_of(*(field for field in BEHAVIOUR_SCHEMA.fields.values() if not field.is_behaviour))

    @pytest.mark.parametrize("kind", MODEL_OPTIONS)
    @pytest.mark.parametrize("shared", [True, False])
    def test_logits_are_those_of_a_schema_without(self, kind, shared):
        history = dataclasses.replace(behaviour(), shares_embedding_with="item" if shared else None)
        schema = schema_of(*(history if field.is_behaviour else field for field in BEHAVIOUR_SCHEMA.fields.values()))
        plain, seeing = (model_of(kind, schema=each).eval() for each in (self.PLAIN, schema))
        with torch.no_grad():
            for name, weight in plain.named_parameters():
                if not name.startswith("embedding.tables"):
                    weight.copy_(dict(seeing.named_parameters())[name])
            for name in self.PLAIN.fields:
                for first_order in (False, True):
                    plain.embedding.field_weight(name, first_order).copy_(
                        seeing.embedding.field_weight(name, first_order)
                    )
        batch = batch_of()
        logits = seeing(batch)
        assert torch.equal(logits, plain(batch))
        assert logits.std() > 1e-3
        without = {name: column for name, column in batch.items() if name != "history"}
        assert torch.equal(seeing(without), logits)
        assert not seeing.reads_behaviour

    @pytest.mark.parametrize("kind", MODEL_OPTIONS)
    def test_they_train_beside_a_history(self, kind):
        model = model_of(kind, schema=BEHAVIOUR_SCHEMA)
        task = ClickTask(model, clicks(BEHAVIOUR_SCHEMA, 200), config_of("training.num_epochs=3", "training.lr=0.02"))
        state = fit(task, task.config.training, device=CPU)
        assert state.history[-1]["loss"] < state.history[0]["loss"]


def test_dense_fields_alone_beside_a_history_have_no_candidate():
    own = dataclasses.replace(behaviour(), shares_embedding_with=None)
    with pytest.raises(ConfigError, match="has no candidate"):
        create_model("din", schema_of(dense("price"), own), config_of())


def test_the_seed_decides_the_weights():
    for name in ("bst", "din", "sin"):
        logits = []
        for seed in (1, 1, 2):
            torch.manual_seed(seed)
            model = create_model(name, BEHAVIOUR_SCHEMA, config_of(*SEQUENCE_SMALL)).eval()
            torch.manual_seed(0)
            logits.append(model(batch_of()))
        assert torch.equal(logits[0], logits[1])
        assert not torch.equal(logits[0], logits[2])


def test_behaviour_columns_hold_whole_ids_of_any_width():
    model, batch = sequence_model_of("sin gate attends").eval(), batch_of()
    for dtype in (np.int32, np.int64):
        assert model(batch | {"history": torch.from_numpy(batch["history"].numpy().astype(dtype))}).isfinite().all()
