"""A wrong backward pass is found and named, and kinks, padding and odd models raise no false alarm."""

import subprocess
import sys

import pytest
import torch
from torch import nn

from deepfm.analysis.measures.gradcheck import measure_gradcheck
from deepfm.analysis.subject import make_subject
from tests.analysis.checks import assert_plain, assert_untouched, healthy_subject, subject_of
from tests.analysis.faulty import FAULTS
from tests.clicks import SCHEMA, clicks, model_of

pytestmark = pytest.mark.usefixtures("one_thread")


class Wrong(torch.autograd.Function):
    """A square whose backward forgets the factor, by how much `share` says."""

    @staticmethod
    def forward(ctx, x, share):
        ctx.save_for_backward(x)
        ctx.share = share
        return x**2

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return 2 * x * grad * ctx.share, None


class Net(nn.Module):
    def __init__(self, share):
        super().__init__()
        self.share = share
        self.first, self.scale, self.head = nn.Linear(5, 7), nn.Parameter(torch.ones(())), nn.Linear(7, 1)

    def forward(self, x):
        return self.head(Wrong.apply(self.first(x), self.share)) * self.scale


@pytest.mark.parametrize("share", [0.5, 1.05, -1.0])
def test_a_wrong_backward_is_found_and_named(share):
    torch.manual_seed(0)
    found = measure_gradcheck(make_subject(Net(share), (torch.randn(6, 5), torch.zeros(6)), "mse"))
    assert found.passed is False
    assert {place.name for place in found.failures} == {"x", "first.weight", "first.bias"}
    assert found.worst in {"x", "first.weight", "first.bias"}
    assert found.attempts == 3
    place = found.failures[0]
    assert place.error == pytest.approx(abs(1 - share) if share < 1 else abs(share - 1) / share, rel=0.05) or share < 0
    assert_plain(found)


def test_the_same_with_a_right_backward_passes():
    torch.manual_seed(0)
    found = measure_gradcheck(make_subject(Net(1.0), (torch.randn(6, 5), torch.zeros(6)), "mse"))
    assert (found.passed, found.checked, found.inputs, found.attempts) == (True, 6, 1, 1)


@pytest.mark.parametrize("name", ["auto-encoder", "LSTM", "tied words", "a dict of ids", "graph network", "mixer"])
def test_a_healthy_model_passes(name):
    found = measure_gradcheck(healthy_subject(name))
    assert found.passed, found
    assert found.checked == found.total


def test_a_model_of_the_package_passes():
    features, labels = clicks(SCHEMA, rows=16).batch(torch.arange(16))
    found = measure_gradcheck(make_subject(model_of(), (dict(features), labels), "bce"), budget_seconds=30)
    assert found.passed, found


def test_kinks_and_padding_are_no_faults():
    class Kinked(nn.Module):
        def __init__(self):
            super().__init__()
            self.table = nn.Embedding(9, 4, padding_idx=0)
            nn.init.normal_(self.table.weight)
            self.head = nn.Linear(4, 1)

        def forward(self, ids, x):
            return self.head(self.table(ids).sum(1) * torch.relu(x))

    torch.manual_seed(0)
    subject = make_subject(Kinked(), ((torch.tensor([[0, 1], [2, 3]]), torch.zeros(2, 4)), torch.zeros(2)), "mse")
    found = measure_gradcheck(subject)
    assert found.passed, found
    assert found.attempts > 1


def test_a_cut_graph_is_no_derivative():
    torch.manual_seed(0)
    found = measure_gradcheck(subject_of(FAULTS["detach"].build()))
    assert found.passed is False
    assert {place.name for place in found.failures} == {"x", "first.weight", "first.bias"}


def test_integer_inputs_leave_the_parameters():
    found = measure_gradcheck(healthy_subject("tied words"))
    assert (found.inputs, found.parameters) == (0, found.checked)


class Single(nn.Linear):
    def forward(self, x):
        return super().forward(x.float()) if self.weight.dtype == torch.float32 else (x @ self.weight.T).float()


class Down(nn.Module):
    def forward(self, x):
        return torch.tanh(x.float()).to(x.dtype)


def test_what_cannot_be_checked_says_why():
    batch = (torch.randn(4, 3), torch.zeros(4))
    assert "float32" in measure_gradcheck(make_subject(Single(3, 1), batch, "mse")).skipped
    inside = nn.Sequential(nn.Linear(3, 3), Down(), nn.Linear(3, 1))
    assert "float32" in measure_gradcheck(make_subject(inside, batch, "mse")).skipped
    unregistered = measure_gradcheck(subject_of(FAULTS["layers in a list"].build()))
    assert unregistered.passed is None
    assert "Double" in unregistered.skipped


def test_the_model_is_untouched():
    found = assert_untouched(healthy_subject("batch norm and dropout"), measure_gradcheck)
    assert found.passed


def test_it_does_not_import_the_compiler():
    """Which takes ten seconds and more on a busy machine, of the minute that an analysis has."""
    lines = (
        "import sys, torch; from deepfm.analysis.measures.gradcheck import measure_gradcheck",
        "from deepfm.analysis.subject import make_subject",
        "case = make_subject(torch.nn.Linear(3, 1), (torch.ones(4, 3), torch.zeros(4)), 'mse')",
        "assert measure_gradcheck(case).passed",
        "assert 'torch._dynamo' not in sys.modules",
    )
    subprocess.run([sys.executable, "-c", "\n".join(lines)], check=True)


def test_the_budget_leaves_parameters_unchecked():
    found = measure_gradcheck(healthy_subject("Transformer, norm first"), budget_seconds=0.0)
    assert found.checked <= 2
    assert found.total > 20
