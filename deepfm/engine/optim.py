"""Optimizers by name, in their fastest form for the device."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from deepfm.engine.task import ParameterGroup

FUSED_DEVICES = ("cpu", "cuda", "mps")
OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "sgd": torch.optim.SGD,
}


def build_optimizer(
    name: str, lr: float, groups: Sequence[ParameterGroup], device: torch.device
) -> torch.optim.Optimizer:
    """An optimizer whose step includes each group's penalties.

    A penalty λ·Σw² has the gradient 2λw: Adam's and SGD's own weight decay of 2λ is the same mathematics at no cost,
    but for gradient clipping, which then sees the loss alone.
    AdamW's decay is decoupled, another thing, so there the gradient is added before each step.

    Args:
        name: adam, adamw or sgd.
        lr: the base learning rate.
        groups: the parameters.
        device: where they live.
    """
    coupled = name != "adamw"
    param_groups: list[dict[str, Any]] = [
        {
            "params": group.parameters,
            "weight_decay": group.weight_decay + (2 * group.l2 if coupled else 0.0),
        }
        for group in groups
        if group.parameters
    ]
    optimizer = OPTIMIZERS[name](param_groups, lr=lr, fused=device.type in FUSED_DEVICES)
    if not coupled:
        for group in groups:
            if group.l2:
                optimizer.register_step_pre_hook(_add_l2_gradient(group.parameters, group.l2))
    return optimizer


def _add_l2_gradient(parameters: list[nn.Parameter], l2: float) -> Callable[..., None]:
    def hook(*_: Any) -> None:
        with_gradient = [parameter for parameter in parameters if parameter.grad is not None]
        gradients = [parameter.grad for parameter in with_gradient if parameter.grad is not None]
        torch._foreach_add_(gradients, [parameter.detach() for parameter in with_gradient], alpha=2 * l2)

    return hook
