"""A fit with an optimizer that a person made, without a metric, and one that an observer ends."""

import pytest
import torch
from torch import nn

from deepfm.engine.loop import Observer, fit
from deepfm.engine.optim import GivenOptimizer
from deepfm.engine.optimizer import CombinedOptimizer
from deepfm.engine.task import ParameterGroup
from deepfm.errors import ConfigError
from tests.engine.test_other_task import CPU, Knobs, Ordering, StopAfter, weights

PLAIN = Knobs(scheduler="none", early_stopping_patience=2)


class Unmeasured(Ordering):
    """Nothing decides what is best."""

    metric = None

    def evaluate(self, on_progress=None):
        return {}


class Told(Observer):
    """What an observer is told, and whether it ends the fit after some epochs."""

    def __init__(self, stop_after=None):
        self.stop_after, self.calls = stop_after, []

    def fit_started(self, first_epoch, num_epochs, num_batches):
        self.calls.append("fit")
        self.stop_requested = self.stop_after == 0

    def epoch_started(self, epoch):
        self.calls.append(f"epoch {epoch}")

    def batch_finished(self, rows):
        self.calls.append("batch")

    def epoch_finished(self, state, improved):
        self.calls.append(f"{state.epoch} done")
        self.stop_requested = state.epoch == self.stop_after

    def fit_ended(self):
        self.calls.append("end")


def started(kind=Unmeasured):
    torch.manual_seed(0)
    return kind()


def given(task, make=torch.optim.Adam, lr=0.05):
    return CombinedOptimizer([GivenOptimizer(make(task.model.parameters(), lr=lr), task.parameter_groups())])


class TestWithoutMetric:
    def test_all_epochs_run_and_the_last_weights_stay(self):
        task = started()
        seen = []

        class Keep(Observer):
            def epoch_finished(self, state, improved):
                seen.append((weights(task), improved))

        state = fit(task, PLAIN, device=CPU, observers=[Keep()])
        assert (state.epoch, state.best_epoch, state.best_weights) == (6, 0, {})
        assert torch.equal(weights(task), seen[-1][0])
        assert [improved for _, improved in seen] == [False] * 6
        assert "mistakes" not in state.history[0]

    def test_a_plateau_cuts_nothing(self):
        state = fit(started(), Knobs(scheduler="none", num_epochs=3), device=CPU)
        assert [record["lr"] for record in state.history] == [0.05] * 3

    def test_it_resumes(self, tmp_path):
        whole = started()
        fit(whole, PLAIN, device=CPU)
        half = started()
        with pytest.raises(KeyboardInterrupt):
            fit(half, PLAIN, device=CPU, checkpoint=tmp_path / "last.ckpt", observers=[StopAfter(13)])
        resumed = Unmeasured()
        fit(resumed, PLAIN, device=CPU, checkpoint=tmp_path / "last.ckpt", resume=True)
        assert torch.equal(weights(resumed), weights(whole))


class TestObservers:
    def test_the_order_of_what_they_are_told(self):
        told = Told()
        fit(started(), Knobs(num_epochs=2), device=CPU, observers=[told])
        batches = ["batch"] * 5
        assert told.calls == ["fit", "epoch 1", *batches, "1 done", "epoch 2", *batches, "2 done", "end"]

    @pytest.mark.parametrize("epochs", [0, 1, 4])
    def test_one_may_end_the_fit(self, epochs):
        state = fit(started(), PLAIN, device=CPU, observers=[Observer(), Told(epochs)])
        assert state.epoch == epochs

    def test_a_fit_that_is_ended_has_its_best_weights(self):
        task = started(Ordering)
        state = fit(task, Knobs(), device=CPU, observers=[Told(4)])
        assert state.epoch == 4
        assert all(torch.equal(weight, task.model.state_dict()[name]) for name, weight in state.best_weights.items())


class TestGivenOptimizer:
    def test_it_steps_as_the_one_of_the_settings(self):
        """torch's own Adam, with the same learning rate and no schedule."""
        named = started()
        fit(named, PLAIN, device=CPU)
        own = started()
        state = fit(own, PLAIN, device=CPU, optimizer=given(own))
        torch.testing.assert_close(weights(own), weights(named), rtol=1e-5, atol=1e-6)
        assert [record["lr"] for record in state.history] == [0.05] * 6

    def test_its_rates_and_state_are_its_own(self):
        """The settings' rate, schedule and warm-up are not looked at."""
        ends = []
        for knobs in (Knobs(scheduler="cosine", lr=7.0, warmup_steps=50), Knobs()):
            task = started()
            optimizer = given(task, torch.optim.SGD, 0.01)
            fit(task, knobs, device=CPU, optimizer=optimizer)
            ends.append(weights(task))
        assert torch.equal(*ends)
        assert optimizer.param_groups[0]["lr"] == 0.01

    @pytest.mark.parametrize("sparse", [False, True])
    @pytest.mark.parametrize("make", [torch.optim.Adam, torch.optim.AdamW, torch.optim.SGD, torch.optim.Adagrad])
    def test_penalties_are_in_the_gradients_it_sees(self, make, sparse):
        """Against the penalty in the loss; every row moves, whichever way the gradient is laid out."""
        ends = []
        for in_loss in (True, False):
            table = nn.Embedding(6, 3, sparse=sparse and not in_loss)
            other = nn.Parameter(torch.ones(3))
            with torch.no_grad():
                table.weight.copy_(torch.arange(18.0).view(6, 3) / 10)
            optimizer = make([table.weight, other], lr=0.1)
            if not in_loss:
                groups = [ParameterGroup([table.weight], l2=0.3), ParameterGroup([other])]
                optimizer = CombinedOptimizer([GivenOptimizer(optimizer, groups)])
            for ids in ([0, 2, 2], [5, 0, 1]):
                optimizer.zero_grad()
                loss = (table(torch.tensor(ids)) * other).square().sum()
                (loss + 0.3 * table.weight.square().sum() if in_loss else loss).backward()
                optimizer.step()
            ends.append((table.weight.detach(), other.detach()))
        for one, two in zip(*ends, strict=True):
            torch.testing.assert_close(one, two, rtol=1e-5, atol=1e-6)

    def test_zero_grad_forgets_what_it_does_not_train(self):
        first, second = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
        optimizer = GivenOptimizer(torch.optim.SGD([first], lr=0.1), [ParameterGroup([first, second])])
        (first * second).sum().backward()
        optimizer.zero_grad()
        assert (first.grad, second.grad) == (None, None)

    def test_its_state_can_be_saved(self):
        parameters = [nn.Parameter(torch.ones(2)) for _ in range(2)]
        made = [GivenOptimizer(torch.optim.Adam([weight]), [ParameterGroup([weight])]) for weight in parameters]
        parameters[0].grad = torch.ones(2)
        made[0].step()
        made[1].load_state_dict(made[0].state_dict())
        assert made[1].state_dict()["state"][0]["step"].item() == 1

    def test_strangers_are_refused(self):
        mine, theirs = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
        with pytest.raises(ConfigError, match="optimizer SGD has none of this model's parameters; make it from"):
            GivenOptimizer(torch.optim.SGD([theirs], lr=0.1), [ParameterGroup([mine])])
        with pytest.raises(ConfigError, match="optimizer LBFGS computes the loss many times a step"):
            GivenOptimizer(torch.optim.LBFGS([mine]), [ParameterGroup([mine])])
