"""What the network finds of planted signals, and which module finds it; `benchmarks/equities_planted.py` is larger."""

import functools

import numpy as np
import pytest

from deepfm.equities.experiment.recovery import recover
from deepfm.equities.panels.synthetic import SIGNALS, PlantedSettings, planted_panel
from deepfm.equities.settings import load_equities

NONE = dict.fromkeys(SIGNALS, 0.0)
BASE = (
    "device=cpu", "data.prediction_horizons=[1]", "data.sequence_length=5", "data.features=[clv, intra, vshock, ret1]",
    "split.n_splits=1", "split.test_sessions=60", "split.validation_sessions=20", "split.min_train=60",
    "model.hidden_size=16", "model.num_heads=2", "model.gat_heads=[2, 2]", "model.dropout=0",
    "model.adaptive_normalization=off", "training.batch_size=8", "training.learning_rate=0.01",
    "training.warmup_steps=5", "training.scheduler=cosine", "training.quantile_weight=0.1", "training.ic_weight=1",
    "training.max_epochs=3",
)  # fmt: skip
ALONE = ("model.stock_attention=false", "model.graph_attention=false")
OWN_ONLY = (*ALONE, "model.feature_attention=false")
DAY_WIDE = ("data.scaling=none", "model.graph_attention=false", "data.features=[clv, vshock]")

pytestmark = pytest.mark.usefixtures("one_thread")


@functools.cache
def found(*overrides, seed=0, sessions=280, stocks=40, shuffle=None, **planted):
    sizes = PlantedSettings(num_sessions=sessions, num_stocks=stocks, late_listings=0.0, **{**NONE, **planted})
    settings = load_equities(None, [*BASE, *overrides])
    drawn = None if shuffle is None else np.random.default_rng(shuffle)
    return recover(planted_panel(sizes, seed, (1,)), settings, shuffle=drawn)


@pytest.fixture(scope="module")
def own():
    return found(*OWN_ONLY, "training.selection_weight=0.03", own=0.4)


def test_a_stocks_own_signal_is_found(own):
    assert own.share > 0.8


def test_selection_weights_name_the_feature(own):
    assert max(own.weights, key=own.weights.get) == "clv"
    assert own.weights["clv"] > 0.5


def test_quantiles_cover(own):
    assert own.coverage == pytest.approx([0.05, 0.25, 0.5, 0.75, 0.95], abs=0.04)


def test_shuffled_labels_give_nothing():
    """RankIC within three errors of 0, of the network and of the oracle."""
    nothing = found(*OWN_ONLY, own=0.4, shuffle=1)
    error = 1 / np.sqrt((40 - 1) * 58)
    assert abs(nothing.rank_ic[0]) < 3 * error
    assert abs(nothing.attainable[0]) < 3 * error


def test_the_graph_finds_the_spill_over_and_a_network_without_it_cannot():
    signal = {"spill_over": 0.5}
    without = found(*ALONE, **signal)
    with_graph = found("model.stock_attention=false", "training.max_epochs=5", **signal)
    assert with_graph.share > 0.7
    assert abs(without.share) < 0.2


def test_attention_over_stocks_finds_what_the_whole_day_shows():
    changes = (*DAY_WIDE, "training.max_epochs=8", "training.learning_rate=0.006")
    sizes = {"sessions": 420, "stocks": 60, "day_wide": 0.5}
    with_stocks = found(*changes, **sizes)
    without = found(*changes, "model.stock_attention=false", **sizes)
    assert with_stocks.share > 0.7
    assert without.share < 0.4


def test_an_interaction_is_found():
    assert found(*ALONE, "training.max_epochs=4", interaction=0.5, sessions=360).share > 0.7


def test_attention_over_features_finds_an_interaction_sooner():
    """A small network without variable selection, whose weights also multiply features, after two epochs."""
    changes = (*ALONE, "model.variable_selection=false", "model.hidden_size=8", "data.sequence_length=20")
    sizes = {"sessions": 360, "interaction": 0.4}
    on = found(*changes, "training.max_epochs=2", **sizes)
    off = found(*changes, "training.max_epochs=2", "model.feature_attention=false", **sizes)
    assert on.share > 0.5
    assert on.share > off.share + 0.1


@pytest.mark.parametrize(
    ("kind", "planted"),
    [
        ("frequency", {"cycle": 10.0, "drift": 0.0}),
        ("slice", {"cycle": 0.0, "drift": 10.0}),
        ("rolling", {"cycle": 0.0, "drift": 10.0}),
    ],
)
def test_adaptive_normalisation_finds_what_a_cycle_or_a_drift_hides(kind, planted):
    changes = (*OWN_ONLY, "data.scaling=zscore", "data.features=[range, clv]", "data.sequence_length=20")
    changes = (*changes, "model.frequency_components=1")
    on, off = (
        found(*changes, f"model.adaptive_normalization={name}", hidden=0.6, stocks=80, **planted)
        for name in (kind, "off")
    )
    assert on.share > 0.7
    assert off.share < 0.3


SHORT = ("training.max_epochs=1", "split.min_train=40", "split.test_sessions=10", "data.sequence_length=6")
FEW = {"sessions": 120, "stocks": 12, "own": 0.4}


@pytest.fixture(scope="module")
def all_on():
    return found(*SHORT, **FEW).scores


@pytest.mark.parametrize(
    "switch",
    [
        "model.graph_attention=false", "model.stock_attention=false", "model.feature_attention=false",
        "model.variable_selection=false", "model.adaptive_normalization=slice", "graph.enabled=false",
    ],
)  # fmt: skip
def test_switching_a_module_changes_what_is_said(all_on, switch):
    other = found(*SHORT, "model.slice_length=3", switch, **FEW).scores
    known = np.isfinite(all_on)
    assert known.any()
    assert np.abs(all_on[known] - other[known]).max() > 1e-4
