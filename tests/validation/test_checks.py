"""What each figure has to be: the bounds of the checks, on figures made for them."""

import math

import numpy as np
import pytest
import torch

from deepfm.errors import ConfigError
from deepfm.training.evaluation import Evaluation
from deepfm.training.metrics import RankingEvaluator, compute_auc
from deepfm.validation.checks import check_one_batch, check_quality, check_start, failure, guessing_error
from deepfm.validation.report import DataFacts, Start

DATA = DataFacts(train_rows=1000, validation_rows=100, scored_rows=100, label_rate=0.2, num_groups=0)
LN2 = math.log(2)


def evaluation(scores, labels, groups=None):
    labels = np.asarray(labels, dtype=np.float32)
    metrics = {"auc": compute_auc(labels, scores)}
    none = np.zeros(0, dtype=np.int64)
    if groups is None:
        return Evaluation(metrics, scores, labels, none, none)
    ranking = RankingEvaluator((10,))
    ranks, numbers = ranking.ranks(scores, labels, groups)
    return Evaluation(metrics | ranking.summarise(ranks, numbers), scores, labels, ranks, numbers)


def scored(signal, rows=2000, seed=0):
    """Scores that follow the labels by so many standard deviations."""
    rng = np.random.default_rng(seed)
    labels = rng.random(rows) < 0.3
    return evaluation((rng.normal(size=rows) + signal * labels).astype(np.float32), labels)


def ranked(ranks):
    """A user for each rank, who has one positive there among 21 candidates."""
    labels = np.concatenate([np.arange(1, 22) == rank for rank in ranks])
    return evaluation(np.tile(-np.arange(1.0, 22.0), len(ranks)), labels, np.repeat(np.arange(len(ranks)), 21))


class TestStart:
    def test_the_entropy_is_that_of_the_label_rate(self):
        assert DATA.entropy == pytest.approx(-0.2 * math.log(0.2) - 0.8 * math.log(0.8))

    @pytest.mark.parametrize("loss", [LN2, 0.500, 0.6, LN2 + 0.24, 0.39])
    def test_between_entropy_and_ln_2(self, loss):
        assert check_start("m", Start(loss, 0.0, 0.3), DATA) is None

    @pytest.mark.parametrize(
        ("start", "words", "failed"),
        [
            (Start(0.2, 0.0, 3.0), "before it has learned", True),
            (Start(2.0, 2.0, 0.3), "leans to one side", True),
            (Start(90.0, 0.0, 200.0), "not scaled", True),
            (Start(1.2, 0.1, 2.0), "wide of 0", False),
        ],
    )
    def test_beyond_them(self, start, words, failed):
        finding = check_start("m", start, DATA)
        assert words in finding.meaning
        assert finding.failed is failed
        assert "expected about 0.500 to 0.693" in finding.figure


class TestOneBatch:
    def test_bounds(self):
        logits = torch.tensor([[9.0], [-9.0]])
        assert check_one_batch("m", 0.049, logits) is None
        assert "detached or saturated" in check_one_batch("m", 0.051, logits).meaning

    def test_reasons(self):
        assert "same logit" in check_one_batch("m", LN2, torch.full((8, 1), -0.2)).figure
        assert "sigmoid" in check_one_batch("m", 0.5, torch.tensor([[0.01], [0.99]])).meaning


class TestQuality:
    def test_better_than_popularity(self):
        assert check_quality("m", scored(1.5), scored(0.7)) is None

    def test_worse_than_popularity(self):
        finding = check_quality("m", scored(0.5), scored(0.7))
        assert "is not above popularity's" in finding.figure
        assert "--epochs" in finding.meaning

    def test_guessing(self):
        finding = check_quality("m", scored(0.0, seed=1), scored(0.0, seed=2))
        assert "is guessing" in finding.figure
        assert "labels do not follow the features" in finding.meaning

    def test_too_good(self):
        assert check_quality("m", scored(20.0), scored(0.7)).check == "leak"

    def test_an_ndcg_that_is_clearly_behind(self):
        """Every user's item on rank 8 is the better AUC, and the first rank for half of them the better NDCG@10."""
        finding = check_quality("m", ranked([8] * 200), ranked([1, 21] * 100))
        assert finding.figure == "NDCG@10 of 0.3155 is clearly below popularity's 0.5000"
        assert check_quality("m", ranked([5] * 20), ranked([1, 21] * 10)) is None  # too few users to be sure

    def test_the_error_of_guessing(self):
        rng = np.random.default_rng(0)
        labels = np.arange(400) % 4 == 0
        aucs = [compute_auc(labels, rng.normal(size=400)) for _ in range(400)]
        assert guessing_error(evaluation(np.zeros(400), labels)) == pytest.approx(np.std(aucs), rel=0.15)


def test_errors_speak_for_themselves():
    assert (
        failure("m", "build", "it fails", ConfigError("heads = 3 do not divide")).meaning == "Heads = 3 do not divide."
    )
    assert failure("m", "build", "it fails", ValueError()).meaning == "ValueError: no reason given."
