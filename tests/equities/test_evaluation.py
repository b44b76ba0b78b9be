"""The whole evaluation on a generated panel, and its report."""

import dataclasses
import json
import re

import numpy as np
import pytest

from deepfm.equities.evaluation.backtest import BacktestSettings
from deepfm.equities.evaluation.evaluate import evaluate
from deepfm.equities.evaluation.sharpe import deflated_sharpe
from deepfm.equities.labels import forward_returns
from deepfm.equities.reports.graph import HALF_HEIGHT, _circles, day_graph
from deepfm.equities.reports.plots import date_ticks, decimal_years
from deepfm.equities.reports.report import DayGraph, Inside, build_report
from deepfm.errors import DataError
from deepfm.reporting import Figure, render_html, render_markdown
from tests.equities.ranking_cases import random_panel

HORIZONS = (1, 5)


@pytest.fixture(scope="module")
def case():
    panel = random_panel(2, sessions=400, stocks=50)
    labels = forward_returns(panel, HORIZONS, 1)
    rng = np.random.default_rng(0)
    noise = rng.normal(size=labels.returns.shape)
    future = np.nan_to_num(labels.returns) / np.nanstd(labels.returns, axis=(0, 1))
    known = np.isfinite(panel.close)[:, :, None]
    scores = np.where(known, future + 2 * noise, np.nan)
    weak = np.where(known, 0.2 * future + noise, np.nan)
    return panel, labels, scores, {"weak": weak, "chance": np.where(known, noise, np.nan)}


@pytest.fixture(scope="module")
def found(case):
    panel, labels, scores, baselines = case
    spread = np.nanstd(labels.returns, axis=(0, 1))[None, None, :, None]
    quantiles = np.broadcast_to(np.array([-1.645, -0.674, 0, 0.674, 1.645]) * spread, (*scores.shape, 5))
    return evaluate(scores, panel, labels, panel.eligible, baselines, quantiles, np.arange(30, 400))


def test_a_planted_signal_is_found_at_every_horizon_and_above_the_baselines(found):
    assert list(found.methods) == ["ATFT", "weak", "chance"]
    for at, horizon in enumerate(HORIZONS):
        ours, weak, chance = (found.methods[name][at] for name in found.methods)
        assert ours.rank_ic.mean > weak.rank_ic.mean > chance.rank_ic.mean
        assert abs(chance.rank_ic.t) < 3
        assert ours.rank_ic.days == 370 - horizon - 1
        assert ours.rank_ic.skipped == horizon + 1
        assert ours.names > 45
        assert ours.spread.mean == pytest.approx(ours.decile_returns[-1] - ours.decile_returns[0])
        assert ours.portfolio.level(0.0).sharpe > weak.portfolio.level(0.0).sharpe
        difference = found.difference("weak", horizon)
        assert difference.rank_ic.mean == pytest.approx(ours.rank_ic.mean - weak.rank_ic.mean)
        assert difference.rank_ic.t > 3
        assert ours.quantiles.coverage == pytest.approx(ours.quantiles.levels, abs=0.03)
        assert weak.quantiles is None
    with pytest.raises(DataError, match="no paired difference"):
        found.difference("weak", 7)


def test_a_blend_is_measured_beside_the_baseline_in_it(case):
    panel, labels, scores, baselines = case
    found = evaluate(scores, panel, labels, panel.eligible, baselines, sessions=np.arange(30, 400), blended="weak")
    assert list(found.methods) == ["ATFT", "weak", "chance", "ATFT + weak"]
    for at, horizon in enumerate(HORIZONS):
        added = found.difference("weak", horizon, "ATFT + weak").rank_ic.mean
        mixed, weak = (found.methods[name][at].rank_ic.mean for name in ("ATFT + weak", "weak"))
        assert added == pytest.approx(mixed - weak)
        assert added > 0
        assert added != pytest.approx(found.difference("weak", horizon).rank_ic.mean)
    with pytest.raises(DataError, match="'strong' is to be blended with 'ATFT'; expected one of the baselines"):
        evaluate(scores, panel, labels, panel.eligible, baselines, blended="strong")


def test_the_method_is_deflated_by_its_trials_and_no_baseline_is(case, found):
    panel, labels, scores, baselines = case
    others = {"strong": scores, "weak": baselines["weak"]}
    settings = BacktestSettings(trials=200)
    searched = evaluate(
        baselines["chance"], panel, labels, panel.eligible, others, sessions=np.arange(30, 400), settings=settings,
        blended="weak",
    )  # fmt: skip
    for at in range(len(HORIZONS)):
        for name, other in (("strong", "ATFT"), ("weak", "weak")):
            same = searched.methods[name][at].portfolio.levels, found.methods[other][at].portfolio.levels
            assert same[0] == same[1]
        ours, alone = (one[at].portfolio.level(10.0) for one in (searched.results, found.methods["chance"]))
        assert ours.sharpe == alone.sharpe
        assert ours.deflated < alone.deflated
        mixed = searched.methods["ATFT + weak"][at].portfolio
        assert mixed.level(10.0).deflated == deflated_sharpe(mixed.net(10.0), 200)
    text = render_markdown(build_report(searched))
    assert "above the best that 200 worthless trials (evaluation.trials) would show" in text
    assert "deflated by 200 trials of ATFT" in text
    assert "trials are 1 (evaluation.trials)" in render_markdown(build_report(found))


