"""Every measure of cost over each kind of model: none fails or changes the model, and all is plain data."""

import json
import warnings
from dataclasses import asdict, fields, is_dataclass

import pytest
import torch
from torch import nn

from deepfm.analysis.measures.checkpointing import Checkpointing
from deepfm.analysis.measures.counts import Counts, measure_counts
from deepfm.analysis.measures.flops import Flops, measure_flops
from deepfm.analysis.measures.latency import Latency, measure_latency
from deepfm.analysis.measures.lengths import Lengths
from deepfm.analysis.measures.machine import Machine, Roofline, measure_roofline
from deepfm.analysis.measures.memory import Memory, measure_memory
from deepfm.analysis.measures.precision import Precision, measure_precision
from deepfm.analysis.measures.profile import Profile, measure_profile
from deepfm.analysis.measures.quantization import Quantization, measure_quantization
from deepfm.analysis.measures.scaling import Scaling, measure_scaling
from deepfm.analysis.subject import make_subject
from tests.analysis.faulty import FAULTS
from tests.analysis.healthy import HEALTHY
from tests.analysis.ranker import unchanged

RESULTS = (Counts, Flops, Memory, Latency, Roofline, Scaling, Checkpointing, Lengths, Precision, Quantization, Profile)
ODD = ("dead layer", "numpy", "batch norm of one row", "float64", "layers in a list", "weights written in forward")
KINDS = (
    *("tower for clicks", "batch norm and dropout", "residual network", "LSTM", "Transformer that ranks"),
    *("a dict of ids", "tied words", "frozen backbone", "variational auto-encoder with its own loss"),
)
BUILDS = {
    **{f"faulty: {name}": FAULTS[name].build for name in ODD},
    **{f"healthy: {name}": HEALTHY[name] for name in KINDS},
}


def quick(run, seconds, threads):
    run()
    return [1.0, 1.0, 1.0, 1.0]


@pytest.mark.parametrize("name", BUILDS)
def test_every_measure_takes_every_kind_of_model(name):
    torch.manual_seed(0)
    case = BUILDS[name]()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        subject = make_subject(case.model, case.batches, case.loss, optimizer=case.optimizer)
        with unchanged(subject.model):
            counts, flops, memory = measure_counts(subject), measure_flops(subject), measure_memory(subject)
            found = [counts, flops, memory]
            found.append(measure_latency(subject, memory, rows=(2,), clock=quick))
            found.append(measure_roofline(subject, counts, flops, memory, machine=Machine("m", 1e9, 1e9, None, "test")))
            found.append(measure_scaling(subject, counts, flops, memory))
            found += measure_precision(subject)
            found.append(measure_quantization(subject, clock=quick))
            found.append(measure_profile(subject, steps=1))
    for each in found:
        json.dumps(asdict(each), allow_nan=False)
    assert flops.skipped is None or "no gradient" in flops.skipped
    assert memory.skipped is None
    assert memory.linear
    assert counts.optimizer_skipped == {}
    assert flops.step is None or flops.step >= flops.forward > 0


def test_a_model_that_cannot_be_copied_is_put_back():
    class Alone(nn.Module):
        def __init__(self):
            super().__init__()
            self.table, self.drop = nn.Embedding(9, 4), nn.Dropout(0.5)
            self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)) for _ in range(2))

        def __deepcopy__(self, memo):
            raise TypeError("there is but one of me")

        def forward(self, ids):
            x = self.drop(self.table(ids))
            for block in self.blocks:
                x = block(x)
            return x

    subject = make_subject(Alone(), (torch.arange(8), torch.zeros(8, 4)), "mse")
    with unchanged(subject.model):
        counts, flops, memory = measure_counts(subject), measure_flops(subject), measure_memory(subject)
        measure_latency(subject, memory, rows=(2,), clock=quick)
        scaling = measure_scaling(subject, counts, flops, memory)
        measure_precision(subject)
        quantization = measure_quantization(subject, clock=quick)
        measure_profile(subject, steps=1)
    assert subject.model.drop.p == 0.5
    assert "forward" not in vars(subject.model.blocks[0])
    assert flops.backend == "real"
    assert flops.forward == 2 * 2 * 8 * 4 * 4
    assert memory.skipped is None
    assert scaling.checkpointing.skipped == "the model cannot be copied"
    assert "cannot be copied" in quantization.skipped


def test_a_table_with_sparse_gradients_is_measured_too():
    model = nn.Sequential(nn.Embedding(50, 4, sparse=True), nn.Flatten(), nn.Linear(12, 1))
    subject = make_subject(model, (torch.arange(24).reshape(8, 3), torch.zeros(8, 1)), "mse")
    with unchanged(model):
        memory = measure_memory(subject)
        latency = measure_latency(subject, memory, rows=(2,), clock=quick)
        profile = measure_profile(subject, steps=1)
        precision, _ = measure_precision(subject)
    assert memory.peak.parameters == 4 * (200 + 13)
    assert latency.step[0].median == 1.0
    assert (memory.skipped, profile.skipped, precision.skipped) == (None, None, None)


@pytest.mark.parametrize("kind", RESULTS)
def test_every_figure_has_a_source(kind):
    names = {field.name for field in fields(kind)}
    sources = {name.split(".")[0] for name in kind.SOURCES}
    assert is_dataclass(kind)
    assert all(text.split(":")[0] in ("measured", "derived", "assumed") for text in kind.SOURCES.values())
    not_figures = {"skipped", "rows", "backend", "dtype", "device", "modules", "advice", "reason", "steps",
                   "steps_per_epoch", "growths", "optimizer_skipped"}  # fmt: skip
    assert names - sources <= not_figures
    inner = {"rows_per_second", "flops_share", "bytes_share", "doubled_flops", "doubled_bytes"}
    assert sources - names <= inner
