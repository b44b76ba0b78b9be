"""The range test against curvatures that are known, and where there is nothing to find."""

import math

import pytest
import torch
from torch import nn

from deepfm.analysis.measures.learning_rate import measure_learning_rates, read_curve, smooth
from deepfm.analysis.subject import make_subject
from tests.analysis.checks import assert_plain, assert_untouched, healthy_subject, subject_of
from tests.analysis.faulty import FAULTS

pytestmark = pytest.mark.usefixtures("one_thread")


class Bowl(nn.Module):
    """½ Σ λᵢ wᵢ², whatever the input."""

    def __init__(self, curvatures):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(len(curvatures)))
        self.register_buffer("curvatures", torch.tensor(curvatures))

    def forward(self, x):
        return 0.5 * (self.curvatures * self.weight**2).sum() + 0.0 * x.sum()


@pytest.mark.parametrize("curvatures", [(4.0,), (100.0, 20.0), (1000.0, 900.0, 1.0)])
def test_a_bowl_is_stable_up_to_two_over_its_curvature(curvatures):
    found = measure_learning_rates(make_subject(Bowl(curvatures), torch.ones(2, 1)), "sgd", lowest=1e-7, highest=10.0)
    bound = 2 / max(curvatures)
    assert bound / 3 < found.last_stable < 3 * bound
    assert found.suggestion <= found.last_stable / 10
    assert all(curve.diverged for curve in found.curves)


def test_a_steeper_bowl_wants_a_smaller_rate():
    rates = [
        measure_learning_rates(make_subject(Bowl((curvature,)), torch.ones(2, 1)), "sgd").suggestion
        for curvature in (1.0, 100.0)
    ]
    assert rates[0] == pytest.approx(100 * rates[1], rel=0.5)


def test_a_flat_loss_has_no_minimum():
    """Labels that nothing tells, on fresh noise in every batch: whatever falls is noise."""

    class Flat(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(3))

        def forward(self, x):
            return 1.0 + 0.3 * torch.randn(()) + 0.0 * self.weight.sum() + 0.0 * x.sum()

    found = measure_learning_rates(make_subject(Flat(), torch.ones(2, 1)))
    assert found.suggestion is None
    assert "no minimum found" in found.reason
    assert found.skipped is None


def test_a_loss_that_only_rises_has_no_minimum():
    losses = [1.0 + 0.001 * at for at in range(100)]
    curve = read_curve(0, [1e-7 * 1.17**at for at in range(100)], losses)
    assert curve.last_stable is None
    assert curve.fall < 0.02


def test_a_healthy_model_has_a_suggestion_below_what_is_stable():
    found = assert_untouched(healthy_subject("tower for classes"), measure_learning_rates)
    assert_plain(found)
    assert 5e-4 < found.suggestion < 5e-2
    assert found.suggestion_low <= found.suggestion <= found.suggestion_high <= found.last_stable_high / 10
    assert len(found.curves) == 3
    assert len({curve.losses for curve in found.curves}) == 3


def test_it_repeats():
    ours, theirs = (measure_learning_rates(healthy_subject("masked pooling")) for _ in range(2))
    assert ours == theirs


def test_what_cannot_be_trained_is_skipped_with_a_reason():
    frozen = healthy_subject("logistic regression")
    frozen.model.requires_grad_(False)
    assert "no parameter" in measure_learning_rates(frozen).skipped
    probed = make_subject(nn.Linear(4, 1), torch.randn(8, 4), "probe")
    assert "probe" in measure_learning_rates(probed).skipped
    broken = subject_of(FAULTS["square root of zero"].build())
    assert measure_learning_rates(broken).suggestion is None


def test_smoothing_has_no_bias_at_the_start():
    assert smooth([2.0] * 5) == pytest.approx([2.0] * 5)
    assert smooth([]) == []
    assert all(map(math.isfinite, smooth([1.0, 3.0])))
