"""A copy of a model, and of a batch, that has shapes and no values, and so takes no memory."""

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten

from deepfm.analysis.batch import Batch


def meta_copy(model: nn.Module) -> nn.Module:
    """The model on the meta device: its ties kept, and with the tensors and modules that it holds in plain attributes.

    Raises:
        RuntimeError, TypeError, NotImplementedError: it cannot be copied.
    """
    memo: dict[int, Any] = {}
    modules, seen = [model], set()
    while modules:
        module = modules.pop()
        if id(module) in seen:
            continue
        seen.add(id(module))
        for leaf in tree_flatten(dict(vars(module)))[0]:
            if isinstance(leaf, nn.Module):
                modules.append(leaf)
            elif isinstance(leaf, Tensor):
                memo[id(leaf)] = _emptied(leaf)
    return copy.deepcopy(model, memo)


def meta_batch(batch: Batch) -> Batch:
    """The batch on the meta device."""
    return batch.map(_emptied)


def _emptied(tensor: Tensor) -> Tensor:
    empty = torch.empty_like(tensor, device="meta", requires_grad=False)
    if isinstance(tensor, nn.Parameter):
        return nn.Parameter(empty, requires_grad=tensor.requires_grad)
    return empty.requires_grad_(tensor.requires_grad)
