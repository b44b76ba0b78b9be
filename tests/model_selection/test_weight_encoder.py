"""The auto-encoder of weights: it rebuilds what it has not seen, is frozen, and codes each network by itself."""

import copy
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

from deepfm.errors import CheckpointError, ConfigError, DataError
from deepfm.model_selection.autoencoder import ModelAutoEncoder, reconstruction_errors, reconstruction_loss
from deepfm.model_selection.network_settings import AutoEncoderSettings
from deepfm.model_selection.reconstruction import principal_errors, reconstruction_table
from deepfm.model_selection.weight_encoder import WeightEncoder, train_autoencoder, untrained_encoder
from deepfm.model_selection.weights import weight_tokens

SETTINGS = AutoEncoderSettings(num_epochs=40, hidden_size=16, num_heads=2, num_queries=4, lr=3e-3, warmup_steps=5)


def network(seed):
    """Of one to three layers, whose spread and sparsity two hidden numbers decide."""
    draw = np.random.default_rng(seed)
    gain, shift = draw.uniform(0.2, 3), draw.normal()
    widths = [8, *draw.integers(4, 12, size=int(draw.integers(1, 4)))]
    state = {}
    for at, (inputs, outputs) in enumerate(pairwise(widths)):
        state[f"{at}.weight"] = torch.from_numpy(gain * draw.normal(size=(outputs, inputs)) + 0.1 * shift).float()
        state[f"{at}.bias"] = torch.from_numpy(shift + 0.1 * draw.normal(size=outputs)).float()
    return state


@pytest.fixture(scope="module")
def networks():
    tokens = [weight_tokens(network(seed)) for seed in range(160)]
    return tokens[:120], tokens[120:]


@pytest.fixture(scope="module")
def encoder(networks):
    return train_autoencoder(networks[0], SETTINGS)


def test_it_begins_with_principal_components_and_learns_more(networks):
    training, unseen = networks
    small = AutoEncoderSettings(**{**vars(SETTINGS), "code_size": 6})
    begun = untrained_encoder(training, small)
    with torch.no_grad():
        for part in (begun.model.code.weight, begun.model.rebuilt.weight):
            part.zero_()
    components = principal_errors(training, unseen, 6)
    np.testing.assert_allclose(begun.errors(unseen), components, rtol=1e-3)
    assert train_autoencoder(training, small).errors(unseen).mean() < 0.95 * components.mean()


def test_unseen_networks_are_rebuilt(encoder, networks):
    assert encoder.errors(networks[1]).mean() < 0.1


def test_codes_are_of_the_size_that_was_asked_for_and_tell_networks_apart(encoder, networks):
    codes = encoder.embed(networks[1])
    assert codes.shape == (40, 512)
    assert codes.dtype == np.float32
    distances = np.linalg.norm(codes[:, None] - codes[None], axis=2)[~np.eye(40, dtype=bool)]
    assert distances.min() > 1e-3


def test_a_code_depends_on_its_network_alone(encoder, networks):
    together = encoder.embed(networks[1])
    alone = np.concatenate([encoder.embed([one]) for one in networks[1]])  # each with its own padding
    np.testing.assert_allclose(together, alone, atol=1e-5)
    np.testing.assert_allclose(encoder.embed([network(3)]), encoder.embed(networks[0][3:4]), atol=1e-6)
    layers = nn.Linear(8, 5), nn.Linear(5, 2)
    order = torch.tensor([3, 0, 4, 1, 2])
    other = copy.deepcopy(layers)
    with torch.no_grad():
        other[0].weight.copy_(layers[0].weight[order])
        other[0].bias.copy_(layers[0].bias[order])
        other[1].weight.copy_(layers[1].weight[:, order])
    np.testing.assert_allclose(*(encoder.embed([nn.Sequential(*each)]) for each in (layers, other)), atol=1e-4)


def test_a_trained_encoder_is_frozen(encoder, networks):
    before = copy.deepcopy(encoder.model.state_dict())
    assert not any(part.requires_grad for part in encoder.model.parameters())
    assert not any(module.training for module in encoder.model.modules())
    encoder.embed(networks[1])
    assert all(torch.equal(before[name], part) for name, part in encoder.model.state_dict().items())
    with pytest.raises(RuntimeError, match="does not require grad"):
        encoder.model.encode(*encoder.prepared(networks[1])).sum().backward()


def test_constants_are_those_of_the_training_networks(encoder, networks):
    layers = np.concatenate([one.values for one in networks[0]])
    np.testing.assert_allclose(encoder.standardisation.means, layers.mean(axis=0), rtol=1e-4, atol=1e-5)
    same, other = (untrained_encoder(part, SETTINGS).trained_on for part in networks)
    assert encoder.trained_on == same != other


