"""The losses: values by hand and by scipy, gradients, signs, days that hold nothing, and what each improves."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from deepfm.equities.days.layout import DayLayout
from deepfm.equities.loss_settings import WEIGHTS, LossSettings
from deepfm.equities.losses import (
    CombinedLoss,
    huber_loss,
    ic_loss,
    listnet_loss,
    pinball_loss,
    rankic_loss,
    sharpe_loss,
    student_t_loss,
    turnover,
)
from deepfm.equities.network import Forecast
from deepfm.errors import ConfigError, DataError
from tests.equities.days import HORIZONS, days_of

LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)
NAN = float("nan")


def days(*sizes):
    return torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def sharpe(scores, returns, day):
    stock = DayLayout.of(day).place
    return sharpe_loss(scores, returns, day, stock, turnover_cost=1e-4, least_days=2)


ORDERED = {"ic": ic_loss, "rankic": rankic_loss, "listnet": listnet_loss, "sharpe": sharpe}
LEVELLED = {
    "pinball": lambda scores, targets, day: pinball_loss(scores.unsqueeze(-1), targets, day, (0.5,)),
    "huber": huber_loss,
    "student_t": lambda scores, targets, day: student_t_loss(
        torch.stack([scores, torch.ones_like(scores), 5 * torch.ones_like(scores)], -1), targets, day
    ),
}
ALL = ORDERED | LEVELLED


@pytest.mark.parametrize("name", ALL)
def test_a_loss_has_a_finite_gradient_that_is_not_0(name):
    day = days(7, 5, 9)
    scores = drawn(21, 2).requires_grad_()
    targets = drawn(21, 2, seed=1)
    targets[3] = NAN
    loss = ALL[name](scores, targets, day)
    assert loss.shape == (2,)
    (gradient,) = torch.autograd.grad(loss.sum(), scores)
    assert torch.isfinite(gradient).all()
    assert (gradient[3] == 0).all()
    assert gradient.abs().amax(0).min() > 1e-4


@pytest.mark.parametrize("name", ALL)
def test_a_higher_score_for_a_higher_return_costs_less(name):
    day, targets = days(20, 20, 20, 20), drawn(80)
    noise = drawn(80, seed=2)
    right, none, wrong = (float(ALL[name](way * targets + 0.5 * noise, targets, day)) for way in (1, 0, -1))
    assert right < none < wrong


@pytest.mark.parametrize("name", ALL)
def test_days_that_hold_nothing_are_left_out(name):
    """One stock, equal targets, no target at all: finite, and the other days' loss alone where the order counts."""
    day = days(6, 1, 4, 5, 6)
    scores, targets = drawn(22), drawn(22, seed=3)
    targets[7:11], targets[11:16] = 0.25, NAN
    loss = ALL[name](scores.requires_grad_(), targets, day)
    (gradient,) = torch.autograd.grad(loss, scores)
    assert torch.isfinite(loss)
    assert torch.isfinite(gradient).all()
    if name in ("ic", "rankic", "listnet"):
        whole = torch.cat([torch.arange(6), torch.arange(16, 22)])
        assert torch.allclose(loss, ORDERED[name](scores[whole], targets[whole], days(6, 6)), atol=1e-6)


@pytest.mark.parametrize("name", ALL)
def test_equal_scores_and_no_targets_at_all_are_finite(name):
    day = days(5, 5)
    for scores, targets in (
        (torch.zeros(10), drawn(10)),
        (drawn(10), torch.full((10,), NAN)),
        (drawn(10), torch.ones(10)),
    ):
        scores = scores.clone().requires_grad_()
        loss = ALL[name](scores, targets, day)
        (gradient,) = torch.autograd.grad(loss, scores)
        assert torch.isfinite(loss)
        assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("name", ALL)
def test_the_number_of_stocks_does_not_weigh_a_day(name):
    """A day's stocks twice cost what they cost once; all days count alike."""
    first, second = (drawn(30), drawn(30, seed=1)), (drawn(30, seed=2), drawn(30, seed=3))
    once = ALL[name](*(torch.cat(parts) for parts in zip(first, second, strict=True)), days(30, 30))
    doubled = [torch.cat([one, one, other]) for one, other in zip(first, second, strict=True)]
    tolerance = 2e-2 if name in ("sharpe",) else 1e-5
    assert torch.allclose(ALL[name](*doubled, days(60, 30)), once, atol=tolerance)


