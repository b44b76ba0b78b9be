"""Update ratios and gradient norms against hand-made ones."""

import pytest
import torch
from torch import nn

from deepfm.analysis.measures.updates import measure_updates
from deepfm.analysis.subject import make_subject
from tests.analysis.checks import assert_plain, assert_untouched, healthy_subject, subject_of
from tests.analysis.faulty import FAULTS

pytestmark = pytest.mark.usefixtures("one_thread")


def test_adams_first_step_moves_every_weight_by_the_rate():
    model = nn.Linear(4, 1)
    nn.init.constant_(model.weight, 0.5)
    nn.init.zeros_(model.bias)
    found = measure_updates(make_subject(model, (torch.ones(8, 4), torch.zeros(8)), "mse"), lr=0.01, steps=1)
    weight, bias = found.parameters
    assert (weight.name, bias.name) == ("weight", "bias")
    assert weight.ratio == pytest.approx(0.01 / 0.5, rel=1e-4)
    assert weight.later == weight.ratio
    assert bias.ratio is None
    assert found.ratio == pytest.approx((5 * 0.01**2) ** 0.5 / 1.0, rel=1e-4)
    # the loss is (4 · 0.5)²: every weight's gradient is 2 · 2, and the bias's too
    assert found.first_norm == pytest.approx(4 * 5**0.5, rel=1e-5)
    assert weight.gradient_norm == pytest.approx(8.0, rel=1e-5)


def test_norms_are_ordered_and_spikes_spread_them():
    calm = measure_updates(healthy_subject("tower for clicks"))
    assert calm.norm_min <= calm.norm_median <= calm.norm_p90 <= calm.norm_max
    assert len(calm.norms) == 30
    assert calm.spread < 3
    x, y = torch.randn(16, 4), torch.randn(16)
    batches = [(x, y)] * 9 + [(20 * x, y)]
    spiky = measure_updates(make_subject(nn.Linear(4, 1), batches, "mse"))
    assert spiky.spread > 10


def test_a_parameter_without_a_gradient_has_no_ratio():
    torch.manual_seed(0)
    found = measure_updates(subject_of(FAULTS["unused head"].build()))
    unused = [each for each in found.parameters if each.name.startswith("second_head")]
    assert [(each.gradient_norm, each.ratio, each.update_norm) for each in unused] == [(None, None, 0.0)] * 2


def test_sparse_gradients_are_counted():
    class Sparse(nn.Module):
        def __init__(self):
            super().__init__()
            self.table = nn.Embedding(10, 3, sparse=True)

        def forward(self, ids):
            return self.table(ids).sum(1)

    found = measure_updates(make_subject(Sparse(), (torch.tensor([1, 1, 2]), torch.zeros(3)), "mse"))
    assert found.parameters[0].gradient_norm > 0
    assert found.parameters[0].ratio > 0


def test_the_model_is_untouched():
    assert_plain(assert_untouched(healthy_subject("residual network"), lambda it: measure_updates(it, steps=3)))


def test_a_gradient_that_is_no_number_is_skipped():
    found = measure_updates(subject_of(FAULTS["square root of zero"].build()))
    assert "norm is nan" in found.skipped
    assert found.ratio is None
