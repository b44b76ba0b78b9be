"""The switches of speed and memory: activation checkpointing, bf16, and compilation."""

import copy
import shutil

import pytest
import torch
from torch import nn

import deepfm.training.task as task_module
from deepfm.engine.acceleration import Recomputable, checkpoint_activations, compile_model
from deepfm.engine.loop import fit
from deepfm.engine.loop_settings import LoopSettings
from tests.clicks import CPU, MODEL_OPTIONS, ClickTask, clicks, dense, model_of, randomise, schema_of, sequence, sparse

kinds = pytest.mark.parametrize("kind", MODEL_OPTIONS)


@pytest.fixture(autouse=True)
def _own_random_state():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def trained(model, rows=320, seed=1):
    """A fit of two epochs: the losses, the weights and running statistics, and the state of the random numbers."""
    task = ClickTask(model, clicks(model.schema, rows))
    torch.manual_seed(seed)
    fit(task, model.config.training, device=CPU)
    return torch.stack(task.losses), model.state_dict(), torch.get_rng_state()


class TestActivationCheckpointing:
    @kinds
    def test_losses_weights_and_running_statistics_are_the_same(self, kind):
        """Dropout draws the same masks again, and batch normalisation counts a batch once."""
        (losses, weights, state), (wanted, wanted_weights, wanted_state) = (
            trained(model_of(kind, "training.num_epochs=2", f"training.activation_checkpointing={switch}"))
            for switch in ("true", "false")
        )
        assert len(losses) == 10
        assert torch.equal(losses, wanted)
        assert weights.keys() == wanted_weights.keys()
        for name, weight in wanted_weights.items():
            assert torch.equal(weights[name], weight), name
        assert weights["dnn.layers.0.norm.num_batches_tracked"] == 10
        assert torch.equal(state, wanted_state)

    @kinds
    def test_gradients_are_the_same_and_fewer_bytes_wait_for_them(self, kind):
        batch, labels = clicks(rows=512).batch(slice(0, 512))
        kept, gradients = [], []
        for switch in (False, True):
            model = randomise(model_of(kind, "dnn.hidden_units=[64,64]")).train()
            parts = checkpoint_activations(model) if switch else 0
            assert (parts >= 2) == switch
            sizes = {}

            def pack(tensor, sizes=sizes):
                sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
                return tensor

            torch.manual_seed(1)
            with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
                logits = model(batch)
            own = {tensor.untyped_storage().data_ptr() for tensor in [*model.parameters(), *model.buffers()]}
            kept.append(sum(size for store, size in sizes.items() if store not in own))
            nn.functional.binary_cross_entropy_with_logits(logits.squeeze(1), labels).backward()
            gradients.append({name: weight.grad for name, weight in model.named_parameters()})
        assert kept[1] < 0.5 * kept[0], kept
        for name, gradient in gradients[0].items():
            assert torch.equal(gradient, gradients[1][name]), name

    @kinds
    def test_a_copy_recomputes_with_weights_and_statistics_of_its_own(self, kind):
        model = model_of(kind).train()
        checkpoint_activations(model)
        batch, _ = clicks(rows=64).batch(slice(0, 64))
        model(batch).sum().backward()
        twin = copy.deepcopy(model)
        before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        assert all(part.recompute for part in twin.modules() if isinstance(part, Recomputable))
        torch.manual_seed(1)
        twin.zero_grad()
        twin(batch).sum().backward()
        for name, tensor in model.state_dict().items():
            assert torch.equal(tensor, before[name]), name
        assert twin.state_dict()["dnn.layers.0.norm.num_batches_tracked"] == 2
        assert model.state_dict()["dnn.layers.0.norm.num_batches_tracked"] == 1
        torch.manual_seed(1)
        model.zero_grad()
        model(batch).sum().backward()
        for (name, one), other in zip(model.named_parameters(), twin.parameters(), strict=True):
            assert torch.equal(one.grad, other.grad), name

    def test_only_training_with_gradients_recomputes(self):
        calls = []

        class Part(Recomputable):
            def __init__(self):
                super().__init__()
                self.linear = nn.Linear(3, 3)

            def forward(self, x):
                calls.append(None)
                return self.linear(x).sin()

        part, x = Part(), torch.randn(2, 3)
        assert checkpoint_activations(nn.Sequential(nn.Linear(3, 3), part)) == 1
        for mode, wanted in (("train", 2), ("eval", 1)):
            calls.clear()
            getattr(part, mode)()(x).sum().backward()
            assert len(calls) == wanted
        calls.clear()
        with torch.no_grad():
            part.train()(x)
        assert len(calls) == 1


