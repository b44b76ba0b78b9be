"""The data sets there are, by the name that `data.dataset_name` has; each module is imported when it is asked for.

A name is one of the package's own, one that `register` was given, or `module:callable` of anybody's.
"""

import importlib
import inspect
from collections.abc import Callable
from typing import Any

from deepfm.config import DataConfig
from deepfm.data.adapter import Adapter
from deepfm.engine.run import RunFolder
from deepfm.engine.settings import nearest
from deepfm.errors import ConfigError

Factory = Callable[..., Adapter]
"""`factory(config, *, seed, max_history, run)`, with the `data` section, the run's seed, the longest behaviour history
that the model reads (0 for none), and the run whose data are seen again (None for a new one)."""

_MOVIELENS = "deepfm.data.adapters.movielens:open_movielens"
_VERSIONS = ("", "_1m", "_latest_small", "_20m", "_25m", "_32m")
_INTERACTIONS: dict[str, str | Factory] = {f"movielens{version}": _MOVIELENS for version in _VERSIONS}
_TABLES: dict[str, str | Factory] = {
    "table": "deepfm.data.adapters.tables:open_table",
    "criteo_kaggle": "deepfm.data.adapters.criteo:open_kaggle",
    "criteo_x1": "deepfm.data.adapters.criteo:open_x1",
    "criteo_x4": "deepfm.data.adapters.criteo:open_x4",
    "criteo_x4_002": "deepfm.data.adapters.criteo:open_x4_002",
    "avazu": "deepfm.data.adapters.avazu:open_kaggle",
    "avazu_x4": "deepfm.data.adapters.avazu:open_x4",
    "avazu_x4_002": "deepfm.data.adapters.avazu:open_x4_002",
    "frappe": "deepfm.data.adapters.frappe:open_log",
    "frappe_x1": "deepfm.data.adapters.frappe:open_x1",
}
_PREPARED = {
    **dict.fromkeys(("criteo_kaggle", "criteo_x4", "criteo_x4_002"), "deepfm.data.adapters.criteo:fill_counts"),
    **dict.fromkeys(("avazu", "avazu_x4", "avazu_x4_002"), "deepfm.data.adapters.avazu:expand_hour"),
}
_REGISTERED: dict[str, str | Factory] = {}
_ASKED_FOR = ("info", "encoders", "candidates", "has_candidates", "build", "save", "protocol")


def register(name: str, factory: str | Factory) -> None:
    """Give an adapter a name for this process.

    Args:
        name: what `data.dataset_name` will be.
        factory: see `Factory`; a function or a class, or `"module:callable"`, imported when the name is asked for.

    Raises:
        ConfigError: the name is taken, or holds a colon.

    Example:
        >>> register("clicks", "my_package.data:ClicksAdapter")
        >>> "clicks" in dataset_names()
        True
    """
    if not name or ":" in name:
        raise ConfigError(f"data set name {name!r} cannot be registered; expected a name without a colon")
    if _known().get(name, factory) != factory:
        raise ConfigError(f"data set name {name!r} is taken; choose another")
    _REGISTERED[name] = factory


def dataset_names() -> list[str]:
    """The names that are known, the package's own first."""
    return list(_known())


def find_factory(name: str) -> Factory:
    """What opens the data set of a name.

    Raises:
        ConfigError: the name is unknown, or the module or what it should hold is not there.
    """
    target = name if ":" in name else _known().get(name)
    if target is None:
        hint = nearest(name, dataset_names())
        raise ConfigError(f"data.dataset_name = {name!r} is unknown; {hint}, or give your own as module:callable")
    if not isinstance(target, str):
        return target
    module_name, _, attribute = target.partition(":")
    try:
        module = importlib.import_module(module_name)
    except (ImportError, ValueError) as error:
        raise ConfigError(
            f"data.dataset_name = {name!r} cannot be imported: {error}; expected a module that Python finds (see "
            "PYTHONPATH), a colon and what it holds"
        ) from error
    factory = getattr(module, attribute, None)
    if not callable(factory):
        raise ConfigError(
            f"data.dataset_name = {name!r}: module {module_name} holds no {attribute!r} that can be called; expected "
            "an adapter's class or a function that returns one"
        )
    return factory


def ranks_candidates(name: str) -> bool | None:
    """Whether evaluation ranks candidates, as the ranking metrics need; None where only the opened adapter knows.

    Raises:
        ConfigError: as `find_factory`.
    """
    if name in _INTERACTIONS or name in _TABLES:
        return name in _INTERACTIONS
    answer = getattr(find_factory(name), "has_candidates", None)
    return None if answer is None else bool(answer)


def kept_files(name: str) -> tuple[str, ...]:
    """What a run keeps of its data, as names of `RunFolder`'s files."""
    if name in _TABLES:
        return "encoders", "table_schema"
    return ("encoders", "candidates") if ranks_candidates(name) else ("encoders",)


def preparation(name: str) -> Callable[..., Any] | None:
    """What raw rows of a data set go through before its schema describes them; None where nothing is done.

    It is called with a lazy polars frame, what errors call the rows, and how many rows came before.
    """
    if name not in _PREPARED:
        return None
    module_name, _, attribute = _PREPARED[name].partition(":")
    return getattr(importlib.import_module(module_name), attribute)


def open_adapter(config: DataConfig, *, seed: int = 42, max_history: int = 0, run: RunFolder | None = None) -> Adapter:
    """The adapter that a configuration names.

    Args:
        config: the `data` section.
        seed: of the run.
        max_history: the longest behaviour history that the model reads; 0 for none.
        run: a finished or interrupted run whose data are seen again.

    Raises:
        ConfigError: the name is unknown, or what it names opens no adapter.
        DataError: the data are missing, damaged or foreign.
    """
    name = config.dataset_name
    factory = find_factory(name)
    given: dict[str, Any] = {"seed": seed, "max_history": max_history, "run": run}
    try:
        inspect.signature(factory).bind(config, **given)
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"data.dataset_name = {name!r} cannot be called as (config, *, seed, max_history, run): {error}; give it "
            "these arguments"
        ) from error
    adapter = factory(config, **given)
    missing = [part for part in _ASKED_FOR if not hasattr(adapter, part)]
    if missing:
        raise ConfigError(
            f"data.dataset_name = {name!r} gave a {type(adapter).__name__} without {', '.join(missing)}; expected an "
            "adapter, as docs/adapters.md describes it"
        )
    return adapter


def _known() -> dict[str, str | Factory]:
    return {**_INTERACTIONS, **_TABLES, **_REGISTERED}