@pytest.mark.parametrize("name", ["ic", "rankic", "sharpe"])
def test_the_scale_of_scores_does_not_matter(name):
    day, scores, targets = days(8, 8), drawn(16), drawn(16, seed=1)
    assert torch.allclose(ALL[name](scores, targets, day), ALL[name](50 * scores + 3, targets, day), atol=1e-4)


@pytest.mark.parametrize("name", ALL)
def test_a_loss_improves_its_own_quantity(name):
    """Descent on the scores alone, from scores that know nothing."""
    day = days(*[12] * 6)
    targets, scores = 0.3 * drawn(72), drawn(72, seed=1)
    before = ALL[name](scores, targets, day)
    for _ in range(40):
        scores = scores.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(ALL[name](scores, targets, day), scores)
        scores = scores.detach() - 0.5 * gradient / gradient.abs().mean().clamp(min=1e-12) * 0.1
    after = ALL[name](scores, targets, day)
    assert after < before - 0.1 * before.abs()
    if name in ORDERED:
        assert stats.spearmanr(scores.numpy(), targets.numpy()).statistic > 0.4


def test_ic_is_that_of_scipy():
    scores, targets = drawn(17), drawn(17, seed=1)
    wanted = [stats.pearsonr(scores[part], targets[part]).statistic for part in (slice(0, 9), slice(9, 17))]
    assert float(ic_loss(scores, targets, days(9, 8))) == pytest.approx(1 - np.mean(wanted), abs=1e-5)


def test_soft_rankic_becomes_spearmans():
    scores, targets = drawn(40).round(decimals=1), drawn(40, seed=1).round(decimals=1)  # with ties
    wanted = stats.spearmanr(scores, targets).statistic
    assert float(rankic_loss(scores, targets, days(40), 1e-3)) == pytest.approx(1 - wanted, abs=1e-3)
    assert abs(float(rankic_loss(scores, targets, days(40), 0.1)) - 1 + wanted) < 0.05


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(-3, 3, width=32), min_size=2, max_size=9), st.integers(0, 99))
def test_soft_ranks_derivative_is_that_of_the_plain_formula(values, seed):
    from deepfm.equities.losses import orders

    scores = torch.tensor([values, values[::-1]], dtype=torch.float64, requires_grad=True)
    counts = torch.rand(scores.shape, generator=torch.Generator().manual_seed(seed)) < 0.8
    counted = counts.double()
    plain = ((scores.unsqueeze(2) - scores.unsqueeze(1)).sigmoid() * counted.unsqueeze(1)).sum(2) * counted
    own = orders._SoftRanks.apply(scores, counts)
    weights = torch.arange(1, scores.numel() + 1, dtype=torch.float64).reshape(scores.shape)
    assert torch.allclose(own, plain)
    found, wanted = (torch.autograd.grad((rank * weights).sum(), scores)[0] for rank in (own, plain))
    assert torch.allclose(found, wanted)


def test_soft_ranks_come_in_chunks(monkeypatch):
    from deepfm.equities.losses import orders

    day, scores, targets = days(9, 4, 7), drawn(20, 3), drawn(20, 3, seed=1)
    whole = rankic_loss(scores, targets, day)
    monkeypatch.setattr(orders, "PAIRS", 200)
    assert torch.allclose(rankic_loss(scores, targets, day), whole)


def test_listnet_by_hand():
    """Two stocks: targets ±1 standardised; e² : 1 against even shares."""
    high = 1 / (1 + math.exp(-2))
    wanted = high * math.log(2 * high) + (1 - high) * math.log(2 * (1 - high))
    assert float(listnet_loss(torch.zeros(2), torch.tensor([0.3, 0.1]), days(2))) == pytest.approx(wanted, abs=1e-5)
    assert float(listnet_loss(torch.tensor([1.0, -1.0]), torch.tensor([0.3, 0.1]), days(2))) == pytest.approx(
        0, abs=1e-5
    )


