"""A model that is looked at is the same afterwards: weights, buffers, modes, gradients and random streams."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn


@contextmanager
def untouched(model: nn.Module) -> Iterator[None]:
    """Put everything back on leaving: values of parameters and buffers, `requires_grad`, gradients, modes, streams."""
    states = {id(part): part for part in (*model.parameters(), *model.buffers())}
    values = {key: part.detach().clone() for key, part in states.items()}
    wanted = {key: part.requires_grad for key, part in states.items()}
    gradients: dict[int, Tensor | None] = {key: part.grad for key, part in states.items()}
    kept = {key: None if gradient is None else gradient.detach().clone() for key, gradient in gradients.items()}
    modes = [(module, module.training) for module in model.modules()]
    streams = random.getstate(), np.random.get_state()  # noqa: NPY002  a model may draw from it
    cuda = [] if not torch.cuda.is_initialized() else list(range(torch.cuda.device_count()))
    with torch.random.fork_rng(devices=cuda):
        try:
            yield
        finally:
            random.setstate(streams[0])
            np.random.set_state(streams[1])  # noqa: NPY002
            for module, mode in modes:
                module.training = mode
            with torch.no_grad():
                for key, part in states.items():
                    if not torch.equal(part, values[key]):
                        part.copy_(values[key])
                    if part.is_leaf:
                        part.requires_grad_(wanted[key])
                    part.grad = gradients[key]
                    before = kept[key]
                    if part.grad is not None and before is not None and not torch.equal(part.grad, before):
                        part.grad.copy_(before)
