"""A zoo on disk: what is in its folder, and how it is opened."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from torch import Tensor

from deepfm.engine.settings import build_settings, settings_to_dict
from deepfm.errors import DataError, RunError
from deepfm.model_selection.catalogue import Catalogue
from deepfm.model_selection.outcomes import Outcomes
from deepfm.model_selection.zoo.model import ZooModel, load_states
from deepfm.model_selection.zoo.rows import Rows, TransferTask
from deepfm.model_selection.zoo.settings import BuildSettings
from deepfm.utils.io import load_arrays, save_arrays, write_text

VERSION = 1  # of the layout and of the recipe; another one's zoo is built again
STAGES = ("models", "tasks", "outcomes")


@dataclass(frozen=True)
class Layout:
    """Where the parts of a zoo lie in its folder."""

    folder: Path

    @property
    def manifest(self) -> Path:
        """The resolved settings, and which stages are done."""
        return self.folder / "zoo.yaml"

    @property
    def catalogue(self) -> Path:
        """The table of models."""
        return self.folder / "catalogue.parquet"

    @property
    def outcomes(self) -> Path:
        """The table of what they reached."""
        return self.folder / "outcomes.parquet"

    def weights(self, model: str) -> Path:
        """A model's weights."""
        return self.folder / "weights" / f"{model}.safetensors"

    def states(self, model: str) -> Path:
        """Further weights of a model's source and architecture."""
        return self.folder / "states" / f"{model}.safetensors"

    def task(self, name: str) -> Path:
        """A task's rows."""
        return self.folder / "tasks" / f"{name}.npz"


