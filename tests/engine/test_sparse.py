"""Optimizers and clipping where gradients are sparse tensors of the rows that a batch holds."""

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import deepfm.training.task as task_module
from deepfm.engine.loop import fit
from deepfm.engine.loop_settings import LoopSettings
from deepfm.engine.optim import DenseOptimizer, build_optimizer
from deepfm.engine.schedule import Schedule
from deepfm.engine.sparse import RowGradients, RowwiseAdagrad, SparseAdam, add_lazy_l2, clip_gradients, coalesced
from deepfm.engine.task import ParameterGroup, Task
from deepfm.training.task import CTRTask
from deepfm.utils import load_checkpoint
from tests.clicks import CPU, ClickTask, clicks, dense, model_of, schema_of, sparse
from tests.engine.test_other_task import StopAfter

ROWS, WIDTH = 12, 3


@pytest.fixture(autouse=True)
def _own_random_state():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def sparse_tensor(rows, values, shape=(ROWS, WIDTH)):
    return torch.sparse_coo_tensor(torch.as_tensor(rows)[None], values, shape, check_invariants=True)


def gradients(steps, width=WIDTH, duplicates=True, seed=0):
    """Sparse gradients of a few random rows, which come twice and in any order; the last row never comes."""
    generator = torch.Generator().manual_seed(seed)
    found = []
    for _ in range(steps):
        rows = torch.randint(0, ROWS - 1, (5,), generator=generator)
        rows = rows if duplicates else rows.unique()
        found.append(sparse_tensor(rows, torch.randn(len(rows), width, generator=generator), (ROWS, width)))
    return found


def parameter(width=WIDTH, seed=1):
    return nn.Parameter(torch.randn(ROWS, width, generator=torch.Generator().manual_seed(seed)))


def stepped(optimizer, weight, grads):
    """The weights after each step."""
    seen = []
    for grad in grads:
        weight.grad = grad.clone()
        optimizer.step()
        optimizer.zero_grad()
        seen.append(weight.detach().clone())
    return torch.stack(seen)


def group_of(*parameters, **settings):
    return [{"params": list(parameters), "lr": 0.1, **settings}]


def to_dense(grads):
    return [grad.to_dense() for grad in grads]


class TestCoalesced:
    def test_duplicates_are_summed_and_rows_sorted(self):
        grad = coalesced(sparse_tensor([5, 2, 5], torch.tensor([[1.0] * 3, [2.0] * 3, [3.0] * 3])))
        assert grad.is_coalesced()
        assert grad._indices().tolist() == [[2, 5]]
        assert grad._values().tolist() == [[2.0] * 3, [4.0] * 3]

    @pytest.mark.parametrize("rows", [[2, 5, 9], [9, 5, 2], [2, 2, 2], [0], [], [0, 1, 1, 2], [5, 5, 2]])
    def test_the_gradient_means_the_same(self, rows):
        grad = sparse_tensor(torch.tensor(rows, dtype=torch.int64), torch.randn(len(rows), WIDTH))
        assert grad.is_coalesced() == (len(rows) < 2)
        wanted = grad.to_dense()
        found = coalesced(grad)
        assert found.is_coalesced()
        assert found._indices()[0].tolist() == sorted(set(rows))
        torch.testing.assert_close(found.to_dense(), wanted)

    def test_what_is_sorted_and_once_already_is_not_copied(self):
        grad = sparse_tensor([2, 5, 9], torch.randn(3, WIDTH))
        found = coalesced(grad)
        assert found is grad
        assert found._values().data_ptr() == grad._values().data_ptr()


