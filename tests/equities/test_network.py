"""The whole network: what a forecast depends on, what every switch does, and what can be read inside."""

import dataclasses

import pytest
import torch

from deepfm.analysis import analyse
from deepfm.engine.acceleration import checkpoint_activations
from deepfm.engine.settings import build_settings
from deepfm.equities.days.batch import DayBatch
from deepfm.equities.experiment.examine import examine_network
from deepfm.equities.loss_settings import LossSettings
from deepfm.equities.losses import CombinedLoss
from deepfm.equities.network import ATFT
from deepfm.equities.network_settings import NORMALIZATIONS, NetworkSettings
from deepfm.errors import AnalysisError, ConfigError, DataError
from tests.equities.days import FEATURES, GROUPS, HORIZONS, LOOK_BACK, SECTORS, days_of, in_order, without_edges

SMALL = NetworkSettings(hidden_size=16, num_heads=2, dropout=0.0, student_t=True)


def network(settings=SMALL, seed=0, sectors=SECTORS, **changes):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        settings = dataclasses.replace(settings, **changes)
        return ATFT(settings, FEATURES, GROUPS, sectors, LOOK_BACK, HORIZONS).eval()


@pytest.fixture(scope="module")
def batch():
    return days_of(9, 4, 1, 7)


def test_a_forecast_has_its_shapes_and_quantiles_never_cross(batch):
    forecast = network()(batch)
    assert forecast.scores.shape == (21, 4)
    assert forecast.quantiles.shape == (21, 4, 5)
    assert (forecast.quantiles.diff(dim=-1) > 0).all()
    assert torch.equal(forecast.median, forecast.quantiles[..., 2])
    assert torch.equal(forecast.student_t[..., 0], forecast.median)
    assert (forecast.student_t[..., 1] > 0).all()
    assert (forecast.student_t[..., 2] > 2).all()
    assert network(student_t=False)(batch).student_t is None


def test_scores_and_medians_rank_alike(batch):
    forecast = network()(batch)
    assert torch.equal(forecast.scores.argsort(0), forecast.median.argsort(0))


def test_the_start_has_the_quantiles_of_ranks_within_a_day(batch):
    quantiles = network()(batch).quantiles
    gaps = quantiles.diff(dim=-1).mean((0, 1))
    assert torch.allclose(gaps, torch.tensor([0.2, 0.25, 0.25, 0.2]), atol=0.05)


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_a_stock_does_not_depend_on_others_with_graph_and_stock_attention_off(batch, normalization):
    model = network(stock_attention=False, graph_attention=False, adaptive_normalization=normalization)
    whole = model(batch)
    kept = torch.arange(0, 21, 3)
    rows = {name: getattr(batch, name)[kept] for name in ("sequences", "day", "stock", "sector", "targets", "returns")}
    part = model(without_edges(DayBatch(edge_index=batch.edge_index, edge_attr=batch.edge_attr, **rows)))
    for name in ("scores", "quantiles", "student_t"):
        assert torch.allclose(getattr(whole, name)[kept], getattr(part, name), atol=1e-5), name


def test_days_do_not_see_each_other(batch):
    model = network()
    alone = days_of(9, 4, 1, 7)
    changed = alone.sequences.clone()
    changed[13:] = torch.randn(8, LOOK_BACK, FEATURES, generator=torch.Generator().manual_seed(4))
    other = dataclasses.replace(alone, sequences=changed)
    assert torch.allclose(model(batch).scores[:13], model(other).scores[:13], atol=1e-5)
    assert not torch.allclose(model(batch).scores[13:], model(other).scores[13:], atol=1e-3)


def test_the_order_of_stocks_never_matters(batch):
    order = torch.cat([torch.arange(9).flip(0), torch.tensor([11, 9, 12, 10, 13]), torch.arange(14, 21).roll(3)])
    model = network()
    assert torch.allclose(model(batch).scores[order], model(in_order(batch, order)).scores, atol=1e-5)


def test_with_them_on_other_stocks_matter(batch):
    changed = batch.sequences.clone()
    changed[0] += 1.0
    other = dataclasses.replace(batch, sequences=changed)
    neighbours = batch.edge_index[1, batch.edge_index[0] == 0].unique()
    by_graph = network(stock_attention=False)
    moved = (by_graph(batch).scores - by_graph(other).scores).abs().amax(1)
    assert (moved[neighbours] > 1e-6).all()
    assert moved[8] == 0  # the day's isolated stock
    by_day = network(graph_attention=False)
    moved = (by_day(batch).scores - by_day(other).scores).abs().amax(1)
    assert (moved[:9] > 0).all()
    assert moved[9:].max() < 1e-6


