"""Short runs at several rates: the best is chosen, the last batch stays unseen, and small differences are none."""

import math

import pytest
import torch
from torch import nn

from deepfm.analysis.measures.learning_rate import LearningRates
from deepfm.analysis.measures.rate_race import _best, measure_rate_race
from deepfm.analysis.subject import make_subject
from tests.analysis.checks import assert_plain, assert_untouched, healthy_subject
from tests.analysis.subjects import clicks

pytestmark = pytest.mark.usefixtures("one_thread")


def found_rate(suggestion, last_stable=None):
    return LearningRates("adam", suggestion=suggestion, last_stable=last_stable)


def line_subject(batches=5):
    torch.manual_seed(0)
    return make_subject(nn.Linear(16, 1), clicks(batches=batches), "bce")


def test_a_rate_that_is_too_small_loses():
    found = measure_rate_race(line_subject(), found_rate(0.01))
    assert found.rates == pytest.approx((1e-3, 0.01, 0.03))  # the default among them
    assert found.losses[0] > found.losses[1] > found.losses[2]
    assert found.chosen == found.rates[2]
    assert found.steps == 24


def test_no_rate_above_the_last_stable_one_is_run():
    found = measure_rate_race(line_subject(), found_rate(0.01, last_stable=0.02))
    assert found.rates == (1e-3, 0.01)


def test_without_a_range_test_the_default_begins():
    assert measure_rate_race(line_subject(), found_rate(None)).rates[0] == 1e-3


def test_of_those_that_are_alike_the_default_or_the_smallest_wins():
    assert _best((0.0008, 0.001, 0.0024), (1.0, 1.005, 1.1)) == 0.001
    assert _best((1.0, 3.0, 10.0), (1.005, 1.0, 2.0)) == 1.0
    assert _best((1.0, 3.0, 10.0), (1.1, 1.0, 1.0)) == 3.0
    assert _best((1.0, 3.0, 10.0), (math.inf, math.inf, math.inf)) == 1.0


def test_the_last_batch_is_not_looked_at():
    subject = line_subject()
    inputs, target = subject.batches[-1].args[0], subject.batches[-1].target
    before = measure_rate_race(subject, found_rate(1e-3))
    inputs.fill_(math.nan), target.fill_(math.nan)
    assert measure_rate_race(subject, found_rate(1e-3)).losses == before.losses


def test_a_model_that_is_too_slow_is_said_to_be():
    assert "do not fit into" in measure_rate_race(line_subject(), found_rate(1e-3), budget_seconds=1e-6).skipped


def test_few_batches_are_said_to_be_too_few():
    assert "3 batches" in measure_rate_race(line_subject(batches=3), found_rate(1e-3)).skipped


def test_the_model_is_untouched():
    subject = healthy_subject("batch norm and dropout")
    subject.batches = (*subject.batches, *subject.batches)
    assert_plain(assert_untouched(subject, lambda it: measure_rate_race(it, found_rate(1e-3))), {"seconds"})
