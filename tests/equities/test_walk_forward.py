"""No label of training reaches validation, none of validation reaches test, on any calendar."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import TimeSeriesSplit

from deepfm.equities.labels import forward_returns
from deepfm.equities.walk_forward import Fold, WalkForwardSplit, split_table
from deepfm.errors import ConfigError, DataError
from tests.equities.made_panels import made_panel, weekdays

YEARS = (2013, 2014, 2015, 2016)


@st.composite
def calendars(draw):
    """Trading days of 1,200 to 1,500 calendar days, weekends and any number of holidays out."""
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    days = weekdays(draw(st.integers(850, 1100)))
    return days[rng.random(len(days)) > draw(st.floats(0, 0.1))]


@given(
    calendars(),
    st.lists(st.integers(1, 40), min_size=1, max_size=4, unique=True),
    st.integers(0, 3),
    st.integers(0, 40),
    st.integers(0, 80),
    st.sampled_from(["expanding", "rolling"]),
    st.booleans(),
)
@settings(max_examples=80, deadline=None)
def test_labels_end_before_what_is_judged_begins(days, horizons, delay, embargo, validation, window, by_year):
    split = WalkForwardSplit(
        test_years=(2014, 2015) if by_year else (),
        n_splits=3,
        test_sessions=60,
        validation_sessions=validation,
        embargo=embargo,
        window=window,
        train_sessions=120,
        min_train=100,
    )
    folds = split.folds(days, horizons, delay)
    gap = max(embargo, max(horizons) + delay)
    tested: set[int] = set()
    for fold in folds:
        end = fold.train.max() + max(horizons) + delay
        first = fold.validation.min() if validation else fold.test.min()
        assert end < first
        assert first - fold.train.max() - 1 >= gap
        assert len(fold.train) >= 100
        assert len(fold.validation) == validation
        if validation:
            assert fold.validation.max() + max(horizons) + delay < fold.test.min()
            assert fold.test.min() - fold.validation.max() - 1 == gap
        assert not tested & set(fold.test.tolist())
        tested |= set(fold.test.tolist())
        assert window == "expanding" or len(fold.train) == 120
        assert fold.test.max() < len(days)


def test_the_real_labels_of_a_panel_agree():
    panel = made_panel(700, 3)
    folds = WalkForwardSplit(test_years=(2014,), validation_sessions=40).folds(panel.sessions)
    assert folds[0].problems(forward_returns(panel).last_session) == ()


def test_blocks_are_those_of_scikit_learn():
    days = weekdays(900)
    ours = WalkForwardSplit(n_splits=4, test_sessions=90, validation_sessions=0, min_train=100).folds(days)
    theirs = TimeSeriesSplit(n_splits=4, test_size=90, gap=21).split(days[:, None])
    for fold, (train, test) in zip(ours, theirs, strict=True):
        assert (fold.train == train).all()
        assert (fold.test == test).all()


def test_years_are_calendar_years_and_training_starts_where_told():
    days = weekdays(1400, "2011-01-03")
    split = WalkForwardSplit(test_years=YEARS[:2], first_session="2011-06-01", validation_sessions=60, min_train=100)
    folds = split.folds(days)
    for fold, year in zip(folds, YEARS, strict=False):
        assert fold.name == str(year)
        assert set(days[fold.test].astype("datetime64[Y]").astype(int) + 1970) == {year}
        assert days[fold.train[0]] == np.datetime64("2011-06-01")
    rows = split_table(folds, days).rows
    assert rows[0][0] == "2013"
    assert rows[0][-1] == "21, 21"
    assert rows[0][5] == "2013-01-01 to 2013-12-31"


class TestRefused:
    def test_a_gap_by_hand_below_the_longest_label(self):
        split = WalkForwardSplit(gap=20)
        with pytest.raises(ConfigError, match=r"split.gap = 20 sessions; expected at least 21"):
            split.folds(weekdays(2000))
        assert split.gap_sessions((1, 5)) == 20
        assert WalkForwardSplit(gap=21).gap_sessions() == 21
        assert WalkForwardSplit().gap_sessions((1, 5)) == 20

    def test_fewer_sessions_than_needed(self):
        with pytest.raises(DataError, match="sessions to train on; expected at least 252"):
            WalkForwardSplit(n_splits=2, test_sessions=100).folds(weekdays(600))
        with pytest.raises(DataError, match="expected at least 500 for 5 tests of 100"):
            WalkForwardSplit(test_sessions=100).folds(weekdays(400))
        with pytest.raises(DataError, match="expected at least 300"):
            WalkForwardSplit(n_splits=1, test_sessions=50, window="rolling", train_sessions=300).folds(weekdays(450))

    def test_years_without_sessions_or_out_of_order(self):
        with pytest.raises(DataError, match="test year 2019"):
            WalkForwardSplit(test_years=(2013, 2019)).folds(weekdays(1000))
        with pytest.raises(ConfigError, match="test_years"):
            WalkForwardSplit(test_years=(2014, 2013)).folds(weekdays(1000))

    @pytest.mark.parametrize(
        "wrong", [{"window": "growing"}, {"embargo": -1}, {"n_splits": 0}, {"first_session": "soon"}]
    )
    def test_settings_out_of_range(self, wrong):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            WalkForwardSplit(**wrong).folds(weekdays(2000))


def test_problems_are_counted():
    last = np.arange(100) + 6
    sound = Fold("x", np.arange(40), np.arange(46, 60), np.arange(66, 90))
    assert sound.problems(last) == ()
    close = Fold("x", np.arange(42), np.arange(46, 62), np.arange(66, 90))
    assert close.problems(last) == (
        "the labels of 2 sessions of training look into validation",
        "the labels of 2 sessions of validation look into test",
    )
    shuffled = Fold("x", np.array([0, 5, 9]), np.arange(0), np.array([3, 7]))
    assert shuffled.problems(last)[0] == "2 sessions of training stand at or after the first session of test"
