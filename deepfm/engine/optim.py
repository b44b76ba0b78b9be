"""Optimizers by name, in their fastest form for the device."""

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.adagrad import adagrad
from torch.optim.adam import adam
from torch.optim.adamw import adamw
from torch.optim.rmsprop import rmsprop
from torch.optim.sgd import sgd

from deepfm.engine.optimizer import CombinedOptimizer, Optimizer
from deepfm.engine.sparse import ROW_OPTIMIZERS, RowGradients, add_lazy_l2
from deepfm.engine.task import ParameterGroup
from deepfm.errors import ConfigError

FUSED_DEVICES = ("cpu", "cuda", "mps")
BETAS, EPS = (0.9, 0.999), 1e-8
ADAGRAD_EPS, RMSPROP_DECAY = 1e-10, 0.99  # torch's own defaults
MOMENTS = {  # what is kept of each parameter, beside the steps taken
    "adam": ("exp_avg", "exp_avg_sq"),
    "adamw": ("exp_avg", "exp_avg_sq"),
    "adagrad": ("sum",),
    "rmsprop": ("square_avg",),
}


def build_optimizer(name: str, lr: float, groups: Sequence[ParameterGroup], device: torch.device) -> CombinedOptimizer:
    """An optimizer whose step includes each group's penalties, and takes dense and sparse gradients.

    A penalty λ·Σw² has the gradient 2λw: the optimizers' own weight decay of 2λ is the same mathematics at no cost,
    but for gradient clipping, which then sees the loss alone.
    AdamW's decay is decoupled, another thing, so there the gradient is added before each step.

    Args:
        name: adam, adamw, sgd, adagrad or rmsprop.
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
    """Optimizers by torch's own kernels; every row of a parameter moves, whatever its gradient's layout.

    Args:
        name: adam (Kingma and Ba, 2015), adamw (Loshchilov and Hutter, 2019), sgd without momentum, adagrad (Duchi et
            al., 2011) or rmsprop (Tieleman and Hinton, 2012).
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
        shared: dict[str, Any] = {"lr": group["lr"], "weight_decay": group["weight_decay"], "maximize": False}
        if self.name == "sgd":
            momenta: list[Tensor | None] = [None] * len(weights)
            sgd(weights, gradients, momenta, momentum=0.0, dampening=0.0, nesterov=False, fused=self.fused, **shared)
            return
        kept = MOMENTS[self.name]
        for parameter in parameters:
            if parameter not in self.state:
                zeros = {name: torch.zeros_like(parameter) for name in kept}
                self.state[parameter] = {"step": torch.zeros((), device=parameter.device), **zeros}
        states = [self.state[parameter] for parameter in parameters]
        moments = [[state[name] for state in states] for name in kept]
        steps = [state["step"] for state in states]
        if self.name == "adagrad":
            adagrad(weights, gradients, moments[0], steps, lr_decay=0.0, eps=ADAGRAD_EPS, foreach=self.fused, **shared)
        elif self.name == "rmsprop":
            rmsprop(
                weights, gradients, moments[0], [], [], steps,
                momentum=0.0, centered=False, alpha=RMSPROP_DECAY, eps=EPS, foreach=self.fused, **shared,
            )  # fmt: skip
        else:
            update = adamw if self.name == "adamw" else adam
            update(
                weights, gradients, moments[0], moments[1], [], steps,
                amsgrad=False, beta1=BETAS[0], beta2=BETAS[1], eps=EPS, fused=self.fused, **shared,
            )  # fmt: skip


class GivenOptimizer(Optimizer):
    """A `torch.optim` optimizer that a person made, with the groups' penalties added to the gradients it sees.

    Args:
        optimizer: steps without a closure; every row of its parameters moves, whatever the gradient's layout.
        groups: the parameters that have penalties, and all others whose gradients a step should drop.

    Raises:
        ConfigError: it has none of the groups' parameters, or wants a closure.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, groups: Sequence[ParameterGroup]) -> None:
        self.optimizer, self.groups = optimizer, list(groups)
        name = type(optimizer).__name__
        if isinstance(optimizer, torch.optim.LBFGS):
            raise ConfigError(f"optimizer {name} computes the loss many times a step; use another, such as Adam")
        own = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
        if not any(id(parameter) in own for group in self.groups for parameter in group.parameters):
            raise ConfigError(
                f"optimizer {name} has none of this model's parameters; make it from model.parameters() of this model"
            )
        self._rows = RowGradients()

    @property
    def param_groups(self) -> list[dict[str, Any]]:  # type: ignore[override]
        """The optimizer's own."""
        return self.optimizer.param_groups

    @torch.no_grad()
    def step(self) -> None:
        """Add 2λw to the gradients of each group and update."""
        with ExitStack() as dense:
            for group in self.groups:
                updated = [parameter for parameter in group.parameters if parameter.grad is not None]
                dense.enter_context(self._rows.dense(updated, l2=group.l2))
            self.optimizer.step()

    def zero_grad(self) -> None:
        """Drop the gradients of all groups."""
        for group in self.groups:
            for parameter in group.parameters:
                parameter.grad = None

    def state_dict(self) -> dict[str, Any]:
        """The optimizer's own."""
        return self.optimizer.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict`."""
        self.optimizer.load_state_dict(state)
