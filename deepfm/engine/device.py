"""Where tensors live and how many threads work on them: choosing a device, and the random state that belongs to it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from deepfm.errors import DeviceError


def resolve_device(name: str = "auto") -> torch.device:
    """The device of a name; `auto` takes MPS, then CUDA, then CPU.

    Raises:
        DeviceError: the name is no device, or one that this machine has not.
    """
    if name == "auto":
        kind = "mps" if torch.backends.mps.is_available() else "cuda" if torch.cuda.is_available() else "cpu"
        return torch.device(kind)
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise DeviceError(f"device = {name!r} is no device; expected auto, cpu, mps, cuda or cuda:N") from error
    if device.type not in ("cpu", "mps", "cuda"):
        raise DeviceError(f"device = {name!r} is not supported; expected auto, cpu, mps, cuda or cuda:N")
    count = {"cpu": 1, "mps": int(torch.backends.mps.is_available()), "cuda": torch.cuda.device_count()}[device.type]
    if (device.index or 0) >= count:
        raise DeviceError(
            f"device = {name!r} is not on this machine, which has {count} of type {device.type}; use device=auto"
        )
    return device


def random_state(device: torch.device) -> dict[str, Any]:
    """The state of torch's generators that training on `device` draws from."""
    state = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    elif device.type == "mps":
        state["mps"] = torch.mps.get_rng_state()
    return state


def restore_random_state(state: dict[str, Any], device: torch.device) -> None:
    """Put the generators back to where `random_state` saw them."""
    torch.set_rng_state(state["cpu"].cpu())
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"].cpu(), device)
    elif device.type == "mps" and "mps" in state:
        torch.mps.set_rng_state(state["mps"].cpu())


@contextmanager
def single_thread() -> Iterator[int]:
    """One thread of torch for a while, as small tensors want on a busy machine and a sum's last bit needs.

    Gives how many there were, which come back.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield threads
    finally:
        torch.set_num_threads(threads)
