"""The layers over behaviour: the encoder against torch's, everything else against loops and numbers by hand."""

import math

import pytest
import torch
from torch import nn

from deepfm.engine.acceleration import checkpoint_activations
from deepfm.errors import ConfigError
from deepfm.models.layers import (
    ActivationUnit,
    EncoderLayer,
    GatedFusion,
    RecencyBias,
    TargetAttention,
    TransformerEncoder,
    target_attention,
)
from deepfm.models.layers.target_attention import STEEPEST
from deepfm.models.layers.transformer import Positions, ages

U, W, L, E = 4, 3, 6, 8


@pytest.fixture(autouse=True)
def _own_random_state():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def close(got, wanted, tolerance=1e-6):
    torch.testing.assert_close(got, wanted, rtol=tolerance, atol=tolerance)


def randomise(module, scale=0.4):
    """Weights of a size at which an error shows."""
    with torch.no_grad():
        for weight in module.parameters():
            weight.add_(torch.randn_like(weight) * scale)
    return module


def mask_of(*rows):
    return torch.tensor([[place == "x" for place in row] for row in rows])


# A full history, padding before, padding behind, and a single event between padding.
MASK = mask_of("xxxxxx", "..xxxx", "xxx...", "..x...")
EMPTY = mask_of("xxxxxx", "......", "xxx...", "......")
norms = pytest.mark.parametrize("norm_first", [False, True])
depths = pytest.mark.parametrize("num_layers", [1, 2])


def torchs(encoder, norm_first):
    """torch's own layers with the weights of ours."""
    layers = []
    for ours in encoder.layers:
        layer = nn.TransformerEncoderLayer(
            ours.linear1.weight.shape[1],
            ours.num_heads,
            len(ours.linear1.weight),
            dropout=0.0,
            batch_first=True,
            norm_first=norm_first,
        )
        state = {
            "self_attn.in_proj_weight": ours.query_key_value.weight,
            "self_attn.in_proj_bias": ours.query_key_value.bias,
            "self_attn.out_proj.weight": ours.output.weight,
            "self_attn.out_proj.bias": ours.output.bias,
        }
        for part in ("linear1", "linear2", "norm1", "norm2"):
            state |= {f"{part}.{name}": weight for name, weight in getattr(ours, part).named_parameters()}
        layer.load_state_dict(state)
        layers.append(layer)
    return layers


def encoder_of(num_layers=1, norm_first=False, heads=2, dropout=0.0):
    return randomise(TransformerEncoder(EncoderLayer(E, heads, 12, dropout, norm_first), num_layers))