class TestClipping:
    @pytest.mark.parametrize("max_norm", [0.01, 1.0, 1e4])
    def test_dense_gradients_are_clipped_as_by_torch(self, max_norm):
        shapes = [(4, 3), (7,), (2, 2, 2), ()]
        one, other = ([nn.Parameter(torch.zeros(shape)) for shape in shapes] for _ in range(2))
        for mine, theirs in zip(one, other, strict=True):
            mine.grad = torch.randn(mine.shape) * 10
            theirs.grad = mine.grad.clone()
        norm, wanted = clip_gradients(one, max_norm), nn.utils.clip_grad_norm_(other, max_norm)
        torch.testing.assert_close(norm, wanted)
        assert (norm > max_norm) == (max_norm < 1e4)
        for mine, theirs in zip(one, other, strict=True):
            torch.testing.assert_close(mine.grad, theirs.grad, rtol=1e-6, atol=0)

    @pytest.mark.parametrize("max_norm", [0.5, 1e4])
    def test_sparse_gradients_count_with_their_duplicates_summed(self, max_norm):
        grad, other = sparse_tensor([7, 1, 7, 3, 1], torch.randn(5, WIDTH)), torch.randn(4)
        weights = [nn.Parameter(torch.zeros(ROWS, WIDTH)), nn.Parameter(torch.zeros(4)), nn.Parameter(torch.zeros(2))]
        weights[0].grad, weights[1].grad = grad.clone(), other.clone()  # the third has none
        norm = clip_gradients(weights, max_norm)
        wanted = torch.cat([grad.to_dense().flatten(), other]).norm()
        torch.testing.assert_close(norm, wanted)
        factor = min(1.0, max_norm / (wanted.item() + 1e-6))
        assert weights[0].grad.is_sparse
        torch.testing.assert_close(weights[0].grad.to_dense(), grad.to_dense() * factor)
        torch.testing.assert_close(weights[1].grad, other * factor)
        assert weights[2].grad is None

    def test_no_gradients_have_no_norm(self):
        weight = nn.Parameter(torch.ones(3))
        assert clip_gradients([weight], 1.0) == 0
        assert weight.grad is None


class TestSparseAdam:
    @pytest.mark.parametrize("width", [1, WIDTH])
    def test_twenty_steps_are_torchs(self, width):
        grads, ends = gradients(20, width), []
        for kind in (SparseAdam, torch.optim.SparseAdam):
            weight = parameter(width)
            ends.append(stepped(kind(group_of(weight)), weight, grads))
        torch.testing.assert_close(*ends, rtol=1e-5, atol=1e-6)

    def test_rows_of_no_gradient_stay_and_so_do_their_moments(self):
        weight = parameter()
        optimizer = SparseAdam(group_of(weight))
        before = weight.detach().clone()
        stepped(optimizer, weight, [sparse_tensor([1, 4], torch.randn(2, WIDTH))])
        state = {name: optimizer.state[weight][name].clone() for name in ("exp_avg", "exp_avg_sq")}
        after = weight.detach().clone()
        stepped(optimizer, weight, [sparse_tensor([4, 6], torch.randn(2, WIDTH))])
        assert (after != before).any(dim=1).nonzero().squeeze(1).tolist() == [1, 4]
        assert (weight.detach() != after).any(dim=1).nonzero().squeeze(1).tolist() == [4, 6]
        for name, moments in state.items():
            changed = (optimizer.state[weight][name] != moments).any(dim=1)
            assert changed.nonzero().squeeze(1).tolist() == [4, 6], name

    def test_dense_gradients_make_it_adam(self):
        grads, ends = to_dense(gradients(20)), []
        for kind in (SparseAdam, torch.optim.Adam):
            weight = parameter()
            ends.append(stepped(kind(group_of(weight)), weight, grads))
        torch.testing.assert_close(*ends, rtol=1e-5, atol=1e-6)


def adagrad_by_hand(weight, grads, lr, eps):
    """FBGEMM's row-wise form: a row's accumulator grows by the mean of its squared gradients."""
    weight, totals, seen = weight.detach().double().clone(), [0.0] * len(weight), []
    for grad in grads:
        rows = range(ROWS) if not grad.is_sparse else grad.coalesce().indices()[0].tolist()
        values = grad.to_dense().double()
        for row in rows:
            totals[row] += sum(value**2 for value in values[row].tolist()) / weight.shape[1]
            weight[row] -= lr * values[row] / (totals[row] ** 0.5 + eps)
        seen.append(weight.clone())
    return torch.stack(seen)


