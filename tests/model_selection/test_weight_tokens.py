"""Tokens of weights: what they say of a layer, what does not change them, and what has none."""

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load, save
from torch import nn

from deepfm.errors import DataError
from deepfm.model_selection.weights import (
    FEATURES,
    Standardisation,
    pad_weight_tokens,
    weight_tokens,
)


def feature(tokens, layer, name):
    return float(tokens.values[tokens.layers.index(layer), FEATURES.index(name)])


def network(seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(
            *(nn.Conv2d(1, 6, 3), nn.GroupNorm(1, 6), nn.ReLU(), nn.Flatten()),
            *(nn.Linear(6 * 4, 5), nn.ReLU(), nn.Linear(5, 3)),
        )


def test_features_by_hand():
    state = {"a.weight": torch.tensor([[3.0, 0.0], [0.0, 4.0]]), "a.bias": torch.tensor([1.0, 3.0])}
    tokens = weight_tokens(state)
    expected = {
        "weight mean": 1.75,
        "weight deviation": np.sqrt(25 / 4 - 1.75**2),
        "weight least": 0.0,
        "weight largest": 4.0,
        "weight quantile 0.5": 1.5,
        "row norm mean": 3.5 / np.sqrt(2),
        "row norm largest": 4 / np.sqrt(2),
        "spectral norm": 4 / (2 * np.sqrt(2)),
        "stable rank": 25 / 16 / 2,
        "participation": 25**2 / (81 + 256) / 2,
        "has bias": 1.0,
        "bias mean": 2.0,
        "log outputs": np.log(3),
        "log inputs": np.log(3),
        "log kernel": np.log(2),
        "depth": 0.0,
        "linear": 1.0,
        "convolution": 0.0,
    }
    for name, value in expected.items():
        assert feature(tokens, "a.weight", name) == pytest.approx(value, rel=1e-6, abs=1e-7), name


def test_every_kind_of_layer_is_told_from_a_module_and_from_a_bare_state():
    model = nn.ModuleDict(
        {
            "conv": nn.Conv1d(3, 4, 5),
            "norm": nn.BatchNorm1d(4),
            "dense": nn.Linear(4, 2),
            "embedding": nn.Embedding(7, 3),
            "lstm": nn.LSTM(3, 2, bidirectional=True),
            "mixer": nn.MultiheadAttention(4, 2),
        }
    )
    model.register_parameter("temperature", nn.Parameter(torch.tensor(0.5)))
    named, bare = weight_tokens(model), weight_tokens(load(save(model.state_dict())))
    kinds = dict(zip(named.layers, named.kinds, strict=True))
    assert kinds == {
        "conv.weight": "convolution",
        "dense.weight": "linear",
        "embedding.weight": "embedding",
        "lstm.weight_hh_l0": "recurrent",
        "lstm.weight_hh_l0_reverse": "recurrent",
        "lstm.weight_ih_l0": "recurrent",
        "lstm.weight_ih_l0_reverse": "recurrent",
        "mixer.in_proj_weight": "attention",
        "mixer.out_proj.weight": "attention",
        "norm.weight": "normalisation",
        "temperature": "other",
    }
    assert bare.kinds == named.kinds
    np.testing.assert_array_equal(bare.values, named.values)
    assert feature(named, "lstm.weight_ih_l0", "has bias") == 1
    assert feature(named, "embedding.weight", "has bias") == 0


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_the_order_of_hidden_units_does_not_matter(seed):
    model, other = network(), network()
    draw = np.random.default_rng(seed)
    channels, units = torch.from_numpy(draw.permutation(6)), torch.from_numpy(draw.permutation(5))
    with torch.no_grad():
        other[0].weight.copy_(model[0].weight[channels])
        other[0].bias.copy_(model[0].bias[channels])
        columns = model[4].weight.reshape(5, 6, 4)[:, channels].reshape(5, 24)
        other[4].weight.copy_(columns[units])
        other[4].bias.copy_(model[4].bias[units])
        other[6].weight.copy_(model[6].weight[:, units])
        images = torch.rand(4, 1, 4, 4, generator=torch.Generator().manual_seed(seed))
        torch.testing.assert_close(model(images), other(images))
    np.testing.assert_allclose(weight_tokens(model).values, weight_tokens(other).values, rtol=1e-5, atol=1e-6)


def test_large_layers_keep_their_spectrum():
    weight = torch.randn(700, 900, generator=torch.Generator().manual_seed(1))
    weight += 0.3 * torch.randn(700, 1, generator=torch.Generator().manual_seed(2))
    found = feature(weight_tokens({"w.weight": weight}), "w.weight", "spectral norm")
    assert found * (np.sqrt(700) + np.sqrt(900)) == pytest.approx(float(torch.linalg.matrix_norm(weight, 2)), rel=5e-3)


def test_names_are_ordered_as_numbers_and_not_as_a_file_has_them():
    state = {f"body.{place}.weight": torch.full((2, 2), float(place)) for place in (10, 2, 9)}
    tokens = weight_tokens(state)
    assert tokens.layers == ("body.2.weight", "body.9.weight", "body.10.weight")
    assert [feature(tokens, name, "depth") for name in tokens.layers] == [0.0, 0.5, 1.0]


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ({}, "no floating-point weights among its 0 tensors"),
        ({"ids": torch.arange(3)}, "no floating-point weights among its 1 tensors"),
        ({"a.weight": torch.tensor([[1.0, float("nan")]])}, "'a.weight' has 1 of 2 values that are NaN or infinite"),
        ({"a.weight": torch.empty(2, 2, device="meta")}, "'a.weight' has no values yet"),
        (nn.LazyLinear(3), "'bias' has no values yet"),
        (nn.ReLU(), "no floating-point weights"),
    ],
)
def test_what_has_no_tokens_is_refused_in_a_sentence(state, words):
    with pytest.raises(DataError, match=words):
        weight_tokens(state)