@pytest.mark.parametrize(
    ("normalization", "sectors"), [("frequency", SECTORS), ("slice", SECTORS), ("rolling", SECTORS), ("off", 0)]
)
def test_every_parameter_gets_a_gradient(batch, normalization, sectors):
    model = network(adaptive_normalization=normalization, sectors=sectors).train()
    settings = LossSettings(huber_weight=0.1, rankic_weight=0.3, listnet_weight=0.1)
    loss = CombinedLoss(settings, SMALL.quantiles, HORIZONS)(model(batch), batch)
    names, parameters = zip(*model.named_parameters(), strict=True)
    for name, gradient in zip(names, torch.autograd.grad(loss, parameters), strict=True):
        assert torch.isfinite(gradient).all(), name
        assert gradient.abs().max() > 0, name


SWITCHES = [{name: False} for name in ("variable_selection", "feature_attention", "stock_attention", "graph_attention")]
SWITCHES += [{"adaptive_normalization": kind} for kind in ("slice", "rolling", "off")]


@pytest.mark.parametrize("switch", SWITCHES, ids=lambda switch: "-".join(map(str, *switch.items())))
def test_switching_a_module_off_changes_the_forecast(batch, switch):
    """All other weights are the same."""
    on, off = network(), network(**switch)
    weights = on.state_dict()
    own = {
        name: weights[name] if name in weights and weights[name].shape == value.shape else value
        for name, value in off.state_dict().items()
    }
    off.load_state_dict(own)
    assert (on(batch).scores - off(batch).scores).abs().max() > 1e-3


CHANGES = {
    "hidden_size": 32, "num_heads": 4, "num_layers": 2, "dropout": 0.4, "adaptive_normalization": "off",
    "frequency_components": 1, "frequency_steps": 3, "slice_length": 4, "rolling_windows": (3,),
    "variable_selection": False, "feature_attention": False, "stock_attention": False, "graph_attention": False,
    "gat_heads": (2, 1), "quantiles": (0.1, 0.5, 0.9), "student_t": False,
}  # fmt: skip


def test_every_setting_is_listed():
    assert set(CHANGES) == {field.name for field in dataclasses.fields(NetworkSettings)}


@pytest.mark.parametrize("name", CHANGES)
def test_every_setting_changes_what_comes_out(batch, name):
    kind = {"slice_length": "slice", "rolling_windows": "rolling"}.get(name, "frequency")
    outcomes = []
    for changes in ({}, {name: CHANGES[name]}):
        model = network(**{"adaptive_normalization": kind} | changes).train()
        torch.manual_seed(1)
        forecast = model(batch)
        outcomes.append([forecast.scores, forecast.quantiles, forecast.student_t])
    same = [
        one is other or (one is not None and other is not None and one.shape == other.shape and torch.equal(one, other))
        for one, other in zip(*outcomes, strict=True)
    ]
    assert not all(same)


def test_hidden_256_has_about_5_6_million_parameters():
    for features in (34, 36):
        groups = tuple(place % 5 for place in range(features))
        with torch.device("meta"):
            model = ATFT(NetworkSettings(hidden_size=256), features, groups, 12)
        assert sum(parameter.numel() for parameter in model.parameters()) == pytest.approx(5.6e6, rel=0.1)


def test_a_feature_costs_in_proportion_to_the_width():
    def count(features):
        with torch.device("meta"):
            model = ATFT(NetworkSettings(hidden_size=128), features, (0,) * features)
        return sum(parameter.numel() for parameter in model.parameters())

    assert count(60) - count(50) < 10 * 128 * 20


def test_what_can_be_read_inside_adds_up(batch):
    model = network()
    read = model.explain(batch)
    assert read.variables.shape == (21, LOOK_BACK, FEATURES)
    assert read.groups.shape == (21, 2, 5, 5)
    assert read.sessions.shape == (21, 2, LOOK_BACK)
    assert read.stocks.shape == (4, 2, 9, 9)
    for weights in (read.variables, read.groups, read.sessions, read.stocks):
        assert torch.allclose(weights.sum(-1), torch.ones(()), atol=1e-5)
    assert (read.stocks[1, :, :4, 4:] == 0).all()  # a day of four stocks
    assert [weights.shape for weights in read.edges] == [(batch.edge_index.shape[1], heads) for heads in (4, 2)]
    off = network(variable_selection=False, feature_attention=False, stock_attention=False, graph_attention=False)
    bare = off.explain(batch)
    assert (bare.variables, bare.groups, bare.edges, bare.stocks) == (None, None, None, None)


