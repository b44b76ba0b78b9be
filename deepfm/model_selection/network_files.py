"""A network and what it was made with, as safetensors beside JSON; and random streams of its own."""

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from deepfm.errors import CheckpointError, RunError
from deepfm.utils.io import read_json, write_bytes, write_json


@contextmanager
def own_streams(seed: int, device: torch.device) -> Iterator[None]:
    """Torch's random streams begin with `seed` inside, and go on outside as if nothing had been drawn."""
    devices = [] if device.type == "cpu" else [device.index or 0]
    kind = "cuda" if device.type == "cpu" else device.type
    with torch.random.fork_rng(devices=devices, device_type=kind):
        torch.manual_seed(seed)
        yield


def content_hash(*arrays: NDArray[Any]) -> str:
    """A hash of what is in arrays, their types and shapes."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:16]


def save_network(network: nn.Module, about: Mapping[str, Any], folder: Path, name: str) -> None:
    """Write `name.safetensors` and `name.json`; the weights carry the hash of the other, so a mixed pair is refused."""
    from safetensors.torch import save

    tensors = {key: tensor.detach().cpu().contiguous() for key, tensor in network.state_dict().items()}
    weights = save(tensors)
    write_bytes(folder / f"{name}.safetensors", weights)
    write_json(folder / f"{name}.json", {**about, "weights": hashlib.sha256(weights).hexdigest()})


def read_about(folder: Path, name: str, version: int) -> dict[str, Any]:
    """What `save_network` wrote beside the weights.

    Raises:
        CheckpointError: it is missing, damaged or of another version.
    """
    path = folder / f"{name}.json"
    try:
        about = read_json(path, f"{name}'s description")
    except RunError as error:
        raise CheckpointError(str(error)) from error
    if not isinstance(about, dict) or about.get("version") != version:
        raise CheckpointError(f"{path} is no {name} of version {version}; train it again")
    return about


def load_weights(folder: Path, name: str, about: Mapping[str, Any]) -> dict[str, Tensor]:
    """The weights that `save_network` wrote with this description.

    Raises:
        CheckpointError: they are missing, damaged, or of another description.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    path = folder / f"{name}.safetensors"
    try:
        content = path.read_bytes()
        tensors = load(content)
    except FileNotFoundError as error:
        raise CheckpointError(f"{path} does not exist; train the {name} first") from error
    except (OSError, SafetensorError, ValueError) as error:
        raise CheckpointError(f"{path} is truncated or damaged; train the {name} again") from error
    if hashlib.sha256(content).hexdigest() != about.get("weights"):
        raise CheckpointError(f"{path} does not belong to the {name}.json beside it; train the {name} again")
    return tensors


def fill(network: nn.Module, weights: Mapping[str, Tensor], path: Path) -> None:
    """Put weights into a network.

    Raises:
        CheckpointError: they do not fit it.
    """
    try:
        network.load_state_dict(dict(weights))
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(f"the weights in {path} do not fit: {reason}; train again") from error
