"""What can be read inside a trained network: its weights over features and sessions, and the graph of a day."""

import numpy as np
from numpy.typing import NDArray

from deepfm.equities.days.arrays import DayArrays, Sessions
from deepfm.equities.days.graph import TrailingGraphs
from deepfm.equities.experiment.ranker import Ranker
from deepfm.equities.panels.panel import Panel
from deepfm.equities.reports.report import DayGraph, Inside

EXPLAINED_DAYS = 8


def inside_of(ranker: Ranker, panel: Panel, sessions: Sessions) -> Inside:
    """The mean weights of a network over some of the sessions, and the graph of the last of them."""
    days = sessions[np.unique(np.linspace(0, len(sessions) - 1, EXPLAINED_DAYS).astype(int))]
    arrays = ranker.arrays(panel, int(days[0]), int(days[-1]))
    days = arrays.usable(days)
    if not len(days):
        return Inside()
    weights, attention = mean_weights(ranker, arrays, days)
    last = int(days[-1])
    ranked = np.flatnonzero(arrays.rows[last - arrays.first])
    return Inside(weights, attention, day_graph(panel, TrailingGraphs(panel, ranker.settings.graph), last, ranked))


def mean_weights(
    ranker: Ranker, arrays: DayArrays, sessions: Sessions
) -> tuple[dict[str, float] | None, NDArray[np.float64]]:
    """The mean selection weight of each feature (None without variable selection), and of each look-back session."""
    features: list[NDArray[np.float64]] = []
    attention: list[NDArray[np.float64]] = []
    ranker.model.eval()
    device = next(ranker.model.parameters()).device
    for session in sessions:
        found = ranker.model.explain(arrays.batch([int(session)]).to(device))
        if found.variables is not None:
            features.append(found.variables.float().mean(dim=(0, 1)).cpu().numpy().astype(np.float64))
        attention.append(found.sessions.float().mean(dim=(0, 1)).cpu().numpy().astype(np.float64))
    named = dict(zip(ranker.scaler.names, np.mean(features, axis=0).tolist(), strict=True)) if features else None
    return named, np.mean(attention, axis=0)


def day_graph(panel: Panel, graphs: TrailingGraphs, session: int, stocks: Sessions) -> DayGraph | None:
    """The graph of a session between its ranked stocks `(n,)`, as the report draws it; None without an edge."""
    rows = graphs.at(session).among(stocks, panel.num_stocks)
    if not rows.num_edges:
        return None
    return DayGraph(
        panel.sessions[session], rows.edge_index, rows.edge_attr[:, 0], panel.sectors[stocks], panel.sector_names
    )