class TestTransformerEncoder:
    @norms
    @depths
    @pytest.mark.parametrize("heads", [1, 2, 4])
    def test_is_torchs_own_layer(self, num_layers, norm_first, heads):
        encoder, x = encoder_of(num_layers, norm_first, heads), torch.randn(U, L, E)
        wanted = x
        for layer in torchs(encoder, norm_first):
            wanted = layer(wanted, src_key_padding_mask=~MASK)
        got = encoder(x, MASK)
        assert got.shape == (U, L, E)
        close(got[MASK], wanted[MASK])
        assert (got - x)[MASK].abs().max() > 0.1

    @norms
    def test_has_torchs_gradients(self, norm_first):
        encoder = encoder_of(2, norm_first)
        layers, gradients = torchs(encoder, norm_first), []
        for run in (lambda x: encoder(x, MASK), lambda x: layers[1](layers[0](x, None, ~MASK), None, ~MASK)):
            x = torch.randn(U, L, E, generator=torch.Generator().manual_seed(1), requires_grad=True)
            run(x)[MASK].sin().sum().backward()
            gradients.append(x.grad)
        close(gradients[0], gradients[1], 1e-5)
        close(encoder.layers[0].query_key_value.weight.grad, layers[0].self_attn.in_proj_weight.grad, 1e-4)
        close(encoder.layers[1].linear1.weight.grad, layers[1].linear1.weight.grad, 1e-4)

    @norms
    @depths
    def test_starts_as_torchs_layer_would(self, num_layers, norm_first):
        """Weights of attention Xavier-uniform, biases of attention zero, norms one."""
        for layer in TransformerEncoder(EncoderLayer(64, 4, 32, 0.1, norm_first), num_layers).layers:
            bound = math.sqrt(6 / (64 + 3 * 64))
            assert layer.query_key_value.weight.abs().max() <= bound
            assert layer.query_key_value.weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.05)
            assert not layer.query_key_value.bias.any()
            assert not layer.output.bias.any()

    @depths
    def test_starts_as_the_identity_where_it_normalises_first(self, num_layers):
        encoder, x = TransformerEncoder(EncoderLayer(E, 2, 12, norm_first=True), num_layers), torch.randn(U, L, E)
        candidates = torch.randn(U, W, E)
        assert torch.equal(encoder(x, MASK), x)
        assert torch.equal(encoder.last(x, MASK, candidates), candidates)
        encoder.last(x, MASK, candidates).square().sum().backward()
        assert encoder.layers[0].output.weight.grad.any(), "but it can learn to be another"

    def test_each_layer_has_weights_of_its_own(self):
        layer = EncoderLayer(E, 2, 12, 0.3, True)
        encoder = TransformerEncoder(layer, 3)
        assert encoder.layers[0] is layer
        assert len({id(weight) for weight in encoder.parameters()}) == 3 * len(list(layer.parameters()))
        assert not torch.equal(encoder.layers[1].query_key_value.weight, layer.query_key_value.weight)
        for other in encoder.layers[1:]:
            assert (other.norm_first, other.num_heads, other.dropout.p) == (True, 2, 0.3)

    @norms
    @depths
    def test_what_stands_at_padding_is_not_attended_to(self, num_layers, norm_first):
        encoder, x = encoder_of(num_layers, norm_first), torch.randn(U, L, E)
        other = torch.where(MASK.unsqueeze(2), x, 100 * torch.randn(U, L, E))
        close(encoder(other, MASK)[MASK], encoder(x, MASK)[MASK])

    def test_no_layer_changes_nothing(self):
        encoder, x = TransformerEncoder(EncoderLayer(E, 2, 12), 0), torch.randn(U, L, E)
        assert torch.equal(encoder(x, MASK), x)
        candidates = torch.randn(U, W, E)
        assert torch.equal(encoder.last(x, MASK, candidates), candidates)

    @norms
    @depths
    def test_empty_histories_are_finite_forwards_and_backwards(self, num_layers, norm_first):
        encoder = encoder_of(num_layers, norm_first)
        x, candidates = torch.randn(U, L, E, requires_grad=True), torch.randn(U, W, E, requires_grad=True)
        outputs = encoder(x, EMPTY), encoder.last(x, EMPTY, candidates)
        sum(output.square().sum() for output in outputs).backward()
        for tensor in (*outputs, x.grad, candidates.grad, *(weight.grad for weight in encoder.parameters())):
            assert tensor.isfinite().all()

    def test_heads_that_do_not_divide_the_width_are_refused(self):
        with pytest.raises(ConfigError, match="3 attention heads do not divide a width of 8"):
            EncoderLayer(8, 3, 12)

    def test_dropout_is_for_training_alone(self):
        encoder, x = encoder_of(2, dropout=0.5), torch.randn(U, L, E)
        assert not torch.equal(encoder.train()(x, MASK), encoder(x, MASK))
        assert torch.equal(encoder.eval()(x, MASK), encoder(x, MASK))

    @norms
    def test_recomputed_activations_give_the_same_gradients(self, norm_first):
        gradients, x, candidates = [], torch.randn(U, L, E), torch.randn(U, W, E)
        for recompute in (False, True):
            torch.manual_seed(1)
            encoder = encoder_of(2, norm_first, dropout=0.3).train()
            assert not recompute or checkpoint_activations(encoder) == 2
            (encoder(x, MASK)[MASK].sum() + encoder.last(x, MASK, candidates).sin().sum()).backward()
            gradients.append([weight.grad for weight in encoder.parameters()])
        for one, other in zip(*gradients, strict=True):
            close(one, other)