def test_the_report_reads_its_own_figures(found):
    """No sentence is of another panel: turnover, errors and the number of stocks are this evaluation's."""
    text = render_markdown(build_report(found))
    traded = found.results[1].portfolio
    assert f"held 5 sessions, {traded.mean_turnover:.2f} times and {252 * 1e-3 * traded.mean_turnover:.1%}" in text
    first = found.results[0].portfolio
    assert f"over {len(first.dates):,} sessions is {first.levels[0].sharpe_error:.2f}" in text
    errors = [found.difference(name, 5).rank_ic.error for name in ("weak", "chance")]
    assert f"{2 * min(errors):.4f} over 5 sessions, cannot be told from chance" in text
    assert f"here on {found.results[1].names:,.0f} of them" in text
    assert "NASDAQ" not in text
    assert "2017" not in text


def test_it_is_json(found):
    text = json.dumps(found.to_dict(), allow_nan=False)
    plain = json.loads(text)
    assert plain["horizons"] == [1, 5]
    assert plain["methods"]["ATFT"][1]["rank_ic"]["mean"] == found.results[1].rank_ic.mean
    assert plain["methods"]["ATFT"][0]["portfolio"]["levels"][2]["cost"] == 10.0
    assert {item["baseline"] for item in plain["paired"]} == {"weak", "chance"}


def test_one_impossible_jump_does_not_decide_the_tenths(case):
    panel, _, scores, _ = case
    close = panel.close.copy()
    close[200:, 7] *= 1000  # a split that nobody adjusted for
    broken = dataclasses.replace(panel, close=close)
    sessions = np.arange(150, 250)
    before, after = (
        evaluate(scores, each, forward_returns(each, HORIZONS, 1), each.eligible, sessions=sessions).results[0]
        for each in (panel, broken)
    )
    assert abs(after.spread.mean - before.spread.mean) < 0.002  # 0.5 over a tenth of 5 stocks on one of 100 days
    assert abs(after.ic.mean - before.ic.mean) < 0.02
    assert abs(after.portfolio.gross.mean() - before.portfolio.gross.mean()) < 0.002


def test_against_itself_there_is_no_difference(case):
    panel, labels, scores, _ = case
    sessions = np.arange(100, 200)
    twice = evaluate(scores, panel, labels, panel.eligible, {"twin": scores}, sessions=sessions, name="ours")
    assert twice.difference("twin", 5).rank_ic.t == 0
    assert twice.difference("twin", 5).net_return.mean == 0


def test_the_delay_is_the_labels(case):
    panel, _, scores, _ = case
    late = evaluate(scores, panel, forward_returns(panel, HORIZONS, 3), panel.eligible, sessions=np.arange(100, 200))
    assert late.settings.delay == 3
    assert late.results[0].portfolio.dates[0] == panel.sessions[104]


def test_days_that_know_nothing_are_counted_not_dropped(case):
    panel, labels, scores, baselines = case
    sparse = scores.copy()
    sparse[100:110] = np.nan
    sparse[110, 5:] = np.nan
    one = evaluate(sparse, panel, labels, panel.eligible, baselines, sessions=np.arange(90, 200))
    assert one.results[0].rank_ic.skipped == 11
    assert one.difference("weak", 1).rank_ic.count == 99
    nothing = np.zeros(panel.eligible.shape, dtype=bool)
    none = evaluate(scores, panel, labels, nothing, sessions=np.arange(90, 200))
    assert none.results[0].rank_ic.days == 0
    assert json.loads(json.dumps(none.to_dict(), allow_nan=False))["methods"]["ATFT"][0]["rank_ic"]["mean"] is None
    assert "no day has enough stocks" in render_markdown(build_report(none))


def test_what_does_not_fit_is_refused(case):
    panel, labels, scores, _ = case
    where = panel.eligible
    with pytest.raises(DataError, match="the scores of 'ATFT' have the shape"):
        evaluate(scores[:5], panel, labels, where)
    with pytest.raises(DataError, match="the scores of 'b' have the shape"):
        evaluate(scores, panel, labels, where, {"b": scores[..., :1]})
    with pytest.raises(DataError, match="a baseline is called 'ATFT'"):
        evaluate(scores, panel, labels, where, {"ATFT": scores})
    with pytest.raises(DataError, match="labels and where"):
        evaluate(scores, panel, labels, where[:, :3])
    with pytest.raises(DataError, match="no session has a score"):
        evaluate(np.full_like(scores, np.nan), panel, labels, where)
    with pytest.raises(DataError, match="quantiles have the shape"):
        evaluate(scores, panel, labels, where, quantiles=np.zeros((*scores.shape, 3)), sessions=np.arange(50, 90))


