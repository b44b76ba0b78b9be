"""Budgets and the choice: parsed with units, filtered, the front, how many to try; with properties."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepfm.errors import DataError
from deepfm.model_selection.budget import Budget, parse_budget, require_some, within_budget
from deepfm.model_selection.catalogue import Catalogue
from deepfm.model_selection.expected import expect
from deepfm.model_selection.scores import RankedScores
from deepfm.model_selection.selector import pareto_front, select
from deepfm.model_selection.stacker import Stacker
from tests.model_selection.made import made_evidence
from tests.model_selection.published import published


def catalogue(parameters, latency=None, licences=None):
    count = len(parameters)
    rows = {
        "model": [f"m{i}" for i in range(count)],
        "family": ["f"] * count,
        "architecture": ["a"] * count,
        "parameters": pl.Series(parameters, dtype=pl.Int64),
        "latency_ms": pl.Series(latency or [None] * count, dtype=pl.Float64),
        "licence": pl.Series(licences or [None] * count, dtype=pl.String),
    }
    return Catalogue(pl.DataFrame(rows), Path())


@pytest.mark.parametrize(
    ("text", "limits", "licences"),
    [
        ("params<=30e6,latency<=20ms", {"parameters": 30e6, "latency_ms": 20.0}, ()),
        (" parameters <= 30M , latency<=0.02 s", {"parameters": 30e6, "latency_ms": 20.0}, ()),
        ("macs<=4.1G,licence=apache-2.0|MIT", {"macs": 4.1e9}, ("apache-2.0", "mit")),
        ("params<=500k,license=mit", {"parameters": 5e5}, ("mit",)),
        ("latency<=250us", {"latency_ms": 0.25}, ()),
        ("", {}, ()),
    ],
)
def test_budgets_are_read_with_units(text, limits, licences):
    budget = parse_budget(text)
    assert dict(budget.limits) == pytest.approx(limits)
    assert budget.licences == licences


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("flops<=3G", "names 'flops', which no catalogue has; expected params, macs, latency or licence"),
        ("params<=big", "params<=big, which is no number that can be read"),
        ("latency<=20", "latency<=20, which is no number .* with a unit, us, ms, s"),
        ("latency<=20min", "latency<=20min"),
        ("params<30", "expected params<="),
        ("params>=30", "expected params<="),
        ("licence<=mit", "expected licence="),
        ("params", "'params' cannot be read"),
        ("params<=0", "expected a number above 0"),
        ("params<=1e999", "expected a number above 0"),
        ("params<=-3", "no number"),
        ("params<=1,params<=2", "limits 'params' twice"),
        ("params<=1,parameters<=2", "twice"),
        ("licence=|", "without a licence"),
    ],
)
def test_what_is_no_budget_gets_a_sentence(text, says):
    with pytest.raises(DataError, match=says):
        parse_budget(text)


@given(st.text(alphabet="params<=>latency0123456789.,eE|=msMGk -", max_size=30))
@settings(max_examples=200, deadline=None)
def test_any_text_is_a_budget_or_a_sentence(text):
    try:
        budget = parse_budget(text)
    except DataError:
        return
    assert all(limit > 0 for limit in budget.limits.values())


@given(
    st.lists(st.one_of(st.none(), st.integers(0, 100)), min_size=1, max_size=8),
    st.floats(1, 100),
)
@settings(max_examples=60, deadline=None)
def test_exactly_the_models_known_to_fit_are_allowed(parameters, limit):
    answer = within_budget(catalogue(parameters), Budget({"parameters": limit}))
    assert answer.allowed.tolist() == [cost is not None and cost <= limit for cost in parameters]
    assert answer.unknown.get("parameters", 0) == parameters.count(None)
    assert (answer.nearest is None) == answer.allowed.any()


def test_licences_and_costs_must_both_fit():
    models = catalogue([5, 5, 50], [1.0, None, 1.0], ["MIT", "mit", "mit"])
    answer = within_budget(models, parse_budget("params<=10,latency<=2ms,licence=mit"))
    assert answer.allowed.tolist() == [True, False, False]
    assert answer.unknown == {"latency_ms": 1}


def test_a_budget_that_nothing_meets_names_the_nearest():
    models = catalogue([40, 30, None], [1.0, 5.0, 1.0], ["mit", "mit", "gpl"])
    with pytest.raises(DataError, match="no model of 3 meets the budget parameters <= 20; the nearest is 'm1' with p"):
        require_some(models, parse_budget("params<=20"))
    with pytest.raises(DataError, match="the nearest is 'm0' with parameters 40, latency_ms 1"):
        require_some(models, parse_budget("params<=20,latency<=1ms"))
    with pytest.raises(DataError, match="the catalogue has the licences gpl, mit"):
        require_some(models, parse_budget("licence=apache-2.0"))


@given(
    st.lists(st.tuples(st.one_of(st.just(np.nan), st.integers(0, 5)), st.one_of(st.just(np.nan), st.integers(0, 5)))),
)
@settings(max_examples=100, deadline=None)
def test_the_front_is_what_nothing_beats(pairs):
    promise, costs = (np.array([pair[at] for pair in pairs], float) for at in (0, 1))
    front = pareto_front(promise, costs)
    known = [i for i in range(len(pairs)) if not np.isnan(promise[i]) and not np.isnan(costs[i])]

    def beaten(i):
        return any(
            promise[j] >= promise[i] and costs[j] <= costs[i] and (promise[j] > promise[i] or costs[j] < costs[i])
            for j in known
        )

    assert sorted(front) == [i for i in known if not beaten(i)]
    assert sorted(costs[list(front)]) == list(costs[list(front)])


def test_the_choice_is_the_best_that_fit():
    models = catalogue([10, 20, 30, 40, 5], licences=["mit"] * 5)
    scores = RankedScores([0.1, 0.5, 0.9, 2.0, np.nan])
    chosen = select(models, scores, budget=parse_budget("params<=30"), top=2)
    assert chosen.order == (2, 1, 0)
    assert chosen.top == (2, 1)
    assert chosen.without_evidence == (4,)
    assert chosen.front["parameters"] == (0, 1, 2)
    assert "latency_ms" not in chosen.front
    assert chosen.enough is None


def test_of_tied_models_the_smaller_comes_first_whatever_the_order():
    models = catalogue([30, 10, 20])
    assert select(models, RankedScores([1.0, 1.0, 1.0])).order == (1, 2, 0)


def test_no_evidence_is_said():
    models = catalogue([1, 2])
    with pytest.raises(DataError, match=r"no evidence on any of the 2 models within the budget; run probes"):
        select(models, RankedScores([np.nan, np.nan]))
    with pytest.raises(DataError, match="top = 0"):
        select(models, RankedScores([1.0, 2.0]), top=0)
    with pytest.raises(DataError, match="expected one each"):
        select(models, RankedScores([1.0]))


def test_enough_models_hold_the_best_on_new_tasks():
    """Over tasks held out in turn, the first `enough` models hold the best on about 90 %, and are few."""
    evidence = made_evidence(tasks=30, seed=11)
    models = catalogue(list(range(1, 25)))
    held, counts = [], []
    for task in range(0, 30, 2):
        visible = evidence.seen(evidence.fold(f"t{task}"))
        rows = Stacker().training_rows(visible)
        answer, expected, left_out = expect(Stacker(), visible, rows)
        chosen = select(models, answer.scores, expected.values, rows=rows, left_out_scores=left_out.scores)
        held.append(int(np.argmax(evidence.outcomes[:, task])) in chosen.order[: chosen.enough])
        counts.append(chosen.enough)
    assert np.mean(held) >= 0.85
    assert max(counts) < 12


def test_timm_under_a_budget():
    """The literature notes: with at most 12 GMACs, picking by ImageNet accuracy alone loses points on Sketch."""
    table = published("timm_imagenet_variants.parquet")
    values = table.outcomes.matrix(models=table.catalogue.models, tasks=["imagenet-val", "imagenet-sketch"]).values
    by_val = select(table.catalogue, RankedScores(values[:, 0]), budget=parse_budget("macs<=12G"), top=1).top[0]
    allowed = within_budget(table.catalogue, parse_budget("macs<=12G")).allowed
    assert 0.02 < values[allowed, 1].max() - values[by_val, 1] < 0.2