class TestRowwiseAdagrad:
    @pytest.mark.parametrize("width", [1, WIDTH])
    @pytest.mark.parametrize("kind", ["sparse", "dense"])
    def test_twenty_steps_are_the_loop_by_hand(self, kind, width):
        grads, weight = gradients(20, width), parameter(width)
        grads = grads if kind == "sparse" else to_dense(grads)
        wanted = adagrad_by_hand(weight, grads, 0.1, 1e-8)
        found = stepped(RowwiseAdagrad(group_of(weight)), weight, grads)
        torch.testing.assert_close(found.double(), wanted, rtol=1e-5, atol=1e-6)

    def test_dense_and_sparse_gradients_give_the_same(self):
        ends = []
        for grads in (gradients(10), to_dense(gradients(10))):
            weight = parameter()
            ends.append(stepped(RowwiseAdagrad(group_of(weight)), weight, grads))
        torch.testing.assert_close(*ends)

    def test_a_row_has_one_accumulator(self):
        weight = parameter()
        optimizer = RowwiseAdagrad(group_of(weight))
        stepped(optimizer, weight, gradients(2))
        assert optimizer.state[weight]["sum"].shape == (ROWS,)
        assert optimizer.state[weight]["sum"][-1] == 0


OPTIMIZERS = ["adam", "adamw", "sgd"]


class TestRowGradients:
    @pytest.mark.parametrize("fused", [True, False])
    @pytest.mark.parametrize("decay", [0.0, 0.1])
    def test_adam_takes_the_same_steps_as_with_dense_gradients(self, decay, fused):
        ends = []
        for grads in (gradients(20), to_dense(gradients(20))):
            weight = parameter()
            optimizer = DenseOptimizer("adam", group_of(weight, weight_decay=decay, l2=0.0, lazy=False), fused)
            ends.append(stepped(optimizer, weight, grads))
        assert torch.equal(*ends)

    def test_the_buffer_is_zero_again_after_each_step_and_the_gradient_gone(self):
        weight, rows, buffers = parameter(), RowGradients(), set()
        for grad in gradients(6):
            weight.grad = grad
            with rows.dense([weight]):
                torch.testing.assert_close(weight.grad, grad.to_dense())
                buffer = weight.grad
            buffers.add(buffer.data_ptr())
            assert not buffer.any()
            assert weight.grad is None
        assert len(buffers) == 1, "one buffer lives as long as the fit"

    def test_the_buffer_is_zero_again_after_a_step_that_fails(self):
        weight, rows = parameter(), RowGradients()
        weight.grad, seen = gradients(1)[0], []

        def fail():
            with rows.dense([weight]):
                seen.append(weight.grad)
                raise KeyError

        with pytest.raises(KeyError):
            fail()
        assert not seen[0].any()

    def test_dense_gradients_pass_it_untouched(self):
        weight, other, rows = parameter(), nn.Parameter(torch.ones(2)), RowGradients()
        weight.grad = grad = torch.ones_like(weight)
        with rows.dense([weight, other]):
            assert weight.grad is grad
        assert weight.grad is grad
        assert other.grad is None
        assert torch.equal(grad, torch.ones_like(weight))

    def test_two_sparse_gradients_accumulate(self):
        """Two backward passes before a step leave a gradient with rows twice."""
        ends = []
        for is_sparse in (True, False):
            weight = parameter()
            optimizer = build_optimizer("adam", 0.1, [ParameterGroup([weight])], CPU)
            for step in range(5):
                for part in range(2):
                    ids = torch.tensor([[step, 3], [3, part + 5]])
                    (nn.functional.embedding(ids, weight, sparse=is_sparse) * (part + 1)).sum().backward()
                if is_sparse:
                    rows = weight.grad._indices()[0]
                    assert len(rows.unique()) < len(rows), "this test needs rows twice"
                optimizer.step()
                optimizer.zero_grad()
            ends.append(weight.detach())
        torch.testing.assert_close(*ends, rtol=0, atol=1e-7)

    @pytest.mark.parametrize("l2", [0.0, 0.1])
    @pytest.mark.parametrize("name", OPTIMIZERS)
    def test_every_optimizer_as_the_engine_builds_it(self, name, l2):
        ends = []
        for grads in (gradients(20), to_dense(gradients(20))):
            weight = parameter()
            group = ParameterGroup([weight], l2=l2, weight_decay=0.01)
            ends.append(stepped(build_optimizer(name, 0.1, [group], CPU), weight, grads))
        torch.testing.assert_close(*ends, rtol=0, atol=1e-6)


