"""What an optimizer is here: groups of parameters, a state each, and a step.

It is not `torch.optim.Optimizer`: the first object of that class imports torch's whole compiler, which takes longer
than importing torch itself (`benchmarks/startup_and_epoch.py`) and which every short run would pay.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn


class Optimizer(ABC):
    """Updates parameters from their gradients.

    Args:
        param_groups: each with `params` and `lr`; further keys are the subclass's.
    """

    def __init__(self, param_groups: Sequence[dict[str, Any]]) -> None:
        self.param_groups = [dict(group) for group in param_groups]
        self.state: dict[nn.Parameter, dict[str, Tensor]] = {}

    @abstractmethod
    def step(self) -> None:
        """Update every parameter that has a gradient."""

    def zero_grad(self) -> None:
        """Drop all gradients."""
        for parameter in self._parameters():
            parameter.grad = None

    def state_dict(self) -> dict[str, Any]:
        """What resuming needs: the state of each parameter, in order; empty for one that was never updated."""
        return {"state": [dict(self.state.get(parameter, {})) for parameter in self._parameters()]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict`.

        Raises:
            ValueError: it is of other parameters.
        """
        parameters = self._parameters()
        if len(state["state"]) != len(parameters):
            raise ValueError(f"the optimizer state is of {len(state['state'])} parameters; expected {len(parameters)}")
        self.state = {
            parameter: {name: tensor.to(parameter.device) for name, tensor in saved.items()}
            for parameter, saved in zip(parameters, state["state"], strict=True)
            if saved
        }

    def _parameters(self) -> list[nn.Parameter]:
        return [parameter for group in self.param_groups for parameter in group["params"]]


class CombinedOptimizer:
    """Several optimizers, each with its own parameters, that step as one."""

    def __init__(self, parts: Sequence[Optimizer]) -> None:
        self.parts = list(parts)

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The groups of all parts."""
        return [group for part in self.parts for group in part.param_groups]

    def step(self) -> None:
        """Update all parameters."""
        for part in self.parts:
            part.step()

    def zero_grad(self) -> None:
        """Drop all gradients."""
        for part in self.parts:
            part.zero_grad()

    def state_dict(self) -> dict[str, Any]:
        """What resuming needs."""
        return {"parts": [part.state_dict() for part in self.parts]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict`.

        Raises:
            ValueError: it is of other optimizers.
        """
        if len(state["parts"]) != len(self.parts):
            raise ValueError(f"the optimizer state has {len(state['parts'])} parts; expected {len(self.parts)}")
        for part, saved in zip(self.parts, state["parts"], strict=True):
            part.load_state_dict(saved)
