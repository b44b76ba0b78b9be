"""Optimizers by name, in their fastest form for the device."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.adam import adam
from torch.optim.adamw import adamw
from torch.optim.sgd import sgd

from deepfm.engine.optimizer import CombinedOptimizer, Optimizer
from deepfm.engine.sparse import ROW_OPTIMIZERS, RowGradients, add_lazy_l2
from deepfm.engine.task import ParameterGroup

FUSED_DEVICES = ("cpu", "cuda", "mps")
BETAS, EPS = (0.9, 0.999), 1e-8


def build_optimizer(name: str, lr: float, groups: Sequence[ParameterGroup], device: torch.device) -> CombinedOptimizer:
    """An optimizer whose step includes each group's penalties, and takes dense and sparse gradients.

    A penalty λ·Σw² has the gradient 2λw: Adam's and SGD's own weight decay of 2λ is the same mathematics at no cost,
    but for gradient clipping, which then sees the loss alone.
    AdamW's decay is decoupled, another thing, so there the gradient is added before each step.

    Args:
        name: adam, adamw or sgd.
        lr: the base learning rate.
        groups: the parameters.
        device: where they live.
    """
    dense, parts = [], []
    for group in groups:
        if not group.parameters:
            continue
        factor = (group.lr or lr) / lr
        settings: dict[str, Any] = {"params": group.parameters, "lr": lr * factor, "lr_factor": factor}
        if group.row_optimizer is not None:
            parts.append(ROW_OPTIMIZERS[group.row_optimizer]([{**settings, "lazy_l2": group.l2}]))
            continue
        folded = name != "adamw" and not group.lazy_l2
        dense.append(
            {
                **settings,
                "weight_decay": group.weight_decay + (2 * group.l2 if folded else 0.0),
                "l2": 0.0 if folded else group.l2,
                "lazy": group.lazy_l2,
            }
        )
    return CombinedOptimizer([DenseOptimizer(name, dense, fused=device.type in FUSED_DEVICES), *parts])


class DenseOptimizer(Optimizer):
    """Adam, AdamW or SGD by torch's own kernels; every row of a parameter moves, whatever its gradient's layout.

    Args:
        name: adam (Kingma and Ba, 2015), adamw (Loshchilov and Hutter, 2019) or sgd, without momentum.
        param_groups: with `params`, `lr`, `weight_decay`, `l2` (a λ whose gradient is added) and `lazy` (to the rows
            of a sparse gradient only).
        fused: whether one kernel makes the whole step.
    """

    def __init__(self, name: str, param_groups: Sequence[dict[str, Any]], fused: bool) -> None:
        super().__init__(param_groups)
        self.name, self.fused = name, fused
        self._rows = RowGradients()

    @torch.no_grad()
    def step(self) -> None:
        """Update every parameter that has a gradient."""
        for group in self.param_groups:
            updated = [parameter for parameter in group["params"] if parameter.grad is not None]
            if not updated:
                continue
            if group["l2"] and group["lazy"]:
                add_lazy_l2(updated, group["l2"])
            with self._rows.dense(updated, l2=0.0 if group["lazy"] else group["l2"]):
                gradients = [parameter.grad for parameter in updated if parameter.grad is not None]
                self._update(updated, gradients, group)

    def _update(self, parameters: list[nn.Parameter], gradients: list[Tensor], group: dict[str, Any]) -> None:
        weights: list[Tensor] = list(parameters)
        shared = {"lr": group["lr"], "weight_decay": group["weight_decay"], "maximize": False, "fused": self.fused}
        if self.name == "sgd":
            momenta: list[Tensor | None] = [None] * len(weights)
            sgd(weights, gradients, momenta, momentum=0.0, dampening=0.0, nesterov=False, **shared)
            return
        for parameter in parameters:
            if parameter not in self.state:
                self.state[parameter] = {
                    "step": torch.zeros((), device=parameter.device),
                    "exp_avg": torch.zeros_like(parameter),
                    "exp_avg_sq": torch.zeros_like(parameter),
                }
        states = [self.state[parameter] for parameter in parameters]
        first, second, steps = ([state[name] for state in states] for name in ("exp_avg", "exp_avg_sq", "step"))
        update = adamw if self.name == "adamw" else adam
        update(
            weights, gradients, first, second, [], steps,
            amsgrad=False, beta1=BETAS[0], beta2=BETAS[1], eps=EPS, **shared,
        )  # fmt: skip
