"""The engine's dense optimizers are torch's, and what they keep can be saved."""

import copy
import subprocess
import sys

import pytest
import torch
from torch import nn

from deepfm.engine.optim import DenseOptimizer, build_optimizer
from deepfm.engine.task import ParameterGroup
from tests.clicks import CPU
from tests.conftest import ROOT

TORCHS = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "sgd": torch.optim.SGD,
    "adagrad": torch.optim.Adagrad,
    "rmsprop": torch.optim.RMSprop,
}
names = pytest.mark.parametrize("name", TORCHS)


def weights(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [nn.Parameter(torch.randn(shape, generator=generator)) for shape in ((6, 3), (4,), (2, 2, 2), ())]


def trained(optimizer, parameters, steps=20, seed=1, without=()):
    """Random gradients, the same for the same seed; parameters in `without` get none."""
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        for number, parameter in enumerate(parameters):
            gradient = torch.randn(parameter.shape, generator=generator)
            parameter.grad = None if number in without else gradient
        optimizer.step()
    return [parameter.detach().clone() for parameter in parameters]


def assert_close(got, wanted, tolerance=1e-6):
    for one, other in zip(got, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)


@names
@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_twenty_steps_are_torchs_own(name, fused, decay):
    mine, theirs = weights(), weights()
    groups = [{"params": mine, "lr": 0.03, "weight_decay": decay, "l2": 0.0, "lazy": False}]
    got = trained(DenseOptimizer(name, groups, fused), mine)
    assert_close(got, trained(TORCHS[name](theirs, lr=0.03, weight_decay=decay, foreach=False), theirs))
    assert not any(torch.equal(one, other) for one, other in zip(got, weights(), strict=True))


@names
def test_groups_have_their_own_rate_and_decay(name):
    mine, theirs = weights(), weights()
    groups = [ParameterGroup(mine[:2], weight_decay=0.1, lr=0.5), ParameterGroup([]), ParameterGroup(mine[2:])]
    other = [{"params": theirs[:2], "lr": 0.5, "weight_decay": 0.1}, {"params": theirs[2:], "weight_decay": 0.0}]
    got = trained(build_optimizer(name, 0.02, groups, CPU), mine)
    assert_close(got, trained(TORCHS[name](other, lr=0.02, foreach=False), theirs))


@names
def test_a_parameter_without_gradient_stays_and_keeps_nothing(name):
    parameters = weights()
    optimizer = build_optimizer(name, 0.1, [ParameterGroup(parameters, weight_decay=0.1)], CPU)
    got = trained(optimizer, parameters, without=(1,))
    moved = [not torch.equal(one, other) for one, other in zip(got, weights(), strict=True)]
    assert moved == [True, False, True, True]
    assert optimizer.state_dict()["parts"][0]["state"][1] == {}
    optimizer.zero_grad()
    assert [parameter.grad for parameter in parameters] == [None] * 4


@names
@pytest.mark.parametrize("row_optimizer", [None, "sparse_adam", "rowwise_adagrad"])
def test_a_saved_state_goes_on_as_if_nothing_had_happened(name, row_optimizer):
    def groups_of(parameters):
        return [ParameterGroup(parameters[:1], row_optimizer=row_optimizer), ParameterGroup(parameters[1:])]

    whole = weights()
    optimizer = build_optimizer(name, 0.1, groups_of(whole), CPU)
    trained(optimizer, whole, steps=5)
    saved = copy.deepcopy(optimizer.state_dict())
    half = [nn.Parameter(weight.detach().clone()) for weight in whole]
    resumed = build_optimizer(name, 0.1, groups_of(half), CPU)
    resumed.load_state_dict(saved)
    for one, other in zip(trained(optimizer, whole, seed=2), trained(resumed, half, seed=2), strict=True):
        assert torch.equal(one, other)


@names
def test_a_state_of_other_parameters_is_refused(name):
    optimizer = build_optimizer(name, 0.1, [ParameterGroup(weights())], CPU)
    saved = build_optimizer(name, 0.1, [ParameterGroup(weights()[:3])], CPU).state_dict()
    with pytest.raises(ValueError, match="of 3 parameters; expected 4"):
        optimizer.load_state_dict(saved)
    with pytest.raises(ValueError, match="has 0 parts; expected 1"):
        optimizer.load_state_dict({"parts": []})


TRAIN = """
import sys
from tests.clicks import CPU, CTRTask, clicks, model_of
from deepfm.engine.loop import fit
model = model_of("deepfm", "training.num_epochs=1")
fit(CTRTask(model, model.config, clicks(rows=128), clicks(rows=64)), model.config.training, device=CPU)
print([name for name in ("torch._dynamo", "torch._inductor", "triton", "sympy") if name in sys.modules])
"""


def test_training_imports_no_compiler():
    """It takes seconds, and every short run and every command would pay them."""
    answer = subprocess.run([sys.executable, "-c", TRAIN], cwd=ROOT, capture_output=True, text=True)
    assert answer.stdout.splitlines()[-1] == "[]", answer.stderr
