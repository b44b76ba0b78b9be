"""Windows and orders of days: what a batch holds, and what decides it."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from deepfm.equities.days.arrays import DayArrays, DayOrder, rankable
from deepfm.equities.days.graph import GraphSettings, TrailingGraphs
from deepfm.equities.panels.synthetic import PlantedSettings, planted_panel
from deepfm.errors import DataError

T, N, F, L, K = 90, 8, 3, 5, 2


@pytest.fixture(scope="module")
def arrays():
    draw = np.random.default_rng(0)
    panel = planted_panel(PlantedSettings(num_sessions=T, num_stocks=N, late_listings=0.25), 1).panel
    labels = draw.standard_normal((2, T, N, K)).astype(np.float32)
    return DayArrays(
        features=draw.standard_normal((T, N, F)).astype(np.float32),
        rows=panel.eligible,
        sectors=np.array([-1, 0, 1, 2, 0, 1, 2, 0], np.int16),
        sequence_length=L,
        num_horizons=K,
        targets=labels[0],
        returns=labels[1],
        graphs=TrailingGraphs(panel, GraphSettings(min_correlation=0.1)),
    )


def test_each_row_is_its_stocks_last_sessions(arrays):
    batch = arrays.batch([80, 70])
    assert batch.num_days == 2
    assert batch.day.tolist() == sorted(batch.day.tolist())
    for row, (day, stock) in enumerate(zip(batch.day.tolist(), batch.stock.tolist(), strict=True)):
        session = (80, 70)[day]
        assert np.array_equal(batch.sequences[row], arrays.features[session - L + 1 : session + 1, stock])
        assert np.array_equal(batch.targets[row], arrays.targets[session, stock])
        assert np.array_equal(batch.returns[row], arrays.returns[session, stock])
        assert batch.sector[row] == arrays.sectors[stock] + 1
    assert (np.bincount(batch.day) == arrays.rows[[80, 70]].sum(axis=1)).all()


def test_edges_stay_within_their_day_and_are_the_graphs(arrays):
    batch = arrays.batch([80, 70])
    source, target = batch.edge_index
    assert len(source) > 0
    assert torch.equal(batch.day[source], batch.day[target])
    of_first = batch.day[source] == 0
    found = set(zip(batch.stock[source[of_first]].tolist(), batch.stock[target[of_first]].tolist(), strict=True))
    assert found == {tuple(pair) for pair in arrays.graphs.at(80).edge_index.T.tolist()}


def test_half_precision_and_a_later_start_give_the_same_windows(arrays):
    whole = arrays.batch([60])
    part = DayArrays(
        arrays.features[40:].astype(np.float16), arrays.rows[40:], arrays.sectors, L, K, graphs=arrays.graphs, first=40
    )
    found = part.batch([60])
    assert found.sequences.dtype == torch.float32
    assert torch.allclose(found.sequences, whole.sequences, atol=2e-3)
    assert torch.equal(found.edge_index, whole.edge_index)
    assert torch.isnan(found.targets).all()  # none were given
    assert part.usable(np.arange(30, 95)).tolist() == list(range(44, 90))


@pytest.mark.parametrize("session", [2, 90])
def test_a_session_without_a_window_is_refused(arrays, session):
    with pytest.raises(DataError, match=f"session {session} has no stock with 5 sessions"):
        arrays.batch([session])


def test_groups_hold_every_session_once_and_few_rows(arrays):
    sessions = arrays.usable(np.arange(T))
    groups = arrays.groups(sessions, 20)
    assert np.concatenate(groups).tolist() == sessions.tolist()
    assert max(arrays.rows[part].sum() for part in groups) <= 20 + N
    assert [len(part) for part in arrays.groups(sessions, 1)] == [1] * len(sessions)
    assert arrays.groups(sessions[:0], 20) == []


def test_short_histories_are_no_rows():
    close = np.full((10, 2), 1.0)
    close[:7, 1] = np.nan
    rows = rankable(close, np.ones((10, 2), bool), 5, 3)
    assert rows[:, 0].tolist() == [False, False] + [True] * 8
    assert rows[:, 1].tolist() == [False] * 9 + [True]
    assert rankable(close, np.ones((10, 2), bool), 2, 50)[:, 0].tolist() == [False] + [True] * 9  # all of the look-back


@given(
    count=st.integers(1, 60),
    batch=st.integers(1, 20),
    every=st.integers(1, 7),
    seed=st.integers(0, 9),
    together=st.booleans(),
)
def test_an_epoch_is_a_function_of_seed_and_epoch(count, batch, every, seed, together):
    days = np.arange(100, 100 + count)
    order = DayOrder(days, batch, every, together, seed)
    for epoch in (1, 2, 9):
        batches = order.of_epoch(epoch)
        assert len(batches) == order.num_batches
        assert [part.tolist() for part in batches] == [part.tolist() for part in order.of_epoch(epoch)]
        seen = np.concatenate(batches)
        assert len(np.unique(seen)) == len(seen)
        assert set(seen) <= set(days)
        if together:
            assert all((np.diff(part) == every).all() for part in batches)
        else:
            assert len(seen) == max(1, count // every)


def test_all_days_are_seen_over_the_epochs_and_orders_differ():
    order = DayOrder(np.arange(30), 4, every=5)
    assert set(np.concatenate([np.concatenate(order.of_epoch(epoch)) for epoch in range(1, 6)])) == set(range(30))
    plain = DayOrder(np.arange(30), 30)
    assert plain.of_epoch(1)[0].tolist() != plain.of_epoch(2)[0].tolist()
    assert plain.of_epoch(1)[0].tolist() != DayOrder(np.arange(30), 30, seed=1).of_epoch(1)[0].tolist()


def test_no_day_is_refused():
    with pytest.raises(DataError, match="no training session"):
        DayOrder(np.arange(0), 4)
