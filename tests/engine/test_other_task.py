"""The engine's seam: a task of another kind, with list batches, its own loss and its own metric."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import dataclass

import pytest
import torch
from torch import nn

from deepfm.engine.loop import Observer, fit
from deepfm.engine.loop_settings import LoopSettings
from deepfm.engine.task import Task
from deepfm.errors import CheckpointError, TrainingError


@dataclass(frozen=True)
class Knobs(LoopSettings):
    num_epochs: int = 6
    lr: float = 0.05
    scheduler: str = "none"
    early_stopping_patience: int = 10
    gradient_clip_norm: float | None = None


class Ordering(Task):
    """Learn which of two vectors is longer, from lists of pairs with a margin loss: no clicks."""

    metric, maximize = "mistakes", False

    def __init__(self) -> None:
        self.model = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.2), nn.Tanh(), nn.Linear(8, 1))

    def batches(self, epoch):
        generator = torch.Generator().manual_seed(epoch)
        for _ in range(self.num_batches()):
            vectors = torch.randn(20, 4, generator=generator)
            yield list(zip(vectors[:10], vectors[10:], strict=True))

    def num_batches(self):
        return 5

    def loss(self, batch):
        first, second = torch.stack([a for a, _ in batch]), torch.stack([b for _, b in batch])
        truth = torch.sign(first.norm(dim=1) - second.norm(dim=1))
        gap = (self.model(first.abs()) - self.model(second.abs())).squeeze(1)
        return torch.relu(0.5 - truth * gap).mean(), len(batch)

    def evaluate(self, on_progress=None):
        vectors = torch.randn(400, 4, generator=torch.Generator().manual_seed(0))
        scores, lengths = self.model(vectors.abs()).squeeze(1), vectors.norm(dim=1)
        wrong = (scores[:200] > scores[200:]) != (lengths[:200] > lengths[200:])
        return {"mistakes": wrong.float().mean().item()}


CPU = torch.device("cpu")


def trained(knobs=None, **options):
    torch.manual_seed(0)
    task = Ordering()
    return task, fit(task, knobs or Knobs(), device=CPU, **options)


def weights(task):
    return torch.cat([parameter.detach().reshape(-1) for parameter in task.model.parameters()])


class StopAfter(Observer):
    """Ctrl-C in the middle of an epoch."""

    def __init__(self, batches):
        self.left = batches

    def batch_finished(self, rows):
        self.left -= 1
        if not self.left:
            raise KeyboardInterrupt


def test_it_learns_and_ends_with_the_best_weights():
    task, state = trained()
    best = min(record["mistakes"] for record in state.history)
    assert best < 0.2 < state.history[0]["mistakes"] + 0.2
    assert state.history[state.best_epoch - 1]["mistakes"] == best
    task.model.eval()
    assert task.evaluate()["mistakes"] == pytest.approx(best)


def test_the_same_seed_gives_the_same_weights():
    assert torch.equal(weights(trained()[0]), weights(trained()[0]))


@pytest.mark.parametrize("scheduler", ["none", "cosine", "reduce_on_plateau"])
@pytest.mark.parametrize("stop_after", [2, 13])
def test_resuming_an_interrupted_fit_changes_nothing(tmp_path, stop_after, scheduler):
    knobs = Knobs(scheduler=scheduler, plateau_patience=0, warmup_steps=3, accumulation_steps=2)
    whole, state = trained(knobs)
    with pytest.raises(KeyboardInterrupt):
        trained(knobs, checkpoint=tmp_path / "last.ckpt", observers=[StopAfter(stop_after)])
    task = Ordering()  # another start than the first session's, and another random state
    torch.manual_seed(99)
    resumed = fit(task, knobs, device=CPU, checkpoint=tmp_path / "last.ckpt", resume=True)
    assert torch.equal(weights(task), weights(whole))
    assert [record["loss"] for record in resumed.history] == [record["loss"] for record in state.history]
    assert resumed.best_epoch == state.best_epoch


KILLED = """
import sys, time, torch
sys.path.insert(0, {root!r})
from tests.engine.test_other_task import CPU, Knobs, Observer, Ordering
from deepfm.engine.loop import fit

class Slow(Observer):
    def batch_finished(self, rows):
        print("batch", flush=True)
        time.sleep(0.02)