def inside():
    rng = np.random.default_rng(1)
    sectors = rng.integers(-1, 20, 120)
    edges = rng.integers(0, 120, (2, 90))
    graph = DayGraph(
        np.datetime64("2015-06-01"), np.concatenate([edges, edges[::-1]], axis=1), rng.normal(size=180), sectors,
        tuple(f"sector {number}" for number in range(20)),
    )  # fmt: skip
    return Inside({"ret5": 0.3, "gap": 0.1, "vol20": 0.6}, np.array([0.1, 0.2, 0.3, 0.4]), graph)


def test_the_report_says_what_was_found_and_what_it_means(found):
    document = build_report(found, inside(), notes=["Three seeds."])
    text = render_markdown(document)
    for words in ("Three seeds.", "Year by year", "survivorship", "advice", "ICIR", "Quantiles", "Inside the network"):
        assert words in text
    assert f"RankIC {found.results[0].rank_ic.mean:+.4f}" in text
    assert re.search(r"best baseline is weak.*above it \(t \+\d", text)
    figures = [block for section in document.sections for block in section.blocks if isinstance(block, Figure)]
    assert len(figures) == 4 * len(HORIZONS) + 3
    assert "<svg" in render_html(document)


def test_without_baselines_quantiles_or_a_network_their_sections_are_left_out(case):
    panel, labels, scores, _ = case
    settings = BacktestSettings(costs=(0.0,), long_only=True)
    alone = evaluate(scores, panel, labels, panel.eligible, sessions=np.arange(50, 150), settings=settings)
    titles = [section.title for section in build_report(alone).sections]
    assert "Quantiles" not in titles
    assert "Inside the network" not in titles
    assert alone.paired == ()


def test_a_date_is_its_year_and_how_much_of_it_is_over():
    dates = np.array(["2015-01-01", "2016-07-02", "2015-12-31"], "datetime64[D]")
    assert decimal_years(dates) == pytest.approx([2015, 2016.5, 2015 + 364 / 365])


@pytest.mark.plots
def test_the_graph_is_drawn_with_its_sectors_and_stays_small():
    graph = inside().graph
    svg = day_graph(graph.edge_index, graph.correlations, graph.sectors, graph.sector_names, "A day")
    assert "other" in svg
    assert "unknown" in svg
    assert len(svg) < 60_000
    empty = day_graph(np.empty((2, 0), int), np.empty(0), np.zeros(3, int), ("iron",), "No edge")
    assert "iron" in empty
    nowhere = day_graph(np.empty((2, 0), int), np.empty(0), np.full(3, -1), (), "No sector")
    assert "unknown" not in nowhere


def test_the_only_circle_of_a_graph_fills_the_drawing():
    points, centres, radii = _circles(np.zeros(4, dtype=np.int64), 1)
    assert np.allclose(centres, 0)
    assert np.allclose(np.hypot(*points.T), radii)
    assert 0.8 * HALF_HEIGHT < radii[0] < HALF_HEIGHT


def test_a_market_without_sectors_has_no_table_of_them(case, found):
    panel, labels, scores, _ = case
    assert "most bought" in render_markdown(build_report(found))
    bare = dataclasses.replace(panel, sectors=np.full(panel.num_stocks, -1, panel.sectors.dtype), sector_names=())
    without = evaluate(scores, bare, labels, panel.eligible, sessions=np.arange(50, 150))
    graph = dataclasses.replace(inside().graph, sectors=np.full(120, -1))
    text = render_markdown(build_report(without, Inside(graph=graph)))
    assert "most bought" not in text
    assert "120 stocks on a circle, " in text


def test_a_graph_that_does_not_fit_is_refused():
    with pytest.raises(DataError, match="the graph of a day has edges"):
        day_graph(np.zeros((3, 2), int), np.zeros(2), np.zeros(4, int), ("iron",), "A day")
    with pytest.raises(DataError, match="an edge names stock 9 of 4"):
        day_graph(np.array([[0], [9]]), np.zeros(1), np.zeros(4, int), ("iron",), "A day")


@pytest.mark.parametrize(
    ("first", "last", "words"),
    [
        ("2013-01-02", "2017-12-08", ["2013", "2014", "2015", "2016", "2017"]),
        ("2001-01-02", "2017-12-08", ["2003", "2006", "2009", "2012", "2015"]),
        ("2012-06-05", "2013-03-20", ["2012-07", "2012-09", "2012-11", "2013-01", "2013-03"]),
        ("2013-01-30", "2013-03-20", ["2013-02", "2013-03"]),
        ("2013-03-04", "2013-03-08", ["2013-03-04", "2013-03-05", "2013-03-07", "2013-03-08"]),
        ("2013-03-04", "2013-03-04", ["2013-03-04"]),
    ],
)
def test_a_date_axis_names_two_times_or_more_whatever_its_length(first, last, words):
    dates = np.arange(np.datetime64(first), np.datetime64(last) + 1)
    ticks, names = date_ticks(dates)
    assert len(ticks) == len(names)
    assert (ticks <= dates[-1]).all()
    assert names == words