def written_out(encoder, history, mask, candidates):
    """`last` by W sequences of L + 1 tokens a history."""
    rows = []
    for u in range(len(history)):
        for w in range(candidates.shape[1]):
            tokens = torch.cat([history[u], candidates[u, w : w + 1]])  # (L + 1, E)
            seen = torch.cat([mask[u], torch.ones(1, dtype=torch.bool)])
            rows.append(encoder(tokens.unsqueeze(0), seen.unsqueeze(0))[0, -1])
    return torch.stack(rows).view(candidates.shape)


class TestLast:
    @norms
    @pytest.mark.parametrize("num_layers", [0, 1, 2, 3])
    @pytest.mark.parametrize("mask", [MASK, EMPTY], ids=["some", "empty"])
    @pytest.mark.parametrize("candidates", [1, W])
    def test_is_each_candidate_behind_the_history(self, num_layers, norm_first, mask, candidates):
        encoder = encoder_of(num_layers, norm_first)
        history, candidates = torch.randn(U, L, E), torch.randn(U, candidates, E)
        close(encoder.last(history, mask, candidates), written_out(encoder, history, mask, candidates))

    @norms
    @depths
    def test_is_torchs_last_token(self, num_layers, norm_first):
        encoder, history, candidates = encoder_of(num_layers, norm_first), torch.randn(U, L, E), torch.randn(U, W, E)
        got = encoder.last(history, MASK, candidates)
        for w in range(W):
            x, seen = torch.cat([history, candidates[:, w : w + 1]], dim=1), nn.functional.pad(MASK, (0, 1), value=True)
            for layer in torchs(encoder, norm_first):
                x = layer(x, src_key_padding_mask=~seen)
            close(got[:, w], x[:, -1])

    @norms
    @depths
    def test_has_the_gradients_of_the_sequences_written_out(self, num_layers, norm_first):
        gradients = []
        for run in (lambda encoder, *args: encoder.last(*args), written_out):
            torch.manual_seed(2)
            encoder = encoder_of(num_layers, norm_first)
            history, candidates = torch.randn(U, L, E, requires_grad=True), torch.randn(U, W, E, requires_grad=True)
            run(encoder, history, MASK, candidates).sin().sum().backward()
            gradients.append([history.grad, candidates.grad, *(weight.grad for weight in encoder.parameters())])
        for one, other in zip(*gradients, strict=True):
            close(one, other, 1e-5)

    @norms
    @depths
    def test_candidates_do_not_see_each_other(self, num_layers, norm_first):
        encoder, history, candidates = encoder_of(num_layers, norm_first), torch.randn(U, L, E), torch.randn(U, W, E)
        whole = encoder.last(history, MASK, candidates)
        close(encoder.last(history, MASK, candidates[:, 1:2]), whole[:, 1:2])
        close(encoder.last(history, MASK, candidates.flip(1)), whole.flip(1))

    @norms
    @depths
    def test_the_history_matters(self, num_layers, norm_first):
        encoder, history, candidates = encoder_of(num_layers, norm_first), torch.randn(U, L, E), torch.randn(U, W, E)
        moved = encoder.last(torch.randn(U, L, E), MASK, candidates) - encoder.last(history, MASK, candidates)
        assert (moved.abs().amax(dim=2) > 1e-3).all()


class TestAges:
    def test_count_the_tokens_that_follow(self):
        mask = mask_of("xxxx", "..xx", "xx..", ".x.x", "x..x", "....")
        age = ages(mask)
        assert age.dtype == torch.int64
        assert [row[seen].tolist() for row, seen in zip(age, mask, strict=True)] == [
            [3, 2, 1, 0], [1, 0], [1, 0], [1, 0], [1, 0], [],
        ]  # fmt: skip
        assert (age >= 0).all()

    def test_padding_at_either_end_changes_no_age(self):
        plain = ages(MASK)
        for pad in ((3, 0), (0, 3), (2, 5)):
            longer, seen = ages(nn.functional.pad(MASK, pad)), nn.functional.pad(MASK, pad)
            assert torch.equal(longer[seen], plain[MASK])


