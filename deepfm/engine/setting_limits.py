"""What a setting may be, and how an error says so."""

import difflib
import types
import typing
from collections.abc import Mapping
from typing import Any

from deepfm.errors import ConfigError


def allows_bool(kind: Any) -> bool:
    """Whether a type has room for true and false, which to Python are also numbers."""
    return kind in (bool, Any) or any(map(allows_bool, typing.get_args(kind)))


def type_name(kind: Any) -> str:
    """A type as people say it."""
    if isinstance(kind, types.UnionType) or typing.get_origin(kind) is typing.Union:
        return " or ".join("none" if part is type(None) else type_name(part) for part in typing.get_args(kind))
    if typing.get_origin(kind) is tuple:
        inner = typing.get_args(kind)[0]
        return "a list" if typing.Any in (inner, *typing.get_args(inner)) else f"a list, each {type_name(inner)}"
    return {"int": "a whole number", "float": "a number", "str": "text", "bool": "true or false"}.get(
        getattr(kind, "__name__", ""), str(kind)
    )


def wrong_elements(value: Any, kind: Any) -> list[Any]:
    """The elements of a list that are not of the one plain type that `kind` gives them; none for anything else."""
    inner = next(iter(typing.get_args(kind)), None)
    if typing.get_origin(kind) is not tuple or not isinstance(value, tuple) or inner not in (int, float, str, bool):
        return []
    return [element for element in value if not isinstance(element, inner)]


def check_limits(name: str, value: Any, limits: Mapping[str, Any]) -> None:
    """Hold a value to the limits of a setting's metadata.

    Raises:
        ConfigError: it is out of range.
    """
    tests = {
        "choices": (lambda limit: value in limit, lambda limit: "one of " + ", ".join(map(str, limit))),
        "at_least": (lambda limit: value >= limit, lambda limit: f"at least {limit}"),
        "above": (lambda limit: value > limit, lambda limit: f"above {limit}"),
        "at_most": (lambda limit: value <= limit, lambda limit: f"at most {limit}"),
        "below": (lambda limit: value < limit, lambda limit: f"below {limit}"),
    }
    for kind, limit in limits.items():
        if kind not in tests:
            continue
        holds, describe = tests[kind]
        if not holds(limit):
            hint = ""
            if kind == "choices" and isinstance(value, str):
                close = difflib.get_close_matches(value, [str(choice) for choice in limit], n=1)
                hint = f"; did you mean {close[0]!r}?" if close else ""
            raise ConfigError(f"{name} = {value!r} is out of range; expected {describe(limit)}{hint}")
