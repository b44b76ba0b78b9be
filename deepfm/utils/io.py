"""Files that are written whole or not at all, and checkpoints that execute nothing when read."""

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from deepfm.errors import CheckpointError, RunError

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray


def table_name(source: str | Path) -> str:
    """What a table is called: its file's or folder's name, and of a glob that of the folder."""
    path = Path(source)
    is_glob = any(sign in path.name for sign in "*?[") and not path.exists()
    return (path.absolute().parent.name if is_glob else path.name) or "table"


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Give a path beside `path` to write to; on success it is synced and renamed to `path`.

    On failure nothing of it is left and what stood at `path` stands unchanged.

    Raises:
        RunError: the disk is full, read-only or otherwise refuses, with the file's name.
    """
    path = Path(path)
    beside = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield beside
        with open(beside, "rb") as file:
            os.fsync(file.fileno())
        os.replace(beside, path)
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        with suppress(OSError):  # a folder that cannot be written cannot be cleaned either
            beside.unlink(missing_ok=True)


def cannot_write(path: str | Path, error: OSError) -> RunError:
    """The one sentence for a file or folder that the system refuses to write."""
    reason = error.strerror or str(error)
    return RunError(f"cannot write {path}: {reason}; free space there or choose another folder")


def write_bytes(path: str | Path, content: bytes) -> None:
    """Write `content` whole or not at all."""
    with atomic_path(path) as beside:
        beside.write_bytes(content)


def write_text(path: str | Path, text: str) -> None:
    """Write UTF-8 text whole or not at all."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: str | Path, value: Any) -> None:
    """Write JSON for people (indented), whole or not at all; NaN is refused, as JSON knows none."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def read_json(path: str | Path, what: str, writer: str = "training") -> Any:
    """Read JSON; `what` names the thing in the error, `writer` what makes it.

    Raises:
        RunError: the file is missing, unreadable or not JSON.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise RunError(f"{what} {path} does not exist; expected a file that {writer} writes") from error
    except (OSError, ValueError) as error:
        raise RunError(f"{what} {path} cannot be read as JSON; restore it, or have {writer} write it again") from error


def save_arrays(path: str | Path, arrays: "Mapping[str, NDArray[Any]]") -> None:
    """Write named arrays to one `.npz`, whole or not at all."""
    import numpy as np

    named: dict[str, Any] = dict(arrays)
    with atomic_path(path) as beside, open(beside, "wb") as file:
        np.savez_compressed(file, **named)


def load_arrays(path: str | Path, what: str) -> "dict[str, NDArray[Any]]":
    """Read an `.npz`; nothing in it is ever unpickled. `what` names the thing in the error.

    Raises:
        RunError: the file is missing or damaged.
    """
    import numpy as np

    try:
        with np.load(path, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except FileNotFoundError as error:
        raise RunError(f"{what} {path} does not exist; expected a file that training writes") from error
    except Exception as error:  # numpy and zipfile raise a dozen kinds for one damaged file
        raise RunError(f"{what} {path} is damaged; train again to write it") from error


def save_checkpoint(state: dict[str, Any], path: str | Path) -> None:
    """Save nested dicts and lists of tensors and plain values, whole or not at all.

    Raises:
        RunError: the disk refuses the file.
    """
    import torch

    def write(file: IO[bytes]) -> None:
        torch.save(state, file)

    with atomic_path(path) as beside:
        _write_with(beside, write)


def _write_with(path: Path, write: Callable[[IO[bytes]], None]) -> None:
    with open(path, "wb") as file:
        try:
            write(file)
        except RuntimeError as error:  # torch hides the system's reason (a full disk) behind its own
            raise OSError(None, f"the file could not be written ({str(error).splitlines()[0]})") from error


def load_checkpoint(path: str | Path, device: "str | torch.device" = "cpu") -> dict[str, Any]:
    """Load what `save_checkpoint` wrote, tensors onto `device`; nothing in the file is ever executed.

    Raises:
        CheckpointError: the file is missing, truncated, or holds more than tensors and plain values.
    """
    import pickle

    import torch

    try:
        state = torch.load(path, map_location=device, weights_only=True)
    except FileNotFoundError as error:
        raise CheckpointError(f"checkpoint {path} does not exist; expected a file that training writes") from error
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"checkpoint {path} holds more than tensors and plain values, or is damaged, and was not loaded; "
            "use a checkpoint that deepfm wrote"
        ) from error
    except Exception as error:  # torch raises a dozen kinds for one damaged file
        raise CheckpointError(f"checkpoint {path} is truncated or damaged; use another, or train again") from error
    if not isinstance(state, dict):
        raise CheckpointError(f"checkpoint {path} holds a {type(state).__name__}; expected a dict of tensors")
    return state
