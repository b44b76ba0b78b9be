"""Every planted fault is named with its place, and healthy models are left alone."""

import pytest
import torch
from torch import nn

from deepfm.analysis.rules import RULES, judge
from deepfm.analysis.subject import make_subject
from tests.analysis.conftest import examined, subject_of
from tests.analysis.faulty import FAULTS
from tests.analysis.healthy import HEALTHY
from tests.analysis.subjects import clicks

LEARN = ("tower for clicks", "tied words", "LSTM", "auto-encoder", "a dict of ids", "Transformer, norm first")
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_found_where_it_is(name):
    fault = FAULTS[name]
    found = judge(examined(subject_of(fault.build), learns=False))
    assert [one for one in found if one.rule == fault.rule and fault.place in one.place], found


def test_healthy_models_are_left_alone():
    important = []
    for name, build in HEALTHY.items():
        found = judge(examined(subject_of(build), learns=name in LEARN))
        assert [one for one in found if one.priority == 1] == [], name
        important += [(name, one) for one in found]
    assert len(important) <= 1, important


def test_each_finding_says_all():
    (first, *_) = judge(examined(subject_of(FAULTS["detach"].build), learns=False))
    assert (first.rule, first.priority) == ("graph-cut", 1)
    assert "first" in first.state
    assert all((first.impact, first.fix, first.threshold, first.measured))


def test_rules_are_told_apart_and_most_have_a_fixture():
    assert len({rule.id for rule in RULES}) == len(RULES)
    without = {rule.id for rule in RULES} - {fault.rule for fault in FAULTS.values()}
    assert without == {
        *("non-finite-output", "optimizer-holds-frozen", "one-batch-not-learned", "activation-memory"),
    }


class Broken(nn.Module):
    """A logarithm of what may be negative."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(16, 1)

    def forward(self, x):
        return torch.log(self.head(x))


def rules_on(model, batches, loss, optimizer=None, learns=False):
    found = judge(examined(make_subject(model, batches, loss, optimizer=optimizer), learns=learns))
    return {one.rule: one for one in found}


def test_outputs_that_are_not_finite():
    assert rules_on(Broken(), clicks(), "bce")["non-finite-output"].place == "output"


def test_an_optimizer_that_holds_what_is_frozen():
    model = nn.Sequential(nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 1))
    model[0].requires_grad_(False)
    found = rules_on(model, clicks(), "bce", torch.optim.SGD(model.parameters(), lr=0.1))
    assert (found["optimizer-holds-frozen"].place, found["optimizer-holds-frozen"].priority) == ("0", 2)


def test_a_batch_that_cannot_be_learned():
    class Blind(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = nn.Linear(16, 1)

        def forward(self, x):
            return self.head(0.001 * x)

    found = rules_on(Blind(), clicks(), "bce", learns=True)
    assert found["one-batch-not-learned"].priority == 2


def test_a_step_that_hardly_fits(monkeypatch):
    from dataclasses import replace

    measured = examined(subject_of(HEALTHY["tower for clicks"]), learns=False)
    assert judge(replace(measured, memory_share=0.5)) == ()
    (one,) = judge(replace(measured, memory_share=0.7))
    assert (one.rule, one.priority, one.measured) == ("activation-memory", 1, 0.7)


class Late(nn.Module):
    """A branch that only later batches go through."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(16, 1), nn.Linear(16, 1)

    def forward(self, x, late):
        return self.b(x) if bool(late[0]) else self.a(x)


def rules_of(model, batches, loss):
    return {one.rule for one in judge(examined(make_subject(model, batches, loss), learns=False))}


def test_a_branch_of_later_batches_is_reached():
    rows = clicks(batches=6)
    late = [((x, torch.full((len(x), 1), float(at > 3))), y) for at, (x, y) in enumerate(rows)]
    assert "unreached-parameters" not in rules_of(Late(), late, "bce")
    assert "unreached-parameters" in rules_of(Late(), late[:4], "bce")


def test_a_pairwise_loss_compares_rows_on_purpose():
    def pairwise(output, target):
        output = output.squeeze(1)
        margins = (output[:, None] - output) * (target[:, None] - target)
        return nn.functional.softplus(-margins).mean()

    def meant_row_by_row(output, target):
        return (output - target).square().mean()

    assert "loss-broadcasts" not in rules_of(nn.Linear(16, 1), clicks(), pairwise)
    assert "loss-broadcasts" in rules_of(nn.Linear(16, 1), clicks(), meant_row_by_row)


def test_one_row_says_nothing_of_dead_units():
    def narrow():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 1))

    x, y = clicks()[0]
    dead = narrow()
    nn.init.constant_(dead[0].bias, -100.0)
    assert "dead-units" not in rules_of(dead, (x[:1], y[:1]), "bce")
    assert "dead-units" in rules_of(dead, (x, y), "bce")
