"""The plots of a ranking's report, in the one look of all reports."""

from collections.abc import Mapping
from itertools import cycle
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepfm.equities.evaluation.places import Floats
from deepfm.errors import DataError
from deepfm.reporting import bar_plot, line_plot
from deepfm.reporting.drawing import PALETTE, QUIET, Drawing, drawing, set_scale

MOST_POINTS = 400  # of a line, so that a page stays light
SHOWN_FEATURES = 25
MOST_TICKS, DAY_TICKS = 8, 4  # of a date axis, whose names are the longer the shorter the time
MONTH_STEPS = (1, 2, 3, 6)  # of ticks that name months
NEAR = np.timedelta64(10, "D")  # how long before its first date an axis may begin, for a tick

Dated = tuple[NDArray[np.datetime64], Floats]


def dated_plot(series: Mapping[str, Dated], title: str, y_label: str) -> str:
    """Draw named lines over dates; the first is drawn thicker and last, a line marks zero.

    Raises:
        DataError: a line has no point, or dates and values differ in number.
    """
    for name, (dates, values) in series.items():
        if len(dates) != len(values) or not len(dates):
            raise DataError(
                f"line {name!r} of {title!r} has {len(dates)} dates and {len(values)} values; expected some"
            )
    with drawing(title, "", y_label) as drawn:
        axes = drawn.axes
        for number, (color, (dates, values)) in enumerate(zip(cycle(PALETTE), series.values(), strict=False)):
            at = np.unique(np.linspace(0, len(dates) - 1, MOST_POINTS).round().astype(int))
            axes.plot(
                decimal_years(dates[at]),
                values[at],
                color=color,
                linewidth=1.2 if number else 2.2,
                zorder=2 if number else 3,
            )
        _legend_below(drawn, list(axes.lines), list(series))
        axes.axhline(0, color=QUIET, linestyle=(0, (4, 3)), linewidth=1, zorder=1)
        ticks, names = date_ticks(np.concatenate([dates for dates, _ in series.values()]))
        axes.set_xticks(decimal_years(ticks), names)
    return drawn.svg


def _legend_below(drawn: Drawing, handles: list[Any], names: list[str]) -> None:
    """Name lines or bars under the axes, where they cover nothing; one needs no name."""
    figure = drawn.axes.figure
    if len(names) < 2 or figure is None:
        return
    columns = len(names) if len(names) <= 4 else 3
    legend = figure.legend(handles, names, loc="outside lower center", ncols=columns, handlelength=1.4)
    for text in legend.get_texts():
        text.set_parse_math(False)


def decimal_years(dates: NDArray[np.datetime64]) -> Floats:
    """Dates as numbers of years, 2013.5 in early July."""
    years = dates.astype("datetime64[Y]")
    start, end = years.astype("datetime64[D]"), (years + 1).astype("datetime64[D]")
    share = (dates.astype("datetime64[D]") - start) / (end - start)
    return np.asarray(years.astype(int) + 1970 + share, dtype=np.float64)


