"""The roofline, by hand; and a machine that is measured."""

import pytest
import torch
from torch import nn

from deepfm.analysis.measures.counts import measure_counts
from deepfm.analysis.measures.flops import measure_flops
from deepfm.analysis.measures.machine import ACCELERATORS, Machine, measure_machine, measure_roofline, roofline
from deepfm.analysis.measures.memory import measure_memory
from deepfm.analysis.subject import make_subject
from tests.analysis.ranker import total, unchanged

WEIGHTS = 4 * (6 * 10 + 10 + 10 * 2 + 2)
TENSORS = 4


def measured(machine, **options):
    model = nn.Sequential(nn.Linear(6, 10), nn.ReLU(), nn.Linear(10, 2))
    subject = make_subject(model, (torch.randn(8, 6), torch.zeros(8, 2)), total)
    parts = measure_counts(subject), measure_flops(subject), measure_memory(subject)
    with unchanged(model):
        return measure_roofline(subject, *parts, machine=machine, **options)


def test_the_longer_of_computing_and_moving():
    assert roofline(flops=100.0, moved=10.0, peak=50.0, bandwidth=10.0) == 2.0
    assert roofline(flops=100.0, moved=40.0, peak=50.0, bandwidth=10.0) == 4.0


def test_a_small_network_by_hand():
    found = measured(Machine("slow", 1000.0, 4000.0, None, "measured"), dataset_rows=20)
    activations, inputs = 4 * 8 * 10, 4 * 8 * 6
    forward_flops = 2 * 8 * (6 * 10 + 10 * 2)
    step_flops = forward_flops + 2 * 8 * (6 * 10 + 2 * 10 * 2)  # no gradient of the input
    forward_bytes = WEIGHTS + inputs + 2 * activations
    moments = 2 * WEIGHTS + 4 * TENSORS
    step_bytes = 2 * WEIGHTS + inputs + 4 * activations + 2 * WEIGHTS + 2 * WEIGHTS + 2 * moments
    assert (found.forward_bytes, found.step_bytes) == (forward_bytes, step_bytes)
    assert found.forward_intensity == forward_flops / forward_bytes
    assert found.step_intensity == step_flops / step_bytes
    assert (found.ridge, found.bound) == (4.0, "memory")
    here = found.times[0]
    assert here.step == step_bytes / 1000.0 > step_flops / 4000.0
    assert here.forward == forward_bytes / 1000.0
    assert (found.steps_per_epoch, found.epoch) == (3, 3 * here.step)
    assert [each.name for each in found.times[1:]] == ["V100", "A100", "H200", "M2"]
    assert all(each.source.startswith("assumed") for each in found.times[1:])
    a100 = found.times[2]
    assert a100.step == step_bytes / 2039e9
    assert a100.step_half == (step_bytes - 2 * activations) / 2039e9
    assert found.times[1].step_half is None


def test_a_slow_processor_is_what_binds():
    found = measured(Machine("dull", 1e9, 10.0, None, "measured"), measured_step=1000.0, dataset_rows=16)
    assert found.bound == "compute"
    assert found.times[0].bound == "compute"
    assert found.achieved == found.times[0].step / 1000.0
    assert found.epoch == 2 * 1000.0


def test_tables_are_not_read_whole():
    subject = make_subject(nn.Embedding(1000, 4), (torch.zeros(8, dtype=torch.long), torch.zeros(8, 4)), total)
    parts = measure_counts(subject), measure_flops(subject), measure_memory(subject)
    found = measure_roofline(subject, *parts, machine=Machine("any", 1.0, 1.0, None, "measured"))
    assert found.forward_bytes == 8 * 8
    assert found.step_bytes > 4 * 4 * 4000  # but a dense gradient and the moments are


def test_this_machine_is_measured_once():
    machine = measure_machine("cpu")
    assert machine is measure_machine("cpu")
    assert 1e8 < machine.bandwidth < 1e13
    assert 1e8 < machine.fp32 < 1e15
    assert machine.source == "measured"


@pytest.mark.parametrize("machine", ACCELERATORS, ids=lambda machine: machine.name)
def test_named_accelerators_are_of_the_right_order(machine):
    assert 50e9 < machine.bandwidth < 10e12
    assert machine.half is None or machine.half > machine.fp32
