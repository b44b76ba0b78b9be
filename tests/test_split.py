import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from deepfm.data.movielens import MovieLensAdapter
from deepfm.data.split import Split, split_events
from deepfm.errors import DataError

UNTIMED = settings(deadline=None, max_examples=80)
STRATEGIES = ("leave_one_out", "temporal", "random")
# Few users and few seconds: most events tie with another.
EVENTS = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 6)), min_size=4, max_size=60)
# A temporal split of few distinct seconds leaves a part empty; these seldom do, and still tie.
LONG_EVENTS = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 60)), min_size=30, max_size=60)
BY_STRATEGY = [("leave_one_out", EVENTS), ("temporal", LONG_EVENTS), ("random", LONG_EVENTS)]


def split_of(strategy, events, min_interactions=3, seed=0):
    """The split, or None where it leaves a part empty."""
    users, timestamps = np.array(events, dtype=np.int64).T
    rng = np.random.default_rng(seed)
    try:
        return split_events(strategy, users, timestamps, min_interactions=min_interactions, rng=rng)
    except DataError:
        return None


def slow_leave_one_out(events, min_interactions):
    by_user = {}
    for row in sorted(range(len(events)), key=lambda row: (events[row][1], row)):
        by_user.setdefault(events[row][0], []).append(row)
    enough = [rows for rows in by_user.values() if len(rows) >= min_interactions]
    test, validation = {rows[-1] for rows in enough}, {rows[-2] for rows in enough}
    return set(range(len(events))) - test - validation, validation, test


@pytest.mark.parametrize(("strategy", "some_events"), BY_STRATEGY)
@UNTIMED
@given(data=st.data())
def test_the_parts_are_disjoint_and_complete(strategy, some_events, data):
    events = data.draw(some_events)
    split = split_of(strategy, events)
    assume(split)
    together = np.concatenate([split.train, split.validation, split.test])
    assert sorted(together.tolist()) == list(range(len(events)))
    assert all(len(part) for part in (split.train, split.validation, split.test))


@pytest.mark.parametrize(("strategy", "some_events"), BY_STRATEGY)
@UNTIMED
@given(data=st.data())
def test_each_part_is_in_the_order_of_users_then_time_then_file(strategy, some_events, data):
    events = data.draw(some_events)
    split = split_of(strategy, events)
    assume(split)
    for part in (split.train, split.validation, split.test):
        assert part.tolist() == sorted(part.tolist(), key=lambda row: (*events[row], row))


@UNTIMED
@given(EVENTS, st.integers(3, 6))
def test_leave_one_out_is_that_of_a_plain_loop(events, min_interactions):
    split = split_of("leave_one_out", events, min_interactions)
    train, validation, test = slow_leave_one_out(events, min_interactions)
    assert (split is None) == (not train or not validation)
    if split is not None:
        assert (set(split.train.tolist()), set(split.validation.tolist()), set(split.test.tolist())) == (
            train,
            validation,
            test,
        )


def test_the_file_breaks_ties_of_time():
    events = [(0, 5), (0, 5), (0, 5), (0, 5)]
    split = split_of("leave_one_out", events)
    assert (split.train.tolist(), split.validation.tolist(), split.test.tolist()) == ([0, 1], [2], [3])


def test_the_last_event_in_time_is_held_out_wherever_it_stands_in_the_file():
    split = split_of("leave_one_out", [(0, 9), (0, 1), (0, 8), (0, 2), (0, 8)])
    assert (split.train.tolist(), split.validation.tolist(), split.test.tolist()) == ([1, 3, 2], [4], [0])


def test_a_user_with_too_few_events_only_trains():
    events = [(0, time) for time in range(4)] + [(1, time) for time in range(3)] + [(2, time) for time in range(2)]
    split = split_of("leave_one_out", events, min_interactions=3)
    assert [events[row] for row in split.test] == [(0, 3), (1, 2)]
    split = split_of("leave_one_out", events, min_interactions=4)
    assert [events[row] for row in split.test] == [(0, 3)]
    assert len(split.train) == len(events) - 2


def test_with_one_held_out_event_a_part_and_user_at_most():
    rng = np.random.default_rng(0)
    events = list(zip(rng.integers(0, 30, 400).tolist(), rng.integers(0, 50, 400).tolist(), strict=True))
    split = split_of("leave_one_out", events)
    for part in (split.validation, split.test):
        users = [events[row][0] for row in part]
        assert len(users) == len(set(users)) == 30


