"""An experiment of FuxiCTR as a configuration and a table schema, checked and written."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from deepfm.config import ExperimentConfig
from deepfm.data.tables.schema import TableSchema
from deepfm.engine.settings import build_settings
from deepfm.errors import ConfigError
from deepfm.interop.fuxictr.column_kinds import Surroundings
from deepfm.interop.fuxictr.columns import read_schema
from deepfm.interop.fuxictr.files import Files
from deepfm.interop.fuxictr.forms import Section
from deepfm.interop.fuxictr.keys import Findings, Keys, close_to
from deepfm.interop.fuxictr.models import MODELS, read_model
from deepfm.interop.fuxictr.reading import Experiment
from deepfm.interop.fuxictr.training import read_training
from deepfm.utils.io import write_text

EMBEDDING_DIM = 10  # FuxiCTR's default
NO_EFFECT = (
    "dataset_id",
    "debug",
    "debug_mode",
    "feature_config",
    "gpu",
    "model_id",
    "model_root",
    "num_workers",
    "partition_block_size",
    "pickle_feature_encoder",
    "use_hdf5",
    "verbose",
    "version",
    "workers",
)  # where things are put and how fast they go


@dataclass(frozen=True)
class Translation:
    """What an experiment is here.

    Args:
        experiment: where it came from.
        config: the configuration, section by section, without the name of the table schema.
        schema: the table schema.
        findings: what to tell.
    """

    experiment: Experiment
    config: dict[str, Any]
    schema: dict[str, Any]
    findings: Findings = field(default_factory=Findings)

    def write(self, folder: str | Path, *, overwrite: bool = False) -> tuple[Path, Path]:
        """Write both as YAML, named after the experiment.

        Returns:
            the configuration's path and the table schema's.

        Raises:
            ConfigError: a file is there and `overwrite` is not set.
            RunError: the folder cannot be written to.
        """
        stem = re.sub(r"[^\w.+-]", "_", self.experiment.expid).lstrip(".") or "experiment"
        paths = Path(folder, f"{stem}.yaml"), Path(folder, f"{stem}.schema.yaml")
        for path in paths:
            if path.exists() and not overwrite:
                raise ConfigError(f"{path} exists; choose another folder, or replace it with --overwrite")
        config_path, schema_path = paths
        data = {"dataset_name": "table", "table_schema": str(schema_path.resolve()), **self.config["data"]}
        config = {key: data if key == "data" else value for key, value in self.config.items()}
        write_text(schema_path, self._head("the table schema") + _dump(_inline_columns(self.schema)))
        write_text(config_path, self._head("the configuration") + _dump(config))
        return paths

    def _head(self, what: str) -> str:
        source = self.experiment
        lines = [
            f"{what[0].upper()}{what[1:]} of FuxiCTR's experiment {source.expid}, data set {source.dataset_id}, as "
            f"deepfm import-fuxictr made it of",
            f"{source.model_config} and {source.dataset_config}.",
            *(f"Other than FuxiCTR's: {difference}" for difference in self.findings.differences),
        ]
        return "".join(f"# {' '.join(line.split())}\n" for line in lines)


def translate(experiment: Experiment, *, root: Path | None = None, nearest_form: bool = False) -> Translation:
    """Translate an experiment.

    Args:
        root: the folder that relative paths of the data set start from; None to look for it, see `Files`.
        nearest_form: write what has no equal here in its nearest form, where it has one.

    Raises:
        ConfigError: a key means what has no equal here, or is unknown; all are named at once.
        DataError: a file that has to be looked into cannot be read.
    """
    findings = Findings(nearest_form)
    keys = Keys(experiment.settings, findings)
    form = read_model(keys)
    if form is None:
        raise findings.error(experiment.expid)
    if form.note:
        findings.notes.append(f"model = {form.name!r}: {form.note}")
    sections, whole = read_training(keys, form.name)
    width = EMBEDDING_DIM if form.name == "LR" else keys.whole("embedding_dim", EMBEDDING_DIM)
    files = Files(keys, experiment, root)
    schema = read_schema(keys, Surroundings(form, width, keys.whole("min_categr_count", 1), files))
    _name_left(keys, form.name)
    if findings.refusals:
        raise findings.error(experiment.expid)
    widths = {column["embedding_dim"] for column in schema["columns"].values()}
    own: Section = {}
    if len(widths) == 1:  # the configuration's, as in FuxiCTR; else the columns keep theirs
        own = {"embedding_dim": min(widths)}
        for column in schema["columns"].values():
            del column["embedding_dim"]
    feature: Section = {"fm_embed_dim": width, **own, "projection": "none", **sections["feature"]}
    config = {
        "model_name": form.model_name,
        **whole,
        "data": files.section(),
        "feature": feature,
        **form.sections,
        "training": sections["training"],
    }
    build_settings(ExperimentConfig, {**config, "data": {"dataset_name": "table", **config["data"]}})
    TableSchema.from_dict(schema)
    return Translation(experiment, config, schema, findings)


def _name_left(keys: Keys, model: str) -> None:
    """Name every key that nobody has taken: without effect, of another model, or unknown."""
    keys.no_effect(*NO_EFFECT)
    known, others = frozenset(keys.understood), _keys_of_models() if keys.left else set()
    for name in keys.left:
        if keys.values[name] is None:
            keys.no_effect(name)
            continue
        keys.take(name)
        if name in others:
            keys.note(name, f"FuxiCTR's {model} does not read it, and it is not used{close_to(name, known)}")
        else:
            keys.refuse(name, f"is unknown{close_to(name, known)}")


def _keys_of_models() -> set[str]:
    """The keys that any model reads."""
    found = {"regularizer", "embedding_regularizer", "net_regularizer", "embedding_dim", "embedding_dropout"}
    for read in MODELS.values():
        for structure in ("parallel", "stacked"):
            keys = Keys({"model_structure": structure}, Findings())
            read(keys)
            found |= keys.understood
    return found


class _Inline(dict[str, Any]):
    """A mapping that is written on one line."""


class _Dumper(yaml.SafeDumper):
    """Sections below each other, lists and columns on one line."""


def _inline_columns(schema: dict[str, Any]) -> dict[str, Any]:
    return {**schema, "columns": {name: _Inline(column) for name, column in schema["columns"].items()}}


def _dump(tree: dict[str, Any]) -> str:
    text: str = yaml.dump(tree, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)
    return text


_Dumper.add_representer(
    _Inline, lambda dumper, data: dumper.represent_mapping("tag:yaml.org,2002:map", data.items(), flow_style=True)
)
_Dumper.add_representer(
    list, lambda dumper, data: dumper.represent_sequence("tag:yaml.org,2002:seq", data, flow_style=True)
)
