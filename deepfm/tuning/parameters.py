"""One setting that a tuning varies: its range or its choices, held to what the setting may be."""

import json
import math
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from deepfm.engine.setting_names import setting_type
from deepfm.engine.settings import build_settings, setting
from deepfm.errors import ConfigError
from deepfm.tuning.rules import Rules

STEP_DIGITS = 12  # what adding up steps leaves beyond them is no difference
Plain = str | int | float | bool | None


@dataclass(frozen=True)
class Described:
    """A parameter as a YAML describes it: a range from `low` to `high`, or `choices`; `when` it takes part."""

    low: float | None = None
    high: float | None = None
    log: bool = False
    step: float | None = setting(None, above=0)
    choices: tuple[Any, ...] | None = setting(None, not_empty=True)
    when: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Parameter:
    """A setting and the values it may take.

    Args:
        name: the setting's dotted name.
        low, high: the ends of a range, both among its values; None where there are choices.
        log: whether the range is spread over orders of magnitude.
        step: what lies between two values; None where every number in the range is one.
        choices: the values, where there is no range.
        when: setting → values, one of which each must have for the parameter to take part.
    """

    name: str
    low: float | int | None = None
    high: float | int | None = None
    log: bool = False
    step: float | int | None = None
    choices: tuple[Any, ...] | None = None
    when: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)

    def takes_part(self, values: Mapping[str, Any]) -> bool:
        """Whether the parameter decides anything beside these settings."""
        return all(values[name] in allowed for name, allowed in self.when.items())

    def holds(self, value: Any) -> bool:
        """Whether a value is one of the parameter's."""
        if self.choices is not None:
            return value in self.choices
        if value is None or self.low is None or self.high is None or not self.low <= value <= self.high:
            return False
        steps = 0.0 if self.step is None else (value - self.low) / self.step
        return math.isclose(steps, round(steps), abs_tol=1e-9)

    def values(self) -> tuple[Any, ...] | None:
        """All values in order; None where there is no end to them, or a logarithmic range does not say which."""
        if self.choices is not None:
            return self.choices
        if self.step is None or self.low is None or self.high is None:
            return None
        count = round((self.high - self.low) / self.step) + 1
        return tuple(type(self.low)(round(self.low + number * self.step, STEP_DIGITS)) for number in range(count))

    def to_dict(self) -> dict[str, Any]:
        """As a YAML describes it."""
        facts = {"low": self.low, "high": self.high, "log": self.log or None, "step": self.step}
        plain: dict[str, Any] = {key: value for key, value in facts.items() if value is not None}
        if self.choices is not None:
            plain["choices"] = _listed(self.choices)
        if self.when:
            plain["when"] = {name: _listed(values) for name, values in self.when.items()}
        return plain

    def __str__(self) -> str:
        if self.choices is not None:
            return ", ".join(str(as_plain(choice)) for choice in self.choices)
        step = f", in steps of {self.step:g}" if self.step is not None and not self.whole else ""
        return f"{self.low:g} to {self.high:g}{', logarithmic' if self.log else ''}{step}"

    @property
    def whole(self) -> bool:
        """Whether the range is one of whole numbers."""
        return isinstance(self.low, int)


def build_parameter(name: str, described: Any, rules: Rules) -> Parameter:
    """Make a parameter of what a YAML says of it, beside what may be varied at all.

    Raises:
        ConfigError: it may not be varied, has an unknown key, no value or an impossible one.
    """
    where = f"tune.{name}"
    rules.refuse_fixed(name)
    if not isinstance(described, Mapping):
        raise ConfigError(
            f"{where} = {described!r} is no range; expected keys below it, such as low, high and log, or choices"
        )
    given = build_settings(Described, described, where + ".")
    when = _build_when(where, given.when, rules)
    if given.choices is not None:
        if (given.low, given.high, given.step, given.log) != (None, None, None, False):
            raise ConfigError(f"{where} has choices and a range; expected one of them")
        choices = tuple(_value(name, choice, rules) for choice in given.choices)
        if len({repr(choice) for choice in choices}) < len(choices):
            raise ConfigError(f"{where}.choices = {_listed(choices)} holds a value twice; expected each once")
        return Parameter(name, choices=choices, when=when)
    if given.low is None or given.high is None:
        raise ConfigError(f"{where} has neither choices nor both ends of a range; expected choices, or low and high")
    return Parameter(name, **_build_range(name, given, given.low, given.high, rules), when=when)


def as_plain(value: Any) -> Plain:
    """A value as Optuna stores it and as a table shows it: lists are text."""
    return json.dumps(_listed(value)) if isinstance(value, tuple) else value


def _build_range(name: str, given: Described, low: float, high: float, rules: Rules) -> dict[str, Any]:
    where = f"tune.{name}"
    kind = setting_type(rules.settings_class, name)
    kinds = {kind, *typing.get_args(kind)}
    if not kinds & {int, float} or tuple in {typing.get_origin(kind) for kind in kinds}:
        raise ConfigError(f"{where} has a range, and {name} is no number; expected choices")
    if not low < high:
        what = "is empty" if low == high else "is reversed"
        raise ConfigError(f"{where} {what}: it goes from {low:g} to {high:g}; expected low below high")
    if given.log and low <= 0:
        raise ConfigError(f"{where} is logarithmic from {low:g}; expected low above 0, or log: false")
    if given.log and given.step is not None:
        raise ConfigError(f"{where} is logarithmic and has a step; expected one of them, or choices")
    step = given.step
    if float in kinds:
        ends: dict[str, Any] = {"low": _value(name, low, rules), "high": _value(name, high, rules), "step": step}
    else:
        if step is None and not given.log:
            step = 1.0
        whole = [int(end) if float(end).is_integer() else end for end in (low, high)]
        if step is not None and not float(step).is_integer():
            raise ConfigError(f"{where}.step = {step:g} is no whole number, and {name} is one; expected a whole step")
        ends = {
            "low": _value(name, whole[0], rules),
            "high": _value(name, whole[1], rules),
            "step": None if step is None else int(step),
        }
    if step is not None:
        steps = (high - low) / step
        if not math.isclose(steps, round(steps), abs_tol=1e-9):
            raise ConfigError(
                f"{where} does not come from {low:g} to {high:g} in steps of {step:g}; expected a high that a step "
                "ends on"
            )
    return {**ends, "log": given.log}


def _build_when(where: str, when: Mapping[str, Any], rules: Rules) -> dict[str, tuple[Any, ...]]:
    conditions = {}
    for name, values in when.items():
        values = values if isinstance(values, tuple) else (values,)
        try:
            conditions[str(name)] = tuple(rules.checked(str(name), value) for value in values)
        except ConfigError as error:
            raise ConfigError(f"{where}.when cannot hold: {error}") from error
    return conditions


def _value(name: str, value: Any, rules: Rules) -> Any:
    """A value that the setting can have; whether it fits the others is seen when a trial has them all."""
    try:
        return rules.checked(name, value)
    except ConfigError as error:
        raise ConfigError(f"tune.{error}") from error


def _listed(value: Any) -> Any:
    return [_listed(element) for element in value] if isinstance(value, tuple) else value