@UNTIMED
@given(LONG_EVENTS)
def test_temporal_never_trains_on_what_comes_later(events):
    split = split_of("temporal", events)
    assume(split)
    times = np.array([time for _, time in events])
    assert times[split.train].max() < times[split.validation].min()
    assert times[split.validation].max() < times[split.test].min()


def test_temporal_is_eighty_ten_ten_where_times_are_distinct():
    times = np.random.default_rng(0).permutation(1000)
    split = split_events("temporal", times % 7, times, min_interactions=3, rng=np.random.default_rng(0))
    assert len(split.train) == pytest.approx(800, abs=2)
    assert len(split.validation) == pytest.approx(100, abs=2)
    assert set(times[split.test]) == set(range(1000 - len(split.test), 1000))


def test_random_is_eighty_ten_ten_and_only_the_seed_decides():
    events = [(row % 7, 3) for row in range(1000)]
    one, same, other = (split_of("random", events, seed=seed) for seed in (1, 1, 2))
    assert (len(one.train), len(one.validation), len(one.test)) == (800, 100, 100)
    assert one.test.tolist() == same.test.tolist()
    assert one.train.tolist() == same.train.tolist()
    assert one.test.tolist() != other.test.tolist()


def test_random_holds_out_every_event_as_often():
    events = [(0, row) for row in range(20)]
    counts = np.zeros(20)
    for seed in range(400):
        counts[split_of("random", events, seed=seed).test] += 1
    assert counts.sum() == 800
    assert ((counts - 40) ** 2 / 40).sum() < 60


@pytest.mark.parametrize("strategy", ["leave_one_out", "temporal"])
def test_only_random_draws_at_all(strategy):
    events = [(row % 3, row) for row in range(30)]
    rng = np.random.default_rng(1)
    users, times = np.array(events).T
    split_events(strategy, users, times, min_interactions=3, rng=rng)
    assert rng.random() == np.random.default_rng(1).random()


@pytest.mark.parametrize(
    ("strategy", "events"),
    [
        ("leave_one_out", [(0, 1), (0, 2), (1, 1), (1, 2)]),
        ("temporal", [(0, 5)] * 10),
        ("random", [(0, 1), (0, 2)]),
    ],
)
def test_a_part_without_events_is_refused(strategy, events):
    users, times = np.array(events).T
    with pytest.raises(DataError, match=rf"{strategy} split of {len(events)} positive events leaves Split\("):
        split_events(strategy, users, times, min_interactions=3, rng=np.random.default_rng(0))


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_no_events_at_all_are_refused(strategy):
    none = np.zeros(0, dtype=np.int64)
    with pytest.raises(DataError, match="0 positive events"):
        split_events(strategy, none, none, min_interactions=3, rng=np.random.default_rng(0))


def test_an_unknown_strategy_is_refused_with_what_is_known():
    one = np.ones(1, dtype=np.int64)
    with pytest.raises(DataError, match="'by_user' is unknown; expected leave_one_out, temporal or random"):
        split_events("by_user", one, one, min_interactions=3, rng=np.random.default_rng(0))


def test_the_text_of_a_split_counts_its_parts():
    split = Split(np.arange(3), np.arange(2), np.arange(1))
    assert repr(split) == "Split(train=3, validation=2, test=1)"


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_adapter_splits_likes_only(small_dir, small_config, strategy):
    config = type(small_config)(source="files", num_neg_eval=20, split_strategy=strategy)
    adapter = MovieLensAdapter(small_dir, config)
    rows = np.concatenate([adapter.split.train, adapter.split.validation, adapter.split.test])
    assert sorted(rows.tolist()) == np.flatnonzero(adapter.raw.ratings >= 4).tolist()


@pytest.mark.parametrize(("strategy", "moves"), [("leave_one_out", False), ("temporal", False), ("random", True)])
def test_the_seed_moves_the_random_split_and_no_other(small_dir, small_config, strategy, moves):
    config = type(small_config)(source="files", num_neg_eval=20, split_strategy=strategy)
    tests = [MovieLensAdapter(small_dir, config, seed=seed).split.test.tolist() for seed in (1, 2)]
    assert (tests[0] != tests[1]) == moves


@pytest.mark.parametrize("strategy", ["temporal", "random"])
def test_users_of_other_strategies_may_have_several_positives(small_dir, small_config, strategy):
    config = type(small_config)(source="files", num_neg_eval=20, split_strategy=strategy)
    adapter = MovieLensAdapter(small_dir, config)
    _, _, _, test = adapter.build()
    positives = np.add.reduceat(test.labels.numpy(), test.group_offsets[:-1])
    assert positives.min() >= 1
    assert positives.max() > 1
    assert positives.sum() == len(adapter.split.test)