class TestLazyL2:
    @pytest.mark.parametrize("name", OPTIMIZERS)
    @pytest.mark.parametrize("row_optimizer", [None, "sparse_adam", "rowwise_adagrad"])
    def test_the_penalty_acts_on_touched_rows_alone(self, name, row_optimizer):
        """Row optimizers have no other way than the lazy one; the others take it where it is asked for."""
        ends = []
        for l2 in (0.0, 5.0):
            weight = parameter()
            group = ParameterGroup([weight], l2=l2, lazy_l2=row_optimizer is None, row_optimizer=row_optimizer)
            optimizer = build_optimizer(name, 0.1, [group], CPU)
            ends.append(stepped(optimizer, weight, [sparse_tensor([1, 4], torch.full((2, WIDTH), 0.3))])[0])
        touched = (ends[0] != ends[1]).any(dim=1).nonzero().squeeze(1).tolist()
        assert set(touched) == {1, 4}
        untouched = [row for row in range(ROWS) if row not in (1, 4)]
        assert torch.equal(ends[1][untouched], parameter().detach()[untouched])

    def test_is_the_gradient_of_the_penalty(self):
        weight, (grad,) = parameter(), gradients(1)
        weight.grad = grad.clone()
        add_lazy_l2([weight, nn.Parameter(torch.ones(1))], 0.25)
        rows, wanted = grad._indices()[0].unique(), grad.to_dense()
        wanted[rows] += 2 * 0.25 * weight.detach()[rows]
        torch.testing.assert_close(weight.grad.to_dense(), wanted)
        weight.grad = grad.to_dense()
        add_lazy_l2([weight], 0.25)
        torch.testing.assert_close(weight.grad, grad.to_dense() + 0.5 * weight.detach())

    def test_a_penalty_that_is_not_lazy_acts_on_all_rows(self):
        weight = parameter()
        before = weight.detach().clone()
        optimizer = build_optimizer("sgd", 0.1, [ParameterGroup([weight], l2=0.5)], CPU)
        stepped(optimizer, weight, [sparse_tensor([1], torch.zeros(1, WIDTH))])
        torch.testing.assert_close(weight.detach(), before * 0.9)