class TestBfloat16:
    @kinds
    def test_trains_in_bfloat16_with_float32_weights(self, kind):
        model = model_of(kind, "training.num_epochs=6", "training.precision=bf16")
        seen = set()
        model.dnn.layers[0].linear.register_forward_hook(lambda module, args, out: seen.add(out.dtype))
        losses, weights, _ = trained(model, rows=640)
        assert seen == {torch.bfloat16}
        assert losses.dtype == torch.float32
        assert losses[-10:].mean() < 0.9 * losses[:10].mean()
        assert {tensor.dtype for tensor in weights.values()} == {torch.float32, torch.int64}

    def test_follows_float32_closely_and_is_not_it(self):
        ends = [trained(model_of("deepfm", "training.num_epochs=2", f"training.precision={p}", "dnn.dropout=0"))[0]
                for p in ("fp32", "bf16")]  # fmt: skip
        torch.testing.assert_close(*ends, rtol=0.02, atol=0.02)
        assert not torch.equal(*ends)

    def test_sparse_gradients_train_as_well(self, monkeypatch):
        monkeypatch.setattr(task_module, "SPARSE_ROWS", 1)
        losses, _, _ = trained(model_of("deepfm", "training.num_epochs=6", "training.precision=bf16"), rows=640)
        assert losses[-10:].mean() < 0.9 * losses[:10].mean()


needs_a_compiler = pytest.mark.skipif(
    not (shutil.which("g++") or shutil.which("c++")), reason="compiling needs a C++ compiler, and none is here"
)
TINY = (
    "training.num_epochs=2",
    "training.batch_size=64",
    "dnn.hidden_units=[8]",
    "dnn.dropout=0",
    "cin.layer_sizes=[4,4]",
    "feature.projection=none",
)
TINY_SCHEMA = schema_of(sparse("user", 20), dense("price"))


def pair_of(kind, *overrides, schema=TINY_SCHEMA):
    """The same model eager and compiled: losses and weights; 168 rows in batches of 64, 64 and 40."""
    ends = []
    for switch in ("false", "true"):
        model = model_of(kind, *TINY, *overrides, f"training.compile={switch}", schema=schema)
        ends.append((*trained(model, rows=168)[:2], model))
    return ends


@needs_a_compiler
class TestCompile:
    @pytest.fixture(autouse=True)
    def _fresh(self):
        """Graphs of other tests are not of this one."""
        torch._dynamo.reset()
        torch._dynamo.utils.counters.clear()
        yield
        torch._dynamo.reset()

    @pytest.mark.parametrize("kind", ["deepfm", "xdeepfm relu split"])
    def test_gives_the_losses_of_eager_and_no_batch_size_compiles_it_again(self, kind):
        with torch._dynamo.config.patch(error_on_recompile=True):
            (losses, weights, _), (compiled, compiled_weights, model) = pair_of(kind)
        assert model._compiled_call_impl is None  # the fit gives the model back as it was
        assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 2, "the probe and the model, whole"
        assert not torch._dynamo.utils.counters["graph_break"]
        assert len(losses) == 6
        torch.testing.assert_close(compiled, losses, rtol=1e-4, atol=1e-4)
        assert weights.keys() == compiled_weights.keys()
        for name in ("dnn_output.weight", "embedding.tables.4.weight"):
            torch.testing.assert_close(compiled_weights[name], weights[name], rtol=0, atol=1e-3)

    def test_sparse_gradients_compile_as_well(self, monkeypatch):
        """A table of `SPARSE_ROWS` or more has them by default, and those of row optimizers are always sparse."""
        monkeypatch.setattr(task_module, "SPARSE_ROWS", 1)
        schema = schema_of(sparse("user", 20), sparse("item", 15), sequence("tags"))
        (losses, _, _), (compiled, _, _) = pair_of("deepfm", "dnn.use_batch_norm=false", schema=schema)
        torch.testing.assert_close(compiled, losses, rtol=1e-4, atol=1e-4)


class TestWithoutAToolchain:
    def test_training_goes_on_with_one_warning(self, monkeypatch, capsys):
        wanted, wanted_weights, _ = trained(model_of("deepfm", "training.num_epochs=2"))
        capsys.readouterr()

        def refuse(*args, **kwargs):
            raise RuntimeError("no working C++ compiler\nfound in PATH")

        monkeypatch.setattr(torch, "compile", refuse)
        model = model_of("deepfm", "training.num_epochs=2", "training.compile=true")
        losses, weights, _ = trained(model)
        captured = capsys.readouterr()
        (line,) = [line for line in (captured.out + captured.err).splitlines() if "compil" in line]
        assert line.startswith("WARNING: training.compile is off: compiling for cpu fails here")
        assert "no working C++ compiler found in PATH" in line
        assert model._compiled_call_impl is None
        assert torch.equal(losses, wanted)
        assert all(torch.equal(weights[name], weight) for name, weight in wanted_weights.items())

    def test_it_is_said_whether_the_model_is_compiled(self, monkeypatch, capsys):
        for error in (RuntimeError("x" * 10_000), ImportError("no triton"), OSError(2, "g++")):

            def refuse(*args, error=error, **kwargs):
                return lambda *inputs: (_ for _ in ()).throw(error)

            monkeypatch.setattr(torch, "compile", refuse)
            assert compile_model(nn.Linear(2, 1), CPU) is False
            said = capsys.readouterr()
            assert (said.out + said.err).count("\n") == 1
            assert len(said.out + said.err) < 350

    def test_nothing_is_compiled_unless_asked_for(self, monkeypatch):
        def refuse(*args, **kwargs):
            raise AssertionError("compiled")

        monkeypatch.setattr(torch, "compile", refuse)
        monkeypatch.setattr(nn.Module, "compile", refuse)
        assert not LoopSettings().compile
        trained(model_of("deepfm", "training.num_epochs=1"), rows=64)
