"""Rank metrics: values by hand, both definitions of the weighted tau, ties, missing evidence, invariances."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepfm.errors import DataError
from deepfm.model_selection import metrics
from deepfm.model_selection.metrics import METRICS, weighted_tau
from deepfm.model_selection.scores import RankedScores

FLOATS = st.integers(0, 6).map(lambda number: number / 4)


@st.composite
def ranked(draw, least=2, most=7):
    size = draw(st.integers(least, most))
    truth = np.array(draw(st.lists(FLOATS, min_size=size, max_size=size)))
    if np.ptp(truth) == 0:
        truth[0] += 1
    return truth, np.array(draw(st.lists(FLOATS, min_size=size, max_size=size)))


def tau_by_hand(truth, scores, ranks):
    """The sum of 1/(rank + 1) weights over ordered pairs, as Vigna (2015) writes it."""
    above = below = left = right = 0.0
    for i, j in itertools.combinations(range(len(truth)), 2):
        weight = 1 / (ranks[i] + 1) + 1 / (ranks[j] + 1)
        first, second = np.sign(truth[i] - truth[j]), np.sign(scores[i] - scores[j])
        above += weight * first * second
        left += weight * first**2
        right += weight * second**2
        below += weight
    return above / np.sqrt(left * right)


def descending(first, second):
    order = np.lexsort((second, first))[::-1]
    ranks = np.empty(len(first), int)
    ranks[order] = np.arange(len(first))
    return ranks


@given(ranked(least=3))
@settings(max_examples=60, deadline=None)
def test_weighted_tau_is_vignas_in_both_definitions(pair):
    truth, scores = pair
    if np.ptp(scores) == 0:
        assert weighted_tau(truth, RankedScores(scores)) == 0
        return
    by_truth = tau_by_hand(truth, scores, descending(truth, scores))
    by_score = tau_by_hand(truth, scores, descending(scores, truth))
    assert weighted_tau(truth, RankedScores(scores), "by truth") == pytest.approx(by_truth)
    assert weighted_tau(truth, RankedScores(scores)) == pytest.approx((by_truth + by_score) / 2)


def test_the_two_definitions_differ():
    truth, scores = np.array([0.9, 0.8, 0.2, 0.1]), RankedScores([0.5, 0.4, 0.6, 0.1])
    assert weighted_tau(truth, scores) == pytest.approx(0.2)
    assert weighted_tau(truth, scores, "by truth") == pytest.approx(1 - 2 * (4 / 3 + 5 / 6) / 6.25)


@given(ranked(), st.integers(1, 5))
@settings(max_examples=60, deadline=None)
def test_cut_metrics_are_expectations_over_the_orders_of_the_tied(pair, k):
    truth, scores = pair
    orders = [
        order
        for order in itertools.permutations(range(len(truth)))
        if all(scores[first] >= scores[second] for first, second in itertools.pairwise(order))
    ]
    kept = min(k, len(truth))
    best = truth >= np.sort(truth)[-kept]
    regrets = [truth.max() - truth[list(order[:k])].max() for order in orders]
    recalls = [best[list(order[:k])].sum() / kept for order in orders]
    holds = [truth[list(order[:k])].max() == truth.max() for order in orders]
    given_scores = RankedScores(scores)
    assert metrics.regret(truth, given_scores, k) == pytest.approx(np.mean(regrets))
    assert metrics.recall(truth, given_scores, k) == pytest.approx(np.mean(recalls))
    assert metrics.holds_best(truth, given_scores, k) == pytest.approx(np.mean(holds))


def test_values_by_hand():
    truth = np.array([0.9, 0.7, 0.5, 0.3])
    scores = RankedScores([3.0, 1.0, 4.0, 2.0])  # order: third, first, fourth, second
    assert metrics.regret(truth, scores, 1) == pytest.approx(0.4)
    assert metrics.regret(truth, scores, 2) == 0
    assert metrics.recall(truth, scores, 2) == 0.5
    assert metrics.spearman(truth, scores) == pytest.approx(0)
    assert metrics.kendall_tau_b(truth, scores) == 0
    gains, ideal = 0.2 + 0.6 / np.log2(3) + 0 + 0.4 / np.log2(5), 0.6 + 0.4 / np.log2(3) + 0.2 / 2
    assert metrics.ndcg(truth, scores, 5) == pytest.approx(gains / ideal)


def test_kendall_tau_b_allows_for_ties():
    value = metrics.kendall_tau_b(np.array([1.0, 2.0, 3.0]), RankedScores([1.0, 1.0, 2.0]))
    assert value == pytest.approx(2 / np.sqrt(3 * 2))


def test_tied_models_share_their_gains():
    truth = np.array([1.0, 0.0, 0.0])
    tied = metrics.ndcg(truth, RankedScores([1.0, 1.0, 1.0]), 1)
    assert tied == pytest.approx(1 / 3)


@pytest.mark.parametrize("name", METRICS)
def test_metrics_do_not_see_the_order_of_models_nor_the_unmeasured(name):
    rng = np.random.default_rng(3)
    truth, scores = rng.normal(size=20), rng.normal(size=20)
    scores[4], scores[7], scores[9] = np.nan, scores[8], np.nan
    value = METRICS[name](truth, RankedScores(scores))
    shuffled = rng.permutation(20)
    assert METRICS[name](truth[shuffled], RankedScores(scores[shuffled])) == pytest.approx(value)
    longer = np.append(truth, np.nan), np.append(scores, 99.0)
    assert METRICS[name](longer[0], RankedScores(longer[1])) == pytest.approx(value)


@pytest.mark.parametrize("name", METRICS)
def test_missing_evidence_is_last_and_tied(name):
    truth = np.array([0.9, 0.1, 0.5, 0.7])
    missing = METRICS[name](truth, RankedScores([2.0, np.nan, np.nan, 1.0]))
    assert missing == pytest.approx(METRICS[name](truth, RankedScores([2.0, -8.0, -8.0, 1.0])))


@pytest.mark.parametrize("name", ["weighted tau", "weighted tau by truth", "Spearman", "Kendall tau-b"])
def test_scores_that_rank_nothing_correlate_with_nothing(name):
    assert METRICS[name](np.array([1.0, 2.0, 3.0]), RankedScores([np.nan] * 3)) == 0


def test_coverage_counts_the_measured():
    assert metrics.coverage([0.5, np.nan, 0.9], [0.4, 0, 0], [0.6, 0, 0.8]) == 0.5
    assert metrics.coverage([0.5], [-np.inf], [np.inf]) == 1


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: weighted_tau([1.0, 1.0], RankedScores([1.0, 2.0])), "none differs"),
        (lambda: weighted_tau([1.0, np.nan], RankedScores([1.0, 2.0])), "1 models were measured"),
        (lambda: weighted_tau([1.0, 2.0], RankedScores([1.0])), r"shape \(2,\) and there are 1 scores"),
        (lambda: weighted_tau([1.0, 2.0], RankedScores([1.0, 2.0]), "scipy"), "expected 'symmetric' or 'by truth'"),
        (lambda: metrics.regret([1.0, 2.0], RankedScores([1.0, 2.0]), 0), "k = 0"),
        (lambda: metrics.coverage([np.nan], [0], [1]), "no truth"),
        (lambda: metrics.coverage([1.0], [0, 1], [1, 2]), "give"),
    ],
)
def test_what_cannot_be_judged_is_refused(call, says):
    with pytest.raises(DataError, match=says):
        call()
