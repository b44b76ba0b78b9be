"""DeepCTR-Torch's own weights in our models: its logits, and its weights after training."""

import copy
import io
import json

import numpy as np
import pytest
import torch

from deepfm.errors import CheckpointError
from deepfm.interop.deepctr import callbacks, inputs, load_deepctr_weights, models
from deepfm.interop.deepctr.weights import deepctr_weights
from tests.interop.deepctr_cases import CASES, TRAINED, data, fit_options, make, penalties_of, signatures
from tests.interop.deepctr_env import ROOT, run_with_deepctr_torch


@pytest.fixture(scope="module")
def peer(tmp_path_factory):
    """What DeepCTR-Torch 0.3.0 makes of each case."""
    folder = tmp_path_factory.mktemp("peer")
    run_with_deepctr_torch(ROOT / "tests" / "interop" / "deepctr_peer.py", folder)
    found = {case: torch.load(folder / f"{n}.pt", weights_only=True) for n, case in enumerate(CASES)}
    return {**found, "signatures": json.loads((folder / "signatures.json").read_text())}


@pytest.mark.parametrize("case", CASES)
def test_its_weights_give_its_logits(case, peer):
    model = make(inputs, models, case, seed=9)
    x, _ = data(inputs, case)
    before = model.predict(x)
    load_deepctr_weights(model, peer[case]["state"])
    wanted = peer[case]["logits"].squeeze(1)
    got = model.score(model.layout.encode(x), 256)
    assert wanted.std() > 0.05
    torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(model.predict(x), peer[case]["predictions"], atol=1e-6)
    assert abs(before - model.predict(x)).max() > 0.05


@pytest.mark.parametrize("case", CASES)
def test_our_weights_under_its_names_are_what_it_saved(case, peer):
    model = make(inputs, models, case, seed=9)
    load_deepctr_weights(model, peer[case]["state"])
    theirs = {name: weight for name, weight in peer[case]["state"].items() if weight.numel()}
    ours = deepctr_weights(model)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize("case", TRAINED)
def test_training_goes_the_same_way(case, peer):
    """The same optimizer, penalties and rows in the same order: its weights after three epochs, and its history."""
    model = make(inputs, models, case, seed=9, **penalties_of(case))
    load_deepctr_weights(model, peer[case]["state"])
    model.compile(TRAINED[case][0], "mse" if model.task == "regression" else "binary_crossentropy", ["mse"])
    history = model.fit(*data(inputs, case), **fit_options(case)).history
    for name, wanted in peer[case]["history"].items():
        assert history[name] == pytest.approx(wanted, abs=1e-5), name
    ours = deepctr_weights(model)
    for name, wanted in peer[case]["trained"].items():
        torch.testing.assert_close(ours[name], wanted, rtol=1e-5, atol=2e-6, msg=lambda text, name=name: name + text)
    moved = max((ours[name].float() - old.float()).abs().max() for name, old in peer[case]["state"].items())
    assert moved > 0.005


def test_calls_have_its_arguments_in_its_order(peer):
    ours = signatures(inputs, models, callbacks)
    for name, wanted in peer["signatures"].items():
        assert ours[name] == wanted, name


def test_a_state_dict_comes_through_a_file(peer):
    file = io.BytesIO()
    torch.save(peer["DCN"]["state"], file)
    file.seek(0)
    model = make(inputs, models, "DCN")
    load_deepctr_weights(model, torch.load(file, weights_only=True))
    assert torch.equal(deepctr_weights(model)["crossnet.kernels"], peer["DCN"]["state"]["crossnet.kernels"])


class TestRefusals:
    """Without DeepCTR-Torch: our own weights under its names."""

    def refused(self, change, match):
        model = make(inputs, models, "xDeepFM, split")
        state = {name: weight + 1.0 for name, weight in deepctr_weights(model).items()}
        change(state)
        before = copy.deepcopy(model.state_dict())
        with pytest.raises(CheckpointError, match=match):
            load_deepctr_weights(model, state)
        assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())

    def test_a_missing_weight_is_named(self):
        self.refused(lambda state: state.pop("cin.conv1ds.1.bias"), r"'cin.conv1ds.1.bias' is missing .* xDeepFM; make")

    def test_an_unexpected_weight_is_named(self):
        self.refused(lambda state: state.update(other=torch.ones(2)), "'other' among the weights belongs to nothing")

    def test_a_weight_of_another_shape_is_named(self):
        self.refused(
            lambda state: state.update({"embedding_dict.a.weight": torch.ones(12, 4)}),
            r"'embedding_dict.a.weight' has shape \(12, 4\); expected \(11, 4\)",
        )

    def test_a_model_is_no_state_dict(self):
        with pytest.raises(CheckpointError, match="the weights are a DeepFM; expected the state dict"):
            load_deepctr_weights(make(inputs, models, "DeepFM, plain"), make(inputs, models, "DeepFM, plain"))


def test_padding_stays_zero_and_views_write_through():
    model = make(inputs, models, "DeepFM, pooled")
    load_deepctr_weights(model, {name: weight + 1.0 for name, weight in deepctr_weights(model).items()})
    second = model.columns.second
    for column in model.columns.dnn_columns:
        assert not second.field_weight(column.name)[0].any()
        assert (second.field_weight(column.name)[1:] > 0.9).all()
    model.embedding_dict["a"].weight[3] = torch.arange(4.0)
    assert second.field_weight("a")[4].tolist() == [0.0, 1.0, 2.0, 3.0]
