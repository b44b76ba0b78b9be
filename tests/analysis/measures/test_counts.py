"""Parameters, their bytes, and the state of optimizers, by hand."""

import pytest
import torch
from torch import nn

from deepfm.analysis.measures.counts import measure_counts
from deepfm.analysis.subject import make_subject
from tests.analysis.faulty import Words
from tests.analysis.ranker import of, ranker_subject, unchanged
from tests.analysis.subjects import texts

TENSORS = 2
VALUES = 10 * 4 + 4


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("sgd", 0),
        ("momentum", 4 * VALUES),
        ("adam", 2 * 4 * VALUES + 4 * TENSORS),  # two moments, and a step in float32 for each tensor
        ("adamw", 2 * 4 * VALUES + 4 * TENSORS),
        ("adagrad", 4 * VALUES + 4 * TENSORS),
    ],
)
def test_optimizer_state_by_hand(name, expected):
    subject = of(nn.Linear(10, 4), torch.randn(3, 10))
    with unchanged(subject.model):
        assert measure_counts(subject).optimizer_bytes[name] == expected


def test_the_ranker_of_the_notes():
    counts = measure_counts(ranker_subject())
    assert (counts.total, counts.trainable, counts.frozen, counts.buffers) == (238_792, 238_792, 0, 3)
    assert (counts.fp32_bytes, counts.parameter_bytes) == (955_168, {"float32": 955_168})
    assert counts.gradient_bytes == {"float32": 955_168 - 7 * 4}  # seven values that the loss does not reach
    assert counts.optimizer_bytes["momentum"] == 955_168 - 7 * 4
    assert (counts.buffer_bytes, counts.tied) == (12, ())
    own = {module.name: module for module in counts.modules}
    assert (own["events"].parameters, own["head"].parameters, own[""].parameters) == (32 * 64 + 64, 64 + 1, 7)
    assert sum(module.parameters for module in counts.modules) == counts.total
    assert sum(module.share for module in counts.modules) == pytest.approx(1.0)


def test_tied_parameters_count_once_in_their_first_place():
    counts = measure_counts(make_subject(Words(tied=True), texts(), "ce"))
    assert counts.total == 50 * 24 + 2 * (24 * 24 + 24)
    assert counts.tied == (("table.weight", "decoder.weight"),)
    assert counts.tied_values == 50 * 24
    own = {module.name: module.parameters for module in counts.modules}
    assert (own["table"], own["decoder"]) == (50 * 24, 0)
    assert counts.optimizer_bytes["momentum"] == 4 * counts.total


def test_two_parameters_over_one_storage_are_tied():
    model = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False))
    model[1].weight = nn.Parameter(model[0].weight.data)
    counts = measure_counts(of(model, torch.randn(3, 4)))
    assert (counts.total, counts.tied) == (16, (("0.weight", "1.weight"),))


def test_frozen_parts_and_other_types():
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2)).double()
    model[0].requires_grad_(False)
    counts = measure_counts(of(model, torch.randn(3, 4, dtype=torch.float64)))
    assert (counts.trainable, counts.frozen) == (4 * 2 + 2, 4 * 4 + 4)
    assert counts.parameter_bytes == {"float64": 8 * 30}
    assert counts.gradient_bytes == {"float64": 8 * 10}
    assert (counts.fp32_bytes, counts.optimizer_bytes["momentum"]) == (4 * 30, 8 * 10)


@pytest.mark.filterwarnings("ignore:Sparse invariant")
def test_an_optimizer_that_refuses_sparse_gradients_is_skipped():
    ids = torch.zeros(3, dtype=torch.long)
    counts = measure_counts(make_subject(nn.Embedding(10, 4, sparse=True), (ids,), "probe"))
    assert "adam" in counts.optimizer_skipped
    assert counts.optimizer_bytes["sgd"] == 0
    assert counts.gradient_bytes == {"float32": 3 * 8 + 3 * 4 * 4}  # three indices and three rows


def test_a_model_without_parameters():
    counts = measure_counts(of(nn.ReLU(), torch.randn(3, 4, requires_grad=True)))
    assert (counts.total, counts.optimizer_bytes["adam"], counts.fp32_bytes) == (0, 0, 0)
