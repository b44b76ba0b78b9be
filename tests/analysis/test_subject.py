"""What may be analysed and what is refused; and that looking changes nothing."""

import copy
import random

import numpy as np
import pytest
import torch
from torch import nn

from deepfm.analysis.analyse import analyze
from deepfm.analysis.guard import untouched
from deepfm.analysis.subject import make_subject
from deepfm.errors import AnalysisError
from tests.analysis.conftest import subject_of
from tests.analysis.healthy import HEALTHY
from tests.analysis.subjects import clicks

pytestmark = pytest.mark.usefixtures("one_thread")


def refusal(*args, **kwargs):
    with pytest.raises(AnalysisError) as error:
        make_subject(*args, **kwargs)
    assert "\n" not in str(error.value)
    return str(error.value)


class TestRefused:
    def test_a_batch_that_does_not_fit_names_the_module_and_both_shapes(self):
        model = nn.Sequential(nn.Linear(16, 8), nn.Sequential(nn.ReLU(), nn.Linear(9, 1)))
        sentence = refusal(model, clicks(), "bce")
        assert "module '1.1' (Linear, weight (1, 9)" in sentence
        assert "input (64, 16)" in sentence
        assert "64x8 and 9x1" in sentence

    def test_no_scalar_loss(self):
        assert "name one with --loss" in refusal(nn.Linear(16, 1), [x for x, _ in clicks()])

    def test_a_lazy_module(self):
        assert "parameter '0.weight' has no shape yet" in refusal(nn.Sequential(nn.LazyLinear(3)), clicks(), "bce")

    def test_meta_tensors(self):
        with torch.device("meta"):
            model = nn.Linear(16, 1)
        assert "'weight' is on the meta device" in refusal(model, clicks(), "bce")

    def test_a_module_of_torchscript(self):
        assert "compiled by TorchScript" in refusal(torch.jit.script(nn.Linear(16, 1)), clicks(), "bce")

    def test_a_loss_that_is_no_scalar_although_one_was_given(self):
        def each(output, target):
            return (output.squeeze(1) - target) ** 2

        assert "gives (64,) and no scalar; take its mean" in refusal(nn.Linear(16, 1), clicks(), each)

    def test_a_pair_without_a_loss(self):
        assert "if the second is the target, name the loss" in refusal(nn.Linear(16, 1), clicks())

    def test_a_dimension_that_no_input_has(self):
        assert "another --batch-dim than 7" in refusal(nn.Linear(16, 1), clicks(), "bce", batch_dim=7)

    def test_another_device(self):
        batch = tuple(part.to("meta") for part in clicks()[0])
        assert "the model is on cpu and a batch holds a tensor on meta" in refusal(nn.Linear(16, 1), batch, "bce")

    @pytest.mark.parametrize(
        ("loss", "words"),
        [
            ("bcee", "'bcee' is unknown; did you mean 'bce'?"),
            ("nowhere:loss", "nowhere cannot be imported"),
            ("torch.nn.functional:mse_los", "has no 'mse_los'; did you mean 'mse_loss'?"),
            ("nofile.py:loss", "nofile.py does not exist"),
            ("torch:float32", "expected a function of output and target"),
        ],
    )
    def test_losses(self, loss, words):
        assert words in refusal(nn.Linear(16, 1), clicks(), loss)

    def test_batches(self):
        assert "no batch" in refusal(nn.Linear(16, 1), [], "bce")
        assert "expected a pair of inputs and target" in refusal(nn.Linear(16, 1), torch.ones(3, 16), "bce")
        assert "expected a torch.nn.Module" in refusal("model", clicks(), "bce")

    def test_a_loss_that_fails_names_its_shapes(self):
        sentence = refusal(nn.Linear(16, 3), clicks(), "ce")
        assert "the loss ce fails on outputs (64, 3) and target (64,)" in sentence

    def test_a_backward_that_fails(self):
        class Twice(nn.Module):
            def __init__(self):
                super().__init__()
                self.weight = nn.Parameter(torch.ones(16, 1))

            def forward(self, x):
                y = (x @ self.weight).exp()
                y.add_(1)
                return y.sin() if not torch.is_grad_enabled() else y.sin() + y.detach_().requires_grad_().sum() * 0

        from deepfm.analysis.measures.flow import measure_flow

        class Wrong(torch.autograd.Function):
            @staticmethod
            def forward(ctx, x):
                return x.clone()

            @staticmethod
            def backward(ctx, gradient):
                raise RuntimeError("no way back")

        class Model(nn.Linear):
            def forward(self, x):
                return Wrong.apply(super().forward(x))

        with pytest.raises(AnalysisError, match="fails in its backward pass: RuntimeError: no way back"):
            measure_flow(make_subject(Model(16, 1), clicks(), "bce"))


