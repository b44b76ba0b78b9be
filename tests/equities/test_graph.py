"""The graph of trailing correlations: by hand, against numpy, and blind to what comes after."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepfm.equities.days.graph import (
    NO_EDGES,
    GraphSettings,
    TrailingGraphs,
    correlation_graph,
    refresh_sessions,
    weighted_correlations,
)
from deepfm.equities.panels.synthetic import PlantedSettings, planted_panel

PLAIN = GraphSettings(window=60, shrinkage=0.0, max_same_sector=None)
UNKNOWN = np.full(3, -1, np.int16)


@pytest.fixture(scope="module")
def panel():
    return planted_panel(PlantedSettings(num_sessions=160, num_stocks=40), 3).panel


def returns_of(seed, shape=(60, 12), gaps=0.0):
    draw = np.random.default_rng(seed)
    market = draw.standard_normal((shape[0], 1))
    values = (market + draw.standard_normal(shape)).astype(np.float32) / 50
    values[draw.random(shape) < gaps] = np.nan
    return values


def edges(graph):
    return {(int(source), int(target)) for source, target in graph.edge_index.T}


def test_correlations_are_numpys_weighted_ones():
    returns = returns_of(0)
    weight = 0.5 ** (np.arange(59, -1, -1) / 20.0)
    covariance = np.cov(returns.astype(np.float64), rowvar=False, aweights=weight)
    deviation = np.sqrt(np.diag(covariance))
    found = weighted_correlations(returns, dataclasses.replace(PLAIN, half_life=20.0))
    assert found == pytest.approx(covariance / np.outer(deviation, deviation), abs=1e-5)


def test_three_stocks_by_hand():
    """Two rise and fall together, the third against them; all that shrinking leaves is 0.9."""
    up = np.tile([0.01, -0.01], 30).astype(np.float32)
    returns = np.stack([up, 2 * up, -up], axis=1)
    settings = dataclasses.replace(PLAIN, half_life=1e6, shrinkage=0.1, top_k=1)
    graph = correlation_graph(returns, np.array([4, 4, -1], np.int16), settings)
    assert edges(graph) == {(0, 1), (1, 0), (0, 2), (2, 0)}  # the third's choice is the first of two equals
    rho = dict(zip(map(tuple, graph.edge_index.T.tolist()), graph.edge_attr.tolist(), strict=True))
    assert rho[0, 1] == pytest.approx([0.9, 0.9, 1.0], abs=1e-5)
    assert rho[2, 0] == pytest.approx([-0.9, 0.9, 0.0], abs=1e-5)


def test_weak_correlations_make_no_edge_and_a_stock_may_stand_alone():
    draw = np.random.default_rng(9)
    returns = draw.standard_normal((60, 3)).astype(np.float32) / 50
    returns[:, 1] += 2 * returns[:, 0]
    assert edges(correlation_graph(returns, UNKNOWN, PLAIN)) == {(0, 1), (1, 0)}
    assert correlation_graph(returns, UNKNOWN, dataclasses.replace(PLAIN, min_correlation=1.0)).num_edges == 0


@given(seed=st.integers(0, 10_000), top_k=st.integers(1, 6), cap=st.none() | st.integers(0, 3))
def test_edges_are_symmetric_without_loops_and_choices_keep_to_the_caps(seed, top_k, cap):
    returns = returns_of(seed, gaps=0.1)
    sectors = np.random.default_rng(seed).integers(-1, 2, 12).astype(np.int16)
    settings = dataclasses.replace(PLAIN, top_k=top_k, max_same_sector=cap, min_correlation=0.2)
    graph = correlation_graph(returns, sectors, settings)
    found = edges(graph)
    assert found == {(target, source) for source, target in found}
    assert all(source != target for source, target in found)
    assert graph.num_edges <= 2 * top_k * 12
    attributes = {pair: tuple(row) for pair, row in zip(map(tuple, graph.edge_index.T), graph.edge_attr, strict=True)}
    for (source, target), row in attributes.items():
        assert attributes[target, source] == row
        assert row[2] == float(sectors[source] == sectors[target] >= 0)
        assert row[1] == abs(row[0]) > 0.199
    strength = np.abs(weighted_correlations(returns, settings))
    np.fill_diagonal(strength, 0)
    for stock in range(12):  # each edge is among the strongest of one of its ends
        others = [other for other in np.argsort(-strength[stock], kind="stable") if strength[stock, other] >= 0.2]
        own, chosen = 0, set()
        for other in others:
            if sectors[other] == sectors[stock] >= 0:
                if cap is not None and own >= cap:
                    continue
                own += 1
            chosen.add(int(other))
            if len(chosen) == top_k:
                break
        assert {(stock, other) for other in chosen} <= found


def test_too_few_returns_make_no_edge():
    returns = returns_of(2, (60, 3))
    returns[:, 1] = returns[:, 0]
    returns[:25, 1] = np.nan  # 35 of 60 are left
    assert not any(1 in pair for pair in edges(correlation_graph(returns, UNKNOWN, PLAIN)))
    returns = np.repeat(returns_of(2, (60, 1)), 3, axis=1)
    returns[:15, 0], returns[45:, 1] = np.nan, np.nan  # 45 each, 30 in common
    found = edges(correlation_graph(returns, UNKNOWN, PLAIN))
    assert (0, 1) not in found
    assert {(0, 2), (1, 2)} <= found


@pytest.mark.parametrize("returns", [np.full((60, 3), np.nan), np.zeros((60, 3)), np.zeros((5, 3)), np.zeros((60, 1))])
def test_nothing_known_is_an_empty_graph(returns):
    assert correlation_graph(returns.astype(np.float32), UNKNOWN[: returns.shape[1]], PLAIN).num_edges == 0


def test_nothing_after_a_session_reaches_its_graph(panel):
    graphs = TrailingGraphs(panel, GraphSettings())
    for session in (70, 103, 150):
        until = TrailingGraphs(panel.until(session), GraphSettings()).at(session)
        whole = graphs.at(session)
        assert whole.num_edges > 0
        assert np.array_equal(whole.edge_index, until.edge_index)
        assert np.array_equal(whole.edge_attr, until.edge_attr)


def test_graphs_change_on_dates_of_the_calendar_wherever_the_panel_begins(panel):
    refreshed = refresh_sessions(panel.sessions, 5)
    assert (refreshed <= np.arange(160)).all()
    assert np.diff(np.unique(refreshed)).max() == 5
    later = refresh_sessions(panel.sessions[13:], 5) + 13
    assert np.array_equal(later[5:], refreshed[18:])
    holidays = np.delete(panel.sessions, [40, 41, 77])
    assert (np.arange(157) - refresh_sessions(holidays, 5)).max() <= 4


def test_only_stocks_of_the_universe_have_edges(panel):
    session = 120
    eligible = panel.eligible.copy()
    eligible[:, :20] = False
    graph = TrailingGraphs(dataclasses.replace(panel, eligible=eligible), GraphSettings()).at(session)
    assert graph.num_edges > 0
    assert graph.edge_index.min() >= 20


def test_edges_become_rows():
    graph = correlation_graph(np.repeat(returns_of(5, (60, 1)), 3, axis=1), UNKNOWN, PLAIN)
    rows = graph.among(np.array([2, 0]), 3, first_row=10)
    assert edges(rows) == {(10, 11), (11, 10)}
    assert NO_EDGES.among(np.array([2, 0]), 3).num_edges == 0


def test_switched_off_there_is_no_edge(panel):
    assert TrailingGraphs(panel, GraphSettings(enabled=False)).at(150) is NO_EDGES
