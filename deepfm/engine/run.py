"""A run's folder: what is in it, and the rules for writing it."""

import json
import os
import platform
import subprocess
from collections.abc import Mapping
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from deepfm.errors import CheckpointError, RunError
from deepfm.utils.io import cannot_write, read_json, write_bytes, write_json, write_text

if TYPE_CHECKING:
    from torch import Tensor

RESULTS_VERSION = 1
RESULTS_KEYS = {  # section → what it must hold; "" is the file itself
    "": (
        *("kind", "model", "data", "protocol", "validation", "test"),
        *("best_epoch", "epochs", "seconds", "rows_per_second", "env"),
    ),
    "data": ("name", "hash", "source"),
}
FILES = {
    "config": "config.yaml",
    "schema": "schema.json",
    "encoders": "encoders.json",
    "candidates": "candidates.npz",
    "table_schema": "table_schema.yaml",
    "vocabularies": "vocabularies.parquet",
    "vectors": "vectors.parquet",
    "users": "users.parquet",
    "items": "items.parquet",
    "seen": "seen.parquet",
    "weights": "best.safetensors",
    "checkpoint": "last.ckpt",
    "metrics": "metrics.jsonl",
    "calibration": "calibration.json",
    "monitors": "monitors.json",
    "results": "results.json",
    "ranks": "ranks.npz",
    "log": "train.log",
    "report": "report.html",
    "explanation": "explain.html",
}
TABLES = (".csv", ".tsv", ".csv.gz", ".tsv.gz", ".parquet")


class RunFolder:
    """One run's folder; `run.weights`, `run.results` and so on are the paths of `FILES`.

    Args:
        path: the folder, which may not exist yet.

    Example:
        >>> RunFolder("outputs/mine").results
        PosixPath('outputs/mine/results.json')
    """

    config: Path
    schema: Path
    encoders: Path
    candidates: Path
    table_schema: Path
    vocabularies: Path
    vectors: Path
    users: Path
    items: Path
    seen: Path
    weights: Path
    checkpoint: Path
    metrics: Path
    calibration: Path
    monitors: Path
    results: Path
    ranks: Path
    log: Path
    report: Path
    explanation: Path

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        for name, file in FILES.items():
            setattr(self, name, self.path / file)

    def __repr__(self) -> str:
        return f"RunFolder({str(self.path)!r})"

    @property
    def finished(self) -> bool:
        """Whether the run has its final results."""
        return self.results.exists()

    def refuse_existing(self, overwrite: bool = False) -> "RunFolder":
        """Make sure that a new run would replace no other.

        Raises:
            RunError: the folder holds a run and `overwrite` is false, or no folder can be made there.
        """
        standing = next(place for place in (self.path, *self.path.absolute().parents) if place.exists())
        if not standing.is_dir() or not os.access(standing, os.W_OK):
            what = "is a folder that cannot be written" if standing.is_dir() else "is no folder"
            raise RunError(f"no run can be written to {self.path}: {standing} {what}; choose another output_dir")
        if not overwrite and (self.finished or self.checkpoint.exists()):
            what = "a finished run" if self.finished else "an unfinished run (continue it with --resume)"
            raise RunError(f"{self.path} already holds {what}; choose another output_dir or pass --overwrite")
        if self.path.is_dir():
            tables = [file.name for file in self.path.iterdir() if file.name.endswith(TABLES)]
            foreign = sorted(set(tables) - set(FILES.values()))
            if foreign and not self.config.exists():
                raise RunError(
                    f"{self.path} is no run and holds {foreign[0]}, a table that a run's files would stand beside; "
                    "choose another output_dir"
                )
        return self

    def create(self, overwrite: bool = False) -> "RunFolder":
        """Make the folder ready for a new run; call it when nothing else can go wrong any more.

        Args:
            overwrite: remove an earlier run's files; files that are not a run's stay.

        Raises:
            RunError: the folder holds a run and `overwrite` is false, or it cannot be written.
        """
        self.refuse_existing(overwrite)
        try:
            for file in FILES.values():
                (self.path / file).unlink(missing_ok=True)
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise cannot_write(self.path, error) from error
        return self

    def require(self, *names: str, writer: str = "deepfm train") -> "RunFolder":
        """Make sure that files are there; `writer` is the command that writes them.

        Raises:
            RunError: the folder or one of the files is not.
        """
        if not self.path.is_dir():
            raise RunError(f"run folder {self.path} does not exist; expected a folder that `{writer}` wrote")
        for name in names:
            file: Path = getattr(self, name)
            if not file.exists():
                raise RunError(f"{self.path} holds no {file.name}; expected a folder that `{writer}` wrote")
        return self

    def write_config(self, plain: Mapping[str, Any]) -> None:
        """Write the complete, resolved configuration."""
        write_text(self.config, yaml.safe_dump(dict(plain), sort_keys=False))

    def write_history(self, history: list[dict[str, Any]]) -> None:
        """Write `metrics.jsonl`, a line per epoch."""
        write_text(self.metrics, "".join(json.dumps(record, allow_nan=False) + "\n" for record in history))

    def read_history(self) -> list[dict[str, Any]]:
        """The epochs' records; none for a run without training."""
        if not self.metrics.exists():
            return []
        try:
            return [json.loads(line) for line in self.metrics.read_text(encoding="utf-8").splitlines()]
        except (OSError, ValueError) as error:
            raise RunError(f"{self.metrics} is damaged: {error}; remove it or train again") from error

    def write_results(self, results: Mapping[str, Any]) -> None:
        """Write `results.json`, which makes the run a finished one."""
        write_json(self.results, {"version": RESULTS_VERSION, **results})

    def read_results(self) -> dict[str, Any]:
        """What `write_results` wrote.

        Raises:
            RunError: there are none, or of another version.
        """
        results = read_json(self.results, "results file")
        if not isinstance(results, dict) or results.get("version") != RESULTS_VERSION:
            raise RunError(f"{self.results} is not of version {RESULTS_VERSION}; train again to write it")
        for section, keys in RESULTS_KEYS.items():
            part = results.get(section) if section else results
            missing = [key for key in keys if not isinstance(part, dict) or key not in part]
            if missing:
                raise RunError(
                    f"{self.results} has no {section}{'.' if section else ''}{missing[0]}; train again to write it"
                )
        return results

    def save_weights(self, weights: "Mapping[str, Tensor]", metadata: Mapping[str, str]) -> None:
        """Write the best weights with what they must agree on, as safetensors."""
        from safetensors.torch import save

        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
        write_bytes(self.weights, save(tensors, dict(metadata)))

    def load_weights(self, expected: Mapping[str, str]) -> "dict[str, Tensor]":
        """Read the best weights onto the CPU.

        Args:
            expected: metadata that must agree, such as the schema's hash.

        Raises:
            CheckpointError: the file is missing, damaged, or of another schema or model.
        """
        from safetensors import SafetensorError, safe_open

        if not self.weights.exists():
            raise CheckpointError(f"{self.path} holds no {self.weights.name}; train first, or name another run")
        try:
            with safe_open(str(self.weights), framework="pt") as file:
                metadata = file.metadata() or {}
                for what, own in expected.items():
                    if metadata.get(what) != own:
                        raise CheckpointError(
                            f"{self.weights} was trained with another {what}; give the run's own (data.data_dir=, or "
                            "data.table= of a table)"
                        )
                return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
        except (SafetensorError, OSError, ValueError) as error:
            raise CheckpointError(f"{self.weights} is truncated or damaged ({error}); train again") from error


