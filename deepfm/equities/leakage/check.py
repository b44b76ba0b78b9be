"""Looks for the future in features and splits, and measures how much it would flatter."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepfm.equities.days.graph import GraphSettings, TrailingGraphs
from deepfm.equities.features import DEFAULT_FEATURES, FeatureRegistry, FeatureTable, compute_features
from deepfm.equities.features.within_day import place_within_day
from deepfm.equities.labels import Labels, forward_returns
from deepfm.equities.leakage.findings import Finding, LeakReport
from deepfm.equities.leakage.probes import Probe, daily_rank_ic, nearest_neighbours
from deepfm.equities.panels.panel import Panel
from deepfm.equities.panels.settings import PanelOptions
from deepfm.equities.walk_forward import Fold
from deepfm.errors import DataError
from deepfm.statistics import newey_west

CUTS = 3  # sessions at which every feature is computed again
MEASURED = 20  # sessions at which a leaking feature is, and on which a leaking split is tried
TRAINED = 60  # sessions that a probe learns from
STOCKS = 400  # stocks that a probe sees
FEWEST_STOCKS, FEWEST_WINDOWS = 10, 5  # of either kind, and horizons of days, to tell whether being known says anything
TELLING, SURE = 0.02, 3.0  # a RankIC, and its Newey-West errors, of nothing but whether a stock's sector is known
TOO_LIKE = 0.5  # a mean daily rank correlation with a return that no honest feature has


def leak_check(
    panel: Panel,
    registry: FeatureRegistry = DEFAULT_FEATURES,
    names: Sequence[str] | None = None,
    folds: Sequence[Fold] = (),
    labels: Labels | None = None,
    table: FeatureTable | None = None,
    probe: Probe = nearest_neighbours,
    options: PanelOptions | None = None,
    graph: GraphSettings | None = None,
) -> LeakReport:
    """Compute features and graph again without the future, compare them with the labels, and look where folds touch.

    The panel is taken as it was cleaned: of how that was done, `options` are looked at.

    Args:
        panel: prices.
        registry, names: the features, as in `compute_features`.
        folds: splits of the panel's sessions; sound ones are not trained on.
        labels: by default `forward_returns(panel)`.
        table: features that are there already: those of the registry, or columns from elsewhere, which are compared
            with the labels and used by the probe, but can only be computed again if the registry knows them.
        probe: what learns from a leaking split to measure it.
        options: how the panel was cleaned; None for not looked at.
        graph: how the graph is made; None for none.

    Raises:
        DataError: the panel has too few sessions to cut, or labels or features of another panel.
    """
    labels = labels or forward_returns(panel)
    table = table or compute_features(panel, names, registry)
    size = (panel.num_sessions, panel.num_stocks)
    if labels.returns.shape[:2] != size or table.values.shape[:2] != size:
        raise DataError(
            f"labels of the shape {labels.returns.shape} and features of the shape {table.values.shape} do not "
            f"belong to the panel; expected {size[0]} sessions and {size[1]} stocks"
        )
    if panel.num_sessions < CUTS + 2:
        raise DataError(f"the panel has {panel.num_sessions} sessions; expected at least {CUTS + 2} to look for leaks")
    again = [name for name in table.names if name in registry.names]
    cuts = _spread(panel.num_sessions // 2, panel.num_sessions - 2, CUTS)
    findings = _future_in_features(panel, registry, table, again, cuts, labels)
    honest = [name for name in again if name not in {one.name for one in findings}]
    findings += _short_look_backs(panel, registry, table, honest, cuts[-1])
    findings += _labels_in_features(panel, table, labels)
    findings += _future_in_sectors(panel, labels, folds)
    findings += [] if options is None else _future_in_cleaning(options)
    findings += [] if graph is None else _future_in_graph(panel, graph, cuts)
    findings += [found for fold in folds for found in _future_in_split(panel, table, labels, fold, probe)]
    dates = tuple(str(panel.sessions[cut]) for cut in cuts)
    return LeakReport(tuple(findings), tuple(again), dates, tuple(fold.name for fold in folds))


def _future_in_features(
    panel: Panel, registry: FeatureRegistry, table: FeatureTable, names: list[str], cuts: list[int], labels: Labels
) -> list[Finding]:
    """Features whose last row changes when everything after it is gone."""
    changed: dict[str, list[int]] = {}
    for cut in cuts:
        known = compute_features(panel.until(cut), names, registry) if names else table
        for name in names:
            if not np.array_equal(known.column(name)[: cut + 1], table.column(name)[: cut + 1], equal_nan=True):
                changed.setdefault(name, []).append(cut)
    if not changed:
        return []
    sessions = _spread(panel.num_sessions // 2, panel.num_sessions - 1, MEASURED)
    honest = np.full((len(sessions), panel.num_stocks, len(changed)), np.nan, dtype=np.float32)
    for place, session in enumerate(sessions):
        honest[place] = compute_features(panel.until(session), list(changed), registry).values[-1]
    longest = int(np.argmax(labels.horizons))
    returns, where = labels.returns[sessions, :, longest], panel.eligible[sessions]
    found = []
    for place, (name, at) in enumerate(changed.items()):
        leaking = daily_rank_ic(table.column(name)[sessions], returns, where)
        sign = -1.0 if _mean(leaking) < 0 else 1.0
        detail = f"its past changed at {len(at)} of {len(cuts)} sessions when the future was taken away"
        without = _mean(sign * daily_rank_ic(honest[:, :, place], returns, where))
        found.append(
            Finding("future truncation", name, detail, _mean(sign * leaking), without, labels.horizons[longest])
        )
    return found


def _short_look_backs(
    panel: Panel, registry: FeatureRegistry, table: FeatureTable, names: list[str], session: int
) -> list[Finding]:
    """Features that change where no more is left of the past than they say they read, so that new days differ."""
    lookbacks = dict(zip(table.names, table.lookbacks, strict=True))
    found = []
    for lookback in sorted({lookbacks[name] for name in names}):
        alike = [name for name in names if lookbacks[name] == lookback]
        part = compute_features(panel.between(max(0, session - lookback), session), alike, registry)
        for name in alike:
            if not np.array_equal(part.column(name)[-1], table.column(name)[session], equal_nan=True):
                detail = f"it reads more of the past than its look-back of {lookback} sessions says"
                found.append(Finding("look-back", name, detail))
    return found


def _future_in_cleaning(options: PanelOptions) -> list[Finding]:
    """A mask of bad prints that is known only a session later."""
    if options.bad_prints != "two_sided":
        return []
    detail = "bad_prints = two_sided masks a close by what the next session prints; known masks by the past alone"
    return [Finding("cleaning", "data.panel.bad_prints", detail)]


def _future_in_sectors(panel: Panel, labels: Labels, folds: Sequence[Fold]) -> list[Finding]:
    """Sectors that are known of the stocks that were to do well: those that are listed today, or in an index of later.

    Looked at on sessions whose labels end before the first test.
    """
    known = panel.sectors >= 0
    if min(known.sum(), (~known).sum()) < FEWEST_STOCKS:
        return []
    longest = int(np.argmax(labels.horizons))
    horizon = labels.horizons[longest]
    end = min((int(fold.test.min()) for fold in folds if len(fold.test)), default=panel.num_sessions)
    sessions = np.flatnonzero((labels.last_session[:, longest] < end) & panel.eligible.any(axis=1))
    scores = np.broadcast_to(known.astype(np.float32), (len(sessions), panel.num_stocks))
    daily = daily_rank_ic(scores, labels.returns[sessions, :, longest], panel.eligible[sessions])
    daily = daily[np.isfinite(daily)]
    if len(daily) < FEWEST_WINDOWS * horizon:
        return []
    told = newey_west(daily, max(horizon - 1, 5))
    if abs(told.mean) < TELLING or abs(told.t) < SURE:
        return []
    detail = (
        f"that a stock's sector is known has by itself a RankIC of {told.mean:+.3f} (t {told.t:+.1f}), as where a list "
        "was made of stocks that did well later; leave data.sectors out, or use a list that knew no more on the day"
    )
    return [Finding("sectors", "data.sectors", detail, told.mean, horizon=horizon)]


def _future_in_graph(panel: Panel, settings: GraphSettings, cuts: list[int]) -> list[Finding]:
    """A graph that differs where the future is gone."""
    whole = TrailingGraphs(panel, settings)
    for cut in cuts:
        known, said = TrailingGraphs(panel.until(cut), settings).at(cut), whole.at(cut)
        same = np.array_equal(known.edge_index, said.edge_index) and np.array_equal(known.edge_attr, said.edge_attr)
        if not same:
            return [
                Finding("future truncation", "graph", f"its edges on {panel.sessions[cut]} change without the future")
            ]
    return []


def _labels_in_features(panel: Panel, table: FeatureTable, labels: Labels) -> list[Finding]:
    """Features that rank stocks as a label does."""
    sessions = _spread(0, panel.num_sessions - 1, MEASURED)
    found = []
    for place, name in enumerate(table.names):
        values = table.values[sessions, :, place]
        for at, horizon in enumerate(labels.horizons):
            alike = _mean(daily_rank_ic(values, labels.returns[sessions, :, at], panel.eligible[sessions]))
            if abs(alike) > TOO_LIKE:
                detail = f"its mean daily rank correlation with the return over {horizon} sessions is {alike:+.3f}"
                found.append(Finding("labels among features", name, detail, horizon=horizon))
    return found


def _future_in_split(panel: Panel, table: FeatureTable, labels: Labels, fold: Fold, probe: Probe) -> list[Finding]:
    """A fold whose training knows what is tested, with a probe's RankIC under it and under the honest part of it."""
    problems = fold.problems(labels.last_session)
    if not problems:
        return []
    longest = int(np.argmax(labels.horizons))
    end = labels.last_session[:, longest]
    judged = fold.test if len(fold.test) else fold.validation
    usable = judged[judged < panel.num_sessions - labels.delay - max(labels.horizons)]
    if (fold.train >= judged.min()).any():  # days at random: judge the later ones, which have a past to train on
        usable = usable[usable >= np.median(judged)]
    else:
        usable = usable[usable <= end[fold.train].max()]
    honest = fold.train[end[fold.train] < usable.min()] if len(usable) else fold.train[:0]
    measured: tuple[float | None, float | None] = (None, None)
    if len(honest) and len(usable):
        usable = usable[_spread(0, len(usable) - 1, MEASURED)]
        measured = (
            _probed(panel, table, labels, longest, fold.train, usable, probe),
            _probed(panel, table, labels, longest, honest, usable, probe),
        )
    return [Finding("split", fold.name, "; ".join(problems), *measured, horizon=labels.horizons[longest])]


