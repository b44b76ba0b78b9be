import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import log_loss, roc_auc_score

from deepfm.errors import DataError
from deepfm.training.metrics import (
    RankingEvaluator,
    compute_auc,
    compute_hr_at_k,
    compute_logloss,
    compute_ndcg_at_k,
    metric_by_group,
)

UNTIMED = settings(deadline=None, max_examples=80)
TIED = st.sampled_from([0.0, 0.25, 0.5, 1.0])
ANY = st.floats(-1e6, 1e6)


def rows_of(scores):
    return st.lists(st.tuples(st.integers(0, 1), scores), min_size=2, max_size=40).filter(
        lambda rows: len({label for label, _ in rows}) == 2
    )


class TestAUC:
    @UNTIMED
    @given(st.one_of(rows_of(TIED), rows_of(ANY)))
    def test_is_scikit_learns(self, rows):
        labels, scores = zip(*rows, strict=True)
        assert compute_auc(labels, scores) == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)

    @UNTIMED
    @given(rows_of(TIED))
    def test_is_the_share_of_pairs_in_order_with_ties_half(self, rows):
        positives = [score for label, score in rows if label]
        negatives = [score for label, score in rows if not label]
        wins = sum((p > n) + 0.5 * (p == n) for p in positives for n in negatives)
        labels, scores = zip(*rows, strict=True)
        assert compute_auc(labels, scores) == pytest.approx(wins / len(positives) / len(negatives), abs=1e-12)

    def test_of_many_rows_with_many_ties_is_scikit_learns(self):
        rng = np.random.default_rng(0)
        labels = rng.integers(0, 2, 50_000)
        scores = (rng.normal(size=50_000) + labels).round(1).astype(np.float32)
        assert compute_auc(labels, scores) == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)

    @pytest.mark.parametrize(("scores", "auc"), [([0, 1], 1.0), ([1, 0], 0.0), ([3, 3], 0.5), ([-0.0, 0.0], 0.5)])
    def test_of_two_rows(self, scores, auc):
        assert compute_auc([0, 1], scores) == auc

    def test_any_kind_of_label_is_the_same_label(self):
        scores = [0.1, 0.4, 0.3]
        for dtype in (np.float32, np.int8, bool):
            assert compute_auc(np.array([0, 1, 1], dtype=dtype), scores) == 1.0

    @pytest.mark.parametrize(("labels", "count"), [([1, 1], "2 positives and 0"), ([0], "0 positives and 1")])
    def test_of_one_class_is_an_error(self, labels, count):
        with pytest.raises(DataError, match=f"AUC needs both classes; got {count}"):
            compute_auc(labels, np.zeros(len(labels)))


class TestLogLoss:
    @UNTIMED
    @given(st.one_of(rows_of(TIED), rows_of(st.floats(0, 1))))
    def test_is_scikit_learns(self, rows):
        labels, scores = (np.array(column) for column in zip(*rows, strict=True))
        wanted = log_loss(labels, scores.astype(np.float64), labels=[0, 1])
        assert compute_logloss(labels, scores) == pytest.approx(wanted, rel=1e-9, abs=1e-12)

    def test_by_hand(self):
        got = compute_logloss([1, 0], [0.8, 0.4])
        assert got == pytest.approx(-(math.log(0.8) + math.log(0.6)) / 2)

    def test_one_class_is_fine(self):
        assert compute_logloss([1, 1], [0.5, 0.5]) == pytest.approx(math.log(2))

    def test_a_certain_error_is_large_and_finite(self):
        assert 30 < compute_logloss([1, 0], [0.0, 1.0]) < 50
        assert compute_logloss([0, 1], [0.0, 1.0]) == 0

    def test_float32_is_summed_in_float64(self):
        scores = np.full(1_000_000, 0.3, dtype=np.float32)
        got = compute_logloss(np.ones(len(scores)), scores)
        assert got == pytest.approx(-math.log(float(np.float32(0.3))), rel=1e-12)

    @pytest.mark.parametrize("scores", [[-2.0, 0.5], [0.5, 1.5], [3.0, -3.0]])
    def test_logits_are_refused(self, scores):
        with pytest.raises(DataError, match=r"log loss needs probabilities.*apply a sigmoid"):
            compute_logloss([0, 1], scores)

    def test_of_no_rows_is_an_error_and_no_nan(self):
        with pytest.raises(DataError):
            compute_logloss([], [])


