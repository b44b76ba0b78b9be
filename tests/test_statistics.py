"""Bootstrap intervals against what theory says of them."""

import numpy as np
import pytest

from deepfm.errors import DataError, DeepFMError
from deepfm.statistics import (
    Interval,
    bootstrap_mean,
    newey_west,
    newey_west_error,
    paired_bootstrap,
    paired_newey_west,
)


def normal_interval(values, width=1.959964):
    error = values.std() / np.sqrt(len(values))
    return values.mean() - width * error, values.mean() + width * error


@pytest.mark.parametrize("draw", ["normal", "hits"])
def test_a_large_sample_has_the_normal_interval(draw):
    rng = np.random.default_rng(3)
    values = rng.normal(2.0, 3.0, 2000) if draw == "normal" else (rng.random(2000) < 0.25).astype(float)
    interval = bootstrap_mean(values, resamples=8000)
    low, high = normal_interval(values)
    width = high - low
    assert interval.mean == values.mean()
    assert interval.low == pytest.approx(low, abs=0.05 * width)
    assert interval.high == pytest.approx(high, abs=0.05 * width)


def test_the_level_decides_the_width():
    values = np.random.default_rng(0).normal(size=1000)
    narrow, wide = (bootstrap_mean(values, level=level) for level in (0.5, 0.99))
    assert (narrow.level, wide.level) == (0.5, 0.99)
    ratio = (wide.high - wide.low) / (narrow.high - narrow.low)
    assert ratio == pytest.approx(2.5758 / 0.6745, rel=0.08)


def test_a_95_percent_interval_covers_the_truth_about_95_times_in_100():
    rng = np.random.default_rng(5)
    intervals = [bootstrap_mean(rng.normal(1.0, 2.0, 100), resamples=600, seed=seed) for seed in range(300)]
    covered = np.mean([interval.low <= 1.0 <= interval.high for interval in intervals])
    assert covered == pytest.approx(0.94, abs=0.035)


def test_pairing_shrinks_the_interval_of_two_methods_that_agree_on_users():
    rng = np.random.default_rng(1)
    user = rng.normal(0.0, 1.0, 900)  # easy and hard users, alike for both methods
    ours, theirs = user + 0.04 + rng.normal(0, 0.1, 900), user + rng.normal(0, 0.1, 900)
    paired = paired_bootstrap(ours, theirs)
    assert paired.mean == pytest.approx(ours.mean() - theirs.mean())
    assert paired.excludes_zero
    shuffled = paired_bootstrap(ours, rng.permutation(theirs))
    assert not shuffled.excludes_zero
    assert paired.high - paired.low < 0.2 * (shuffled.high - shuffled.low)
    low, high = normal_interval(ours - theirs)
    assert (paired.low, paired.high) == pytest.approx((low, high), abs=0.05 * (high - low))


def test_swapping_the_methods_mirrors_the_interval():
    rng = np.random.default_rng(2)
    ours, theirs = rng.random(200), rng.random(200)
    one, other = paired_bootstrap(ours, theirs), paired_bootstrap(theirs, ours)
    assert (one.mean, one.low, one.high) == pytest.approx((-other.mean, -other.high, -other.low))


def test_equal_methods_differ_by_nothing():
    values = np.random.default_rng(0).random(50)
    interval = paired_bootstrap(values, values)
    assert (interval.mean, interval.low, interval.high, interval.excludes_zero) == (0.0, 0.0, 0.0, False)


def test_one_value_is_its_own_interval():
    assert bootstrap_mean([0.25]) == Interval(0.25, 0.25, 0.25, 0.95)


@pytest.mark.parametrize("resamples", [1, 499, 500, 501, 1234])
def test_any_number_of_resamples(resamples):
    interval = bootstrap_mean([0.0, 1.0, 1.0], resamples=resamples)
    assert 0.0 <= interval.low <= interval.high <= 1.0


def test_a_seed_decides_the_interval():
    values = np.random.default_rng(0).normal(size=300)
    assert bootstrap_mean(values, seed=7) == bootstrap_mean(values, seed=7)
    assert bootstrap_mean(values, seed=7) != bootstrap_mean(values, seed=8)
    np.random.seed(0)  # noqa: NPY002 - the global generator must not matter
    first = bootstrap_mean(values)
    np.random.seed(1)  # noqa: NPY002
    assert bootstrap_mean(values) == first


