"""FLOPs by hand: every expected number is the arithmetic of its layer, 2 for a multiplication and an addition."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from deepfm.analysis.measures.flops import measure_flops
from deepfm.analysis.subject import make_subject
from deepfm.errors import AnalysisError
from tests.analysis.faulty import FAULTS, Words
from tests.analysis.ranker import of, ranker_subject, unchanged
from tests.analysis.subjects import texts


def _encoder(rows: int, length: int, width: int, hidden: int) -> int:
    """Projections to queries, keys, values and out, scores and their sum, and two layers of the network."""
    attention = 4 * 2 * rows * length * width * width + 2 * 2 * rows * length * length * width
    return attention + 2 * 2 * rows * length * width * hidden


class Product(nn.Module):
    """Scores between two inputs, (B, L, D) and (B, M, D), by einsum."""

    def forward(self, left, right):
        return torch.einsum("bld,bmd->blm", left, right)


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(6, 6)

    def forward(self, x):
        return self.inner(torch.relu(self.inner(x)))


def _randn(*shape):
    return torch.randn(*shape, requires_grad=True)


B, L, D, H = 4, 5, 8, 12
CASES = {
    "linear": (lambda: nn.Linear(D, H), (B, D), 2 * B * D * H),
    "linear on sequences": (lambda: nn.Linear(D, H), (B, L, D), 2 * B * L * D * H),
    # 6 channels in 2 groups of 3 to 4 filters; 9 by 9 with padding 1, kernel 3, stride 2 gives 5 by 5
    "conv2d": (lambda: nn.Conv2d(6, 4, 3, stride=2, padding=1, groups=2), (B, 6, 9, 9), 2 * B * 5 * 5 * 4 * 3 * 3 * 3),
    "conv1d": (lambda: nn.Conv1d(D, H, 3), (B, D, 10), 2 * B * (10 - 2) * H * D * 3),
    "lstm": (lambda: nn.LSTM(D, H, batch_first=True), (B, L, D), L * (2 * B * D * 4 * H + 2 * B * H * 4 * H)),
    "two-layer lstm both ways": (
        lambda: nn.LSTM(D, H, 2, batch_first=True, bidirectional=True),
        (B, L, D),
        2 * L * 2 * B * 4 * H * ((D + H) + (2 * H + H)),
    ),
    "gru": (lambda: nn.GRU(D, H, batch_first=True), (B, L, D), L * (2 * B * D * 3 * H + 2 * B * H * 3 * H)),
    "rnn": (lambda: nn.RNN(D, H, batch_first=True), (B, L, D), L * (2 * B * D * H + 2 * B * H * H)),
    "encoder layer": (
        lambda: nn.TransformerEncoderLayer(D, 2, H, batch_first=True),
        (B, L, D),
        _encoder(B, L, D, H),
    ),
    "encoder of four layers": (
        lambda: nn.TransformerEncoder(nn.TransformerEncoderLayer(D, 2, H, batch_first=True), 4),
        (B, L, D),
        4 * _encoder(B, L, D, H),
    ),
    "one module called twice": (Twice, (B, 6), 2 * 2 * B * 6 * 6),
    "no product at all": (nn.ReLU, (B, D), 0),
}


# The state that a recurrent network starts from is nobody's, so its gradient is not computed: per layer and direction.
NO_GRADIENT = {
    "lstm": 2 * B * H * 4 * H,
    "two-layer lstm both ways": 4 * 2 * B * H * 4 * H,
    "gru": 2 * B * H * 3 * H,
    "rnn": 2 * B * H * H,
}


@pytest.mark.parametrize("name", CASES)
def test_forward_by_hand_in_both_modes(name):
    build, shape, expected = CASES[name]
    flops = measure_flops(of(build(), _randn(*shape)))
    assert (flops.forward, flops.forward_training) == (expected, expected)
    assert flops.backend == "meta"
    assert not flops.lower_bound
    assert (
        sum(operation.flops for operation in flops.operations) == flops.step == 3 * expected - NO_GRADIENT.get(name, 0)
    )
    assert flops.modules.get("") is None if expected == 0 else flops.modules[""].step == flops.step


@pytest.mark.parametrize("name", ["lstm", "gru", "rnn", "encoder layer", "conv2d"])
def test_the_real_device_gives_the_same(name, monkeypatch):
    build, shape, expected = CASES[name]

    def no_copy(_):
        raise RuntimeError("this model has no copy without values")

    monkeypatch.setattr("deepfm.analysis.measures.flops.meta_copy", no_copy)
    subject = of(build(), _randn(*shape))
    with unchanged(subject.model):
        flops = measure_flops(subject)
    step = 3 * expected - NO_GRADIENT.get(name, 0)
    assert (flops.backend, flops.forward, flops.step) == ("real", expected, step)
    large = measure_flops(subject, 100 * B)
    assert (large.backend, large.forward, large.step) == ("extrapolated", 100 * expected, 100 * step)
    assert large.modules[""].step == 100 * step


def test_attention_between_two_sequences():
    class Cross(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention = nn.MultiheadAttention(D, 2, batch_first=True)

        def forward(self, query, memory):
            return self.attention(query, memory, memory, need_weights=False)[0]

    projections = 2 * B * D * D * (3 + 2 * L + 3)  # queries, keys and values, out
    scores = 2 * 2 * B * 3 * L * D
    flops = measure_flops(of(Cross(), _randn(B, 3, D), _randn(B, L, D)))
    assert flops.forward == flops.forward_training == projections + scores
    assert flops.modules["attention"].forward == flops.forward


def test_einsum_and_bilinear():
    assert measure_flops(of(Product(), _randn(B, L, D), _randn(B, 3, D))).forward == 2 * B * L * 3 * D
    flops = measure_flops(of(nn.Bilinear(3, 5, 7), _randn(B, 3), _randn(B, 5)))
    assert flops.forward == 2 * B * 7 * 3 * 5 + 2 * B * 7 * 5  # x W, then times y
    assert not flops.lower_bound


def test_a_table_takes_no_product():
    ids = torch.zeros(B, L, dtype=torch.long)
    for table in (nn.Embedding(10, D), nn.EmbeddingBag(10, D)):
        flops = measure_flops(make_subject(table, (ids,), "probe"))
        assert (flops.forward, flops.step, flops.uncounted) == (0, 0, {})


def test_tied_weights_work_twice():
    flops = measure_flops(make_subject(Words(tied=True), texts(), "ce"))
    rows = 64 * 12
    assert flops.forward == 2 * rows * 24 * 24 * 2 + 2 * rows * 24 * 50
    assert flops.modules["decoder"].forward == 2 * rows * 24 * 50
    assert flops.modules["decoder"].step == 3 * 2 * rows * 24 * 50


def test_backward_belongs_to_the_module_that_asked_for_it():
    """Two inputs without gradients, used one after the other: each layer's own weight gradient and nothing else."""

    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.left, self.right, self.top = nn.Linear(6, 8), nn.Linear(10, 8), nn.Linear(8, 3)

        def forward(self, x, y):
            return self.top(torch.relu(self.left(x)) + torch.relu(self.right(y)))

    flops = measure_flops(of(Two(), torch.randn(B, 6), torch.randn(B, 10)))
    assert {name: (each.forward, each.step) for name, each in flops.modules.items() if name} == {
        "left": (2 * B * 6 * 8, 2 * 2 * B * 6 * 8),  # no gradient of the input
        "right": (2 * B * 10 * 8, 2 * 2 * B * 10 * 8),
        "top": (2 * B * 8 * 3, 3 * 2 * B * 8 * 3),
    }


