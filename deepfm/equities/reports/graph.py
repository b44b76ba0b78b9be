"""The graph of a day as a drawing: stocks on one circle a sector, and the edges between them."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepfm.equities.evaluation.places import Floats
from deepfm.errors import DataError
from deepfm.reporting.drawing import PALETTE, drawing

SHOWN_SECTORS = 11
SHOWN_EDGES = 1000
UNKNOWN = "unknown"  # a circle's name
HALF_HEIGHT, HALF_WIDTH = 1.5, 1.9  # of the drawing, whose circles stand around the unit circle


def day_graph(
    edge_index: ArrayLike, correlations: ArrayLike, sectors: ArrayLike, sector_names: Sequence[str], title: str
) -> str:
    """Draw the stocks of a day on one small circle a sector, or one large circle, and the edges between them.

    Args:
        edge_index: pairs of stocks, `(2, E)`; either direction or both.
        correlations: of each edge, `(E,)`: above zero in blue, below in orange; of many only the strongest are drawn.
        sectors: each stock's place in `sector_names`, `(n,)`; -1 is unknown.
        sector_names: the sectors; of many small ones those beyond the eleven largest are drawn as "other".
        title: of the plot.

    Raises:
        DataError: shapes that do not fit, or no stock.
    """
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    edges, weights, groups = np.asarray(edge_index), np.asarray(correlations), np.asarray(sectors)
    if edges.ndim != 2 or edges.shape[0] != 2 or weights.shape != edges.shape[1:] or not len(groups):
        raise DataError(
            f"the graph of a day has edges {edges.shape}, correlations {weights.shape} and {len(groups)} stocks; "
            "expected (2, E), (E,) and at least one stock"
        )
    if edges.size and edges.max() >= len(groups):
        raise DataError(f"an edge names stock {edges.max()} of {len(groups)}; expected indices of the day's stocks")
    group, names = _shown_sectors(groups, sector_names)
    points, centres, radii = _circles(group, len(names))
    alone = np.ones(len(groups), dtype=bool)
    alone[edges.ravel()] = False
    once = np.unique(np.sort(edges, axis=0), axis=1, return_index=True)[1]
    once = once[np.argsort(-np.abs(weights[once]), kind="stable")][:SHOWN_EDGES]
    edges, weights = edges[:, once], weights[once]
    with drawing(title, "", "", height=4.7) as drawn:
        axes = drawn.axes
        for color, chosen in ((PALETTE[0], weights >= 0), (PALETTE[1], weights < 0)):
            if chosen.any():
                ends = np.stack([points[edges[0, chosen]], points[edges[1, chosen]]], axis=1).reshape(-1, 2)
                codes = np.tile([Path.MOVETO, Path.LINETO], int(chosen.sum()))
                patch = PathPatch(Path(ends, codes), edgecolor=color, facecolor="none", linewidth=0.5, alpha=0.5)
                axes.add_patch(patch)
        axes.plot(*points[alone].T, "o", color="#c4ccd4", markersize=1.6)
        axes.plot(*points[~alone].T, "o", color="#1f2933", markersize=1.8)
        for centre, radius, name in zip(centres, radii, names, strict=True):
            if names == [UNKNOWN]:
                continue
            away = centre if centre.any() else np.array([0.0, 1.0])
            outward = centre + away * (radius + 0.06)
            side = "left" if centre[0] > 0.15 else "right" if centre[0] < -0.15 else "center"
            axes.text(float(outward[0]), float(outward[1]), name, fontsize=7.5, ha=side, va="center", parse_math=False)
        axes.set_aspect("equal")
        axes.set_xlim(-HALF_WIDTH, HALF_WIDTH)
        axes.set_ylim(-HALF_HEIGHT, HALF_HEIGHT)
        axes.grid(visible=False)
        axes.set_xticks([])
        axes.set_yticks([])
        axes.spines[:].set_visible(False)
    return drawn.svg


def _shown_sectors(sectors: NDArray[np.integer], names: Sequence[str]) -> tuple[NDArray[np.int64], list[str]]:
    """Each stock's circle and the circles' names: the eleven largest sectors, "other", "unknown"."""
    counts = np.bincount(sectors[sectors >= 0], minlength=len(names))
    largest = np.argsort(-counts, kind="stable")[:SHOWN_SECTORS]
    largest = largest[counts[largest] > 0]
    place = np.full(len(names) + 1, len(largest))  # of others
    place[largest] = np.arange(len(largest))
    place[-1] = len(largest) + 1  # sector -1 is the last
    circle = place[sectors]
    shown = [names[at] if len(names[at]) <= 24 else names[at][:22] + "…" for at in largest] + ["other", UNKNOWN]
    used, circle = np.unique(circle, return_inverse=True)
    return circle, [shown[at] for at in used]


def _circles(group: NDArray[np.int64], count: int) -> tuple[Floats, Floats, Floats]:
    """Where each stock stands `(n, 2)`, and the circles' centres `(g, 2)` and radii `(g,)`, around the unit circle.

    A single circle stands in the middle, as large as the drawing.
    """
    sizes = np.bincount(group, minlength=count)
    share = np.sqrt(sizes) / np.sqrt(sizes).sum()
    angle = 2 * np.pi * (np.cumsum(share) - share / 2)
    centres = np.stack([np.cos(angle), np.sin(angle)], axis=1) if count > 1 else np.zeros((1, 2))
    radii = (
        np.minimum(0.85 * np.sin(np.pi * np.minimum(share, 0.5)), 0.4) if count > 1 else np.array([0.9 * HALF_HEIGHT])
    )
    order = np.argsort(group, kind="stable")
    within = np.empty(len(group), dtype=np.int64)
    within[order] = np.arange(len(group)) - (np.cumsum(sizes) - sizes)[group[order]]
    turn = 2 * np.pi * within / sizes[group]
    offset = np.stack([np.cos(turn), np.sin(turn)], axis=1) * np.where(sizes[group] > 1, radii[group], 0)[:, None]
    return centres[group] + offset, centres, radii
