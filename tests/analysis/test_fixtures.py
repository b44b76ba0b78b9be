"""The fixtures themselves: every model runs, and has a loss with a gradient or the fault that takes it away."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tests.analysis.faulty import FAULTS
from tests.analysis.healthy import HEALTHY

LOSSES = {
    "bce": lambda output, target: F.binary_cross_entropy_with_logits(output.squeeze(), target.squeeze()),
    "ce": F.cross_entropy,
    "mse": F.mse_loss,
}


def _loss(case, batch):
    if case.loss is None:
        return case.model(batch)
    inputs, target = batch
    output = case.model(*inputs) if isinstance(inputs, tuple) else case.model(inputs)
    return (LOSSES[case.loss] if isinstance(case.loss, str) else case.loss)(output, target)


@pytest.mark.parametrize("name", FAULTS)
@pytest.mark.filterwarnings("ignore:Using a target size")
def test_a_faulty_model_runs(name):
    torch.manual_seed(0)
    case = FAULTS[name].build()
    if name == "batch norm of one row":
        with pytest.raises(ValueError, match="more than 1 value"):
            _loss(case, case.batches[0])
        case.model.eval()
    assert _loss(case, case.batches[0]).ndim == 0


@pytest.mark.parametrize("name", HEALTHY)
def test_a_healthy_model_learns(name):
    torch.manual_seed(0)
    case = HEALTHY[name]()
    optimizer = torch.optim.Adam([p for p in case.model.parameters() if p.requires_grad], lr=0.01)
    losses = []
    for step in range(60):
        loss = _loss(case, case.batches[step % len(case.batches)])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert sum(losses[-3:]) < 0.85 * sum(losses[:3])


def test_there_are_enough_of_each():
    assert len(FAULTS) >= 25
    assert len(HEALTHY) >= 20
    assert all(isinstance(build().model, nn.Module) for build in HEALTHY.values())