def test_pinball_and_huber_by_hand():
    quantiles = torch.tensor([[0.0, 1.0], [0.0, 1.0], [0.0, 1.0]])
    targets = torch.tensor([2.0, 0.5, NAN])
    rows = [(0.25 * 2 + 0.75 * 1) / 2, (0.25 * 0.5 + 0.25 * 0.5) / 2]
    assert float(pinball_loss(quantiles, targets, days(3), (0.25, 0.75))) == pytest.approx(np.mean(rows))
    huber = [0.1 * (2 - 0.05), 0.5 * 0.05**2]
    assert float(huber_loss(torch.tensor([0.0, 0.55, 0.0]), targets, days(3))) == pytest.approx(np.mean(huber))


def test_pinball_is_least_at_the_quantile():
    draws = drawn(4000)
    places = {
        level: min(
            np.linspace(-2, 2, 41),
            key=lambda at, level=level: float(pinball_loss(torch.full((4000, 1), at), draws, days(4000), (level,))),
        )
        for level in (0.05, 0.5, 0.95)
    }
    for level, place in places.items():
        assert place == pytest.approx(float(draws.quantile(level)), abs=0.1)


def test_student_t_is_that_of_scipy():
    parameters = torch.tensor([[0.1, 0.5, 3.0], [-0.2, 1.5, 12.0]])
    targets = torch.tensor([0.7, -3.0])
    wanted = [
        -stats.t.logpdf(y, nu, mu, sigma) for (mu, sigma, nu), y in zip(parameters.tolist(), targets, strict=True)
    ]
    assert float(student_t_loss(parameters, targets, days(2))) == pytest.approx(np.mean(wanted), abs=1e-5)


def test_sharpe_by_hand():
    """Two stocks, one long half a unit and one short: the day's return is half their difference."""
    scores = torch.tensor([1.0, 0.0] * 3)
    returns = torch.tensor([0.03, 0.01, 0.0, 0.02, 0.05, 0.01])
    earned = np.array([0.01, -0.01, 0.02])
    wanted = -earned.mean() / np.sqrt(earned.var() + 1e-8)
    stock = torch.tensor([4, 7] * 3)
    found = sharpe_loss(scores, returns, days(2, 2, 2), stock, least_days=3)
    assert float(found) == pytest.approx(wanted, abs=1e-4)
    assert float(sharpe_loss(-scores, returns, days(2, 2, 2), stock, least_days=3)) == pytest.approx(-wanted, abs=1e-4)
    # the same holdings every day: nothing is traded after the first
    costly = sharpe_loss(scores, returns, days(2, 2, 2), stock, turnover_cost=0.01, least_days=3)
    assert float(costly) == pytest.approx(float(found), abs=1e-6)
    turned = sharpe_loss(
        scores * torch.tensor([1, 1, -1, -1, 1, 1]), returns, days(2, 2, 2), stock, turnover_cost=0.001, least_days=3
    )
    earned = np.array([0.01, 0.01 - 0.002, 0.02 - 0.002])
    assert float(turned) == pytest.approx(-earned.mean() / np.sqrt(earned.var() + 1e-8), abs=1e-4)


def test_turnover_by_hand():
    """Stocks 3 and 5, then 5 and 2, then 5 alone, then a day without stocks' overlap."""
    layout = DayLayout.of(torch.tensor([0, 0, 1, 1, 2, 3]))
    stock = torch.tensor([3, 5, 5, 2, 5, 3])
    weights = torch.tensor([0.5, -0.5, 0.25, -0.75, 1.0, -1.0]).unsqueeze(1)
    traded = turnover(weights, layout, stock).squeeze(1)
    assert torch.allclose(traded, torch.tensor([0.0, 0.5 + 0.75 + 0.75, 0.75 + 0.75, 1.0 + 1.0]))


def test_turnover_is_that_of_dense_weights():
    draw = np.random.default_rng(0)
    dense = draw.normal(size=(6, 9)) * (draw.random((6, 9)) < 0.6)
    day, stock = (torch.tensor(part) for part in np.nonzero(dense))
    layout = DayLayout.of(day)
    found = turnover(torch.tensor(dense[day, stock]).unsqueeze(1), layout, stock).squeeze(1)
    assert np.allclose(found[1:], np.abs(np.diff(dense, axis=0)).sum(1))


def test_a_sharpe_ratio_needs_its_days():
    with pytest.raises(DataError, match=r"over 2 days says nothing; expected 16 days or more"):
        sharpe_loss(drawn(6), drawn(6), days(3, 3), torch.tensor([0, 1, 2] * 2))
    with pytest.raises(ConfigError, match=r"batch_size = 8 days with sharpe_weight = 0.1"):
        LossSettings(sharpe_weight=0.1).check_batch(8)
    LossSettings(sharpe_weight=0.1).check_batch(16)
    LossSettings().check_batch(1)