def new_run_path(root: str | Path, name: str, seed: int) -> Path:
    """A folder that does not exist yet: `root/name/<time>-s<seed>`."""
    stem = f"{datetime.now():%Y%m%d-%H%M%S}-s{seed}"
    path, number = Path(root) / name / stem, 2
    while path.exists():
        path, number = path.with_name(f"{stem}-{number}"), number + 1
    return path


def latest_run(folder: str | Path, *, unfinished: bool = False) -> RunFolder:
    """The run at or below a folder whose weights, or whose checkpoint, are the newest.

    Args:
        unfinished: only runs that can be continued, by their checkpoint.

    Raises:
        RunError: there is none.
    """
    file = FILES["checkpoint" if unfinished else "weights"]
    newest_first = sorted(Path(folder).rglob(file), key=lambda path: path.stat().st_mtime, reverse=True)
    for path in newest_first:
        run = RunFolder(path.parent)
        if not (unfinished and run.finished):
            return run
    what = "unfinished run" if unfinished else f"run with a {file}"
    raise RunError(f"no {what} at or below {folder}; train first, or name a run's folder")


def find_runs(root: str | Path) -> list[RunFolder]:
    """All finished runs at or below a folder, in order of their paths."""
    return [RunFolder(path.parent) for path in sorted(Path(root).rglob(FILES["results"]))]


def environment(device: str) -> dict[str, Any]:
    """What a result's reader needs to repeat it: revision, versions, machine."""
    packages = {}
    for package in ("deepfm", "torch", "numpy"):
        try:
            packages[package] = version(package)
        except PackageNotFoundError:
            packages[package] = "unknown"
    return {
        "git": _git_revision(),
        "python": platform.python_version(),
        **packages,
        "platform": platform.platform(),
        "device": device,
    }


def _git_revision() -> str | None:
    """The revision of the source tree this package runs from; None where it is installed without one."""
    try:
        answer = subprocess.run(
            ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=12"],
            capture_output=True,
            text=True,
            timeout=5,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip()
