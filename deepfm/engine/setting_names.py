"""What settings are called, and which of them somebody meant."""

import dataclasses
import difflib
import typing
from collections.abc import Mapping, Sequence
from functools import cache
from types import MappingProxyType
from typing import Any


def setting_names(settings_class: Any, prefix: str = "") -> Mapping[str, tuple[str, ...]]:
    """Each setting's dotted name, with the other names that people know it by."""
    return _names(settings_class, prefix)


@cache
def setting_type(settings_class: Any, name: str) -> Any:
    """The type of a setting or a section, by its dotted name."""
    for part in name.split("."):
        settings_class = typing.get_type_hints(settings_class)[part]
    return settings_class


def nearest(name: str, known: Sequence[str]) -> str:
    """A hint that names the closest known word, or lists them all where none is close."""
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else "known: " + ", ".join(known)


def nearest_setting(name: str, known: Mapping[str, tuple[str, ...]]) -> str:
    """The closest dotted name; a key written without its section, or by another library's name, is found by that."""
    leaf = name.rsplit(".", 1)[-1]
    same_leaf = [other for other, also in known.items() if leaf in (other.rsplit(".", 1)[-1], *also)]
    section = [other for other in known if other.rsplit(".", 1)[0] == name.rsplit(".", 1)[0]]
    close = (
        same_leaf
        or difflib.get_close_matches(name, section, n=1, cutoff=0.5)
        or difflib.get_close_matches(name, known, n=1, cutoff=0.4)
    )
    return f"did you mean {close[0]!r}?" if close else "known: " + ", ".join(known)


@cache
def _names(settings_class: Any, prefix: str) -> Mapping[str, tuple[str, ...]]:
    hints = typing.get_type_hints(settings_class)
    names: dict[str, tuple[str, ...]] = {}
    for field in dataclasses.fields(settings_class):
        if dataclasses.is_dataclass(hints[field.name]):
            names |= _names(hints[field.name], f"{prefix}{field.name}.")
        else:
            names[prefix + field.name] = field.metadata.get("also", ())
    return MappingProxyType(names)
