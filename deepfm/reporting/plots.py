"""Plots as inline SVG text in one calm style; the same data gives the same bytes."""

from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from deepfm.errors import DataError
from deepfm.reporting.curves import Floats, calibration_points, roc_points, vector
from deepfm.reporting.drawing import PALETTE, QUIET, color_map, drawing, set_scale

WRITTEN_CELLS = 12  # a side of a heat map in whose cells numbers have room


def line_plot(
    series: Mapping[str, tuple[ArrayLike, ArrayLike]],
    title: str,
    x_label: str,
    y_label: str,
    log_x: bool = False,
    log_y: bool = False,
    mark_x: float | None = None,
) -> str:
    """Draw named lines of (x, y) and, at `mark_x`, a vertical line; a legend names two lines or more.

    Points that are not finite, or not positive on a logarithmic axis, are left out.

    Raises:
        DataError: x and y differ in length, or no line has a point to draw.
    """
    lines: dict[str, tuple[Floats, Floats]] = {}
    for name, (x, y) in series.items():
        xs, ys = vector(x, f"the x of line {name!r}"), vector(y, f"the y of line {name!r}")
        if len(xs) != len(ys):
            raise DataError(f"line {name!r} has {len(xs)} x and {len(ys)} y values; expected as many of each")
        keep = np.isfinite(xs) & np.isfinite(ys)
        keep &= ((xs > 0) | (not log_x)) & ((ys > 0) | (not log_y))
        if keep.any():
            lines[name] = xs[keep], ys[keep]
    if not lines:
        raise DataError(f"the plot {title!r} has no finite point; leave it out or check what it was given")
    with drawing(title, x_label, y_label) as drawn:
        axes = drawn.axes
        for color, (name, (xs, ys)) in zip(cycle(PALETTE), lines.items(), strict=False):
            axes.plot(xs, ys, color=color, label=name, marker="o" if len(xs) <= 40 else "", markersize=3.5)
        if mark_x is not None:
            axes.axvline(mark_x, color=QUIET, linestyle=(0, (4, 3)), linewidth=1, zorder=1)
        whole = all((xs == np.round(xs)).all() for xs, _ in lines.values())
        set_scale(axes, "x", log_x, whole)
        set_scale(axes, "y", log_y)
        if len(lines) > 1:
            drawn.legend(list(lines))
    return drawn.svg


def roc_plot(labels: ArrayLike, scores: ArrayLike, title: str = "ROC curve") -> str:
    """Draw the ROC curve of labels and scores (N,), its area in the legend; errors as in `roc_points`."""
    fpr, tpr, area = roc_points(labels, scores)
    with drawing(title, "False positive rate", "True positive rate") as drawn:
        axes = drawn.axes
        axes.plot([0, 1], [0, 1], color=QUIET, linestyle=(0, (4, 3)), linewidth=1)
        axes.plot(fpr, tpr, color=PALETTE[0])
        axes.fill_between(fpr, tpr, color=PALETTE[0], alpha=0.08, linewidth=0)
        axes.set_xlim(-0.01, 1.01)
        axes.set_ylim(-0.01, 1.03)
        drawn.legend(["chance", f"AUC {area:.4f}"], loc="lower right")
    return drawn.svg


def calibration_plot(
    labels: ArrayLike,
    probabilities: ArrayLike,
    bins: int = 10,
    log_axes: bool = False,
    title: str = "Calibration",
) -> str:
    """Draw predicted against observed positives in quantile bins; errors as in `calibration_points`.

    `log_axes` is for rare positives. A bin without any has no place there and becomes a hollow
    triangle at the foot.
    """
    mean, observed, _ = calibration_points(labels, probabilities, bins)
    with drawing(title, "Mean predicted probability", "Share of positives") as drawn:
        axes = drawn.axes
        if log_axes and (observed > 0).any():
            shown = (mean > 0) & (observed > 0)
            low = min(mean[mean > 0].min(), observed[shown].min()) / 2
            high = min(1.0, 2 * max(mean.max(), observed.max()))
            axes.plot([low, high], [low, high], color=QUIET, linestyle=(0, (4, 3)), linewidth=1)
            axes.plot(mean[shown], observed[shown], color=PALETTE[0], marker="o", markersize=4.5)
            set_scale(axes, "x", log=True)
            set_scale(axes, "y", log=True)
            axes.set_xlim(low, high)
            axes.set_ylim(low, high)
            names = ["perfect", "bins"]
            empty = mean[(mean > 0) & (observed == 0)]
            if len(empty):
                at = np.full(len(empty), low * 1.25)
                axes.plot(empty, at, color=PALETTE[1], marker="v", linestyle="", fillstyle="none")
                names.append("bins without a positive")
        else:
            high = min(1.0, 1.08 * float(max(mean.max(), observed.max(), 1e-6)))
            axes.plot([0, high], [0, high], color=QUIET, linestyle=(0, (4, 3)), linewidth=1)
            axes.plot(mean, observed, color=PALETTE[0], marker="o", markersize=4.5)
            axes.set_xlim(-0.02 * high, high)
            axes.set_ylim(-0.02 * high, high)
            names = ["perfect", "bins"]
        drawn.legend(names, loc="upper left")
    return drawn.svg


