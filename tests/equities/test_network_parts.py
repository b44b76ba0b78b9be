"""Each module of the network alone."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from deepfm.equities.days.layout import DayLayout
from deepfm.equities.network.encoder import TemporalEncoder
from deepfm.equities.network.feature_attention import FeatureAttention
from deepfm.equities.network.frequency_normalization import FrequencyNormalization
from deepfm.equities.network.gates import GatedResidual, SequenceDropout
from deepfm.equities.network.graph_attention import GraphAttention, GraphLayer, softmax_by_target
from deepfm.equities.network.heads import HorizonHead
from deepfm.equities.network.rolling_normalization import RollingNormalization
from deepfm.equities.network.set_attention import SetAttention
from deepfm.equities.network.slice_normalization import SliceNormalization
from deepfm.equities.network.stock_attention import StockAttention
from deepfm.equities.network.variable_selection import VariableSelection
from deepfm.errors import ConfigError
from tests.equities.days import GROUPS, days_of


@pytest.fixture(autouse=True)
def _own_stream():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def walks(rows=5, length=20, features=3):
    return torch.randn(rows, length, features).cumsum(1)


NORMALIZATIONS = {
    "frequency": lambda: FrequencyNormalization(20, 2, 5, 8),
    "slice": lambda: SliceNormalization(20, 5, 8),
    "rolling": lambda: RollingNormalization(20, (5, 10, 20), 3),
}


@pytest.mark.parametrize("length", [20, 21])
def test_the_main_part_is_that_of_the_fast_fourier_transform(length):
    x = walks(length=length).numpy().astype(np.float64)
    spectrum = np.fft.rfft(x, axis=1)
    order = np.argsort(-np.abs(spectrum), axis=1)[:, :2]
    kept = np.zeros_like(spectrum)
    np.put_along_axis(kept, order, np.take_along_axis(spectrum, order, 1), 1)
    wanted = np.fft.irfft(kept, n=length, axis=1)
    residual = FrequencyNormalization(length, 2, 5, 8)(torch.tensor(x)).sequences
    assert np.allclose(residual.detach(), x - wanted, atol=1e-5)


def test_a_sine_and_a_level_are_taken_out_whole():
    time = torch.arange(20.0)
    x = (3.0 + torch.sin(2 * torch.pi * time / 5)).reshape(1, 20, 1)
    normalized = FrequencyNormalization(20, 2, 5, 8)(x)
    assert normalized.sequences.abs().max() < 1e-5


def test_slices_have_mean_0_and_deviation_1():
    slices = SliceNormalization(20, 5, 8)(walks()).sequences.unflatten(1, (4, 5))
    assert slices.mean(2).abs().max() < 1e-5
    assert torch.allclose(slices.std(2, correction=0), torch.ones(()), atol=1e-2)


def test_the_next_slice_is_first_guessed_to_be_as_the_last():
    x = walks()
    model = SliceNormalization(20, 5, 8)
    torch.nn.init.zeros_(model.forecaster.outer.weight)
    outlook = model(x).outlook
    assert torch.allclose(outlook[:, 0], x[:, -5:].mean(1), atol=1e-5)
    assert torch.allclose(outlook[:, 1], x[:, -5:].std(1, correction=0), atol=1e-3)


def test_rolling_windows_see_nothing_later_and_score_what_came_before():
    model = RollingNormalization(20, (5,), 3)
    model.blend.data[0] = -50.0  # the scores alone
    x = walks()
    changed = x.clone()
    changed[:, 12:] += 7.0
    before, after = model(x).sequences, model(changed).sequences
    assert torch.equal(before[:, :12], after[:, :12])
    window = x[:, 6:11]
    wanted = (x[:, 10] - window.mean(1)) / (window.var(1, correction=0) + 1e-4).sqrt()
    assert torch.allclose(before[:, 10], wanted, atol=1e-4)


@pytest.mark.parametrize("kind", NORMALIZATIONS)
def test_a_normalisation_looks_at_one_stock_and_one_feature_alone(kind):
    """Other stocks' and other features' values do not move it, nor does halving the batch."""
    x = walks()
    model = NORMALIZATIONS[kind]()
    whole = model(x)
    changed = x.clone()
    changed[1:] *= 3.0
    changed[0, :, 1:] += 1.0
    other, half = model(changed), model(x[:2])
    for name in ("sequences", "outlook"):
        assert torch.allclose(getattr(whole, name)[0, :, 0], getattr(other, name)[0, :, 0], atol=1e-5)
        assert torch.allclose(getattr(whole, name)[:2], getattr(half, name), atol=1e-5)


@pytest.mark.parametrize("kind", NORMALIZATIONS)
def test_a_constant_is_no_noise(kind):
    """What is constant over time stays so: rounding is not blown up to a signal, and a real change is seen."""
    model = NORMALIZATIONS[kind]()
    flat = model(torch.full((2, 20, 3), 0.37)).sequences
    assert flat.std(1).max() < 1e-3
    assert model(walks()).sequences.std(1).min() > 0.05


@pytest.mark.parametrize("kind", ["frequency", "slice"])
def test_the_forecast_learns_what_was_taken_out(kind):
    """On seasons that go on, the auxiliary loss falls by far, and the outlook is right about sessions never seen."""
    length, ahead = 20, 5
    phase, size = 2 * torch.pi * torch.rand(200, 1, 1), 0.5 + torch.rand(200, 1, 1)
    time = torch.arange(length + ahead).reshape(1, -1, 1)
    whole = size * torch.sin(2 * torch.pi * time / 10 + phase) + torch.randn(200, 1, 1)
    model = NORMALIZATIONS[kind]()
    parameters = list(model.parameters())
    mean, square = [torch.zeros_like(part) for part in parameters], [torch.zeros_like(part) for part in parameters]
    first = float(model(whole[:, :length]).auxiliary.detach())
    for step in range(1, 201):  # Adam, by hand
        gradients = torch.autograd.grad(model(whole[:, :length]).auxiliary, parameters)
        for part, gradient, m, v in zip(parameters, gradients, mean, square, strict=True):
            m.lerp_(gradient, 0.1)
            v.lerp_(gradient.square(), 0.01)
            part.data -= 0.01 * (m / (1 - 0.9**step)) / ((v / (1 - 0.99**step)).sqrt() + 1e-8)
    outlook = model(whole[:, :length])
    assert float(outlook.auxiliary.detach()) < 0.2 * first
    truth = whole[:, length:] if kind == "frequency" else whole[:, length:].mean(1, keepdim=True)
    said = outlook.outlook if kind == "frequency" else outlook.outlook[:, :1]
    assert (said - truth).square().mean() < 0.25 * truth.var()


def test_a_normalisation_that_does_not_fit_the_look_back_is_refused():
    with pytest.raises(ConfigError, match="slice_length = 6 does not divide sequence_length = 20"):
        SliceNormalization(20, 6, 8)
    with pytest.raises(ConfigError, match=r"rolling_windows = \[5, 30\] exceed"):
        RollingNormalization(20, (5, 30), 3)
    with pytest.raises(ConfigError, match="frequency_components = 8, and 15 sessions have 8"):
        FrequencyNormalization(20, 8, 5, 8)
    with pytest.raises(ConfigError, match="frequency_steps = 19"):
        FrequencyNormalization(20, 2, 19, 8)


def test_selection_is_the_sum_over_features():
    model = VariableSelection(3, 8, 0.0)
    x = torch.randn(2, 4, 3)
    weights = model.weights(x)
    wanted = sum(weights[..., [f]] * (3 * x[..., [f]] * model.slopes[f] + model.bases[f]) for f in range(3))
    assert torch.allclose(weights.sum(-1), torch.ones(2, 4))
    selected, spread = model(x)
    assert torch.allclose(selected, wanted, atol=1e-5)
    assert torch.allclose(spread, -(weights * weights.log()).sum(-1).mean())
    assert model.eval()(x)[1] == 0


def test_feature_attention_sees_a_feature_through_its_group_alone():
    model = FeatureAttention(GROUPS, 20, 2, 8, (2, 0.0))
    x, outlook = walks(features=6), torch.randn(5, 2, 6)
    changed = x.clone()
    changed[:, :, 2] += 1.0  # of group 1
    moved = (model.tokens(x, outlook) - model.tokens(changed, outlook)).abs().amax((0, 2))
    assert (moved > 1e-3).tolist() == [False, True, False, False, False]
    assert FeatureAttention((7, 2, 7), 20, 0, 8, (2, 0.0)).groups == (2, 7)


def test_the_encoder_sees_no_later_session_and_its_last_state_is_cheap():
    model = TemporalEncoder(8, 2, 2, 0.0)
    x, context = torch.randn(3, 20, 8), torch.randn(3, 8)
    states = model(x, context, 20)
    assert torch.allclose(states[:, -1:], model(x, context), atol=1e-5)
    changed = x.clone()
    changed[:, 12:] = torch.randn(3, 8, 8)
    after = model(changed, context, 20)
    assert torch.allclose(states[:, :12], after[:, :12], atol=1e-6)
    assert (states[:, 12:] - after[:, 12:]).abs().amax((0, 2)).min() > 1e-3
    weights = model.weights(x, context)
    assert weights.shape == (3, 2, 20)
    assert torch.allclose(weights.sum(-1), torch.ones(3, 2), atol=1e-5)


def test_attention_over_the_look_back_is_the_plain_formula():
    model = TemporalEncoder(8, 2, 1, 0.0).attention
    asked, sessions = torch.randn(3, 1, 8), torch.randn(3, 20, 8)
    query = model.query(asked).unflatten(-1, (2, 4)).transpose(1, 2)
    key = torch.einsum("hdx,rlx->rhld", model.key, sessions)
    share = (query @ key.transpose(2, 3) / 2.0).softmax(-1).mean(1)
    assert torch.allclose(model(asked, sessions), model.output(share @ model.value(sessions)), atol=1e-5)


def test_set_attention_is_that_of_torch_and_a_mask_hides():
    model = SetAttention(8, 2)
    theirs = torch.nn.MultiheadAttention(8, 2, batch_first=True)
    theirs.in_proj_weight.data, theirs.in_proj_bias.data = model.projection.weight.data, model.projection.bias.data
    theirs.out_proj.load_state_dict(model.output.state_dict())
    entries, mask = torch.randn(2, 5, 8), torch.tensor([[True] * 5, [True, True, True, False, False]])
    wanted, weights = theirs(entries, entries, entries, key_padding_mask=~mask, average_attn_weights=False)
    assert torch.allclose(model(entries, mask), wanted, atol=1e-5)
    assert torch.allclose(model.weights(entries, mask), weights, atol=1e-5)
    assert torch.isfinite(model(entries, torch.zeros(2, 5, dtype=torch.bool))).all()


def test_stock_attention_of_padded_days_is_that_of_each_day():
    model = StockAttention(8, 2, 0.0)
    day = torch.tensor([0] * 5 + [1] * 2 + [2] * 4)
    state = torch.randn(11, 8)
    whole = model(state, DayLayout.of(day))
    alone = [
        model(state[day == its], DayLayout.of(torch.zeros(int((day == its).sum()), dtype=torch.int64)))
        for its in range(3)
    ]
    assert torch.allclose(whole, torch.cat(alone), atol=1e-5)


@pytest.fixture(name="graph")
def _graph():
    batch = days_of(7, 5, edges_each=6)
    return torch.randn(12, 8), batch.edge_index, batch.edge_attr


def test_a_graph_layer_is_masked_attention_over_all_pairs(graph):
    state, edges, attr = graph
    model = GraphLayer(8, 3, 2, 3, 0.0)
    dense = torch.full((12, 12, 2), float("-inf"))  # target, source
    for source, target, features in zip(*edges.tolist(), attr, strict=True):
        mixed = model.source(state[source]) + model.target(state[target]) + model.edge(features)
        dense[target, source] = (F.leaky_relu(mixed, 0.2).reshape(2, 3) * model.direction).sum(-1)
    shares = torch.nan_to_num(dense.softmax(1))
    wanted = torch.einsum("tsh,shd->thd", shares, model.source(state).reshape(12, 2, 3))
    assert torch.allclose(model(state, edges, attr), wanted, atol=1e-5)
    assert torch.allclose(model.weights(state, edges, attr), shares[edges[1], edges[0]], atol=1e-5)


def test_shares_of_edges_sum_to_1_even_for_large_logits():
    target = torch.tensor([0, 0, 2, 2, 2])
    shares = softmax_by_target(
        torch.tensor([[1e4, -1e4], [1e4, 1e4], [-900, 0], [-901, 1], [-902, 2]]).float(), target, 4
    )
    sums = torch.zeros(4, 2).index_add(0, target, shares)
    assert torch.allclose(sums, torch.tensor([[1.0, 1.0], [0, 0], [1, 1], [0, 0]]))


def test_the_graph_does_not_know_an_order_and_leaves_the_isolated_as_they_are(graph):
    state, edges, attr = graph
    model = GraphAttention(8, (4, 2), 3, 0.0)
    after = model(state, edges, attr)
    order = torch.randperm(12)
    at = torch.argsort(order)
    shuffled = torch.randperm(edges.shape[1])
    assert torch.allclose(model(state[order], at[edges][:, shuffled], attr[shuffled]), after[order], atol=1e-5)
    alone = ~torch.isin(torch.arange(12), edges[1])
    assert alone.sum() >= 2
    assert torch.equal(after[alone], state[alone])
    assert (after[~alone] != state[~alone]).all(1).all()
    assert torch.equal(model(state, edges[:, :0], attr[:0]), state)
    assert torch.equal(model.train()(state, edges, attr), after)


def test_edges_features_count(graph):
    state, edges, attr = graph
    model = GraphAttention(8, (4, 2), 3, 0.0)
    assert (model(state, edges, attr) - model(state, edges, -attr)).abs().max() > 1e-3


@pytest.mark.parametrize("quantiles", [(0.05, 0.25, 0.5, 0.75, 0.95), (0.1, 0.5, 0.9)])
def test_a_head_starts_at_the_quantiles_of_ranks_and_never_crosses(quantiles):
    head = HorizonHead(8, quantiles, True, 0.0)
    score, found, student_t = head(torch.zeros(1, 8))
    assert torch.allclose(found - found[:, [len(quantiles) // 2]], torch.tensor([quantiles]) - 0.5, atol=0.1)
    for part in head.parameters():
        part.data += torch.randn_like(part)
    _, found, student_t = head(20 * torch.randn(200, 8))
    assert (found.diff(dim=-1) >= 0).all()
    assert (student_t[:, 2] > 2).all()
    assert score.shape == (1,)


def test_a_context_of_0_adds_nothing():
    model = GatedResidual(8, 0.0, context=True)
    x = torch.randn(3, 8)
    assert torch.equal(model(x, torch.zeros(3, 8)), model(x))


def test_dropout_is_the_same_for_all_sessions():
    dropped = SequenceDropout(0.5)(torch.ones(50, 6, 8))
    assert (dropped == dropped[:, :1]).all()
    assert dropped.mean() == pytest.approx(1.0, abs=0.1)
    assert not (dropped == dropped[:1]).all()
    assert torch.equal(SequenceDropout(0.5).eval()(torch.ones(3)), torch.ones(3))
