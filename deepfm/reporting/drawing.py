"""The one look of every plot, and the way from matplotlib's axes to SVG text that fits into a page.

matplotlib is loaded when the first plot is drawn, through its objects: no window or global figure is touched.
"""

import hashlib
import io
import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PALETTE = ("#2f6db3", "#d9822b", "#3c8d5a", "#a64d79", "#6c5fa8", "#5b6875", "#23a6a6", "#7d4e2d")
QUIET = "#5b6875"
_SIZE = (5.4, 3.3)  # inches: 518 × 317 pixels on a page, two plots beside each other on a wide screen
_STYLE: Any = {
    "axes.axisbelow": True,
    "axes.edgecolor": "#9aa7b4",
    "axes.grid": True,
    "axes.labelcolor": "#333f4a",
    "axes.labelsize": 9.5,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "font.family": ["sans-serif"],
    "font.sans-serif": ["DejaVu Sans"],  # ships with matplotlib, so that the layout is the same everywhere
    "font.size": 9,
    "grid.color": "#e6eaee",
    "grid.linewidth": 0.8,
    "legend.fontsize": 9,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "svg.fonttype": "none",
    "text.color": "#1f2933",
    "xtick.color": "#5b6875",
    "ytick.color": "#5b6875",
}


class Drawing:
    """One set of axes while it is drawn, and the SVG once it is done."""

    def __init__(self, axes: "Axes") -> None:
        self.axes = axes
        self.svg = ""

    def legend(self, names: list[str], loc: Any = "best") -> None:
        """Name the lines in the order in which they were drawn."""
        legend = self.axes.legend(list(self.axes.lines)[: len(names)], names, loc=loc)
        for text in legend.get_texts():
            text.set_parse_math(False)


@contextmanager
def drawing(title: str, x_label: str, y_label: str, height: float = _SIZE[1]) -> Iterator[Drawing]:
    """Give axes to draw on in the house style; on leaving, their SVG is ready."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context({**_STYLE, "svg.hashsalt": title}):
        figure = Figure(figsize=(_SIZE[0], height), layout="constrained")
        axes = figure.add_subplot()
        drawn = Drawing(axes)
        axes.set_title(title, parse_math=False, pad=10)
        axes.set_xlabel(x_label, parse_math=False)
        axes.set_ylabel(y_label, parse_math=False)
        yield drawn
        svg = _rendered(figure)
    drawn.svg = _inline(svg, title)


def _rendered(figure: "Figure") -> str:
    """The figure as SVG; nearly all of the time that a plot takes."""
    target = io.StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    figure.savefig(target, format="svg", metadata=nothing)
    return target.getvalue()


def _inline(svg: str, title: str) -> str:
    """The SVG element alone, fit to stand in a page beside others: its ids its own, its style on itself."""
    svg = svg[svg.index("<svg") :].strip()
    svg = re.sub(r"\s*<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"\s*<defs>\s*<style[^>]*>.*?</style>\s*</defs>", "", svg, count=1, flags=re.DOTALL)
    svg = re.sub(r"[ \t]+$|^[ \t]+", "", svg, flags=re.MULTILINE)
    used = set(re.findall(r"(?:url\(#|href=\"#)([^)\"]+)", svg))
    prefix = "p" + hashlib.sha256(svg.encode()).hexdigest()[:10] + "-"

    def own(tag: re.Match[str]) -> str:
        text = re.sub(r' id="([^"]*)"', lambda at: f' id="{prefix}{at[1]}"' if at[1] in used else "", tag[0])
        return re.sub(r"(url\(#|href=\"#)", rf"\g<1>{prefix}", text)

    svg = re.sub(r"<[^>]+>", own, svg)
    look = 'style="stroke-linejoin: round; stroke-linecap: butt"'
    return svg.replace("<svg", f'<svg role="img" aria-label="{escape(title)}" {look}', 1)


def color_map(both_signs: bool) -> Any:
    """The colours of a heat map: white at 0, the palette's first colour upwards, its second downwards."""
    from matplotlib.colors import LinearSegmentedColormap

    colors = [PALETTE[1], "#ffffff", PALETTE[0]] if both_signs else ["#ffffff", PALETTE[0]]
    return LinearSegmentedColormap.from_list("deepfm", colors, N=45)  # of more a colour bar would be a bitmap


def set_scale(axes: "Axes", name: Literal["x", "y"], log: bool, whole: bool = False) -> None:
    """Ticks in plain numbers, 1,000 and 0.001, on a logarithmic axis too."""
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

    axis = axes.xaxis if name == "x" else axes.yaxis
    if log:
        (axes.set_xscale if name == "x" else axes.set_yscale)("log")
        low, high = axes.get_xlim() if name == "x" else axes.get_ylim()
        axis.set_major_locator(LogLocator(subs=(1.0,) if high > 30 * low else (1.0, 2.0, 5.0)))
        axis.set_major_formatter(FuncFormatter(_plain_number))
        axis.set_minor_formatter(NullFormatter())
    elif whole:
        axis.set_major_locator(MaxNLocator(integer=True))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))


def _plain_number(value: float, _: object = None) -> str:
    if value <= 0:
        return f"{value:g}"
    if value >= 1 and math.isclose(value, round(value)):
        return f"{value:,.0f}"
    return f"{value:.3g}".replace("e-0", "e-")
