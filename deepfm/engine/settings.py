"""The one configuration loader: YAML and overrides to frozen dataclasses, strictly.

A settings class states its own limits in the metadata of its fields, made with `setting`;
this module knows no class in particular, so every task of the package loads through it.
"""

import dataclasses
import functools
import math
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import dacite
import yaml

from deepfm.engine.setting_files import first_line, merge, read_yaml
from deepfm.engine.setting_limits import allows_bool, check_limits, type_name, wrong_elements
from deepfm.engine.setting_names import nearest, nearest_setting, setting_names, setting_type
from deepfm.errors import ConfigError

__all__ = [
    "build_setting",
    "build_settings",
    "check_settings",
    "load_settings",
    "nearest",
    "parse_override",
    "read_settings",
    "setting",
    "settings_to_dict",
]

S = TypeVar("S")


def setting(
    default: Any,
    *,
    choices: Sequence[Any] | None = None,
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | None = None,
    below: float | None = None,
    not_empty: bool | None = None,
    also: Sequence[str] = (),
) -> Any:
    """A dataclass field with a default and the limits that `load_settings` holds it to.

    For a tuple the numeric limits hold for each element. `None`, where the type allows it, is always in range. `also`
    lists other libraries' names of the setting, which the error of an unknown key leads from to the right one.
    """
    limits = {
        "not_empty": not_empty,
        "also": tuple(also) or None,
        "choices": choices,
        "at_least": at_least,
        "above": above,
        "at_most": at_most,
        "below": below,
    }
    metadata = {name: limit for name, limit in limits.items() if limit is not None}
    if isinstance(default, (list, dict)):
        return dataclasses.field(default_factory=lambda: type(default)(default), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def load_settings(
    settings_class: type[S],
    path: str | Path | None = None,
    overrides: Sequence[str] = (),
    defaults: Mapping[str, Any] | None = None,
) -> S:
    """Build `settings_class` from its defaults, then `defaults`, then the YAML at `path`, then `overrides`.

    Args:
        settings_class: a frozen dataclass, nested to any depth.
        path: a YAML file; None for none.
        overrides: `"section.key=value"` texts; a value is read as YAML, so `[256,128]` is a list.
        defaults: dotted keys with values that stand under the YAML (an environment variable, say).

    Raises:
        ConfigError: an unknown key, a wrong type or a value out of range, by its full dotted name.
    """
    return build_settings(settings_class, read_settings(path, overrides, defaults))


def read_settings(
    path: str | Path | None = None, overrides: Sequence[str] = (), defaults: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The nested mapping that `load_settings` builds from; nothing in it is checked yet.

    A file's `include:` names others, whose keys stand under its own; see `setting_files.read_yaml`.

    Raises:
        ConfigError: the file cannot be read as sections with keys, or an override is none.
    """
    tree: dict[str, Any] = {}
    for key, value in (defaults or {}).items():
        _assign(tree, key, value)
    if path is not None:
        merge(tree, read_yaml(Path(path)))
    for text in overrides:
        key, value = parse_override(text)
        _assign(tree, key, value)
    return tree


def build_settings(settings_class: type[S], tree: Mapping[str, Any], prefix: str = "") -> S:
    """Build `settings_class` from a nested mapping, checked as `load_settings` does; `prefix` leads names in errors."""
    _refuse_unknown(settings_class, tree, prefix, setting_names(settings_class, prefix))
    config = dacite.Config(strict=True, type_hooks={float: _to_float})
    try:
        settings = dacite.from_dict(settings_class, _tupled(tree), config)
    except dacite.WrongTypeError as error:
        name = f"{prefix}{error.field_path}"
        elements = wrong_elements(error.value, error.field_type)
        value, sign = (elements[0], "holds") if elements else (error.value, "=")
        value = _listed(value)
        raise ConfigError(
            f"{name} {sign} {value!r}{',' if elements else ' is'} of type {type(value).__name__}; "
            f"expected {type_name(error.field_type)}"
        ) from error
    except dacite.DaciteError as error:
        raise ConfigError(f"the configuration cannot be read: {error}") from error
    check_settings(settings, prefix)
    return settings


def build_setting(settings_class: Any, name: str, value: Any) -> Any:
    """One setting's value, held to the type and the limits of its field, whatever the other settings are.

    Args:
        name: dotted, such as `training.lr`.

    Raises:
        ConfigError: the setting is unknown, or the value is of another type or out of range.
    """
    if name not in setting_names(settings_class):
        raise ConfigError(f"{name} is not a setting; {nearest_setting(name, setting_names(settings_class))}")
    section, dot, leaf = name.rpartition(".")
    return getattr(build_settings(_one_setting(settings_class, name), {leaf: value}, section + dot), leaf)


def check_settings(settings: Any, prefix: str = "") -> None:
    """Hold every field of a settings object to the limits in its metadata.

    Raises:
        ConfigError: the first value out of range, by its full dotted name.
    """
    for field in dataclasses.fields(settings):
        name, value = prefix + field.name, getattr(settings, field.name)
        if dataclasses.is_dataclass(value):
            check_settings(value, name + ".")
        elif value is not None:
            if isinstance(value, tuple) and not value and field.metadata.get("not_empty"):
                raise ConfigError(f"{name} = [] is empty; expected at least one value")
            for element in value if isinstance(value, tuple) else (value,):
                if isinstance(element, bool) and not allows_bool(field.type):  # to Python, true is also the number 1
                    raise ConfigError(f"{name} = {element!r} is of type bool; expected {type_name(field.type)}")
                check_limits(name, element, field.metadata)
                if isinstance(element, float) and not math.isfinite(element):
                    raise ConfigError(f"{name} = {value!r} is not finite; expected a number")


def settings_to_dict(settings: Any) -> dict[str, Any]:
    """The complete, resolved settings as plain dicts, lists and scalars (what `config.yaml` holds)."""
    plain = _listed(dataclasses.asdict(settings))
    assert isinstance(plain, dict)
    return plain


def parse_override(text: str) -> tuple[str, Any]:
    """Split `"a.b=value"` into its dotted key and its value, read as YAML."""
    key, equals, raw = text.partition("=")
    if not equals or not key.strip():
        what = "no key" if equals else "no '='"
        raise ConfigError(f"override {text!r} has {what}; expected section.key=value, such as training.lr=0.01")
    try:
        return key.strip(), yaml.safe_load(raw)
    except yaml.YAMLError as error:
        raise ConfigError(f"override {text!r} has a value that is not YAML: {first_line(error)}") from error


@functools.cache
def _one_setting(settings_class: Any, name: str) -> Any:
    """A class of settings with one of another's fields."""
    section, _, leaf = name.rpartition(".")
    fields = dataclasses.fields(setting_type(settings_class, section) if section else settings_class)
    metadata = next(field.metadata for field in fields if field.name == leaf)
    alone = (leaf, setting_type(settings_class, name), dataclasses.field(metadata=metadata))
    return dataclasses.make_dataclass("OneSetting", [alone], frozen=True)


def _assign(tree: dict[str, Any], key: str, value: Any) -> None:
    *sections, leaf = key.split(".")
    for depth, section in enumerate(sections):
        node = tree.setdefault(section, {})
        if not isinstance(node, dict):
            raise ConfigError(f"{'.'.join(sections[: depth + 1])} = {node!r} is a value; {key} cannot stand below it")
        tree = node
    tree[leaf] = value


def _listed(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _listed(element) for key, element in value.items()}
    if isinstance(value, (list, tuple)):
        return [_listed(element) for element in value]
    return value


def _tupled(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _tupled(element) for key, element in value.items()}
    if isinstance(value, (list, tuple)):
        return tuple(_tupled(element) for element in value)
    return value


def _to_float(value: Any) -> Any:
    """YAML reads `1e-5` as text and `1` as an integer; both are numbers to a person."""
    if isinstance(value, bool):
        return value
    if isinstance(value, int):
        return float(value)
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


def _refuse_unknown(
    settings_class: Any, tree: Mapping[str, Any], prefix: str, known: Mapping[str, tuple[str, ...]]
) -> None:
    hints = typing.get_type_hints(settings_class)
    for key, value in tree.items():
        name = f"{prefix}{key}"
        if key not in hints:
            raise ConfigError(f"{name} = {_listed(value)!r} is not a setting; {nearest_setting(name, known)}")
        if dataclasses.is_dataclass(hints[key]):
            if not isinstance(value, Mapping):
                raise ConfigError(f"{name} = {value!r} is a section; expected keys below it")
            _refuse_unknown(hints[key], value, name + ".", known)
