"""Two reports of a model beside each other: figures that changed, findings that came and went."""

from collections.abc import Iterator, Mapping
from typing import Any

from deepfm.analysis.sections.words import text
from deepfm.reporting import Column, Table

FIGURES = {
    "parameters": ("measured", "counts", "total"),
    "trainable parameters": ("measured", "counts", "trainable"),
    "FLOPs, forward": ("measured", "flops", "forward"),
    "FLOPs, training step": ("measured", "flops", "step"),
    "activation bytes": ("measured", "memory", "activations", "bytes"),
    "peak bytes": ("measured", "memory", "peak", "total"),
    "loss at the start": ("measured", "start", "loss_eval"),
    "learning rate": ("measured", "rates", "suggestion"),
    "noise scale": ("measured", "noise", "noise_scale"),
    "left after one batch": ("measured", "overfit", "share"),
    "proof": ("proof", "verdict"),
    "assessment": ("assessment",),
}
CLOSE = 1e-6


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> Table:
    """A row for each figure that changed, and each finding that is in one report alone; times are left out, as no two
    runs have the same."""
    rows = list(_figures(before, after))
    old, new = _findings(before), _findings(after)
    rows += [["finding", "–", place] for place in sorted(new - old)]  # noqa: RUF001  nothing was there
    rows += [["finding", place, "gone"] for place in sorted(old - new)]
    caption = "no figure and no finding changed" if not rows else ""
    return Table([Column("what"), Column("before"), Column("after")], rows, caption, best=False)


def _figures(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[list[str]]:
    for name, path in FIGURES.items():
        old, new = _at(before, path), _at(after, path)
        numbers = isinstance(old, int | float) and isinstance(new, int | float)
        same = abs(old - new) <= CLOSE * max(abs(old), abs(new)) if numbers else old == new
        if not same:
            yield [name, text(old), text(new)]


def _at(report: Mapping[str, Any], path: tuple[str, ...]) -> Any:
    found: Any = report
    for key in path:
        found = found.get(key) if isinstance(found, Mapping) else None
    return found


def _findings(report: Mapping[str, Any]) -> set[str]:
    return {f"{one['rule']} at {one['place'].rpartition('/')[2]}" for one in report.get("findings", ())}
