"""Joining and cutting arrays."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def concat_fun(inputs: Sequence[Tensor], axis: int = -1) -> Tensor:
    """Tensors side by side along an axis; a single one as it is."""
    return inputs[0] if len(inputs) == 1 else torch.cat(list(inputs), dim=axis)


def slice_arrays(arrays: Any, start: Any = None, stop: int | None = None) -> Any:
    """`array[start:stop]`, or `array[start]` where `start` is a list of places, of an array or of each in a list."""
    places = slice(start, stop) if start is None or isinstance(start, int) else start
    if isinstance(arrays, list):
        return [None if array is None else array[places] for array in arrays]
    return [None] if arrays is None else arrays[places]