@pytest.mark.parametrize("metric", [compute_auc, compute_logloss])
class TestBothRefuse:
    @pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
    def test_a_score_that_is_not_finite(self, metric, bad):
        with pytest.raises(DataError, match=f"score 1 is {bad}"):
            metric([0, 1, 1], [0.5, bad, 0.5])

    @pytest.mark.parametrize("bad", [2, -1, 0.5, math.nan])
    def test_a_label_that_is_neither_zero_nor_one(self, metric, bad):
        with pytest.raises(DataError, match=f"label 2 is {bad}"):
            metric([0, 1, bad], [0.5, 0.5, 0.5])

    @pytest.mark.parametrize(
        ("labels", "scores"), [([0, 1], [0.5]), ([[0, 1]], [[0.5, 0.5]]), ([[0], [1]], [0.5, 0.5])]
    )
    def test_other_shapes(self, metric, labels, scores):
        with pytest.raises(DataError, match=r"expected \(N,\) for both"):
            metric(labels, scores)


RANKS = st.lists(st.integers(1, 30), min_size=1, max_size=30)


class TestRankMetrics:
    @UNTIMED
    @given(RANKS, st.integers(1, 25))
    def test_hr_is_the_share_inside_k(self, ranks, k):
        assert compute_hr_at_k(ranks, k) == pytest.approx(sum(rank <= k for rank in ranks) / len(ranks))
        assert compute_hr_at_k(np.array(ranks), k) == compute_hr_at_k(ranks, k)

    @UNTIMED
    @given(RANKS, st.integers(1, 25))
    def test_ndcg_is_the_mean_discounted_gain_inside_k(self, ranks, k):
        wanted = sum(1 / math.log2(rank + 1) for rank in ranks if rank <= k) / len(ranks)
        assert compute_ndcg_at_k(ranks, k) == pytest.approx(wanted)

    def test_by_hand(self):
        assert compute_hr_at_k([1, 10, 11], 10) == pytest.approx(2 / 3)
        assert compute_ndcg_at_k([1, 3, 11], 10) == pytest.approx((1 + 0.5) / 3)
        assert compute_ndcg_at_k([10], 10) == pytest.approx(1 / math.log2(11))

    @pytest.mark.parametrize("metric", [compute_hr_at_k, compute_ndcg_at_k])
    def test_of_no_users_is_an_error_and_no_nan(self, metric):
        with pytest.raises(DataError):
            metric(np.zeros(0, dtype=np.int64), 10)


def slow_ranks(rows):
    """group → the rank of each of its positives, from (group, label, score)."""
    ranks = {}
    for group, label, score in rows:
        if label:
            beaten = sum(g == group and not other and s >= score for g, other, s in rows)
            ranks.setdefault(group, []).append(1 + beaten)
    return ranks


def slow_metrics(rows, ks):
    metrics, groups = {}, list(slow_ranks(rows).values())
    for k in ks:
        hits = [[float(rank <= k) for rank in own] for own in groups]
        gains = [[1 / math.log2(rank + 1) if rank <= k else 0.0 for rank in own] for own in groups]
        for name, values in (("hr", hits), ("ndcg", gains)):
            metrics[f"{name}@{k}"] = sum(sum(own) / len(own) for own in values) / len(values)
    return metrics


@st.composite
def ragged_groups(draw):
    """Rows (group, label, score) in any order: each group with a positive and a negative at least."""
    names = draw(st.lists(st.integers(-50, 1000), min_size=1, max_size=6, unique=True))
    scores = draw(st.sampled_from([TIED, ANY]))
    rows = []
    for name in names:
        rows += [(name, 1, draw(scores)) for _ in range(draw(st.integers(1, 3)))]
        rows += [(name, 0, draw(scores)) for _ in range(draw(st.integers(1, 8)))]
    return draw(st.permutations(rows))


def arguments(rows):
    groups, labels, scores = zip(*rows, strict=True)
    return scores, labels, groups