def test_the_ranker_of_the_notes():
    subject = ranker_subject()
    encoder = 2 * _encoder(8, 20, 64, 256)
    own = 4 * 2 * 8 * 12 * 64 * 64 + 2 * 2 * 8 * 12 * 12 * 64
    other = 2 * 2 * 8 * 12 * 64 * 64 + 2 * 2 * 8 * 20 * 64 * 64 + 2 * 2 * 8 * 12 * 20 * 64
    decoder = 2 * (own + other + 2 * 2 * 8 * 12 * 64 * 256)
    linear = 2 * 8 * 20 * 32 * 64 + 2 * 8 * 12 * 48 * 64 + 2 * 8 * 12 * 64
    assert (encoder, decoder, linear) == (33_095_680, 28_835_840, 1_257_472)
    with unchanged(subject.model):
        flops = measure_flops(subject)
        large = measure_flops(subject, 1024)
    assert flops.forward == flops.forward_training == encoder + decoder + linear == 63_188_992
    assert flops.step == 188_321_792
    assert flops.modules["encoder"].forward == encoder
    assert flops.modules["decoder"].forward == decoder
    assert (large.rows, large.step, large.backend) == (1024, 24_105_189_376, "meta")
    assert large.forward_per_row == flops.forward_per_row


def test_torchs_own_counter_agrees_on_a_training_step():
    subject = ranker_subject()
    with subject.scratch() as model, FlopCounterMode(display=False) as counter:
        subject.loss_of(model, subject.batches[0]).backward()
    assert counter.get_total_flops() == 188_321_792


def test_a_model_that_reads_values_runs_for_real():
    case = FAULTS["item"].build()
    flops = measure_flops(make_subject(case.model, case.batches, case.loss))
    assert flops.backend == "real"
    assert flops.forward == 2 * 64 * (16 * 32 + 32 * 32 + 32)


def test_what_has_no_formula_makes_a_lower_bound():
    class Apart(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Linear(D, D)

        def forward(self, x):
            x = self.first(x)
            return torch.cdist(x, x) + torch.fft.rfft(x).abs().sum()

    flops = measure_flops(of(Apart(), torch.randn(B, D)))
    assert flops.lower_bound
    assert any("cdist" in name for name in flops.uncounted)
    assert any("fft" in name for name in flops.uncounted)
    assert 0.0 < flops.uncounted_share < 1.0
    assert not measure_flops(of(nn.Linear(D, D), torch.randn(B, D))).lower_bound


def test_without_a_gradient_there_is_a_forward_pass_only():
    subject = make_subject(nn.Linear(4, 1).requires_grad_(False), (torch.randn(3, 4), torch.zeros(3, 1)), F.mse_loss)
    flops = measure_flops(subject)
    assert (flops.forward, flops.step) == (2 * 3 * 4, None)
    assert "no gradient" in flops.skipped


def test_rows_must_be_some():
    with pytest.raises(AnalysisError, match="rows is 0"):
        measure_flops(of(nn.Linear(4, 1), torch.randn(3, 4)), 0)
