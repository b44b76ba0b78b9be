"""The training loop never waits for the device but where it reads the loss."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import deepfm.training.task as task_module
from deepfm.engine.loop import LOSS_CHECK_STEPS, fit
from deepfm.models.layers.kernels import plain_kernels
from tests.clicks import CPU, MODEL_OPTIONS, ClickTask, clicks, model_of

BATCHES = 60
READING = ("item", "tolist", "__bool__", "__int__", "__float__", "__index__", "numpy", "cpu", "__array__")
# Operators whose result's size depends on values: on a device they wait for it to be known.
DATA_DEPENDENT = {
    "nonzero", "masked_select", "_unique2", "unique_dim", "unique_consecutive", "repeat_interleave", "is_nonzero",
    "_local_scalar_dense", "equal", "_coalesce", "bincount",
}  # fmt: skip


class Watch(TorchDispatchMode):
    """Counts what makes the host wait, and finds float64."""

    def __init__(self, monkeypatch):
        super().__init__()
        self.operators, self.calls, self.double, self.masks = [], [], [], []
        for name in READING:
            method = getattr(torch.Tensor, name)
            monkeypatch.setattr(torch.Tensor, name, self._counted(name, method))

    def _counted(self, name, method):
        def counted(tensor, *args, **kwargs):
            self.calls.append(name)
            return method(tensor, *args, **kwargs)

        return counted

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        name = function.overloadpacket.__name__
        if name in DATA_DEPENDENT:
            self.operators.append(name)
        if name in ("index", "index_put", "index_put_"):
            self.masks += [index.dtype for index in args[1] if index is not None and index.dtype == torch.bool]
        tensors = [leaf for leaf in tree_leaves(out) if isinstance(leaf, torch.Tensor)]
        self.double += [name for tensor in tensors if tensor.dtype == torch.float64]
        return out


def watched(kind, monkeypatch, *overrides):
    """One epoch of 60 batches, from the first to the last loss that is read."""
    model = model_of(kind, "training.num_epochs=1", "training.batch_size=32", *overrides)

    class Watched(ClickTask):
        def batches(self, epoch):
            watch.__enter__()
            return super().batches(epoch)

        def evaluate(self, on_progress=None):
            watch.__exit__(None, None, None)
            seen.append(list(watch.calls))
            return super().evaluate()

    task, seen = Watched(model, clicks(rows=32 * BATCHES)), []
    watch = Watch(monkeypatch)
    fit(task, model.config.training, device=CPU)
    assert len(task.losses) == BATCHES > LOSS_CHECK_STEPS
    return watch, seen[0]


@pytest.mark.parametrize("kind", MODEL_OPTIONS)
@pytest.mark.parametrize("switches", [(), ("training.optimizer=adamw", "training.accumulation_steps=2")])
def test_an_epoch_reads_only_the_losses_at_their_times_and_knows_no_float64(kind, switches, monkeypatch):
    watch, calls = watched(kind, monkeypatch, *switches)
    assert calls == ["tolist"] * 2, f"after {LOSS_CHECK_STEPS} batches and at the end"
    assert "_local_scalar_dense" not in watch.operators
    assert watch.double == []


@pytest.mark.parametrize("kind", MODEL_OPTIONS)
def test_the_operations_of_an_accelerator_never_wait_for_a_size_either(kind, monkeypatch):
    """There the plain forms run: the fast ones for CPU count rows that occur."""
    with plain_kernels():
        watch, calls = watched(kind, monkeypatch)
    assert calls == ["tolist"] * 2
    assert watch.operators == []
    assert watch.masks == []
    assert watch.double == []


def test_the_watch_sees_the_exceptions_on_cpu(monkeypatch):
    """Distinct rows are counted there, and sparse gradients of the plain form looked at for rows that come twice."""
    watch, _ = watched("deepfm", monkeypatch)
    assert watch.operators.count("nonzero") == 3 * BATCHES, "once a table and batch"
    monkeypatch.setattr(task_module, "SPARSE_ROWS", 1)
    with plain_kernels():
        watch, calls = watched("deepfm", monkeypatch)
    assert calls.count("__bool__") >= BATCHES
    assert "_local_scalar_dense" in watch.operators


def test_a_loss_that_is_read_each_step_is_seen(monkeypatch):
    forward = ClickTask.loss

    def chatty(task, batch):
        value, rows = forward(task, batch)
        float(value.detach())
        return value, rows

    monkeypatch.setattr(ClickTask, "loss", chatty)
    watch, calls = watched("deepfm", monkeypatch)
    assert calls.count("__float__") == BATCHES
    assert watch.operators.count("_local_scalar_dense") == BATCHES


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
@pytest.mark.parametrize("kind", MODEL_OPTIONS)
def test_on_cuda_torch_itself_finds_no_waiting(kind):
    model = model_of(kind, "training.num_epochs=1", "training.batch_size=32").to("cuda")

    class Strict(ClickTask):
        """An error at every wait from the second batch on, up to the first reading of the loss."""

        def loss(self, batch):
            torch.cuda.set_sync_debug_mode("error" if 1 <= len(self.losses) < LOSS_CHECK_STEPS - 1 else "default")
            return super().loss(batch)

    try:
        fit(Strict(model, clicks(rows=32 * BATCHES).to("cuda")), model.config.training, device=torch.device("cuda"))
    finally:
        torch.cuda.set_sync_debug_mode("default")