def test_the_error_of_a_network_does_not_depend_on_the_others_of_its_batch():
    tokens, mask = torch.randn(3, 4, 5), torch.arange(4) < torch.tensor([[4], [2], [1]])
    rebuilt = torch.randn(3, 4, 5)
    errors = reconstruction_errors(rebuilt, tokens, mask)
    by_hand = [float((rebuilt[at, :n] - tokens[at, :n]).square().mean()) for at, n in enumerate((4, 2, 1))]
    assert errors.tolist() == pytest.approx(by_hand)
    assert float(reconstruction_loss(rebuilt, (tokens, mask))) == pytest.approx(np.mean(by_hand))
    padded = reconstruction_errors(*(torch.cat([part, 99 * torch.ones(3, 2, 5)], 1) for part in (rebuilt, tokens)),
                                   torch.cat([mask, torch.zeros(3, 2, dtype=torch.bool)], 1))  # fmt: skip
    assert padded.tolist() == pytest.approx(by_hand)


def test_one_seed_gives_one_encoder(networks):
    few = AutoEncoderSettings(**{**vars(SETTINGS), "num_epochs": 2, "code_size": 8})
    one, same, other = (train_autoencoder(networks[0][:40], few, seed=seed).embed(networks[1]) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, same)
    assert not np.allclose(one, other)


def test_held_out_networks_stop_the_training(networks):
    seen: list[int] = []

    class Watch:
        stop_requested = False

        def __getattr__(self, name):
            return lambda *_: seen.append(1) if name == "epoch_finished" else None

    eager = AutoEncoderSettings(**{**vars(SETTINGS), "lr": 0.1, "num_epochs": 30, "early_stopping_patience": 2})
    train_autoencoder(networks[0][:10], eager, held_out=networks[1], observers=[Watch()])
    assert len(seen) < 30


def test_a_saved_encoder_codes_alike_and_a_damaged_one_is_refused(encoder, networks, tmp_path):
    encoder.save(tmp_path)
    loaded = WeightEncoder.load(tmp_path)
    np.testing.assert_array_equal(loaded.embed(networks[1]), encoder.embed(networks[1]))
    assert (loaded.trained_on, loaded.settings) == (encoder.trained_on, encoder.settings)
    assert not any(part.requires_grad for part in loaded.model.parameters())
    text = (tmp_path / "autoencoder.json").read_text()
    (tmp_path / "autoencoder.json").write_text(text.replace("weight kurtosis", "weight skewness"))
    with pytest.raises(CheckpointError, match="other features"):
        WeightEncoder.load(tmp_path)
    (tmp_path / "autoencoder.json").write_text(text.replace('"version": 1', '"version": 9'))
    with pytest.raises(CheckpointError, match="of version 1"):
        WeightEncoder.load(tmp_path)
    with pytest.raises(CheckpointError, match="does not exist"):
        WeightEncoder.load(tmp_path / "nowhere")


def test_principal_components_are_exact_on_what_they_were_fitted_on(networks):
    training, held_out = networks
    np.testing.assert_allclose(principal_errors(training[:20], training[:20], 20), 0.0, atol=1e-8)
    few, many = (principal_errors(training, held_out, size).mean() for size in (2, 32))
    assert few > many > 0


def test_the_table_sets_both_side_by_side(networks):
    few = AutoEncoderSettings(**{**vars(SETTINGS), "num_epochs": 3})
    table = reconstruction_table(networks[0], networks[1], few, sizes=(4, 8))
    assert [row.code_size for row in table] == [4, 8]
    assert table[0].principal_components > table[1].principal_components
    assert all(row.autoencoder > 0 for row in table)
    with pytest.raises(DataError, match="0 held-out"):
        reconstruction_table(networks[0], [], few)


def test_bad_input_is_refused_in_a_sentence(encoder):
    with pytest.raises(DataError, match="no network"):
        encoder.embed([])
    with pytest.raises(DataError, match="NaN or infinite"):
        encoder.embed([network(0), {"a.weight": torch.tensor([[float("inf")]])}])
    with pytest.raises(DataError, match="do not fit the auto-encoder"):
        encoder.model.encode(torch.zeros(1, 2, 3), torch.ones(1, 2, dtype=torch.bool))
    with pytest.raises(ConfigError, match="no multiple of num_heads"):
        ModelAutoEncoder(5, hidden_size=10, num_heads=4)
    with pytest.raises(ConfigError, match="no multiple of num_heads"):
        AutoEncoderSettings(hidden_size=10, num_heads=4)