class TestLearningRates:
    @pytest.mark.parametrize("row_optimizer", [None, "sparse_adam", "rowwise_adagrad"])
    def test_a_groups_own_rate_follows_the_schedule(self, row_optimizer):
        groups = [
            ParameterGroup([parameter()], lr=0.5, row_optimizer=row_optimizer),
            ParameterGroup([parameter()], lr=None),
        ]
        optimizer = build_optimizer("adam", 0.01, groups, CPU)
        tables, others = groups[0].parameters[0], groups[1].parameters[0]
        schedule, rates = Schedule("cosine", 0.01, total_steps=8, warmup_steps=2), []
        for _ in range(8):
            schedule.apply(optimizer)
            by_parameter = {group["params"][0]: group["lr"] for group in optimizer.param_groups}
            assert by_parameter[tables] == pytest.approx(50 * by_parameter[others])
            rates.append(by_parameter[tables])
        assert rates[:2] == pytest.approx([0.25, 0.5])
        assert rates[1:] == sorted(rates[1:], reverse=True)
        assert rates[-1] < 0.1

    def test_the_rate_is_what_an_optimizer_steps_with(self):
        weight = parameter()
        before = weight.detach().clone()
        optimizer = build_optimizer("sgd", 0.01, [ParameterGroup([weight], lr=0.5)], CPU)
        Schedule("none", 0.01, total_steps=1).apply(optimizer)
        stepped(optimizer, weight, [sparse_tensor([2], torch.ones(1, WIDTH))])
        torch.testing.assert_close((before - weight.detach())[2], torch.full((WIDTH,), 0.5))

    def test_the_history_has_the_rate_that_the_configuration_names(self):
        class Small(Task):
            metric = "value"

            def __init__(self):
                self.model = nn.Linear(2, 1)

            def batches(self, epoch):
                yield torch.ones(3, 2)

            def num_batches(self):
                return 1

            def loss(self, batch):
                return self.model(batch).square().mean(), 3

            def evaluate(self, on_progress=None):
                return {"value": 0.0}

            def parameter_groups(self):
                return [ParameterGroup([self.model.weight], lr=0.5), ParameterGroup([self.model.bias])]

        state = fit(Small(), LoopSettings(num_epochs=1, lr=0.01, scheduler="none"), device=CPU)
        assert state.history[0]["lr"] == 0.01


SWITCHES = {
    "sparse gradients": (),
    "sparse_adam": ("training.embedding_optimizer=sparse_adam", "training.embedding_lr=0.02"),
    "rowwise_adagrad": ("training.embedding_optimizer=rowwise_adagrad", "training.embedding_lr=0.1"),
    "lazy l2": ("training.lazy_embedding_l2=true", "feature.embedding_l2_reg=0.01"),
}
switches = pytest.mark.parametrize("switch", SWITCHES)


def flat_state(value, path=""):
    if isinstance(value, dict):
        return {key: leaf for name, part in value.items() for key, leaf in flat_state(part, f"{path}/{name}").items()}
    if isinstance(value, list):
        return flat_state(dict(enumerate(value)), path)
    return {path: value}


