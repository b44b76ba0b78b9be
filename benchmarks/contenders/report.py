"""From turns to tables."""

import os
import platform
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from contenders.plans import Entry, Plan

MB = 1 / 2**20
Turn = dict[str, Any]


@dataclass
class Measured:
    """What was seen of one contender: its greeting, the warm-up and the turns."""

    entry: Entry
    about: dict[str, Any]
    warm_up: Turn = field(default_factory=dict)
    turns: list[Turn] = field(default_factory=list)

    @property
    def version(self) -> str:
        versions: dict[str, str] = self.about["versions"]
        own = [version for name, version in versions.items() if name != "torch"]
        return own[0] if own else f"torch {versions['torch']}"

    def losses(self) -> list[float]:
        """The mean loss of each pass, the warm-up's first."""
        if self.turns and "losses" in self.turns[0]:
            return list(self.turns[0]["losses"])
        return [turn["loss"] for turn in [self.warm_up, *self.turns] if turn.get("loss") is not None]

    def learned(self) -> bool:
        """Whether the loss fell; a single pass proves nothing and is let through."""
        losses = self.losses()
        return not self.entry.learns or len(losses) < 2 or losses[-1] < losses[0]


def spread(values: list[float], digits: int = 2, unit: float = 1.0) -> str:
    """The median of some values, and their lowest and highest."""
    low, middle, high = (f"{value * unit:,.{digits}f}" for value in (min(values), median(values), max(values)))
    return f"{middle} ({low} - {high})"


def table(plan: Plan, measured: list[Measured]) -> str:
    """One workload as Markdown, its notes below."""
    columns = {"train": _training, "predict": _scoring, "job": _jobs}[plan.kind]
    rows = [columns(one, measured[0]) for one in measured]
    lines = [f"### {plan.title}", "", _line(list(rows[0])), _line(["---"] * len(rows[0]))]
    lines += [_line(list(row.values())) for row in rows]
    lines += ["", *(f"- {note}" for note in plan.notes)]
    lines += [f"- **{one.entry.name} does not learn**: {one.losses()}" for one in measured if not one.learned()]
    checked = [one.entry.name for one in measured if one.entry.learns and one.learned() and len(one.losses()) > 1]
    lines += [f"- The loss falls: {'; '.join(checked)}."] if checked else []
    return "\n".join([*lines, *_share_of_products(measured)]) + "\n"


def machine(threads: int, load: tuple[float, ...]) -> str:
    """Where the numbers come from, and how to read them."""
    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    loads = " ".join(f"{value:.2f}" for value in load)
    return (
        f"{_cpu()}, {cores} cores, {threads} threads a contender; {platform.system()} {platform.machine()}, Python "
        f"{platform.python_version()}, torch {torch.__version__}; load average before: {loads}. Medians, lowest and "
        "highest in brackets; a ratio compares speeds turn by turn, above 1 where the first contender is faster."
    )


def _training(one: Measured, ours: Measured) -> dict[str, str]:
    losses = one.losses()
    return {
        "contender": one.entry.name,
        "version": one.version,
        "rows/s, wall": spread([turn["rows"] / turn["wall"] for turn in one.turns], 0),
        "rows / CPU-s": f"{median(turn['rows'] / turn['cpu'] for turn in one.turns):,.0f}",
        f"{ours.entry.name} / it": _ratio(one, ours),
        "loss, first -> last": f"{losses[0]:.4f} -> {losses[-1]:.4f}" if losses else "-",
        "parameters": f"{one.about['parameters']:,}",
        "peak MB": f"{max(turn['peak'] for turn in one.turns) * MB:,.0f}",
    }


def _scoring(one: Measured, ours: Measured) -> dict[str, str]:
    metrics = one.turns[-1]["metrics"]
    return {
        "contender": one.entry.name,
        "version": one.version,
        "seconds, wall": spread([turn["wall"] for turn in one.turns]),
        "CPU-s": f"{median(turn['cpu'] for turn in one.turns):.2f}",
        "rows/s": f"{median(turn['rows'] / turn['wall'] for turn in one.turns):,.0f}",
        f"{ours.entry.name} / it": _ratio(one, ours),
        "HR@10, NDCG@10, AUC": ", ".join(f"{metrics[name]:.4f}" for name in ("hr@10", "ndcg@10", "auc")),
        "peak MB": f"{max(turn['peak'] for turn in one.turns) * MB:,.0f}",
    }


def _jobs(one: Measured, ours: Measured) -> dict[str, str]:
    losses, row = one.losses(), _scoring(one, ours)
    del row["rows/s"]
    return row | {"loss, first -> last": f"{losses[0]:.4f} -> {losses[-1]:.4f}" if losses else "-"}


def _ratio(one: Measured, ours: Measured) -> str:
    """Paired by turn: our rate over the contender's."""
    if one is ours:
        return "1"
    pairs = zip(ours.turns, one.turns, strict=True)
    return spread([a["rows"] / a["wall"] / (b["rows"] / b["wall"]) for a, b in pairs])


def _share_of_products(measured: list[Measured]) -> list[str]:
    ceiling = [one for one in measured if one.entry.script == "products"]
    if not ceiling or measured[0] is ceiling[0]:
        return []
    pairs = zip(measured[0].turns, ceiling[0].turns, strict=True)
    shares = [100 * a["rows"] / a["wall"] / (b["rows"] / b["wall"]) for a, b in pairs]
    products = 6 * ceiling[0].about["parameters"]  # forward and two ways back, a multiplication and an addition each
    flops = [products * turn["rows"] / turn["wall"] / 1e9 for turn in ceiling[0].turns]
    return [
        f"- {measured[0].entry.name} reaches {spread(shares, 0)} % of the rows that the tower's matrix products alone "
        f"allow; those run at {spread(flops, 0)} GFLOP/s."
    ]


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cpu() -> str:
    """The processor's name."""
    if Path("/proc/cpuinfo").exists():
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    if sys.platform == "darwin":
        command = ["sysctl", "-n", "machdep.cpu.brand_string"]
        return subprocess.run(command, capture_output=True, text=True).stdout.strip()
    return platform.processor() or platform.machine()
