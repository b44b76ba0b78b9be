"""How much memory is free, giving it back, and moving batches to a device that does not hold the data."""

import ctypes
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from deepfm.errors import DataError

GIB = 1 << 30
DEVICE_SHARE = 0.5  # of a device's free memory that data may take; models, gradients and activations need the rest
CGROUP = Path("/sys/fs/cgroup")


def free_memory(device: torch.device | None = None) -> int:
    """Bytes that this process may still take: of the device's own memory, or of the machine's (and its container's)."""
    if device is not None and device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    if device is not None and device.type == "mps":
        return int(torch.mps.recommended_max_memory() - torch.mps.current_allocated_memory())
    available = int(psutil.virtual_memory().available)
    try:
        limit = (CGROUP / "memory.max").read_text().strip()
        used = int((CGROUP / "memory.current").read_text())
        figures = dict(line.split() for line in (CGROUP / "memory.stat").read_text().splitlines())
        given_back = int(figures.get("inactive_file", 0))  # read files that the kernel drops when memory is asked for
    except (OSError, ValueError):
        return available
    return available if limit == "max" else min(available, int(limit) - used + given_back)


def require_memory(needed: int, what: str, remedy: str) -> None:
    """Refuse what would not fit, before it is tried.

    Args:
        needed: bytes.
        what: what needs them, as the subject of the message.
        remedy: what the reader may do.

    Raises:
        DataError: less is free than needed.
    """
    free = free_memory()
    if needed > free:
        raise DataError(
            f"{what} need about {needed / GIB:,.1f} GiB of memory and {free / GIB:,.1f} GiB are free; {remedy}, or "
            "stream a table from encoded files with data.streaming=true"
        )


def release_free_memory() -> bool:
    """Give back to the system what the C library holds of freed memory; whether it had any to give.

    Arrays whose sizes differ from batch to batch leave holes in the heap that nothing fits into, so that a long run
    takes more and more of the machine. Linux with glibc; elsewhere nothing is done.
    """
    if not sys.platform.startswith("linux"):
        return False
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    return bool(trim(0)) if trim else False


def fits(needed: int, device: torch.device) -> bool:
    """Whether data of `needed` bytes may live on a device; what is in the machine's memory already does on CPU."""
    return device.type == "cpu" or needed <= DEVICE_SHARE * free_memory(device)


def feed(batches: Iterable[Any], device: torch.device) -> Iterator[Any]:
    """Batches, of tensors (or None) in any nesting, on the device.

    On CUDA the next one is copied from pinned memory while this one is worked on, so one more is held.
    """
    if device.type != "cuda":
        for batch in batches:
            yield tree_map(lambda part: part if part is None else part.to(device), batch)
        return
    side = torch.cuda.Stream(device)

    def start(batch: Any) -> Any:
        with torch.cuda.stream(side):
            return tree_map(lambda tensor: _copied(tensor, device), batch)

    upcoming: Any = None
    for batch in batches:
        started = start(batch)
        if upcoming is not None:
            yield _arrived(upcoming, side, device)
        upcoming = started
    if upcoming is not None:
        yield _arrived(upcoming, side, device)


def _copied(tensor: Tensor | None, device: torch.device) -> Tensor | None:
    return tensor if tensor is None or tensor.device == device else tensor.pin_memory().to(device, non_blocking=True)


def _arrived(batch: Any, side: torch.cuda.Stream, device: torch.device) -> Any:
    """A batch whose copy the present stream waits for, and whose memory outlives its use there."""
    current = torch.cuda.current_stream(device)
    current.wait_stream(side)

    def mark(tensor: Tensor | None) -> Tensor | None:
        if tensor is not None:
            tensor.record_stream(current)
        return tensor

    return tree_map(mark, batch)