def _probed(
    panel: Panel,
    table: FeatureTable,
    labels: Labels,
    place: int,
    train: NDArray[np.int64],
    test: NDArray[np.int64],
    probe: Probe,
) -> float:
    """The mean daily RankIC on `test` of a probe that learned on the training sessions nearest to it."""
    away = np.abs(train[:, None] - test[None, :]).min(axis=1)
    train = np.sort(train[np.argsort(away, kind="stable")[:TRAINED]])
    often = np.argsort(-panel.eligible[test].sum(axis=0), kind="stable")[:STOCKS]
    stocks = np.sort(often)
    rows: dict[str, tuple[Any, ...]] = {}
    for name, sessions in (("train", train), ("test", test)):
        where = panel.eligible[sessions][:, stocks]
        features = np.nan_to_num(place_within_day(table.values[sessions][:, stocks], where))
        rows[name] = (features, labels.returns[sessions][:, stocks, place], where)
    features, returns, where = rows["train"]
    known = where & np.isfinite(returns)
    targets = np.nan_to_num(place_within_day(returns, known))
    asked, truth, inside = rows["test"]
    scores = np.full(truth.shape, np.nan, dtype=np.float32)
    scores[inside] = probe(features[known], targets[known], asked[inside])
    return _mean(daily_rank_ic(scores, truth, inside))


def _spread(first: int, last: int, count: int) -> list[int]:
    """At most `count` whole numbers spread from `first` to `last`."""
    return sorted({int(at) for at in np.linspace(first, last, count).round()})


def _mean(values: NDArray[np.float64]) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else 0.0
