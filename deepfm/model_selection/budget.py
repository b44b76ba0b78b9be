"""What a model may cost: parsed from one line of text, held against a catalogue."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deepfm.errors import DataError
from deepfm.model_selection.catalogue import Catalogue

EXAMPLE = "params<=30e6,latency<=20ms,macs<=4G,licence=apache-2.0|mit"
NAMES: Mapping[str, str] = {
    "params": "parameters",
    "parameters": "parameters",
    "macs": "macs",
    "latency": "latency_ms",
    "latency_ms": "latency_ms",
    "licence": "licence",
    "license": "licence",
}
SUFFIXES: Mapping[str, float] = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9, "b": 1e9}
SECONDS: Mapping[str, float] = {"us": 1e-3, "ms": 1.0, "s": 1e3}  # in milliseconds
LIMIT = re.compile(r"^\s*([a-z_]+)\s*(<=|=|<|>=|>)\s*(.*?)\s*$", re.IGNORECASE)
NUMBER = re.compile(r"^([0-9]*\.?[0-9]+(?:e[+-]?[0-9]+)?)\s*([a-z]*)$", re.IGNORECASE)


@dataclass(frozen=True)
class Budget:
    """Upper limits on costs, and the licences that will do.

    Args:
        limits: the greatest value by cost ("parameters", "macs", "latency_ms").
        licences: names in lower case; empty for any.
    """

    limits: Mapping[str, float]
    licences: tuple[str, ...] = ()

    def __str__(self) -> str:
        parts = [f"{name} <= {limit:g}" for name, limit in self.limits.items()]
        return ", ".join([*parts, *([f"licence = {'|'.join(self.licences)}"] if self.licences else [])]) or "no limit"


@dataclass(frozen=True, eq=False)
class WithinBudget:
    """Which models of a catalogue meet a budget.

    Args:
        allowed: `(M,)`.
        unknown: how many models fail for each cost or licence only in that it is not known of them.
        nearest: the model that comes nearest where none meets it, with what it costs; None where one does.
    """

    allowed: NDArray[np.bool_]
    unknown: Mapping[str, int]
    nearest: str | None = None


def parse_budget(text: str) -> Budget:
    """A budget from text such as `params<=30e6,latency<=20ms,macs<=4G,licence=apache-2.0|mit`.

    Numbers take the suffixes k, M, G (or B); a latency needs a unit, us, ms or s. Empty text is no limit.

    Raises:
        DataError: a name is unknown or stands twice, a comparison is not the one it takes, or a number cannot be read.
    """
    limits: dict[str, float] = {}
    licences: tuple[str, ...] = ()
    seen: set[str] = set()
    for part in (part for part in text.split(",") if part.strip()):
        matched = LIMIT.match(part)
        if not matched:
            raise DataError(f"budget {part.strip()!r} cannot be read; expected limits such as {EXAMPLE}")
        given, sign, value = matched.groups()
        name = NAMES.get(given.lower())
        if name is None:
            raise DataError(
                f"budget names {given!r}, which no catalogue has; expected params, macs, latency or licence"
            )
        if name in seen:
            raise DataError(f"budget limits {given!r} twice; give it once")
        seen.add(name)
        wanted = "=" if name == "licence" else "<="
        if sign != wanted:
            raise DataError(f"budget has {given}{sign}{value}; expected {given}{wanted}..., as in {EXAMPLE}")
        if name == "licence":
            licences = tuple(name.strip().lower() for name in value.split("|") if name.strip())
            if not licences:
                raise DataError(f"budget has {part.strip()!r} without a licence; expected one, or several as a|b")
        else:
            limits[name] = _number(given, value, SECONDS if name == "latency_ms" else SUFFIXES)
    return Budget(limits, licences)


def within_budget(catalogue: Catalogue, budget: Budget) -> WithinBudget:
    """Hold a catalogue against a budget; a model whose cost or licence is not known does not meet a limit on it."""
    excess = np.ones(len(catalogue))  # the greatest cost over its limit, 1 where all are met
    sure = np.ones(len(catalogue), np.bool_)
    unknown = {}
    for name, limit in budget.limits.items():
        costs = catalogue.costs(name)
        known = ~np.isnan(costs)
        unknown[name] = int((~known).sum())
        over = np.where(known, costs / limit, np.inf)
        excess = np.maximum(excess, np.where(known & (costs <= limit), 1.0, np.maximum(over, np.nextafter(1.0, 2.0))))
        sure &= known
    if budget.licences:
        licences = catalogue.rows["licence"].to_list()
        unknown["licence"] = sum(licence is None for licence in licences)
        fits = np.array([licence is not None and licence.lower() in budget.licences for licence in licences])
        excess = np.where(fits, excess, np.inf)
    allowed = excess <= 1
    return WithinBudget(
        allowed,
        {name: count for name, count in unknown.items() if count},
        None if allowed.any() else _nearest(catalogue, budget, excess),
    )


def require_some(catalogue: Catalogue, budget: Budget) -> WithinBudget:
    """As `within_budget`, but a budget that nothing meets is refused.

    Raises:
        DataError: no model meets it, with the one that comes nearest and what it costs.
    """
    answer = within_budget(catalogue, budget)
    if not answer.allowed.any():
        raise DataError(f"no model of {len(catalogue)} meets the budget {budget}; {answer.nearest}")
    return answer


def _nearest(catalogue: Catalogue, budget: Budget, excess: NDArray[np.float64]) -> str:
    if not len(catalogue):
        return "the catalogue is empty; add models"
    at = int(np.argmin(excess))
    if not np.isfinite(excess[at]):
        has = sorted({licence for licence in catalogue.rows["licence"] if licence})
        if budget.licences and not has:
            return "the catalogue says of no model what its licence is; leave the licence out"
        unknown = "; ".join(name for name in budget.limits if np.isnan(catalogue.costs(name)).all())
        if unknown:
            return f"the catalogue says of no model what its {unknown} is; leave that limit out"
        priced = " with known costs" if budget.limits else ""
        return f"none has such a licence{priced}; the catalogue has the licences {', '.join(has) or 'none'}"
    row = catalogue.rows.row(at, named=True)
    costs = ", ".join(f"{name} {row[name]:g}" for name in budget.limits)
    return f"the nearest is {row['model']!r} with {costs}; raise the limit to that"


def _number(name: str, value: str, units: Mapping[str, float]) -> float:
    matched = NUMBER.match(value)
    unit = matched.group(2).lower() if matched else ""
    if not matched or unit not in units:
        allowed: Sequence[str] = [unit for unit in units if unit]
        raise DataError(
            f"budget has {name}<={value}, which is no number that can be read; "
            f"expected one {'with a unit, ' if '' not in units else 'such as 30e6, or with '}{', '.join(allowed)}"
        )
    number = float(matched.group(1)) * units[unit]
    if not 0 < number < np.inf:
        raise DataError(f"budget has {name}<={value}; expected a number above 0")
    return number