class TestPositions:
    def test_an_age_is_a_row_and_older_ones_have_the_oldests(self):
        positions = Positions(3, E)
        got = positions(torch.tensor([[0, 2, 3, 9]]))
        assert torch.equal(got[0], positions.weight[[0, 2, 2, 2]])

    def test_starts_small(self):
        assert Positions(200, 64).weight.std().item() == pytest.approx(0.02, rel=0.05)


class TestRecencyBias:
    def test_starts_as_lines_each_half_as_steep_as_the_one_before(self):
        bias = RecencyBias(3, 5)(mask_of("xxxxx"))
        assert bias.shape == (1, 3, 5)
        wanted = [[-STEEPEST / 2**head * age for age in (4, 3, 2, 1, 0)] for head in range(3)]
        close(bias[0], torch.tensor(wanted))

    def test_is_read_by_age_wherever_padding_stands(self):
        recency = randomise(RecencyBias(2, 4))
        for text in ("..xxx", "xxx..", ".xxx.", "x.x.x"):
            mask = mask_of(text)
            close(recency(mask)[:, :, mask[0]][0], recency.bias[:, [2, 1, 0]])

    def test_events_older_than_the_table_have_the_oldests(self):
        recency = randomise(RecencyBias(2, 3))
        close(recency(mask_of("xxxxx"))[0], recency.bias[:, [2, 2, 2, 1, 0]])

    def test_learns_the_ages_that_occur(self):
        recency = RecencyBias(1, 4)
        mask = mask_of("..xx", "...x")
        recency(mask)[mask.unsqueeze(1)].sum().backward()
        assert recency.bias.grad.tolist() == [[2.0, 1.0, 0.0, 0.0]]


