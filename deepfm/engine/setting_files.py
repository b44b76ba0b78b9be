"""The YAML files that settings come from, and what they include."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from deepfm.errors import ConfigError

INCLUDE = "include"


def read_yaml(path: Path, included_by: tuple[Path, ...] = ()) -> dict[str, Any]:
    """The sections of a file, its own keys above those of the files that it includes.

    `include:` holds a file's path, or several, each relative to the file that names it. They are read in order, the
    later above the earlier, and may include others.

    Args:
        path: the file.
        included_by: the files that lead to it, the first one first.

    Raises:
        ConfigError: a file is missing, cannot be read as sections with keys, or includes itself.
    """
    place = path.resolve()
    if place in (file.resolve() for file in included_by):
        way = " → ".join(str(file) for file in (*included_by, path))
        raise ConfigError(f"configuration file {path} includes itself ({way}); take one include: away")
    own = _read_file(path, included_by)
    tree: dict[str, Any] = {}
    for name in _included(own.pop(INCLUDE, ()), path):
        merge(tree, read_yaml(path.parent / name, (*included_by, path)))
    merge(tree, own)
    return tree


def merge(tree: dict[str, Any], other: Mapping[str, Any]) -> None:
    """Lay another tree over `tree`, section by section."""
    for key, value in other.items():
        if isinstance(value, dict) and isinstance(tree.get(key), dict):
            merge(tree[key], value)
        else:
            tree[key] = value


def first_line(error: Exception) -> str:
    """What an error of YAML says, on one line."""
    return " ".join(str(error).split())[:200]


def _read_file(path: Path, included_by: tuple[Path, ...]) -> dict[str, Any]:
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        hint = f"{included_by[-1]} includes it" if included_by else "see configs/ for those that ship"
        raise ConfigError(f"configuration file {path} does not exist; {hint}") from error
    except OSError as error:
        raise ConfigError(f"configuration file {path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"configuration file {path} is not UTF-8 text") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"configuration file {path} is not YAML: {first_line(error)}") from error
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise ConfigError(f"configuration file {path} holds a {type(tree).__name__}; expected sections with keys")
    return tree


def _included(names: Any, path: Path) -> list[str]:
    listed = [names] if isinstance(names, str) else names
    if not isinstance(listed, (list, tuple)) or not all(isinstance(name, str) and name for name in listed):
        raise ConfigError(f"include: {names!r} in {path} names no file; expected a path or a list of paths")
    return list(listed)