class TestForms:
    def test_tuples_dicts_and_names(self):
        class Named(nn.Module):
            def __init__(self):
                super().__init__()
                self.head = nn.Linear(4, 1)

            def forward(self, left, right):
                return self.head(left - right)

        x = torch.randn(8, 4)
        for inputs in ((x, x + 1), {"left": x, "right": x + 1}):
            subject = make_subject(Named(), (inputs, torch.ones(8)), "bce")
            assert subject.rows == 8
            assert float(subject.loss_of(subject.model, subject.sized(subject.batches[0], 20))) > 0

    def test_rows_of_sequence_modules_are_in_the_second_dimension(self):
        layer = nn.TransformerEncoderLayer(8, 2, 16)
        subject = make_subject(nn.TransformerEncoder(layer, 1), torch.randn(5, 7, 8), "probe")
        assert (subject.batch_dim, subject.rows) == (1, 7)
        assert make_subject(nn.LSTM(8, 4), torch.randn(5, 7, 8), "probe").rows == 7
        assert make_subject(nn.GRU(8, 4, batch_first=True), torch.randn(5, 7, 8), "probe").rows == 5

    def test_a_part_in_evaluation_mode_stays_there(self):
        subject = subject_of(HEALTHY["frozen backbone"])
        with subject.scratch(train=True) as model:
            assert [module.training for module in model] == [False, True]


def _state(model):
    return (
        {name: part.clone() for name, part in model.state_dict().items()},
        [None if part.grad is None else part.grad.clone() for part in model.parameters()],
        [part.requires_grad for part in model.parameters()],
        [module.training for module in model.modules()],
        torch.get_rng_state().clone(),
        np.random.get_state()[1].copy(),  # noqa: NPY002
        random.getstate(),
    )


def _same(one, other):
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, np.ndarray):
        return np.array_equal(one, other)
    if isinstance(one, list):
        return all(a is b if a is None else _same(a, b) for a, b in zip(one, other, strict=True))
    return one == other


@pytest.mark.parametrize("name", ["batch norm and dropout", "frozen backbone", "tied words"])
def test_a_whole_analysis_leaves_the_model_as_it_was(name):
    torch.manual_seed(0)
    case = HEALTHY[name]()
    for parameter in case.model.parameters():
        if parameter.requires_grad:
            parameter.grad = torch.ones_like(parameter)
    before = _state(case.model)
    analyze(case.model, case.batches, case.loss, budget=1, switches=("scaling", "precision", "quantize", "profile"))
    assert all(_same(one, other) for one, other in zip(before, _state(case.model), strict=True))


def test_a_model_that_cannot_be_copied_is_put_back():
    class Stubborn(nn.Linear):
        def __deepcopy__(self, memo):
            raise TypeError("no")

    model = Stubborn(16, 1)
    before = copy.copy({name: part.clone() for name, part in model.state_dict().items()})
    subject = make_subject(model, clicks(), "bce")
    with subject.scratch() as scratch:
        assert scratch is model
        with torch.no_grad():
            scratch.weight.zero_()
        scratch.eval()
    assert torch.equal(model.weight, before["weight"])
    assert model.training
    with untouched(model):
        model.weight.grad = torch.ones(1, 16)
    assert model.weight.grad is None


def test_a_loader_is_asked_again_and_not_to_its_end():
    asked = []

    class Rows:
        def __iter__(self):
            for at in range(1000):
                asked.append(at)
                yield clicks(batches=1)[0]

    subject = make_subject(nn.Linear(16, 1), Rows(), "bce")
    assert len(subject.batches) == 24 >= len(asked) - 1
    assert subject.notes == ["the first 24 batches of the loader"]
    assert next(iter(subject.loader)).target.shape == (64,)
    assert make_subject(nn.Linear(16, 1), iter(clicks()), "bce").loader is None
    assert make_subject(nn.Linear(16, 1), clicks(), "bce").loader is None