def histogram_plot(values: ArrayLike, title: str, x_label: str, bins: int = 30, log_x: bool = False) -> str:
    """Draw how often values (N,) fall into bins, on a logarithmic axis bins of equal ratio.

    Whole numbers on a logarithmic axis get bins that start and end between whole numbers.

    Raises:
        DataError: no values, one that is not finite, one that is not positive where `log_x`, or no bins.
    """
    sample = vector(values, f"the values of {title!r}")
    if not len(sample) or not np.isfinite(sample).all() or bins < 1:
        raise DataError(
            f"the histogram {title!r} has {len(sample)} values in {bins} bins; expected finite ones, and bins"
        )
    if log_x and sample.min() <= 0:
        raise DataError(
            f"the histogram {title!r} holds {sample.min():g}; a logarithmic axis takes positive values only"
        )
    low, high = float(sample.min()), float(sample.max())
    if not log_x:
        edges = np.histogram_bin_edges(sample, bins)
    elif (sample == np.round(sample)).all():
        edges = np.unique(np.round(np.geomspace(low, high + 1, bins + 1))) - 0.5
    else:
        edges = np.geomspace(low, high, bins + 1) if high > low else np.array([low / 1.1, low * 1.1])
    counts, _ = np.histogram(sample, edges)
    with drawing(title, x_label, "Count") as drawn:
        axes = drawn.axes
        axes.bar(
            edges[:-1],
            counts,
            np.diff(edges),
            align="edge",
            color=PALETTE[0],
            edgecolor="white",
            linewidth=0.8,
        )
        axes.grid(visible=False, axis="x")
        set_scale(axes, "x", log_x)
        set_scale(axes, "y", log=False, whole=True)
        axes.set_xlim(edges[0], edges[-1])
    return drawn.svg


def bar_plot(
    values: Mapping[str, float], title: str, x_label: str, deviations: Mapping[str, float] | None = None
) -> str:
    """Draw one horizontal bar per name, in the order given, from the top; the number stands at its end.

    Args:
        deviations: by name, how far a line through the bar's end reaches to either side.

    Raises:
        DataError: no values, or one that is not finite.
    """
    lengths = vector(list(values.values()), f"the values of {title!r}")
    if not len(lengths) or not np.isfinite(lengths).all():
        raise DataError(f"the bar plot {title!r} has values {dict(values)}; expected at least one, all finite")
    with drawing(title, x_label, "", height=max(1.8, 0.9 + 0.32 * len(lengths))) as drawn:
        axes = drawn.axes
        reach = None if deviations is None else [deviations.get(name, 0.0) for name in values]
        bars = axes.barh(range(len(lengths)), lengths, color=PALETTE[0], height=0.65, xerr=reach, ecolor=QUIET)
        whole = bool((lengths == np.round(lengths)).all())
        numbers = [f"{length:,.0f}" if whole else f"{length:.4g}" for length in lengths]
        axes.bar_label(bars, numbers, padding=3, color="#333f4a", fontsize=8.5)
        axes.set_yticks(range(len(lengths)), list(values), parse_math=False)
        axes.tick_params(axis="y", length=0)
        axes.invert_yaxis()
        axes.margins(x=0.22 if lengths.min() < 0 else 0.15)
        axes.grid(visible=False, axis="y")
    return drawn.svg


def heat_map(
    values: ArrayLike, rows: Sequence[str], columns: Sequence[str], title: str, x_label: str = "", y_label: str = ""
) -> str:
    """Draw a matrix `(R, C)` as coloured cells under a colour bar; few cells have their number written in.

    Values of both signs are coloured from orange through white at 0 to blue, values of one sign from white. A cell that
    is not finite stays empty.

    Raises:
        DataError: the matrix has another shape than its names, or no finite value.
    """
    cells = np.asarray(values, dtype=np.float64)
    if cells.shape != (len(rows), len(columns)) or not np.isfinite(cells).any():
        raise DataError(
            f"the heat map {title!r} has values of shape {cells.shape}; expected ({len(rows)}, {len(columns)}), its "
            "names, and a finite value"
        )
    written = max(cells.shape) <= WRITTEN_CELLS
    height = max(2.4, 1.5 + (0.32 if written else 0.14) * len(rows))
    slant: dict[str, Any] = {"rotation": 40, "ha": "right"} if written else {"rotation": 90}
    with drawing(title, x_label, y_label, height=height) as drawn:
        axes = drawn.axes
        largest = float(np.nanmax(np.abs(cells))) or 1.0
        lowest = -largest if np.nanmin(cells) < 0 else 0.0
        mesh = axes.pcolormesh(
            np.ma.masked_invalid(cells), cmap=color_map(lowest < 0), vmin=lowest, vmax=largest, edgecolors="white",
            linewidth=0.6,
        )  # fmt: skip
        axes.set_xticks(np.arange(len(columns)) + 0.5, list(columns), parse_math=False, **slant)
        axes.set_yticks(np.arange(len(rows)) + 0.5, list(rows), parse_math=False)
        axes.tick_params(length=0, labelsize=8.5 if written else 6)
        axes.invert_yaxis()
        axes.grid(visible=False)
        axes.spines[:].set_visible(False)
        if written:
            for (row, column), value in np.ndenumerate(cells):
                if np.isfinite(value):
                    dark = abs(value) > 0.6 * largest
                    color = "white" if dark else "#333f4a"
                    axes.text(
                        column + 0.5, row + 0.5, f"{value:.2g}", color=color, fontsize=7, ha="center", va="center"
                    )
        else:
            assert axes.figure is not None
            axes.figure.colorbar(mesh, ax=axes, fraction=0.05, pad=0.02)
    return drawn.svg
