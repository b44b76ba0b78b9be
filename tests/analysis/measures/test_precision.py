"""Low precision: what it loses, where, and at which scale of the loss."""

import pytest
import torch
from torch import nn

from deepfm.analysis.measures.precision import measure_precision, relative_error
from deepfm.analysis.measures.quantization import measure_quantization
from deepfm.analysis.subject import make_subject
from tests.analysis.checks import package_subject
from tests.analysis.healthy import HEALTHY
from tests.analysis.ranker import of, ranker_subject, total, unchanged


def steady(run, seconds, threads):
    run()
    return [1.0, 1.0, 1.0, 1.0]


def test_the_error_by_hand():
    assert relative_error(torch.tensor([3.0, 0.0]), torch.tensor([3.0, 4.0])) == pytest.approx(4 / 5)
    assert relative_error(torch.tensor([torch.inf]), torch.tensor([1.0])) is None


def test_half_precision_rounds_as_its_type_does():
    subject = of(nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 8)), torch.randn(32, 64))
    with unchanged(subject.model):
        bfloat, half = measure_precision(subject)
    assert (bfloat.dtype, half.dtype) == ("bfloat16", "float16")
    assert 2**-10 < bfloat.output_error < 2**-5
    assert 2**-13 < half.output_error < 2**-8
    assert bfloat.needs_fp32 == half.needs_fp32 == ()
    assert bfloat.underflow[1] < 0.01


def test_small_gradients_vanish_in_half_and_a_scale_saves_them():
    def tiny(output, _):
        return 1e-7 * output.sum()

    subject = make_subject(nn.Linear(8, 4), (0.01 * torch.rand(4, 8) + 0.01, torch.zeros(4, 4)), tiny)
    _, half = measure_precision(subject)
    assert half.underflow[1] > 0.8  # a step of float16 near zero is 6e-8; the weights' gradients are near 6e-9
    assert half.underflow[1024] == 0.0


def test_a_module_that_cancels_wants_float32():
    class Cancels(nn.Module):
        def __init__(self):
            super().__init__()
            self.fine = nn.Linear(8, 8)
            self.poor = nn.Linear(8, 1)
            with torch.no_grad():
                self.poor.weight.copy_(torch.tensor([[1000.0, -1000.0, 0, 0, 0, 0, 0, 0]]))
                self.fine.bias.zero_()
                self.poor.bias.zero_()
                self.fine.weight.copy_(torch.eye(8))
                self.fine.weight[1] = self.fine.weight[0] * 1.001

        def forward(self, x):
            return self.poor(self.fine(x))

    bfloat, _ = measure_precision(make_subject(Cancels(), (torch.rand(16, 8) + 1, torch.zeros(16, 1)), total))
    assert [each.name for each in bfloat.needs_fp32] == ["poor"]


def test_overflow_is_seen():
    class Large(nn.Linear):
        def forward(self, x):
            return super().forward(x * 1e6)

    _, half = measure_precision(make_subject(Large(8, 4), (torch.rand(4, 8), torch.zeros(4, 4)), total))
    assert half.output_error is None
    assert [(each.name, each.overflows) for each in half.needs_fp32] == [("", True)]


def test_int8_by_hand():
    subject = of(nn.Sequential(nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 512)), torch.randn(16, 512))
    with unchanged(subject.model):
        found = measure_quantization(subject, clock=steady)
    assert found.modules == ("0", "2")
    assert found.bytes_before == pytest.approx(4 * 2 * 512 * 513, rel=0.05)
    assert found.bytes_after == pytest.approx(2 * (512 * 512 + 4 * 512), rel=0.05)  # weights of a byte, biases of four
    assert 0.001 < found.output_change < 0.05
    assert (found.enough, found.speedup) == (True, 1.0)
    assert "enough" in found.advice


def test_int8_of_a_transformer_and_of_a_recurrent_network():
    assert "encoder.layers.0.linear1" in measure_quantization(ranker_subject(), clock=steady).modules
    case = HEALTHY["LSTM"]()
    found = measure_quantization(make_subject(case.model, case.batches, case.loss), clock=steady)
    assert found.modules == ("body", "head")


def test_nothing_to_quantise_is_said():
    assert "no Linear" in measure_quantization(of(nn.Conv1d(3, 4, 3), torch.randn(2, 3, 8)), clock=steady).skipped


def test_int8_of_a_model_whose_fields_are_projected():
    found = measure_quantization(package_subject(), clock=lambda run, seconds, threads: [1.0] * 4)
    assert found.skipped is None
    assert any(name.startswith("embedding.projections") for name in found.modules)
    assert 0 < found.output_change < 0.05