def test_training_and_evaluation_take_the_same_path(batch):
    model = network()
    assert torch.equal(model(batch).scores, model.train()(batch).scores)


def test_an_empty_graph_is_as_no_graph(batch):
    bare = without_edges(batch)
    on, off = network(), network(graph_attention=False)
    off.load_state_dict({name: value for name, value in on.state_dict().items() if "graph" not in name})
    assert torch.equal(on(bare).scores, off(bare).scores)


def test_an_unknown_sector_adds_nothing(batch):
    unknown = dataclasses.replace(batch, sector=torch.zeros_like(batch.sector))
    with_sectors = network()
    without = network(sectors=0)
    own = without.state_dict()
    without.load_state_dict({name: value for name, value in with_sectors.state_dict().items() if name in own})
    assert torch.equal(with_sectors(unknown).scores, without(unknown).scores)
    assert not torch.equal(with_sectors(unknown).scores, with_sectors(batch).scores)


def test_bf16_is_near_and_recomputing_is_the_same(batch):
    model = network()
    full = model(batch)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = model(batch)
    assert half.scores.dtype == torch.float32
    assert (half.scores - full.scores).abs().max() < 0.1 * full.scores.std()
    again = network().train()
    assert checkpoint_activations(again) == 5
    once = network().train()
    grads = [
        torch.autograd.grad(one(batch).scores.square().mean(), list(one.parameters()), allow_unused=True)
        for one in (again, once)
    ]
    for one, other in zip(*grads, strict=True):
        assert one is None or torch.allclose(one, other, atol=1e-6)


def test_the_analyser_finds_no_critical_risk(monkeypatch):
    """Trials of learning rates and the memory of a step do not change what is found, and take most of the time."""

    def skip(*_, **__):
        raise AnalysisError("left out")

    for measure in (
        "measure_proof",
        "measure_memory",
        "measure_rate_race",
        "measure_updates",
        "measure_learning_rates",
    ):
        monkeypatch.setattr(analyse, measure, skip)
    settings = NetworkSettings(hidden_size=8, num_heads=2)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = ATFT(settings, FEATURES, GROUPS, SECTORS, LOOK_BACK, HORIZONS)
    loss = CombinedLoss(LossSettings(), settings.quantiles, HORIZONS)
    batches = [days_of(7, 5, seed=seed) for seed in range(2)]
    assert examine_network(model, batches, loss, budget=0.2).assessment in ("STABLE", "CAUTION")


def test_batches_that_do_not_fit_are_refused(batch):
    model = network()
    with pytest.raises(DataError, match=r"sequences are \(21, 20, 5\); expected \(rows, 20, 6\)"):
        model(dataclasses.replace(batch, sequences=batch.sequences[..., :5]))
    with pytest.raises(DataError, match="a row or more"):
        model(dataclasses.replace(batch, sequences=batch.sequences[:0], day=batch.day[:0]))
    with pytest.raises(ConfigError, match="names 6 groups for num_features = 7"):
        ATFT(SMALL, 7, GROUPS)


@pytest.mark.parametrize(
    ("tree", "words"),
    [
        ({"hidden_size": 10, "num_heads": 4}, "hidden_size = 10 is no multiple of num_heads = 4"),
        ({"gat_heads": [4]}, "two numbers"),
        ({"hidden_size": 12, "num_heads": 4, "gat_heads": [5, 2]}, "no multiple of gat_heads"),
        ({"quantiles": [0.1, 0.6, 0.9]}, "0.5 in the middle"),
        ({"quantiles": [0.9, 0.5, 0.1]}, "rising"),
        ({"quantiles": [0.5]}, "three or more"),
        ({"adaptive_normalization": "batch"}, "adaptive_normalization = 'batch'"),
        ({"d_model": 64}, "hidden_size"),
    ],
)
def test_settings_that_cannot_be_are_refused(tree, words):
    with pytest.raises(ConfigError, match=words):
        build_settings(NetworkSettings, tree)
