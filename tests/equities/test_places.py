"""Ranks within a day against scipy, and blends of scores."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import rankdata

from deepfm.equities.evaluation.places import blend, places_within_day
from deepfm.errors import DataError

few_values = st.sampled_from([-1.0, 0.0, 0.5, 2.0, np.nan, np.inf])


@given(arrays(np.float64, (3, 7), elements=few_values), arrays(np.bool_, (3, 7)))
@settings(max_examples=60, deadline=None)
def test_places_are_scipys_ranks_of_those_that_take_part(values, where):
    found = places_within_day(values, where)
    for day in range(3):
        part = where[day] & np.isfinite(values[day])
        assert (found.ranked[day] == part).all()
        for method, places in (("min", found.first), ("max", found.last), ("average", found.average)):
            assert (places[day, part] + 1 == rankdata(values[day, part], method=method)).all()
        assert np.isnan(found.average[day, ~part]).all()


def test_no_stocks_and_no_days_are_no_trouble():
    assert places_within_day(np.zeros((0, 4))).counts.shape == (0,)
    assert places_within_day(np.zeros((2, 0))).counts.tolist() == [0, 0]


def test_a_blend_of_one_method_ranks_as_it_does_and_knows_only_what_all_know():
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(2, 4, 9, 2)).astype(np.float32)
    alone = blend({"a": first})
    assert (np.argsort(alone, axis=1) == np.argsort(first, axis=1)).all()
    assert alone.max() == pytest.approx(0.5)
    assert alone.min() == pytest.approx(1 / 9 - 0.5)
    assert blend({"a": first, "b": np.exp(first)}) == pytest.approx(alone)  # ranks alone count
    second[0, 0, 0] = np.nan
    both = blend({"a": first, "b": second})
    assert np.isnan(both[0, 0, 0])
    assert np.isfinite(both).sum() == both.size - 1


def test_opposite_scores_cancel():
    score = np.arange(6.0).reshape(1, 6, 1)
    both = blend({"up": score, "down": -score})
    assert both == pytest.approx(np.full((1, 6, 1), 1 / 12), abs=1e-6)


@pytest.mark.parametrize("scores", [{}, {"a": np.zeros((2, 3))}, {"a": np.zeros((2, 3, 1)), "b": np.zeros((2, 3, 2))}])
def test_scores_that_cannot_be_blended_are_refused(scores):
    with pytest.raises(DataError, match=r"scores to blend|no scores"):
        blend(scores)