@pytest.mark.parametrize("values", [[], [[1.0, 2.0]], [1.0, float("nan")], [float("inf")], 3.0])
def test_values_that_have_no_mean_are_refused(values):
    with pytest.raises(DataError, match="finite values"):
        bootstrap_mean(values)


def test_users_that_do_not_pair_are_refused():
    with pytest.raises(DataError, match=r"\(3,\) and \(2,\); expected the same users"):
        paired_bootstrap([1.0, 2.0, 3.0], [1.0, 2.0])


@pytest.mark.parametrize("options", [{"resamples": 0}, {"resamples": -1}, {"level": 1.5}, {"level": -0.1}])
def test_impossible_options_are_refused(options):
    with pytest.raises(DeepFMError):
        bootstrap_mean([1.0, 2.0], **options)


def test_it_prints_and_decides():
    interval = Interval(0.0123, 0.0011, 0.0235, 0.95)
    assert str(interval) == "+0.0123 [+0.0011, +0.0235]"
    assert interval.excludes_zero
    assert Interval(-1.0, -2.0, -0.5, 0.95).excludes_zero
    assert not Interval(0.1, -0.1, 0.3, 0.95).excludes_zero


class TestNeweyWest:
    def test_by_hand(self):
        """Values 1, 2, 4 around 7/3, one lag: γ0 = 14/9, γ1 = (4/9 - 5/9) / 3, over 3."""
        values = [1.0, 2.0, 4.0]
        products = [(1 - 7 / 3) * (2 - 7 / 3), (2 - 7 / 3) * (4 - 7 / 3)]
        variance = 14 / 9 + 2 * 0.5 * sum(products) / 3
        assert newey_west_error(values, 1) == pytest.approx(np.sqrt(variance / 3))

    def test_without_lags_it_is_the_naive_error(self):
        values = np.random.default_rng(0).normal(size=400)
        assert newey_west_error(values, 0) == pytest.approx(values.std() / 20)

    def test_overlapping_sums_need_their_lags(self):
        """Means of sums over 10 days that overlap: the naive error is about √10 too small."""
        rng = np.random.default_rng(1)
        means, errors, naive = [], [], []
        for _ in range(200):
            series = np.convolve(rng.normal(size=609), np.ones(10), "valid")
            means.append(series.mean())
            errors.append(newey_west_error(series, 30))
            naive.append(newey_west_error(series, 0))
        assert np.mean(errors) == pytest.approx(np.std(means), rel=0.2)
        assert np.mean(naive) < 0.4 * np.std(means)

    def test_lags_beyond_the_series_and_constant_series_are_no_trouble(self):
        assert newey_west_error([2.0], 5) == 0
        assert newey_west_error(np.full(9, 0.1), 30) == pytest.approx(0, abs=1e-12)
        assert newey_west([0.0, 0.0], 1).t == 0
        assert newey_west([0.5, 0.5], 1).t == np.inf

    def test_values_that_are_far_apart_share_nothing(self):
        values = [1.0, -1.0, 1.0]
        assert newey_west_error(values, 1, at=[0, 1, 50]) == pytest.approx(4 / 9)  # by hand
        assert newey_west_error(values, 1, at=[7, 8, 9]) == newey_west_error(values, 1)
        with pytest.raises(DataError, match="rising times"):
            newey_west_error(values, 1, at=[0, 2, 2])

    def test_a_pair_is_its_difference(self):
        rng = np.random.default_rng(2)
        ours, theirs = rng.normal(size=(2, 50))
        found = paired_newey_west(ours, theirs, 3)
        assert found == newey_west(ours - theirs, 3)
        assert found.t == pytest.approx(found.mean / found.error)
        low, high = found.interval
        assert (low + high) / 2 == pytest.approx(found.mean)

    @pytest.mark.parametrize(("values", "lags"), [([], 1), ([np.nan], 1), ([[1.0]], 1), ([1.0], -1)])
    def test_what_has_no_error_is_refused(self, values, lags):
        with pytest.raises(DataError, match="Newey-West"):
            newey_west_error(values, lags)
        with pytest.raises(DataError, match="same days"):
            paired_newey_west([1.0], [1.0, 2.0], 1)
