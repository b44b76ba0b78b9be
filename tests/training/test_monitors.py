"""What is seen inside a model while it is evaluated."""

import numpy as np
import pytest
import torch
from torch import nn

from deepfm.training.monitors import Monitor, monitored
from tests.clicks import model_of


def test_a_monitor_counts_what_numpy_counts():
    values = np.random.default_rng(0).beta(2, 5, (300, 7)).astype(np.float32)
    monitor = Monitor()
    for part in np.array_split(values, 4):
        monitor.add(torch.from_numpy(part))
    seen = monitor.to_dict()
    assert seen["rows"] == 300
    assert seen["mean"] == pytest.approx(values.mean(), abs=1e-6)
    assert seen["spread"] == pytest.approx(values.std(), abs=1e-6)
    np.testing.assert_allclose(seen["by_dimension"]["mean"], values.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(seen["by_dimension"]["spread"], values.std(axis=0), atol=1e-5)
    np.testing.assert_allclose(seen["histogram"], np.histogram(values, 20, (0, 1))[0] / values.size, atol=1e-3)


def test_nothing_seen_says_nothing():
    assert Monitor().summary() == Monitor().to_dict() == {}


def test_watching_ends_with_the_block():
    model, part = model_of(), nn.Identity()
    model.monitors = lambda: {"share": part}
    with monitored(model) as monitors:
        part(torch.full((4, 2), 0.25))
    part(torch.ones(4, 2))
    assert monitors["share"].summary() == {"mean": 0.25, "spread": 0.0}
    assert not part._forward_hooks


def test_watching_ends_with_an_error_too():
    model, part = model_of(), nn.Identity()
    model.monitors = lambda: {"share": part}
    with pytest.raises(RuntimeError, match="broke"), monitored(model):
        raise RuntimeError("broke")
    assert not part._forward_hooks
