"""The first loss by hand, and rows that can or cannot be learned by heart."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from deepfm.analysis.measures.overfit import forced_loss, measure_overfit
from deepfm.analysis.measures.start import measure_start
from deepfm.analysis.subject import make_subject
from tests.analysis.checks import assert_plain, assert_untouched, healthy_subject, subject_of
from tests.analysis.faulty import FAULTS

pytestmark = pytest.mark.usefixtures("one_thread")


def faulty_subject(name):
    torch.manual_seed(0)
    return subject_of(FAULTS[name].build(), name)


def test_bce_starts_at_ln_2_and_knows_its_labels():
    labels = torch.tensor([1.0, 0, 0, 0])
    found = measure_start(make_subject(nn.Linear(3, 1), (torch.randn(4, 3), labels), "bce"))
    assert found.kind == "bce"
    assert found.zero_loss == pytest.approx(math.log(2))
    assert found.label_entropy == pytest.approx(-(0.25 * math.log(0.25) + 0.75 * math.log(0.75)))
    assert found.ratio == pytest.approx(found.loss_eval / math.log(2))


def test_cross_entropy_starts_at_ln_c():
    classes = torch.tensor([0, 1, 1, 4])
    found = measure_start(make_subject(nn.Linear(3, 5), (torch.randn(4, 3), classes), "ce"))
    assert found.kind == "ce"
    assert found.zero_loss == pytest.approx(math.log(5), rel=1e-5)
    assert found.label_entropy == pytest.approx(1.5 * math.log(2))


def test_a_persons_own_loss_is_known_by_its_numbers():
    def own(output, target):
        return F.softplus(-output.squeeze(1) * (2 * target - 1)).mean()

    def another(output, target):
        return 1.01 * own(output, target)

    batch = (torch.randn(4, 3), torch.tensor([1.0, 0, 0, 1]))
    assert measure_start(make_subject(nn.Linear(3, 1), batch, own)).kind == "bce"
    assert measure_start(make_subject(nn.Linear(3, 1), batch, another)).kind is None


def test_outputs_are_described():
    model = nn.Linear(2, 1, bias=False)
    nn.init.constant_(model.weight, 1.0)
    found = measure_start(make_subject(model, (torch.tensor([[1.0, 1], [-3, -3]]), torch.zeros(2)), "mse"))
    assert (found.output_mean, found.output_deviation, found.output_max) == (-2.0, 4.0, 6.0)
    assert found.loss_eval == pytest.approx(20.0)


def test_an_exploding_start_is_seen_in_the_ratio():
    assert measure_start(faulty_subject("exploding init")).ratio > 100
    assert 0.7 < measure_start(healthy_subject("tower for clicks")).ratio < 1.3


def test_the_model_is_untouched():
    assert_plain(assert_untouched(healthy_subject("batch norm and dropout"), measure_start), {"kind"})
    assert_plain(assert_untouched(healthy_subject("batch norm and dropout"), measure_overfit))


@pytest.mark.parametrize(
    "name",
    [
        *("tower for clicks", "logistic regression", "batch norm and dropout", "Transformer, norm last"),
        *("a dict of ids", "auto-encoder", "frozen backbone", "GRU"),
    ],
)
def test_a_healthy_model_learns_rows_by_heart(name):
    found = measure_overfit(healthy_subject(name))
    assert found.passed, found
    assert found.share <= 0.05
    assert found.curve[0] > found.curve[-1]
    assert found.rows in (4, 8, 32)


@pytest.mark.parametrize("name", ["dead layer", "sigmoid before BCE with logits", "softmax before cross-entropy"])
def test_a_broken_model_does_not(name):
    found = measure_overfit(faulty_subject(name), rows=(32, 8), rates=(0.01, 0.1))
    assert found.passed is False
    assert found.share > 0.3


def test_a_frozen_model_is_skipped_and_a_detached_one_fails():
    frozen = healthy_subject("tower for clicks")
    frozen.model.requires_grad_(False)
    assert measure_overfit(frozen).passed is None
    assert "no parameter" in measure_overfit(frozen).skipped

    class Cut(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.bias = nn.Linear(16, 1), nn.Parameter(torch.zeros(1))

        def forward(self, x):
            return self.body(x).detach() + self.bias

    batches = [(torch.randn(64, 16), (torch.arange(64) % 2).float())]
    assert measure_overfit(make_subject(Cut(), batches, "bce")).passed is False


def test_an_unknown_loss_is_left_open_where_it_falls_to_a_floor_of_its_own():
    class Floored(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.tensor(3.0))

        def forward(self, x):
            return self.weight**2 + 1.0 + 0.0 * x.sum()

    found = measure_overfit(make_subject(Floored(), torch.ones(8, 1)))
    assert found.passed is None
    assert "not known" in found.note


def test_contradicting_labels_force_a_loss():
    keys = [b"a", b"a", b"b", b"c"]
    assert forced_loss("bce", keys, torch.tensor([0.0, 1, 1, 0])) == pytest.approx(math.log(2) / 2)
    assert forced_loss("mse", keys, torch.tensor([0.0, 2, 5, 5])) == pytest.approx(0.5)
    assert forced_loss("ce", [b"a"] * 4, torch.tensor([0, 1, 2, 3])) == pytest.approx(math.log(4))
    assert forced_loss(None, keys, torch.zeros(4)) == 0.0
    x = torch.randn(8, 16).repeat(2, 1)
    labels = torch.cat([torch.zeros(8), torch.tensor([1.0, 1, 0, 0, 0, 0, 0, 0])])
    found = measure_overfit(
        make_subject(nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 1)), (x, labels), "bce")
    )
    assert found.floor == pytest.approx(0.25 * math.log(2), rel=1e-6)
    assert found.passed
