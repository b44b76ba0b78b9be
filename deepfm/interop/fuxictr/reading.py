"""FuxiCTR's two YAML files, merged as FuxiCTR merges them; nothing in them is ever run."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from deepfm.engine.settings import nearest
from deepfm.errors import ConfigError

BASE = "Base"


@dataclass(frozen=True)
class Experiment:
    """One experiment of FuxiCTR.

    Args:
        expid: its name in model_config.yaml.
        dataset_id: its data set's name in dataset_config.yaml.
        settings: FuxiCTR's keys: those of `Base`, beaten by the experiment's, beaten by the data set's.
        dataset_config, model_config: where they were read from.
    """

    expid: str
    dataset_id: str
    settings: Mapping[str, Any]
    dataset_config: Path
    model_config: Path


def read_experiment(dataset_config: str | Path, model_config: str | Path, expid: str | None) -> Experiment:
    """Read an experiment.

    Args:
        dataset_config: FuxiCTR's dataset_config.yaml.
        model_config: FuxiCTR's model_config.yaml.
        expid: the experiment; None only to learn the names from the error.

    Raises:
        ConfigError: a file cannot be read or holds code, or there is no such experiment or data set; the nearest names
            are given.
    """
    dataset_path, model_path = Path(dataset_config), Path(model_config)
    experiments, datasets = _read(model_path), _read(dataset_path)
    names = [name for name in experiments if name != BASE]
    if not names:
        raise ConfigError(f"{model_path} holds no experiment beside {BASE!r}; expected an expid with keys below it")
    if expid is None:
        raise ConfigError(f"--expid is missing; {model_path} holds {', '.join(names)}")
    if expid not in names:
        raise ConfigError(f"--expid {expid} is not in {model_path}; {nearest(expid, names)}")
    settings = {**_section(experiments, BASE, model_path), **_section(experiments, expid, model_path)}
    if settings.get("dataset_id") is None:
        raise ConfigError(f"experiment {expid!r} names no dataset_id; {dataset_path} holds {', '.join(datasets)}")
    dataset_id = str(settings["dataset_id"])
    if dataset_id not in datasets:
        raise ConfigError(
            f"dataset_id {dataset_id!r} of experiment {expid!r} is not in {dataset_path}; "
            f"{nearest(dataset_id, list(datasets))}"
        )
    settings = {**settings, **_section(datasets, dataset_id, dataset_path), "dataset_id": dataset_id}
    return Experiment(expid, dataset_id, settings, dataset_path, model_path)


class _Loader(yaml.SafeLoader):
    """Plain YAML, and the tuples in which FuxiCTR's sequence models group fields."""


def _tuple(loader: _Loader, node: yaml.SequenceNode) -> tuple[Any, ...]:
    return tuple(loader.construct_sequence(node, deep=True))


_Loader.add_constructor("tag:yaml.org,2002:python/tuple", _tuple)


def _read(path: Path) -> dict[str, Any]:
    try:
        tree = _Loader(path.read_text(encoding="utf-8")).get_single_data()
    except FileNotFoundError as error:
        raise ConfigError(f"{path} does not exist; expected one of FuxiCTR's YAML files") from error
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8 text; expected one of FuxiCTR's YAML files") from error
    except yaml.constructor.ConstructorError as error:
        raise ConfigError(
            f"{path} holds what is not plain YAML, and is not run: {error.problem}; write it as plain values"
        ) from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(tree, dict) or not tree:
        raise ConfigError(f"{path} holds {'nothing' if tree is None else type(tree).__name__}; expected named sections")
    return {str(name): section for name, section in tree.items()}


def _section(tree: Mapping[str, Any], name: str, path: Path) -> dict[str, Any]:
    section = tree.get(name)
    if section is None:
        return {}
    if not isinstance(section, dict):
        raise ConfigError(f"{name!r} in {path} is {section!r}; expected keys below it")
    return {str(key): value for key, value in section.items()}
