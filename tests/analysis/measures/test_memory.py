"""What autograd holds, by hand and by walking its graph; its growth with the rows; the peak."""

import pytest
import torch
from torch import nn

from deepfm.analysis.batch import tensors
from deepfm.analysis.measures import memory as memory_module
from deepfm.analysis.measures.memory import fit, measure_memory
from deepfm.analysis.subject import make_subject
from tests.analysis.healthy import HEALTHY
from tests.analysis.ranker import of, ranker_subject, total, unchanged


def held_by_graph(loss, model, batch) -> int:
    """Bytes of distinct storages that the nodes behind a loss hold, by their own attributes and no hook."""
    left = {part.untyped_storage().data_ptr() for part in (*model.parameters(), *model.buffers())}
    left |= {leaf.untyped_storage().data_ptr() for leaf in tensors(batch.args, batch.kwargs, batch.target)}
    nodes, seen, found = [loss.grad_fn], set(), {}
    while nodes:
        node = nodes.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        nodes += [following for following, _ in node.next_functions]
        for name in dir(node):
            if name.startswith("_saved_"):
                for tensor in tensors(getattr(node, name)):
                    storage = tensor.untyped_storage()
                    if storage.data_ptr() not in left and tensor.numel():
                        found[storage.data_ptr()] = storage.nbytes()
    return sum(found.values())


def test_the_ranker_of_the_notes():
    subject = ranker_subject()
    with unchanged(subject.model):
        memory = measure_memory(subject)
    activations = memory.activations
    assert activations.bytes + activations.input_bytes == 4_394_496
    assert activations.storages + activations.input_storages == 109
    assert activations.input_bytes == 4 * 8 * (20 * 32 + 12 * 48)
    assert activations.modules[""] == activations.bytes
    assert memory.linear
    assert memory.per_row * 8 == activations.bytes
    peak = memory.peak
    assert peak.source == "MemTracker"
    assert (peak.parameters, peak.optimizer) == (955_168, 2 * 4 * (238_792 - 7) + 4 * 66)
    assert peak.activations == pytest.approx(activations.bytes, rel=0.02)
    assert peak.total >= peak.parameters + peak.optimizer + peak.activations


@pytest.mark.parametrize("name", [name for name in HEALTHY if "own loss" not in name])
def test_within_two_percent_of_what_the_graph_holds(name):
    case = HEALTHY[name]()
    subject = make_subject(case.model, case.batches, case.loss)
    measured = measure_memory(subject).activations
    with subject.scratch() as model:
        loss = subject.loss_of(model, subject.batches[0])
        expected = held_by_graph(loss, model, subject.batches[0])
    assert measured.bytes == pytest.approx(expected, rel=0.02)


def test_an_mlp_by_hand():
    model = nn.Sequential(nn.Linear(6, 10), nn.ReLU(), nn.Linear(10, 4), nn.Sigmoid(), nn.Linear(4, 2))
    subject = make_subject(model, (torch.randn(8, 6), torch.zeros(8, 2)), total)
    memory = measure_memory(subject)
    # the input is the batch's own; then relu's result, which the next layer saves too, and sigmoid's likewise
    assert memory.activations.bytes == 4 * 8 * (10 + 4)
    assert memory.activations.storages == 2
    assert memory.sizes == ((2, 4 * 2 * 14), (4, 4 * 4 * 14), (8, 4 * 8 * 14))
    assert (memory.fixed, memory.per_row, memory.linear) == (0.0, 4.0 * 14, True)
    assert memory.at(1000) == 4 * 1000 * 14
    assert memory.activations.modules == {"": 4 * 8 * 14, "1": 4 * 8 * 10, "3": 4 * 8 * 4}
    assert memory.peak.parameters == 4 * (70 + 44 + 10)


def test_what_the_loss_saves_is_outside():
    subject = make_subject(nn.Linear(6, 3), (torch.randn(8, 6), torch.randn(8, 3)), "mse")
    activations = measure_memory(subject).activations
    assert activations.modules == {}
    assert activations.outside == activations.bytes == 4 * 8 * 3


def test_what_the_forward_pass_drops_is_not_held():
    class Wasteful(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(6, 10), nn.Linear(6, 10)

        def forward(self, x):
            torch.sigmoid(self.second(x))
            return torch.sigmoid(self.first(x))

    activations = measure_memory(make_subject(Wasteful(), (torch.randn(8, 6), torch.zeros(8, 10)), total)).activations
    assert activations.bytes == 4 * 8 * 10


def test_growth_with_the_square_of_the_rows_is_not_called_linear():
    class AllPairs(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Linear(6, 6)

        def forward(self, x):
            x = self.inner(x)
            return torch.sigmoid(x @ x.T).mean(1)

    memory = measure_memory(make_subject(AllPairs(), (torch.randn(64, 6), torch.zeros(64)), total))
    assert memory.linear is False
    assert memory.error > 0.02


def test_the_line_by_hand():
    assert fit([(1, 130), (2, 160), (4, 220)]) == (100.0, 30.0, 0.0)
    assert fit([(1, 5)]) == (None, None, None)


def test_without_torchs_tracker_the_parts_are_added(monkeypatch):
    monkeypatch.setattr(memory_module, "_tracked", lambda *_: None)
    subject = of(nn.Sequential(nn.Linear(6, 10), nn.ReLU(), nn.Linear(10, 4)), torch.randn(8, 6))
    peak = measure_memory(subject).peak
    assert (peak.source, peak.temporary, peak.parameters, peak.gradients) == ("hooks", None, 4 * 114, 4 * 114)
    assert peak.optimizer == 2 * 4 * 114 + 4 * 4
    assert peak.total == peak.parameters + peak.gradients + peak.optimizer + peak.activations + peak.inputs


def test_a_model_that_cannot_train_is_skipped_with_the_reason():
    class Broken(nn.Linear):
        def forward(self, x):
            if self.training:
                raise RuntimeError("no training today")
            return super().forward(x)

    memory = measure_memory(of(Broken(4, 2), torch.randn(3, 4)))
    assert memory.activations is None
    assert "no training today" in memory.skipped
    assert memory.at(10) is None