class TestRankingEvaluator:
    @UNTIMED
    @given(ragged_groups())
    def test_is_a_plain_loop(self, rows):
        got = RankingEvaluator([1, 2, 5])(*arguments(rows))
        wanted = slow_metrics(rows, [1, 2, 5])
        assert set(got) == set(wanted)
        for name, value in wanted.items():
            assert got[name] == pytest.approx(value, abs=1e-12)

    @UNTIMED
    @given(ragged_groups(), st.sampled_from(["hr@1", "hr@5", "ndcg@2", "ndcg@5"]))
    def test_is_the_mean_of_what_each_group_reaches(self, rows, name):
        ranking = RankingEvaluator([1, 2, 5])
        ranks, groups = ranking.ranks(*arguments(rows))
        by_group = metric_by_group(name, ranks, groups)
        assert len(by_group) == len({group for group, _, _ in rows})
        assert by_group.mean() == pytest.approx(ranking.summarise(ranks, groups)[name], abs=1e-12)

    @UNTIMED
    @given(ragged_groups())
    def test_ranks_are_those_of_a_plain_loop_by_group(self, rows):
        ranks, groups = RankingEvaluator([1]).ranks(*arguments(rows))
        wanted = slow_ranks(rows)
        numbers = {group: number for number, group in enumerate(sorted(wanted))}
        assert groups.tolist() == sorted(groups.tolist())
        for group, own in wanted.items():
            assert ranks[groups == numbers[group]].tolist() == own

    @UNTIMED
    @given(ragged_groups(), st.randoms(use_true_random=False))
    def test_the_order_of_rows_does_not_matter(self, rows, random):
        shuffled = random.sample(rows, len(rows))
        one, other = (RankingEvaluator([1, 3])(*arguments(order)) for order in (rows, shuffled))
        assert one == pytest.approx(other, abs=1e-12)

    @UNTIMED
    @given(ragged_groups())
    def test_with_one_positive_a_group_it_agrees_with_the_plain_metrics(self, rows):
        seen, single = set(), []
        for group, label, score in rows:
            if not label or group not in seen:
                single.append((group, label, score))
            if label:
                seen.add(group)
        metrics = RankingEvaluator([3])(*arguments(single))
        ranks, _ = RankingEvaluator([3]).ranks(*arguments(single))
        assert metrics["hr@3"] == pytest.approx(compute_hr_at_k(ranks, 3))
        assert metrics["ndcg@3"] == pytest.approx(compute_ndcg_at_k(ranks, 3))

    @pytest.mark.parametrize("position", [0, 5, 10])
    def test_ties_never_help(self, position):
        labels = np.zeros(11)
        labels[position] = 1
        ranks, _ = RankingEvaluator([10]).ranks(np.zeros(11), labels, np.zeros(11))
        assert ranks.tolist() == [11]
        assert RankingEvaluator([10])(np.zeros(11), labels, np.zeros(11)) == {"hr@10": 0.0, "ndcg@10": 0.0}

    def test_a_constant_score_is_worse_than_chance_and_never_better(self):
        scores, labels = np.full(100, 0.3), np.tile([1, 0], 50)
        assert RankingEvaluator([1])(scores, labels, np.repeat(np.arange(50), 2))["hr@1"] == 0

    def test_positives_do_not_push_each_other_down(self):
        ranks, _ = RankingEvaluator([1]).ranks([0.9, 0.8, 0.7, 0.1], [1, 1, 1, 0], [4, 4, 4, 4])
        assert ranks.tolist() == [1, 1, 1]

    def test_every_group_weighs_the_same(self):
        scores = [0.9, 0.8, 0.7, 0.5, 0.1, 0.5]
        labels = [1, 1, 1, 0, 1, 0]
        assert RankingEvaluator([1])(scores, labels, [0, 0, 0, 0, 1, 1])["hr@1"] == 0.5

    def test_neighbours_in_float32_are_no_tie(self):
        score = np.float32(0.1)
        scores = np.array([np.nextafter(score, np.float32(1)), score], dtype=np.float32)
        assert RankingEvaluator([1])(scores, [1, 0], [0, 0])["hr@1"] == 1

    def test_the_keys_follow_the_cut_offs(self):
        assert list(RankingEvaluator([5, 10])([1.0, 0.0], [1, 0], [0, 0])) == ["hr@5", "hr@10", "ndcg@5", "ndcg@10"]

    @pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
    def test_a_score_that_is_not_finite_is_never_a_rank(self, bad):
        with pytest.raises(DataError, match=f"score 2 is {bad}"):
            RankingEvaluator([1])([0.1, 0.2, bad], [1, 0, 0], [0, 0, 0])

    @pytest.mark.parametrize(("label", "missing"), [(0, "positive"), (1, "negative")])
    def test_a_group_without_a_positive_or_a_negative_is_named(self, label, missing):
        with pytest.raises(DataError, match=f"group 77 has no {missing}"):
            RankingEvaluator([1])([0.1, 0.2, 0.3, 0.4], [1, 0, label, label], [5, 5, 77, 77])

    @pytest.mark.parametrize("groups", [[0], [0, 0, 0]])
    def test_another_number_of_group_ids_is_refused(self, groups):
        with pytest.raises(DataError, match=f"2 scores come with {len(groups)} group ids"):
            RankingEvaluator([1])([0.1, 0.2], [1, 0], groups)

    def test_no_rows_are_an_error_and_no_nan(self):
        with pytest.raises(DataError):
            RankingEvaluator([1])([], [], [])