@dataclass(frozen=True)
class Manifest:
    """What `zoo.yaml` says.

    Args:
        settings: of the build.
        seed: of the build.
        stages: the key of each finished stage, by its name.
        version: of the layout.
    """

    settings: BuildSettings
    seed: int
    stages: Mapping[str, str] = field(default_factory=dict)
    version: int = VERSION

    def key(self, stage: str) -> str:
        """What a stage depends on, as a short hash; two builds with one key have the same files."""
        parts: dict[str, Any] = {"version": VERSION, "seed": self.seed}
        plain = settings_to_dict(self.settings)
        sections = {"models": ["models"], "tasks": ["tasks"], "outcomes": ["models", "tasks", "finetune"]}
        parts |= {section: plain[section] for section in sections[stage]}
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def recipe(self) -> str:
        """How models are fine-tuned, as a short hash: outcomes of unlike recipes are unlike metrics."""
        plain = settings_to_dict(self.settings)
        how = plain["finetune"] | {"version": VERSION, "shots": self.settings.tasks.shots}
        return hashlib.sha256(json.dumps(how, sort_keys=True).encode()).hexdigest()[:12]

    def has(self, stage: str) -> bool:
        """Whether a stage was finished with these settings."""
        return self.stages.get(stage) == self.key(stage)

    def with_stage(self, stage: str) -> "Manifest":
        """The same with one stage more done."""
        return dataclasses.replace(self, stages={**self.stages, stage: self.key(stage)})

    def save(self, layout: Layout) -> None:
        """Write it, whole or not at all."""
        plain = {"version": self.version, "seed": self.seed, "stages": dict(self.stages)}
        text = yaml.safe_dump(plain | {"settings": settings_to_dict(self.settings)}, sort_keys=False)
        write_text(layout.manifest, text)

    @classmethod
    def load(cls, layout: Layout) -> "Manifest":
        """Read it.

        Raises:
            DataError: it is missing, damaged or of another version.
            ConfigError: its settings are none of this version.
        """
        path = layout.manifest
        try:
            plain = yaml.safe_load(path.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise DataError(
                f"{layout.folder} is no zoo: it has no {path.name}; build one with deepfm zoo build"
            ) from error
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise DataError(f"{path} cannot be read as YAML; delete the zoo and build it again") from error
        names = ("version", "seed", "stages", "settings")
        if not isinstance(plain, dict) or any(name not in plain for name in names):
            raise DataError(f"{path} is damaged; expected {', '.join(names)}; delete the zoo and build it again")
        if plain["version"] != VERSION:
            raise DataError(
                f"the zoo {layout.folder} is of version {plain['version']!r}; expected {VERSION}; "
                "delete it and build it again"
            )
        return cls(build_settings(BuildSettings, plain["settings"]), plain["seed"], plain["stages"] or {})


@dataclass(frozen=True, eq=False)
class Zoo:
    """A zoo that was built: its models, its tasks and every outcome.

    Args:
        layout: where it lies.
        manifest: what it was built with.
        catalogue: the models.
        outcomes: what they reached.
    """

    layout: Layout
    manifest: Manifest
    catalogue: Catalogue
    outcomes: Outcomes

    @classmethod
    def open(cls, folder: str | Path) -> "Zoo":
        """Open a folder that `build_zoo` filled.

        Raises:
            DataError: it is no zoo, is half built, is of another version, or a table is damaged.
        """
        layout = Layout(Path(folder))
        manifest = Manifest.load(layout)
        missing = [stage for stage in STAGES if not manifest.has(stage)]
        if missing:
            raise DataError(
                f"the zoo {folder} is half built: its {missing[0]} are missing or of other settings; "
                "run deepfm zoo build on the folder again, which goes on where it ended"
            )
        return cls(layout, manifest, Catalogue.load(layout.catalogue), Outcomes.load(layout.outcomes))

    @property
    def folder(self) -> Path:
        """Where it lies."""
        return self.layout.folder

    @property
    def settings(self) -> BuildSettings:
        """What it was built with."""
        return self.manifest.settings

    @property
    def seed(self) -> int:
        """What it was built with."""
        return self.manifest.seed

    @property
    def tasks(self) -> tuple[str, ...]:
        """The names of the tasks."""
        return self.settings.tasks.names

    def model(self, name: str) -> ZooModel:
        """A model with its weights.

        Raises:
            DataError: the catalogue has it not, or its weights are missing or damaged.
        """
        return ZooModel.load(self.catalogue.weights_of(name))

    def states(self, name: str) -> list[dict[str, Tensor]]:
        """Weights of a model's source and architecture that no outcome belongs to.

        Raises:
            DataError: the catalogue has the model not, or the file is missing or damaged.
        """
        self.catalogue.row(name)
        return load_states(self.layout.states(name))[0]

    def task(self, name: str) -> TransferTask:
        """A task with its rows.

        Raises:
            DataError: the zoo has it not, or its file is missing or damaged.
        """
        if name not in self.tasks:
            raise DataError(f"the zoo {self.folder} has no task {name!r}; expected one of {', '.join(self.tasks)}")
        return load_task(self.layout.task(name), name)


def save_task(path: Path, task: TransferTask) -> None:
    """Write a task as `.npz`, whole or not at all."""
    save_arrays(
        path,
        {
            "train_images": task.pool.images,
            "train_labels": task.pool.labels,
            "test_images": task.test.images,
            "test_labels": task.test.labels,
            "classes": np.asarray(task.classes, dtype=np.str_),
            "shots": task.shots,
        },
    )


def load_task(path: Path, name: str) -> TransferTask:
    """Read what `save_task` wrote.

    Raises:
        DataError: the file is missing or damaged.
    """
    try:
        arrays = load_arrays(path, "task")
        classes = tuple(str(one) for one in arrays["classes"])
        pool, test = (Rows(arrays[f"{part}_images"], arrays[f"{part}_labels"], classes) for part in ("train", "test"))
        return TransferTask(name, pool, test, arrays["shots"])
    except (RunError, KeyError) as error:
        raise DataError(f"the task {path} is missing or damaged; delete the zoo and build it again") from error
