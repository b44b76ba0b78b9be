"""The noise scale against a model whose gradients have a known mean and spread."""

import numpy as np
import pytest
import torch
from torch import nn

from deepfm.analysis.measures.noise import conclude, measure_noise
from deepfm.analysis.subject import make_subject
from tests.analysis.checks import assert_plain, assert_untouched, healthy_subject

pytestmark = pytest.mark.usefixtures("one_thread")


class Drift(nn.Module):
    """A loss whose gradient in a row is that row: w·x, so that tr(Σ) and |G|² are those of the inputs."""

    def __init__(self, width):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(width))

    def forward(self, x):
        return (x @ self.weight).mean()


def drifting(mean, deviation, rows=512, width=20, batches=1, seed=0):
    source = torch.Generator().manual_seed(seed)
    rows = [mean + deviation * torch.randn(rows, width, generator=source) for _ in range(batches)]
    return make_subject(Drift(width), rows)


@pytest.mark.parametrize("per_row", [True, False])
@pytest.mark.parametrize(("mean", "deviation"), [(0.5, 1.0), (0.2, 1.0)])
def test_planted_noise_is_found(mean, deviation, per_row):
    truth = deviation**2 / mean**2  # width cancels
    found = measure_noise(drifting(mean, deviation), per_row=per_row)
    assert found.method == ("per-row gradients" if per_row else "micro-batches")
    assert found.resolved
    assert 0.8 * found.low <= truth <= 1.25 * found.high
    assert found.noise_scale == pytest.approx(truth, rel=0.35)
    assert found.high < 4 * found.low


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    truth, hits, estimates = 4.0, 0, []
    for seed in range(40):
        found = measure_noise(drifting(0.5, 1.0, rows=200, seed=seed))
        hits += found.low <= truth <= found.high
        estimates.append(found.gradient_squared)
    assert hits >= 30  # of 36 that 90 % promise
    assert np.mean(estimates) == pytest.approx(20 * 0.25, rel=0.05)  # without bias


def test_both_ways_agree_on_a_network():
    subject = healthy_subject("tower for classes")
    ours, theirs = measure_noise(subject), measure_noise(subject, per_row=False)
    assert (ours.method, theirs.method) == ("per-row gradients", "micro-batches")
    assert ours.noise_scale == pytest.approx(theirs.noise_scale, rel=0.3)


def test_noise_without_a_gradient_is_not_resolved():
    found = measure_noise(drifting(0.0, 1.0, rows=64))
    assert not found.resolved
    assert found.noise_scale is None
    assert found.batch_rows is None
    assert found.rows_needed >= 2 * 64
    assert "not resolved" in found.reason


def test_a_wide_interval_is_not_an_answer():
    found = measure_noise(drifting(0.05, 1.0, rows=128, seed=1))
    assert not found.resolved
    assert f"at least {found.rows_needed} rows" in found.reason


def test_rows_that_see_each_other_go_to_micro_batches():
    found = measure_noise(healthy_subject("batch norm and dropout"))
    assert found.method == "micro-batches"
    assert found.rows_each >= 2
    assert "torch.func" in found.reason


def test_memory_caps_the_batch():
    subject = drifting(0.1, 1.0, rows=2048)
    free, capped = measure_noise(subject, rows=2048), measure_noise(subject, rows=2048, memory_rows=24)
    assert free.batch_rows == 128
    assert (capped.batch_rows, capped.batch_high) == (24, 24)
    assert free.batch_low <= free.batch_rows <= free.batch_high


def test_the_model_is_untouched():
    result = assert_untouched(healthy_subject("Transformer, norm first"), measure_noise)
    assert_plain(result)
    assert result.method == "per-row gradients"


def test_few_rows_are_refused():
    assert "3 gradients tell nothing" in conclude(np.eye(3), 1, "per-row gradients").skipped
    frozen = healthy_subject("logistic regression")
    frozen.model.requires_grad_(False)
    assert measure_noise(frozen).skipped
