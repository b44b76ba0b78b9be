"""Batch sizes, checkpoints, lengths and communication, by hand."""

import pytest
import torch
from torch import nn

from deepfm.analysis.measures.checkpointing import measure_checkpointing, repeated_parts
from deepfm.analysis.measures.counts import measure_counts
from deepfm.analysis.measures.flops import measure_flops
from deepfm.analysis.measures.lengths import measure_lengths, square
from deepfm.analysis.measures.memory import Memory, measure_memory
from deepfm.analysis.measures.scaling import Fit, cluster_of, measure_scaling, rows_that_fit
from deepfm.analysis.subject import make_subject
from tests.analysis.checks import package_subject
from tests.analysis.healthy import HEALTHY
from tests.analysis.ranker import of, ranker_subject, total, unchanged

GIB = 1 << 30


def scaling_of(subject, **options):
    parts = measure_counts(subject), measure_flops(subject), measure_memory(subject)
    with unchanged(subject.model):
        return measure_scaling(subject, *parts, **options)


def line(fixed, per_row):
    return Memory(None, fixed, per_row, (), 0.0, True, None)


def test_rows_that_fit_by_hand():
    # 0.9 of 10 GiB, less 1 GiB of state and 1 GiB that every batch takes, at 0.5 GiB a row
    assert rows_that_fit(line(GIB, GIB / 2), GIB, 10.0) == Fit(10.0, 14, 8)
    assert rows_that_fit(line(0.0, float(GIB)), 20 * GIB, 10.0) == Fit(10.0, 0, 0)


def test_accumulation_by_hand():
    cluster = cluster_of(Fit(12.0, 100, 64), devices=8, target_rows=4096)
    assert (cluster.steps, cluster.rows, cluster.global_rows) == (6, 86, 6 * 86 * 8)  # 512 a device, at most 100 each
    assert cluster_of(Fit(12.0, 1000, 512), devices=8, target_rows=4096).steps == 1
    assert cluster_of(Fit(12.0, 0, 0), devices=8, target_rows=4096) is None


def test_communication_by_hand():
    subject = of(nn.Sequential(nn.Linear(6, 10), nn.BatchNorm1d(10), nn.Linear(10, 2)), torch.randn(8, 6))
    found = scaling_of(subject, devices=4, step_seconds=0.5)
    gradients = 4 * (70 + 20 + 22)
    assert found.synchronised_bytes == 2 * 3 / 4 * gradients
    ethernet = found.exchanges[0]
    assert ethernet.seconds == found.synchronised_bytes / 1.25e9
    assert ethernet.step_share == ethernet.seconds / 0.5
    assert found.batch_norms == ("1",)
    assert found.parallelism == "data"
    assert scaling_of(subject, gibibytes=1e-6).parallelism == "model"


def test_a_large_table_wants_sparse_gradients():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.items, self.kinds, self.head = nn.Embedding(1000, 4), nn.Embedding(3, 4), nn.Linear(4, 1)

        def forward(self, items, kinds):
            return self.head(self.items(items) + self.kinds(kinds))

    ids = torch.tensor([1, 5, 5, 7])
    found = scaling_of(make_subject(Model(), ((ids, ids % 3), torch.zeros(4, 1)), total))
    items, kinds = found.tables
    assert (items.name, items.rows, items.width, items.bytes, items.touched) == ("items", 1000, 4, 16_000, 3 / 1000)
    assert "sparse" in items.advice
    assert (kinds.touched, kinds.advice) == (2 / 3, "")


def test_checkpoints_of_the_ranker_keep_inputs_alone():
    subject = ranker_subject()
    flops = measure_flops(subject)
    with unchanged(subject.model):
        found = measure_checkpointing(subject, flops)
    assert found.modules == ("encoder.layers.0", "encoder.layers.1", "decoder.layers.0", "decoder.layers.1")
    assert found.bytes_before == 4_355_584
    streams = 4 * 8 * 64 * (2 * 20 + 2 * 12)  # the input of each layer
    others = 4 * 8 * 64 * (20 + 12) + 4 * 8 * 20  # the encoder's and the decoder's results; the mask as numbers
    assert found.bytes_after == pytest.approx(streams + others, rel=0.02)
    assert found.saved_share == 1 - found.bytes_after / found.bytes_before
    assert found.extra_flops == 33_095_680 + 28_835_840
    assert found.extra_share == found.extra_flops / 188_321_792


def test_only_parts_with_parts_of_their_own_are_worth_a_checkpoint():
    block = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
    assert repeated_parts(nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))) == ()
    model = nn.ModuleDict({"blocks": nn.ModuleList([block, nn.Sequential(nn.Linear(4, 4))]), "head": nn.Linear(4, 1)})
    assert repeated_parts(model) == ("blocks.0", "blocks.1")
    found = measure_checkpointing(of(nn.Linear(4, 1), torch.randn(2, 4)))
    assert "no part" in found.skipped


def test_a_parabola_by_hand():
    assert square((8, 4, 2), (3 + 5 * 8 + 7 * 64, 3 + 5 * 4 + 7 * 16, 3 + 5 * 2 + 7 * 4)) == (3, 5, 7)


def test_the_quadratic_share_of_attention_by_hand():
    class Attention(nn.Module):
        def forward(self, x):
            return torch.softmax(x @ x.transpose(1, 2), dim=-1) @ x

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.enter, self.mix = nn.Linear(6, 10), Attention()

        def forward(self, x):
            return self.mix(self.enter(x))

    subject = make_subject(Model(), (torch.randn(8, 16, 6), torch.zeros(8, 16, 10)), total)
    with unchanged(subject.model):
        (growth,) = measure_lengths(subject).growths
    quadratic, linear = 3 * 2 * 2 * 8 * 16 * 16 * 10, 2 * 2 * 8 * 16 * 6 * 10
    assert (growth.length, growth.dimension) == (16, 1)
    assert growth.flops_share == pytest.approx(quadratic / (quadratic + linear))
    assert growth.doubled_flops == pytest.approx((4 * quadratic + 2 * linear) / (quadratic + linear))
    # four rows: softmax's result is held, and the projection once, which both products share
    assert growth.bytes_share == pytest.approx(16 * 16 / (16 * 16 + 16 * 10), rel=0.02)


def test_features_are_no_length():
    assert measure_lengths(of(nn.Linear(16, 4), torch.randn(8, 16))).growths == ()
    assert "no input" in measure_lengths(of(nn.Linear(16, 4), torch.randn(8, 16))).skipped


def test_a_recurrent_network_grows_with_the_length_alone():
    case = HEALTHY["GRU"]()
    (growth,) = measure_lengths(make_subject(case.model, case.batches, case.loss)).growths
    assert growth.length == 10
    assert growth.flops_share == pytest.approx(0.0, abs=1e-9)


def test_tables_that_are_no_embeddings_of_torch_say_so():
    found = scaling_of(package_subject())
    assert {table.width for table in found.tables} == {1, 3, 4, 5}  # the first order, and the fields' own widths
    assert all(table.touched is not None and 0 < table.touched < 1 for table in found.tables)