def date_ticks(dates: NDArray[np.datetime64]) -> tuple[NDArray[np.datetime64], list[str]]:
    """Where a date axis has its ticks and what they say: years, below two years months, below two months days.

    Args:
        dates: what is drawn, in any order.
    """
    first, last = dates.min().astype("datetime64[D]"), dates.max().astype("datetime64[D]")
    months = np.arange(first.astype("datetime64[M]"), last.astype("datetime64[M]") + 1)
    length = len(months)
    if length > MOST_TICKS * MONTH_STEPS[-1]:
        step = 12 * -(-length // (12 * MOST_TICKS))
    else:
        step = next(one for one in MONTH_STEPS if length <= MOST_TICKS * one)
    since = months.astype(int)
    ticks = months[since % step == 0].astype("datetime64[D]")
    ticks = ticks[(ticks >= first - NEAR) & (ticks <= last)]
    if step % 12 == 0:
        return ticks, [str(tick)[:4] for tick in ticks]
    if len(ticks) > 1:
        return ticks, [str(tick)[:7] for tick in ticks]
    days = np.unique(dates.astype("datetime64[D]"))
    ticks = days[np.unique(np.linspace(0, len(days) - 1, DAY_TICKS).round().astype(int))]
    return ticks, [str(tick) for tick in ticks]


def cumulative_rank_ic(series: Mapping[str, Dated], horizon: int) -> str:
    """Draw the running sum of daily RankIC; a straight line up is a steady signal."""
    summed = {name: (dates, np.cumsum(np.nan_to_num(daily))) for name, (dates, daily) in series.items()}
    return dated_plot(summed, f"Cumulative RankIC, {sessions_text(horizon)}", "sum of daily RankIC")


def equity_curves(dates: NDArray[np.datetime64], curves: Mapping[str, Floats], horizon: int) -> str:
    """Draw the running sum of a portfolio's daily returns at several costs, in per cent of one side's capital."""
    summed = {name: (dates, 100 * np.cumsum(returns)) for name, returns in curves.items()}
    return dated_plot(summed, f"Portfolio held {sessions_text(horizon)}", "summed return, %")


def decile_curves(curves: Mapping[str, Floats], horizon: int) -> str:
    """Draw the mean forward return of each tenth by score, in basis points, less the mean of all tenths."""
    with drawing(
        f"Tenths by score, {sessions_text(horizon)}", "tenth, lowest score first", "bp above the mean"
    ) as drawn:
        axes = drawn.axes
        for number, (color, means) in enumerate(zip(cycle(PALETTE), curves.values(), strict=False)):
            at, above = np.arange(1, len(means) + 1), 1e4 * (means - means.mean())
            width = 1.2 if number else 2.2
            axes.plot(at, above, color=color, marker="o", markersize=3, linewidth=width, zorder=2 if number else 3)
        set_scale(axes, "x", log=False, whole=True)
        _legend_below(drawn, list(axes.lines), list(curves))
        axes.axhline(0, color=QUIET, linestyle=(0, (4, 3)), linewidth=1, zorder=1)
    return drawn.svg


def yearly_bars(means: Mapping[str, Mapping[int, float]], horizon: int) -> str:
    """Draw each method's mean RankIC year by year, side by side."""
    years = sorted({year for by_year in means.values() for year in by_year})
    if not years:
        raise DataError(f"the yearly bars at {sessions_text(horizon)} have no year; expected at least one")
    width = 0.8 / len(means)
    with drawing(f"RankIC by year, {sessions_text(horizon)}", "", "mean daily RankIC") as drawn:
        axes = drawn.axes
        handles: list[Any] = []
        for number, (color, by_year) in enumerate(zip(cycle(PALETTE), means.values(), strict=False)):
            at = np.arange(len(years)) + (number - (len(means) - 1) / 2) * width
            heights = [by_year.get(year, np.nan) for year in years]
            handles.append(axes.bar(at, heights, 0.92 * width, color=color))
        axes.axhline(0, color=QUIET, linewidth=1)
        axes.set_xticks(range(len(years)), [str(year) for year in years])
        axes.grid(visible=False, axis="x")
        _legend_below(drawn, handles, list(means))
    return drawn.svg


def feature_weight_bars(weights: Mapping[str, float]) -> str:
    """Draw the largest mean selection weights of features, the largest first."""
    order = sorted(weights, key=lambda name: -weights[name])[:SHOWN_FEATURES]
    return bar_plot({name: weights[name] for name in order}, "What the network reads", "mean selection weight")


def attention_curve(weights: ArrayLike) -> str:
    """Draw the mean attention on each session of the look-back `(L,)`, the day's own last."""
    values = np.asarray(weights, dtype=np.float64)
    if values.ndim != 1 or not len(values):
        raise DataError(f"attention over the look-back has the shape {values.shape}; expected (L,)")
    even = np.full(len(values), 1 / len(values))
    back = np.arange(1 - len(values), 1)
    return line_plot(
        {"attention": (back, values), "even": (back, even)}, "Attention over the look-back", "sessions before the day",
        "mean weight",
    )  # fmt: skip


def sessions_text(horizon: int) -> str:
    """A horizon in words: 1 session, 5 sessions."""
    return f"{horizon} session" + ("" if horizon == 1 else "s")