def slow_target_attention(module, candidates, history, mask):
    """A loop over users, candidates, heads and events."""
    heads = module.num_heads
    out = torch.zeros(candidates.shape)
    value = history @ module.value.weight.T
    for u, w, h in ((u, w, h) for u in range(U) for w in range(candidates.shape[1]) for h in range(heads)):
        part = slice(h * E // heads, (h + 1) * E // heads)
        places = [place for place in range(history.shape[1]) if mask[u, place]]
        scores = []
        for number, place in enumerate(places):
            age = len(places) - 1 - number
            score = module.recency.bias[h, min(age, module.recency.bias.shape[1] - 1)]
            if module.query is not None:
                query = (module.query.weight @ candidates[u, w])[part]
                key = (module.key.weight @ history[u, place])[part]
                score = score + query @ key / math.sqrt(E // heads)
            scores.append(score)
        if scores:
            out[u, w, part] = torch.stack(scores).softmax(0) @ value[u, places][:, part]
    return out


class TestTargetAttention:
    def test_a_case_by_hand(self):
        """One head of width 2, identity weights, padding behind: scores c·h / √2 + bias of age."""
        module = TargetAttention(2, 1, 3)
        with torch.no_grad():
            for part in (module.query, module.key, module.value):
                part.weight.copy_(torch.eye(2))
            module.recency.bias.copy_(torch.tensor([[0.5, -1.0, 7.0]]))
        history = torch.tensor([[[1.0, 0.0], [2.0, 3.0], [50.0, 60.0]]])
        got = module(torch.tensor([[[1.0, 1.0], [0.0, -1.0]]]), history, mask_of("xx."))
        wanted = []
        for older, latest in (((1 / math.sqrt(2)) - 1, 5 / math.sqrt(2) + 0.5), (-1.0, -3 / math.sqrt(2) + 0.5)):
            share = math.exp(older) / (math.exp(older) + math.exp(latest))
            wanted.append([share * 1 + (1 - share) * 2, (1 - share) * 3])
        close(got[0], torch.tensor(wanted))

    @pytest.mark.parametrize("heads", [1, 2, 4])
    @pytest.mark.parametrize("by_content", [True, False])
    @pytest.mark.parametrize("mask", [MASK, EMPTY], ids=["some", "empty"])
    @torch.no_grad()
    def test_is_a_loop(self, heads, by_content, mask):
        module = randomise(TargetAttention(E, heads, 4, by_content=by_content))
        candidates, history = torch.randn(U, W, E), torch.randn(U, L, E)
        got = module(candidates, history, mask)
        assert got.shape == (U, W, E)
        close(got, slow_target_attention(module, candidates, history, mask), 1e-5)

    def test_without_content_all_candidates_find_the_same(self):
        module = randomise(TargetAttention(E, 2, L, by_content=False))
        assert module.query is None
        assert module.key is None
        got = module(torch.randn(U, W, E), torch.randn(U, L, E), MASK)
        assert torch.equal(got, got[:, :1].expand_as(got))
        assert got.abs().max() > 0.1

    def test_the_shares_of_a_history_add_up_to_one(self):
        module = randomise(TargetAttention(E, 2, L))
        token = torch.randn(1, 1, E)
        got = module(torch.randn(U, W, E), token.expand(U, L, E), MASK)
        close(got, (token @ module.value.weight.T).expand(U, W, E), 1e-5)

    def test_no_history_gives_exactly_zero_and_finite_gradients(self):
        module = randomise(TargetAttention(E, 2, L))
        candidates, history = torch.randn(U, W, E, requires_grad=True), torch.randn(U, L, E, requires_grad=True)
        got = module(candidates, history, EMPTY)
        assert not got[[1, 3]].any()
        assert got[[0, 2]].all()
        got.square().sum().backward()
        for tensor in (candidates.grad, history.grad, *(weight.grad for weight in module.parameters())):
            assert tensor.isfinite().all()
        assert not history.grad[[1, 3]].any()

    @pytest.mark.parametrize("pad", [(3, 0), (0, 3), (1, 2)])
    def test_padding_at_either_end_changes_nothing(self, pad):
        module = randomise(TargetAttention(E, 2, L))
        candidates, history = torch.randn(U, W, E), torch.randn(U, L, E)
        longer = nn.functional.pad(history, (0, 0, *pad), value=5.0)
        close(module(candidates, longer, nn.functional.pad(MASK, pad)), module(candidates, history, MASK))

    def test_heads_that_do_not_divide_the_width_are_refused(self):
        with pytest.raises(ConfigError, match="3 attention heads do not divide a width of 8"):
            TargetAttention(8, 3, 5)


def naive_weights(unit, candidates, history):
    """The network on [candidate, token, candidate - token, candidate ∘ token], pair by pair."""
    weights = torch.zeros(len(history), candidates.shape[1], history.shape[1])
    for u in range(len(history)):
        for w in range(candidates.shape[1]):
            for place in range(history.shape[1]):
                c, h = candidates[u, w], history[u, place]
                x = torch.cat([c, h, c - h, c * h])
                for layer in unit.hidden:
                    x = torch.relu(layer(x))
                weights[u, w, place] = unit.weight(x).squeeze()
    return weights


class TestActivationUnit:
    @pytest.mark.parametrize("hidden", [(5,), (6, 4), (7, 5, 3)])
    @torch.no_grad()
    def test_is_the_network_on_the_pairs(self, hidden):
        unit, candidates, history = randomise(ActivationUnit(E, hidden)), torch.randn(U, W, E), torch.randn(U, L, E)
        wanted = naive_weights(unit, candidates, history)
        assert unit.hidden[0].weight.shape == (hidden[0], 4 * E)
        close(unit.weights(candidates, history), wanted, 1e-5)
        close(unit(candidates, history, MASK), (wanted * MASK.unsqueeze(1)) @ history, 1e-5)

    @torch.no_grad()
    def test_a_case_by_hand(self):
        """Width 1, one hidden unit that adds c + 2h + 3(c - h) + 4ch - 1, and a weight of 2x + 0.5."""
        unit = ActivationUnit(1, [1])
        unit.hidden[0].weight.copy_(torch.tensor([[1.0, 2.0, 3.0, 4.0]]))
        unit.hidden[0].bias.fill_(-1.0)
        unit.weight.weight.fill_(2.0)
        unit.weight.bias.fill_(0.5)
        history = torch.tensor([[[2.0], [-1.0], [9.0]]])
        got = unit(torch.tensor([[[3.0]]]), history, mask_of("xx."))
        first = 2 * (3 + 4 + 3 * 1 + 24 - 1) + 0.5  # 66.5
        second = 2 * max(0, 3 - 2 + 3 * 4 - 12 - 1) + 0.5  # 0.5
        close(got, torch.tensor([[[first * 2 - second]]]))

    @pytest.mark.parametrize("with_bias", [False, True])
    @torch.no_grad()
    def test_normalised_weights_are_a_softmax_over_the_events(self, with_bias):
        unit = randomise(ActivationUnit(E, (6, 4), normalize=True))
        candidates, history = torch.randn(U, W, E), torch.randn(U, L, E)
        bias = torch.randn(U, L) if with_bias else None
        scores = naive_weights(unit, candidates, history) + (bias.unsqueeze(1) if with_bias else 0)
        wanted = torch.stack(
            [torch.stack([scores[u, w, MASK[u]].softmax(0) @ history[u, MASK[u]] for w in range(W)]) for u in range(U)]
        )
        close(unit(candidates, history, MASK, bias), wanted, 1e-5)

    @torch.no_grad()
    def test_a_bias_is_added_to_plain_weights(self):
        unit, bias = randomise(ActivationUnit(E, (6, 4))), torch.randn(U, L)
        candidates, history = torch.randn(U, W, E), torch.randn(U, L, E)
        wanted = ((naive_weights(unit, candidates, history) + bias.unsqueeze(1)) * MASK.unsqueeze(1)) @ history
        close(unit(candidates, history, MASK, bias), wanted, 1e-5)

    @pytest.mark.parametrize("normalize", [False, True])
    def test_no_history_gives_exactly_zero_and_finite_gradients(self, normalize):
        unit = randomise(ActivationUnit(E, (6, 4), normalize))
        candidates, history = torch.randn(U, W, E, requires_grad=True), torch.randn(U, L, E, requires_grad=True)
        got = unit(candidates, history, EMPTY)
        assert not got[[1, 3]].any()
        got.square().sum().backward()
        for tensor in (candidates.grad, history.grad, *(weight.grad for weight in unit.parameters())):
            assert tensor.isfinite().all()

    def test_its_gradients_are_those_of_the_network(self):
        gradients = []
        for naive in (False, True):
            torch.manual_seed(3)
            unit = randomise(ActivationUnit(E, (6, 4)))
            candidates, history = torch.randn(U, W, E, requires_grad=True), torch.randn(U, L, E, requires_grad=True)
            weights = (naive_weights if naive else ActivationUnit.weights)(unit, candidates, history)
            weights.sin().sum().backward()
            gradients.append([candidates.grad, history.grad, *(weight.grad for weight in unit.parameters())])
        for one, other in zip(*gradients, strict=True):
            close(one, other, 1e-4)


class TestGatedFusion:
    def test_a_case_by_hand(self):
        fusion = GatedFusion(2)
        with torch.no_grad():
            fusion.gate.weight.copy_(torch.tensor([[1.0, 0.0, 0.5, 0.0], [0.0, 2.0, 0.0, -1.0]]))
            fusion.gate.bias.copy_(torch.tensor([0.0, 0.25]))
        one, other = torch.tensor([[2.0, -1.0]]), torch.tensor([[-2.0, 3.0]])
        fused, gate = fusion(one, other, return_gate=True)
        gates = [1 / (1 + math.exp(-x)) for x in (1 * 2 + 0.5 * -2, 2 * -1 - 1 * 3 + 0.25)]  # σ(1), σ(-4.75)
        close(gate, torch.tensor([gates]))
        close(fused, torch.tensor([[gates[0] * 2 - (1 - gates[0]) * 2, -gates[1] + (1 - gates[1]) * 3]]))
        assert torch.equal(fusion(one, other), fused)

    def test_a_gate_lies_between_zero_and_one_and_so_does_the_output(self):
        fusion = randomise(GatedFusion(16), 3.0)
        one, other = 20 * torch.randn(200, 16), 20 * torch.randn(200, 16)
        fused, gate = fusion(one, other, return_gate=True)
        assert gate.shape == fused.shape == (200, 16)
        assert ((gate >= 0) & (gate <= 1)).all()
        assert gate.min() < 0.01 < 0.99 < gate.max()
        lower, upper = torch.minimum(one, other), torch.maximum(one, other)
        assert ((fused >= lower - 1e-4) & (fused <= upper + 1e-4)).all()

    def test_starts_near_one_half(self):
        fusion = GatedFusion(32)
        assert not fusion.gate.bias.any()
        _, gate = fusion(torch.zeros(1, 32), torch.zeros(1, 32), return_gate=True)
        assert torch.equal(gate, torch.full((1, 32), 0.5))
        _, gate = fusion(torch.randn(500, 32), torch.randn(500, 32), return_gate=True)
        assert gate.mean().item() == pytest.approx(0.5, abs=0.05)
        assert (gate - 0.5).abs().mean() < 0.2

    @pytest.mark.parametrize(("bias", "side"), [(1e4, 0), (-1e4, 1)])
    def test_a_forced_gate_gives_exactly_one_side(self, bias, side):
        fusion, sides = randomise(GatedFusion(8)), (torch.randn(30, 8), torch.randn(30, 8))
        with torch.no_grad():
            fusion.gate.bias.fill_(bias)
        fused, gate = fusion(*sides, return_gate=True)
        assert torch.equal(gate, torch.full_like(gate, 1.0 - side))
        assert torch.equal(fused, sides[side])

    def test_gradients_reach_both_sides_and_the_gate(self):
        fusion = randomise(GatedFusion(8))
        sides = [torch.randn(5, 8, requires_grad=True) for _ in range(2)]
        fusion(*sides).square().sum().backward()
        for tensor in (*sides, fusion.gate.weight, fusion.gate.bias):
            assert tensor.grad.isfinite().all()
            assert tensor.grad.abs().max() > 1e-3

    def test_gradients_are_those_of_finite_differences(self):
        fusion = randomise(GatedFusion(3)).double()
        inputs = [torch.randn(2, 3, dtype=torch.float64, requires_grad=True) for _ in range(2)]
        assert torch.autograd.gradcheck(fusion, inputs)


@pytest.mark.parametrize("values", [1, 40, 90, 200])
@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("biased", [False, True])
def test_an_activation_unit_in_chunks_is_the_whole(values, normalize, biased, monkeypatch):
    """Histories of every length, none among them, padded at either end, with gradients."""
    unit = randomise(ActivationUnit(E, [5, 3], normalize))
    lengths = torch.tensor([3, 0, L, 1, 2, L, 0, 1])
    ages = torch.arange(L).expand(len(lengths), L)
    mask = torch.where(torch.arange(len(lengths)).unsqueeze(1) % 2 == 0, ages, L - 1 - ages) < lengths.unsqueeze(1)
    given = torch.randn(len(lengths), W, E), torch.randn(len(lengths), L, E), torch.randn(len(lengths), L)
    answers = []
    for size in (1 << 20, values):
        monkeypatch.setattr(target_attention, "CHUNK_VALUES", size)
        candidates, history, bias = (tensor.clone().requires_grad_() for tensor in given)
        unit.zero_grad()
        interest = unit(candidates, history, mask, bias if biased else None)
        interest.square().sum().backward()
        inputs = (candidates, history, bias) if biased else (candidates, history)
        answers.append([interest, *(tensor.grad for tensor in inputs), *(w.grad.clone() for w in unit.parameters())])
    for got, wanted in zip(*answers, strict=True):
        close(got, wanted, 1e-5)
    assert not answers[0][0][1].any()
    assert answers[0][0][0].all()


@pytest.mark.parametrize("values", [1, 200, 1 << 20])
def test_a_table_of_pairs_holds_the_weight_of_each_token_for_each_candidate(values, monkeypatch):
    unit, candidates, tokens = randomise(ActivationUnit(E, [5, 3])), torch.randn(9, E), torch.randn(7, E)
    wanted = unit.weights(candidates.unsqueeze(0), tokens.unsqueeze(0))[0]
    monkeypatch.setattr(target_attention, "CHUNK_VALUES", values)
    close(unit.table(candidates, tokens), wanted.t(), 1e-5)
