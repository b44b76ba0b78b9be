"""The ranking loss: values by hand, ties, masks, and a scale that no number of models or lists changes."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import tensor

from deepfm.errors import ConfigError, DataError
from deepfm.model_selection.losses import RankingLoss

NAN = float("nan")
KINDS = ("hinge", "logistic", "listmle")


def draw(shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def test_hinge_by_hand():
    logits, targets = tensor([[0.0, 1.0, 0.95]]), tensor([[1.0, 0.5, 0.46]])
    # pairs: 0 before 1 lacks 0.1 + 1; 0 before 2 lacks 0.1 + .95; 1 before 2 should lead by .04 and leads by .05
    assert float(RankingLoss(0.1)(logits, targets)) == pytest.approx((1.1 + 1.05 + 0.0) / 3)
    assert float(RankingLoss(0.0)(logits, targets)) == pytest.approx((1.0 + 0.95) / 3)
    weights = np.array([0.5, 0.54, 0.04]) / 0.36
    weighed = RankingLoss(0.1, weigh_by_difference=True)(logits, targets)
    assert float(weighed) == pytest.approx(float(weights @ [1.1, 1.05, 0.0]) / 3)


def test_logistic_by_hand():
    found = RankingLoss(0.1, "logistic")(tensor([[0.3, 0.0]]), tensor([[1.0, 0.0]]))
    assert float(found) == pytest.approx(math.log(1 + math.exp(0.1 - 0.3)))


def test_listmle_by_hand():
    logits, targets = tensor([[2.0, 1.0, 0.5]]), tensor([[0.1, 0.9, 0.5]])
    in_order = np.array([1.0, 0.5, 2.0])
    likelihood = sum(in_order[k] - np.log(np.exp(in_order[k:]).sum()) for k in range(3))
    assert float(RankingLoss(kind="listmle")(logits, targets)) == pytest.approx(-likelihood / math.log(6), rel=1e-5)


def test_listmle_of_equal_logits_is_the_mean_over_the_orders_of_ties():
    """For logits equal within a tie, Efron's denominators are exact."""
    logits, targets = draw((1, 5)), tensor([[3.0, 2.0, 2.0, 2.0, 1.0]], dtype=torch.float64)
    logits[:, 1:4] = 0.3
    found = []
    for order in itertools.permutations((1, 2, 3)):
        broken = targets.clone()
        broken[0, list(order)] += tensor([0.2, 0.1, 0.0], dtype=torch.float64)
        found.append(float(RankingLoss(kind="listmle")(logits, broken)))
    assert float(RankingLoss(kind="listmle")(logits, targets)) == pytest.approx(np.mean(found), rel=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_logits_equal_to_the_targets_order_best(kind):
    """Under hinge they cost nothing; a swap of two always costs more."""
    loss, targets = RankingLoss(0.1, kind), draw((1, 6))
    best = float(loss(targets, targets))
    if kind == "hinge":
        assert best == pytest.approx(0.0, abs=1e-12)
    swapped = targets[:, [1, 0, 2, 3, 4, 5]]
    assert float(loss(swapped, targets)) > best + 1e-3


@pytest.mark.parametrize("kind", KINDS)
def test_neither_models_nor_lists_change_the_scale(kind):
    loss = RankingLoss(0.1, kind)
    knows_nothing = []
    for lists, models in ((1, 2), (1, 50), (40, 50), (3, 400)):
        targets = draw((lists, models), models) * 100
        knows_nothing.append(float(loss(torch.zeros_like(targets), targets)))
    expected = {"hinge": 0.1, "logistic": math.log(1 + math.exp(0.1)), "listmle": 1.0}[kind]
    assert knows_nothing == pytest.approx([expected] * 4, rel=5e-3)
    logits, targets = draw((2, 7)), draw((2, 7), 1)
    assert float(loss(logits.repeat(5, 1), targets.repeat(5, 1))) == pytest.approx(float(loss(logits, targets)))


@settings(max_examples=40, deadline=None)
@given(
    kind=st.sampled_from(KINDS),
    weigh=st.booleans(),
    ties=st.sampled_from(("excluded", "pulled")),
    models=st.integers(1, 8),
    seed=st.integers(0, 1000),
)
def test_order_of_models_and_what_is_masked_change_nothing(kind, weigh, ties, models, seed):
    loss, source = RankingLoss(0.1, kind, weigh, ties), np.random.default_rng(seed)
    logits = torch.from_numpy(source.normal(size=(2, models)))
    targets = torch.from_numpy(source.integers(0, 4, size=(2, models)) / 4)
    base = float(loss(logits, targets))
    order = torch.from_numpy(source.permutation(models))
    assert float(loss(logits[:, order], targets[:, order])) == pytest.approx(base, rel=1e-9, abs=1e-12)
    assert float(loss(logits + 3, targets)) == pytest.approx(base, rel=1e-9, abs=1e-9)
    more = torch.cat([logits, torch.full((2, 2), NAN, dtype=torch.float64)], 1)
    unmeasured = torch.cat([targets, torch.full((2, 2), NAN, dtype=torch.float64)], 1)
    assert float(loss(more, unmeasured)) == pytest.approx(base, rel=1e-9, abs=1e-12)
    mask = torch.arange(models + 2) < models
    assert float(loss(more, unmeasured.nan_to_num(9.0), mask.expand(2, -1))) == pytest.approx(base, rel=1e-9, abs=1e-12)
    assert base >= 0


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("ties", ["excluded", "pulled"])
@pytest.mark.parametrize("weigh", [False, True])
def test_gradients_are_those_of_the_function(kind, ties, weigh):
    logits = draw((3, 6)).requires_grad_()
    targets = torch.from_numpy(np.random.default_rng(1).integers(0, 4, size=(3, 6)) / 2)
    targets[0, 2], targets[1, 1:] = NAN, NAN
    assert torch.autograd.gradcheck(lambda given: RankingLoss(0.1, kind, weigh, ties)(given, targets), (logits,))


@pytest.mark.parametrize("kind", KINDS)
def test_lists_without_a_pair_count_nowhere_and_give_no_nan(kind):
    loss = RankingLoss(0.1, kind)
    logits, targets = draw((2, 3)).requires_grad_(), tensor([[1.0, 2.0, 3.0], [NAN, 1.0, NAN]], dtype=torch.float64)
    assert loss(logits, targets).item() == pytest.approx(loss(logits[:1], targets[:1]).item())
    nothing = loss(logits, torch.full((2, 3), NAN, dtype=torch.float64))
    nothing.backward()
    assert nothing.item() == 0
    assert not logits.grad.any()


def test_ties_are_left_alone_or_pulled():
    logits, targets = tensor([[0.0, 1.0]]), tensor([[0.5, 0.5]])
    assert float(RankingLoss(0.1)(logits, targets)) == 0
    assert float(RankingLoss(0.1, ties="pulled")(logits, targets)) == pytest.approx(0.9)
    gradient = torch.autograd.functional.jacobian(lambda given: RankingLoss(kind="listmle")(given, targets), logits)
    assert gradient[0, 1] > 0 > gradient[0, 0]  # likeliest where they are equal


def test_bad_settings_and_shapes_are_refused():
    for wrong in ({"kind": "pairwise"}, {"ties": "both"}, {"ranking_margin": -0.1}, {"ranking_margin": NAN}):
        with pytest.raises(ConfigError, match="expected"):
            RankingLoss(**wrong)
    with pytest.raises(DataError, match="one shape"):
        RankingLoss()(torch.zeros(2, 3), torch.zeros(2, 4))
    with pytest.raises(DataError, match="one shape"):
        RankingLoss()(torch.zeros(3), torch.zeros(3))
