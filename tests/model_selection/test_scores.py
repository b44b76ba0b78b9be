"""Scores and orders are different types, and no metric takes one for the other."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepfm.errors import DataError
from deepfm.model_selection.metrics import METRICS, weighted_tau
from deepfm.model_selection.scores import Order, RankedScores


def test_an_order_is_best_first_and_missing_evidence_last():
    scores = RankedScores([0.2, np.nan, 0.9, -5.0])
    assert scores.order().indices.tolist() == [2, 0, 3, 1]
    assert scores.known.tolist() == [True, False, True, True]
    assert scores.filled()[1] < -5


def test_missing_models_are_tied_with_each_other():
    filled = RankedScores([np.nan, 1e9, np.nan]).filled()
    assert filled[0] == filled[2] < filled[1]
    assert (RankedScores([np.nan, np.nan]).filled() == -1).all()


@given(st.permutations(list(range(7))))
def test_an_order_survives_its_scores(indices):
    assert Order(indices).scores().order().indices.tolist() == indices


@pytest.mark.parametrize("name", METRICS)
def test_every_metric_refuses_an_order_and_a_bare_array(name):
    truth = np.array([0.3, 0.9, 0.5])
    with pytest.raises(DataError, match=r"Order, which holds indices.*\.scores\(\)"):
        METRICS[name](truth, RankedScores(truth).order())
    with pytest.raises(DataError, match="expected RankedScores"):
        METRICS[name](truth, truth)


def test_what_the_types_prevent():
    """On index lists a perfect ranking of 31 models scores near nothing; on scores it is 1."""
    truth = np.random.default_rng(0).normal(size=31)
    perfect = RankedScores(truth)
    assert weighted_tau(truth, perfect) == pytest.approx(1)
    assert weighted_tau(truth, RankedScores(perfect.order().indices.astype(float))) < 0.5
    assert weighted_tau(truth, perfect.order().scores()) == pytest.approx(1)


@pytest.mark.parametrize("bad", [[[1.0]], [np.inf], ["best"], RankedScores([1.0])])
def test_what_is_no_score_is_refused(bad):
    with pytest.raises(DataError, match="score"):
        RankedScores(bad)


@pytest.mark.parametrize("bad", [[0.9, 0.1], [0, 0], [1, 2], [[0, 1]]])
def test_what_is_no_permutation_is_refused(bad):
    with pytest.raises(DataError, match="no permutation"):
        Order(bad)


def test_scores_cannot_be_written_to():
    with pytest.raises(ValueError, match="read-only"):
        RankedScores([1.0]).values[0] = 2