class TestFit:
    def task(self, switch, monkeypatch, seed=0, rows=160, kind=CTRTask):
        monkeypatch.setattr(task_module, "SPARSE_ROWS", 1 if switch == "sparse gradients" else 10**9)
        model = model_of(
            "deepfm", "training.batch_size=32", "training.num_epochs=4", "training.scheduler=reduce_on_plateau",
            "training.plateau_patience=0", "training.accumulation_steps=2", *SWITCHES[switch], seed=seed,
        )  # fmt: skip
        sets = (clicks(rows=rows),) if kind is ClickTask else (model.config, clicks(rows=rows), clicks(rows=80, seed=9))
        return kind(model, *sets)

    @switches
    @pytest.mark.parametrize("stop_after", [2, 13])
    def test_resuming_an_interrupted_fit_changes_no_bit(self, switch, stop_after, tmp_path, monkeypatch):
        def run(folder, seed=0, **options):
            task = self.task(switch, monkeypatch, seed)
            torch.manual_seed(seed + 1)
            return task, fit(task, task.config.training, device=CPU, checkpoint=tmp_path / folder, **options)

        whole, state = run("whole")
        with pytest.raises(KeyboardInterrupt):
            run("stopped", observers=[StopAfter(stop_after)])
        resumed, resumed_state = run("stopped", seed=99, resume=True)
        assert whole.sparse_gradients
        for name, weight in whole.model.state_dict().items():
            assert torch.equal(weight, resumed.model.state_dict()[name]), name
        assert [r["loss"] for r in state.history] == [r["loss"] for r in resumed_state.history]
        one, other = (flat_state(load_checkpoint(tmp_path / name)["optimizer"]) for name in ("whole", "stopped"))
        assert one.keys() == other.keys()
        for path, value in one.items():
            assert torch.equal(value, other[path]) if torch.is_tensor(value) else value == other[path], path

    @switches
    def test_every_switch_learns(self, switch, monkeypatch):
        task = self.task(switch, monkeypatch, kind=ClickTask, rows=640)
        fit(task, task.config.training, device=CPU)
        losses = torch.stack(task.losses)
        assert losses[-20:].mean() < 0.9 * losses[:20].mean()

    @pytest.mark.parametrize("switch", ["sparse_adam", "rowwise_adagrad"])
    def test_row_optimizers_leave_rows_that_no_batch_holds(self, switch, monkeypatch):
        task = self.task(switch, monkeypatch, kind=ClickTask)
        users = task.train_ds.features["user"]
        users[users == 7] = 8
        before = task.model.embedding.field_weight("user").detach().clone()
        fit(task, task.config.training, device=CPU)
        after = task.model.embedding.field_weight("user").detach()
        assert (after != before).any(dim=1).logical_not().nonzero().squeeze(1).tolist() == [0, 7]

    def test_the_configuration_reaches_the_tables_and_nothing_else(self, monkeypatch):
        task = self.task("rowwise_adagrad", monkeypatch)
        tables, others = task.parameter_groups()
        assert (tables.row_optimizer, tables.lr, tables.lazy_l2) == ("rowwise_adagrad", 0.1, False)
        assert (others.row_optimizer, others.lr, others.lazy_l2) == (None, None, False)
        task = self.task("lazy l2", monkeypatch)
        tables, others = task.parameter_groups()
        assert (tables.row_optimizer, tables.lazy_l2, tables.l2) == (None, True, 0.01)
        assert (others.lazy_l2, others.l2) == (False, 0.0)

    @pytest.mark.parametrize(("rows", "is_sparse"), [(39, True), (40, True), (41, False)])
    def test_gradients_are_sparse_from_so_many_rows_on(self, rows, is_sparse, monkeypatch):
        monkeypatch.setattr(task_module, "SPARSE_ROWS", rows)
        model = model_of(schema=schema_of(sparse("user", 25), sparse("item", 15), dense("price")))
        assert model.embedding.num_rows == 40
        task = CTRTask(model, model.config, clicks(model.schema), clicks(model.schema))
        assert not model.embedding.sparse_gradients
        with task.training():
            assert model.embedding.sparse_gradients == is_sparse
        assert not model.embedding.sparse_gradients  # any of torch's optimizers can take over


class _LargeTensors(TorchDispatchMode):
    """Counts tensors of at least so many numbers that come into being."""

    def __init__(self, size):
        super().__init__()
        self.size, self.found = size, []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        stores = {self._store(leaf) for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)}
        for leaf in tree_leaves(out):
            if isinstance(leaf, torch.Tensor) and self._store(leaf) not in stores:
                held = leaf._values() if leaf.is_sparse else leaf
                if held.untyped_storage().nbytes() >= 4 * self.size:
                    self.found.append(str(function))
        return out

    def _store(self, tensor):
        held = tensor._values() if tensor.is_sparse else tensor
        return held.untyped_storage().data_ptr()


@pytest.mark.parametrize("clip", ["1.0", "null"])
@pytest.mark.parametrize("is_sparse", [True, False])
def test_a_step_with_sparse_gradients_allocates_nothing_as_large_as_a_table(is_sparse, clip, monkeypatch):
    monkeypatch.setattr(task_module, "SPARSE_ROWS", 1 if is_sparse else 10**9)
    schema = schema_of(sparse("user", 20_000), sparse("item", 20_000))
    model = model_of("deepfm", "training.num_epochs=1", f"training.gradient_clip_norm={clip}", schema=schema)
    counter = _LargeTensors(40_000)

    class Counted(ClickTask):
        """Three batches; the first makes the buffer and the moments, which stay."""

        def loss(self, batch):
            if len(self.losses) == 1:
                counter.__enter__()
            return super().loss(batch)

        def evaluate(self, on_progress=None):
            counter.__exit__(None, None, None)
            return super().evaluate()

    task = Counted(model, clicks(schema, rows=192))
    fit(task, model.config.training, device=CPU)
    assert len(task.losses) == 3
    assert bool(counter.found) == (not is_sparse), counter.found
