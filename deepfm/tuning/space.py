"""The search space: which settings a tuning varies, read from the `tune` section or the one that is shipped."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from deepfm.config import load_search_section
from deepfm.engine.setting_names import nearest_setting, setting_names
from deepfm.engine.settings import load_settings
from deepfm.errors import ConfigError
from deepfm.tuning.click_rules import CLICK_RULES
from deepfm.tuning.parameters import Parameter, build_parameter
from deepfm.tuning.rules import Rules

S = TypeVar("S")
SHIPPED = CLICK_RULES.shipped
LARGEST_GRID = 10_000


@dataclass(frozen=True)
class Space:
    """The parameters in order: a parameter's conditions look at those before it.

    Args:
        parameters: those that can take part beside the settings that stay.
        source: where the space was written.

    Raises:
        ConfigError: nothing is left to vary.
    """

    parameters: tuple[Parameter, ...]
    source: str

    def __post_init__(self) -> None:
        if not self.parameters:
            raise ConfigError(f"the search space of {self.source} leaves nothing to vary; write settings below tune:")

    def to_dict(self) -> dict[str, Any]:
        """As a `tune` section holds it."""
        return {parameter.name: parameter.to_dict() for parameter in self.parameters}

    def grid(self, base: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Every combination of values; the first parameter changes fastest.

        Args:
            base: the settings that stay, by their dotted names.

        Raises:
            ConfigError: a range has no end of values, or there are more than 10,000 combinations.
        """
        values, most = {}, 1
        for parameter in self.parameters:
            listed = parameter.values()
            if listed is None:
                raise ConfigError(
                    f"tune.{parameter.name} is a range without steps, which a grid cannot walk; expected a step, "
                    "choices, or --sampler tpe or random"
                )
            values[parameter.name] = listed
            most *= len(listed)
        if most > LARGEST_GRID:
            raise ConfigError(
                f"the grid has {most:,} combinations; expected at most {LARGEST_GRID:,}, so list fewer values or use "
                "--sampler tpe or random"
            )
        points: list[tuple[tuple[int, ...], dict[str, Any]]] = [((), {})]
        for parameter in self.parameters:
            longer = []
            for place, chosen in points:
                if parameter.takes_part({**base, **chosen}):
                    for number, value in enumerate(values[parameter.name]):
                        longer.append(((number, *place), {**chosen, parameter.name: value}))
                else:
                    longer.append(((-1, *place), chosen))
            points = longer
        return [chosen for _, chosen in sorted(points, key=lambda point: point[0])]


def load_space(path: str | Path | None, overrides: list[str], config: Any, rules: Rules = CLICK_RULES) -> Space:
    """The space of a YAML's `tune` section and its overrides; the shipped one where there is none.

    Args:
        config: the settings that stay where the space does not vary them.
        rules: what may be varied.

    Raises:
        ConfigError: a setting or a key is unknown, a range or a value is impossible, or nothing is left to vary.
    """
    section, source = load_search_section(path, overrides), f"the tune section of {path or 'the overrides'}"
    if not section and section != 0:
        section, source = load_search_section(rules.shipped), "the package"
    return build_space(section, config, source, rules)


def build_space(section: Any, config: Any, source: str = "the tune section", rules: Rules = CLICK_RULES) -> Space:
    """The space that a `tune` section describes beside a configuration; errors as of `load_space`.

    Parameters whose conditions the configuration rules out are left out.
    """
    described = _described(section, setting_names(rules.settings_class))
    parameters = [build_parameter(name, facts, rules) for name, facts in described.items()]
    order = {parameter.name: position for position, parameter in enumerate(parameters)}
    settings, kept = flat_settings(config), dict[str, Parameter]()
    for position, parameter in enumerate(parameters):
        below = [name for name in parameter.when if order.get(name, -1) >= position]
        if below:
            raise ConfigError(
                f"tune.{parameter.name}.when looks at {below[0]}, which is varied below it; write tune.{below[0]} first"
            )
        if all(_can_have(kept.get(name), settings[name], values) for name, values in parameter.when.items()):
            when = {name: values for name, values in parameter.when.items() if name in kept}
            kept[parameter.name] = replace(parameter, when=when)
    return Space(tuple(kept.values()), source)


def flat_settings(config: Any) -> dict[str, Any]:
    """Every setting by its dotted name; lists are tuples, as in the configuration."""
    flat: dict[str, Any] = {}
    for name in setting_names(type(config)):
        value: Any = config
        for part in name.split("."):
            value = getattr(value, part)
        flat[name] = value
    return flat


def with_values(config: S, values: Mapping[str, Any]) -> S:
    """The configuration with some settings changed, checked as the loader does.

    Raises:
        ConfigError: values that do not fit each other.
    """
    base = {name: value for name, value in flat_settings(config).items() if name not in values}
    return load_settings(type(config), defaults={**base, **values})


def _can_have(parameter: Parameter | None, fixed: Any, values: tuple[Any, ...]) -> bool:
    """Whether a setting, varied by a parameter or fixed, is ever one of some values."""
    return fixed in values if parameter is None else any(parameter.holds(value) for value in values)


def _described(section: Any, known: Mapping[str, tuple[str, ...]], prefix: str = "") -> dict[str, Any]:
    """Dotted names with what is said of each; sections may be nested or written with dots."""
    if not isinstance(section, Mapping):
        raise ConfigError(
            f"tune{'.' + prefix if prefix else ''} = {section!r} is a section; expected settings below it"
        )
    found: dict[str, Any] = {}
    for key, value in section.items():
        name = f"{prefix}.{key}" if prefix else str(key)
        if name in known:
            both = isinstance(value, Mapping) and isinstance(found.get(name), Mapping)
            found[name] = {**found[name], **value} if both else value
        elif any(other.startswith(name + ".") for other in known):
            for inner, described in _described(value, known, name).items():
                both = isinstance(described, Mapping) and isinstance(found.get(inner), Mapping)
                found[inner] = {**found[inner], **described} if both else described
        else:
            raise ConfigError(f"tune.{name} is not a setting; {nearest_setting(name, known)}")
    return found
