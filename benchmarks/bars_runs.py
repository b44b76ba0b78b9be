"""One run of BARS' settings: what it is to be, what its folder says that it is, and the training between."""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from bars_published import SETS, split_name

from deepfm.config import DataConfig, ExperimentConfig, load_config
from deepfm.engine.run import RunFolder
from deepfm.engine.settings import settings_to_dict
from deepfm.errors import DeepFMError, RunError

ROOT = Path(__file__).resolve().parent.parent
PLACES = ("data.data_dir", "data.table_schema", "device", "output_dir")  # where a run is, not what it is


@dataclass(frozen=True)
class Job:
    """A run to be done.

    Args:
        folder: its run folder.
        config: what it is.
        threads: of torch.
    """

    folder: Path
    config: ExperimentConfig
    threads: int


@dataclass(frozen=True)
class Finished:
    """A finished run as its folder has it.

    Args:
        results: its `results.json`.
        changed: the settings that are not those of `configs/bars`.
        parameters: of its model.
    """

    results: dict[str, Any]
    changed: tuple[str, ...]
    parameters: int


def configure(name: str, seed: int, data_dir: Path | None = None, overrides: Sequence[str] = ()) -> ExperimentConfig:
    """A shipped configuration with a seed, and where its files are."""
    path = ROOT / "configs" / "bars" / f"{name}.yaml"
    schema = path.parent / "schemas" / Path(load_config(path).data.table_schema or "").name
    own = [f"data.table_schema={schema}", f"seed={seed}"]
    if data_dir is not None:
        own.append(f"data.data_dir={data_dir / SETS[split_name(name)[1]]}")
    return load_config(path, [*own, *overrides])


@cache
def data_hash(data: DataConfig) -> str:
    """The `data.hash` that a run on these files has."""
    from deepfm.data.tables.adapter import TableAdapter

    return TableAdapter(data.data_dir, data).info.hash


def changes(run: RunFolder, wanted: ExperimentConfig) -> list[str]:
    """What of a run's settings, its places aside, is not as wanted."""
    from deepfm.data.tables.schema import TableSchema
    from deepfm.training.experiment import run_config

    own, other = _flat(run_config(run)), _flat(wanted)
    changed = [f"{key}={value}" for key, value in own.items() if value != other[key]]
    if TableSchema.load(run.table_schema) != TableSchema.load(wanted.data.table_schema or ""):
        changed.append("another table schema")
    return changed


def _flat(config: ExperimentConfig) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in settings_to_dict(config).items():
        flat |= {f"{key}.{name}": one for name, one in value.items()} if isinstance(value, dict) else {key: value}
    return {key: value for key, value in flat.items() if key not in PLACES}


def train_one(job: Job) -> None:
    """Train or resume one run; leave a finished one.

    Raises:
        RunError: the folder holds a run of other settings or files.
    """
    from deepfm.training.experiment import resume_experiment, train_experiment

    run = RunFolder(job.folder)
    if not (run.finished or run.checkpoint.exists()):
        train_experiment(job.config, run, overwrite=True)
        return
    changed = changes(run, job.config)
    if run.finished and run.read_results()["data"]["hash"] != data_hash(job.config.data):
        changed.append("other files")
    if changed:
        raise RunError(
            f"{run.path} holds a run with {', '.join(changed)}; expected the settings and files of this command, so "
            "choose another --out or remove the folder"
        )
    if not run.finished:
        resume_experiment(run)


def run_one(job: Job) -> tuple[Path, str]:
    """A run's folder, and what stopped it; empty where nothing did."""
    import torch

    from deepfm.utils.logging import configure_console

    torch.set_num_threads(job.threads)
    configure_console(quiet=True)
    try:
        train_one(job)
    except DeepFMError as error:
        return job.folder, str(error)
    return job.folder, ""


def finished(out: Path, name: str) -> Iterator[Finished]:
    """The finished runs of a configuration; one that cannot be read is told and left out."""
    for folder in sorted((out / name).glob("s*")):
        run = RunFolder(folder)
        if not (run.finished and folder.name[1:].isdecimal()):
            continue
        try:
            changed = changes(run, configure(name, int(folder.name[1:])))
            yield Finished(run.read_results(), tuple(changed), parameters_of(run))
        except DeepFMError as error:
            print(f"not in the table: {error}", file=sys.stderr, flush=True)


def parameters_of(run: RunFolder) -> int:
    """The parameters of a run's model, built from its folder."""
    import torch

    from deepfm.data.schema import DatasetSchema
    from deepfm.models import create_model
    from deepfm.training.experiment import run_config

    config = run_config(run)
    with torch.device("meta"):
        model = create_model(config.model_name, DatasetSchema.load(run.schema), config)
    return sum(weight.numel() for weight in model.parameters())