@pytest.mark.parametrize("value", [0.0, 1e-30, 1e30])
def test_extreme_weights_give_finite_tokens(value):
    state = {"a.weight": torch.full((3, 4), value), "b": torch.tensor(value), "c.weight": torch.zeros(0, 3)}
    tokens = weight_tokens(state)
    assert tokens.layers == ("a.weight", "b")
    assert np.isfinite(tokens.values).all()
    assert weight_tokens({"a.weight": torch.ones(2, 2, dtype=torch.bfloat16)}).values.dtype == np.float32


def test_padding_says_which_layers_there_are():
    short, deep = weight_tokens({"a.weight": torch.ones(2, 2)}), weight_tokens(network())
    values, mask = pad_weight_tokens([short, deep])
    assert values.shape == (2, 4, len(FEATURES))
    assert mask.tolist() == [[True, False, False, False], [True] * 4]
    np.testing.assert_array_equal(values[1], deep.values)
    assert not values[0, 1:].any()
    with pytest.raises(DataError, match="no network"):
        pad_weight_tokens([])


def test_standardisation_is_that_of_the_rows_it_was_fitted_on():
    rows = np.array([[1.0, 5.0], [3.0, 5.0]], np.float32)
    fitted = Standardisation.fit(rows)
    np.testing.assert_allclose(fitted.apply(np.array([[5.0, 6.0], [1e9, 5.0]])), [[3.0, 1.0], [10.0, 0.0]])
    before = copy.deepcopy(fitted)
    fitted.apply(rows * 100)
    np.testing.assert_array_equal(before.means, fitted.means)
    with pytest.raises(DataError, match="3 features"):
        fitted.apply(np.ones((1, 3)))
    with pytest.raises(DataError, match="finite rows"):
        Standardisation.fit(np.array([[np.nan]]))