torch.manual_seed(0)
fit(Ordering(), Knobs(), device=CPU, checkpoint={checkpoint!r}, observers=[Slow()])
"""


def test_a_killed_process_resumes_to_the_same_weights(tmp_path):
    checkpoint = tmp_path / "last.ckpt"
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    code = textwrap.dedent(KILLED.format(root=root, checkpoint=str(checkpoint)))
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    for _ in range(13):  # in the middle of the third epoch
        assert process.stdout.readline() == "batch\n"
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    time.sleep(0.01)
    task = Ordering()
    state = fit(task, Knobs(), device=CPU, checkpoint=checkpoint, resume=True)
    assert torch.equal(weights(task), weights(trained()[0]))
    assert [record["epoch"] for record in state.history] == list(range(1, 7))


def test_early_stopping_counts_epochs_without_improvement():
    class Stuck(Ordering):
        def evaluate(self, on_progress=None):
            return {"mistakes": 0.5}

    state = fit(Stuck(), Knobs(num_epochs=50, early_stopping_patience=3), device=CPU)
    assert (state.best_epoch, state.epoch) == (1, 4)


def test_a_plateau_cuts_the_rate_and_goes_back_to_the_best_weights():
    class Worsening(Ordering):
        def __init__(self):
            super().__init__()
            self.seen, self.values = [], iter([0.4, 0.5, 0.5, 0.5, 0.5, 0.5])

        def evaluate(self, on_progress=None):
            self.seen.append(weights(self).clone())
            return {"mistakes": next(self.values)}

        def batches(self, epoch):
            self.seen.append(weights(self).clone())
            return super().batches(epoch)

    task = Worsening()
    state = fit(task, Knobs(scheduler="reduce_on_plateau", plateau_patience=1, num_epochs=4), device=CPU)
    assert [round(record["lr"], 6) for record in state.history] == [0.05, 0.05, 0.05, 0.005]
    after_first, before_fourth = task.seen[1], task.seen[6]
    assert torch.equal(after_first, before_fourth)


def test_accumulated_steps_equal_one_large_batch():
    class Plain(Ordering):
        def __init__(self):
            super().__init__()
            self.model = nn.Linear(4, 1)

        def num_batches(self):
            return 4

        def loss(self, batch):
            return self.model(torch.stack([a for a, _ in batch])).square().mean(), len(batch)

    class Joined(Plain):
        def num_batches(self):
            return 2

        def batches(self, epoch):
            small = list(Plain.batches(self, epoch)) if False else []
            generator = torch.Generator().manual_seed(epoch)
            for _ in range(4):
                vectors = torch.randn(20, 4, generator=generator)
                small.append(list(zip(vectors[:10], vectors[10:], strict=True)))
            yield small[0] + small[1]
            yield small[2] + small[3]

    results = []
    for task_class, accumulation in ((Plain, 2), (Joined, 1)):
        torch.manual_seed(0)
        task = task_class()
        fit(task, Knobs(num_epochs=2, accumulation_steps=accumulation, optimizer="sgd"), device=CPU)
        results.append(weights(task))
    assert torch.allclose(*results, atol=1e-6)


def test_a_loss_that_turns_nan_names_epoch_and_batch_and_keeps_the_last_state(tmp_path):
    class Poisoned(Ordering):
        def batches(self, epoch):
            for number, batch in enumerate(super().batches(epoch), start=1):
                yield [(a * float("nan"), b) for a, b in batch] if (epoch, number) == (2, 3) else batch

    torch.manual_seed(0)
    with pytest.raises(TrainingError, match=r"nan in epoch 2, batch 3; the state after epoch 1 is kept"):
        fit(Poisoned(), Knobs(), device=CPU, checkpoint=tmp_path / "last.ckpt")
    task = Ordering()
    fit(task, Knobs(), device=CPU, checkpoint=tmp_path / "last.ckpt", resume=True)
    assert torch.equal(weights(task), weights(trained()[0]))


def test_a_metric_that_is_nan_is_an_error():
    class Blind(Ordering):
        def evaluate(self, on_progress=None):
            return {"mistakes": float("nan")}

    with pytest.raises(TrainingError, match="mistakes is NaN after epoch 1"):
        fit(Blind(), Knobs(), device=CPU)


def test_a_checkpoint_of_another_task_or_model_is_refused(tmp_path):
    class Marked(Ordering):
        def fingerprint(self):
            return {"schema": "mine"}

    class Wider(Ordering):
        def __init__(self):
            super().__init__()
            self.model = nn.Linear(4, 1)

    trained(Knobs(num_epochs=1), checkpoint=tmp_path / "last.ckpt")
    for task, message in ((Marked(), "another schema"), (Wider(), "does not fit this model")):
        with pytest.raises(CheckpointError, match=message):
            fit(task, Knobs(), device=CPU, checkpoint=tmp_path / "last.ckpt", resume=True)
    with pytest.raises(CheckpointError, match="does not exist"):
        fit(Ordering(), Knobs(), device=CPU, checkpoint=tmp_path / "none.ckpt", resume=True)


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd", "adagrad", "rmsprop"])
def test_the_l2_of_a_group_is_the_gradient_of_its_penalty_in_the_loss(name):
    """λ·Σw² by the optimizer and by the loss give the same weights (AdamW's own decay apart)."""
    from deepfm.engine.optim import build_optimizer
    from deepfm.engine.task import ParameterGroup

    results = []
    for in_loss in (False, True):
        torch.manual_seed(0)
        weight = nn.Parameter(torch.randn(5, 3))
        optimizer = build_optimizer(name, 0.01, [ParameterGroup([weight], l2=0.0 if in_loss else 0.1)], CPU)
        for _ in range(20):
            loss = (weight - 1).square().mean() + (0.1 * weight.square().sum() if in_loss else 0.0)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        results.append(weight.detach())
    assert torch.allclose(*results, atol=1e-6)