def test_shapes_that_differ_are_refused():
    with pytest.raises(DataError, match=r"got \(6,\), \(6, 1\) and 6 days"):
        ic_loss(drawn(6), drawn(6, 1), days(3, 3))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 6), min_size=1, max_size=6))
def test_a_table_of_days_gives_its_rows_back(sizes):
    layout = DayLayout.of(days(*sizes))
    rows = drawn(sum(sizes), 2)
    table = layout.pad(rows)
    assert table.shape == (len(sizes), max(sizes), 2)
    assert torch.equal(layout.rows(table), rows)
    assert layout.mask.sum(1).tolist() == sizes
    assert (table[~layout.mask] == 0).all()


@pytest.fixture(scope="module")
def said():
    batch = days_of(*[5] * 16)
    scores = drawn(80, HORIZONS)
    quantiles = 0.1 * scores.unsqueeze(-1) + torch.tensor([-0.4, -0.2, 0.0, 0.2, 0.4])
    student_t = torch.stack([scores, torch.ones_like(scores), 4 * torch.ones_like(scores)], -1)
    return batch, Forecast(scores, quantiles, student_t, torch.tensor(0.5), torch.tensor(1.5))


def combined(**changes):
    return CombinedLoss(LossSettings(**changes), LEVELS, HORIZONS)


def test_the_combined_loss_is_the_weighted_sum(said):
    batch, forecast = said
    loss = combined(**{f"{part}_weight": 0.5 for part in WEIGHTS}, auxiliary_weight=0.2, selection_weight=0.1)
    parts = loss.parts(forecast, batch)
    assert set(parts) == {*WEIGHTS, "auxiliary", "selection"}
    wanted = 0.5 * sum(float(parts[name]) for name in WEIGHTS) + 0.2 * 0.5 + 0.1 * 1.5
    assert float(loss(forecast, batch)) == pytest.approx(wanted, abs=1e-5)


def test_horizons_weigh_as_they_are_told(said):
    batch, forecast = said
    alone = {"quantile_weight": 0.0, "student_t_weight": 0.0, "auxiliary_weight": 0.0, "ic_weight": 1.0}
    alone["selection_weight"] = 0.0
    first = combined(**alone, horizon_weights=(1.0, 0.0, 0.0, 0.0))(forecast, batch)
    assert torch.allclose(first, ic_loss(forecast.scores[:, 0], batch.targets[:, 0], batch.day))
    mixed = combined(**alone, horizon_weights=(3.0, 1.0, 0.0, 0.0))(forecast, batch)
    both = ic_loss(forecast.scores, batch.targets, batch.day)
    assert torch.allclose(mixed, 0.75 * both[0] + 0.25 * both[1])
    with pytest.raises(ConfigError, match="for 4 prediction_horizons"):
        combined(horizon_weights=(1.0, 2.0))


def test_every_setting_of_the_loss_changes_it(said):
    batch, forecast = said
    base = LossSettings(**{f"{part}_weight": 0.5 for part in WEIGHTS})
    others = {
        "horizon_weights": (1.0, 0.0, 0.0, 0.0), "huber_delta": 0.5, "rankic_temperature": 0.5, "sharpe_days": 17,
        "turnover_cost": 0.1, "auxiliary_weight": 0.7, "selection_weight": 0.7,
        **{f"{part}_weight": 0.2 for part in WEIGHTS},
    }  # fmt: skip
    assert set(others) == {field.name for field in dataclasses.fields(LossSettings)}
    before = float(CombinedLoss(base, LEVELS, HORIZONS)(forecast, batch))
    for name, value in others.items():
        changed = CombinedLoss(dataclasses.replace(base, **{name: value}), LEVELS, HORIZONS)
        assert float(changed(forecast, batch)) != pytest.approx(before, abs=1e-6), name


def test_a_loss_without_parts_is_refused():
    with pytest.raises(ConfigError, match="all weights of the loss are 0"):
        LossSettings(quantile_weight=0.0, ic_weight=0.0, student_t_weight=0.0)
    with pytest.raises(ConfigError, match="all horizon_weights are 0"):
        LossSettings(horizon_weights=(0.0, 0.0))
