"""Optimizing large tables of which a batch touches few rows, whose gradients are sparse tensors.

`RowGradients` keeps the mathematics of a dense optimizer: the gradient's rows are written into a buffer of zeros that
lives as long as the fit, the optimizer steps over it, and the rows are zeroed again; nothing as large as the table is
allocated in a step. `SparseAdam` and `RowwiseAdagrad` are other mathematics: rows that a batch does not hold stay as
they are.
"""

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from deepfm.engine.optimizer import Optimizer


def coalesced(grad: Tensor) -> Tensor:
    """A sparse gradient with each row once; autograd forgets it of a gradient that is so already."""
    if not grad.is_coalesced():
        rows = grad._indices()[0]
        if not bool((rows[1:] > rows[:-1]).all()):
            return grad.coalesce()
        grad._coalesced_(True)
    return grad


def gradient_values(parameters: Iterable[nn.Parameter]) -> list[Tensor]:
    """The numbers of all gradients: those of a sparse one once a row, summed over duplicates."""
    values = []
    for parameter in parameters:
        if parameter.grad is None:
            continue
        if parameter.grad.is_sparse:
            parameter.grad = coalesced(parameter.grad)
            values.append(parameter.grad._values())
        else:
            values.append(parameter.grad)
    return values


@torch.no_grad()
def clip_gradients(parameters: Iterable[nn.Parameter], max_norm: float) -> Tensor:
    """Scale all gradients, dense and sparse, to a joint norm of at most `max_norm`; gives the norm before."""
    values = gradient_values(parameters)
    if not values:
        return torch.zeros(())
    norm = torch.linalg.vector_norm(torch.stack([piece.to(values[0].device) for piece in torch._foreach_norm(values)]))
    torch._foreach_mul_(values, (max_norm / (norm + 1e-6)).clamp(max=1.0))
    return norm


class RowGradients:
    """Shows sparse gradients to a dense optimizer as dense ones, exactly and without a table of zeros a step."""

    def __init__(self) -> None:
        self._buffers: dict[nn.Parameter, Tensor] = {}

    @contextmanager
    def dense(self, parameters: Sequence[nn.Parameter], l2: float = 0.0) -> Iterator[None]:
        """Every sparse gradient is dense for a while; then it is gone, and its buffer is zeros again.

        Args:
            parameters: those with gradients.
            l2: λ of a penalty whose gradient 2λw is added to all gradients, every row of them.
        """
        written = []
        for parameter in parameters:
            grad = parameter.grad
            if grad is None or not grad.is_sparse:
                continue
            grad = coalesced(grad)
            rows = grad._indices()[0]
            if parameter not in self._buffers:
                self._buffers[parameter] = torch.zeros_like(parameter)
            parameter.grad = self._buffers[parameter].index_copy_(0, rows, grad._values())
            written.append((parameter, rows))
        if l2:
            for parameter in parameters:
                if parameter.grad is not None:
                    parameter.grad.add_(parameter.detach(), alpha=2 * l2)
        try:
            yield
        finally:
            for parameter, rows in written:
                buffer = self._buffers[parameter]
                buffer.zero_() if l2 else buffer.index_fill_(0, rows, 0.0)
                parameter.grad = None


@torch.no_grad()
def add_lazy_l2(parameters: Iterable[nn.Parameter], l2: float) -> None:
    """Add 2λw to the gradients: of the rows that they hold where they are sparse."""
    for parameter in parameters:
        if parameter.grad is None:
            continue
        if parameter.grad.is_sparse:
            parameter.grad = coalesced(parameter.grad)
            rows = parameter.index_select(0, parameter.grad._indices()[0])
            parameter.grad._values().add_(rows, alpha=2 * l2)
        else:
            parameter.grad.add_(parameter, alpha=2 * l2)


class RowOptimizer(Optimizer):
    """An optimizer that reads and writes the rows of a sparse gradient and no others; a dense one has all rows.

    Args:
        param_groups: with `params` of at least one axis, `lr`, and `lazy_l2`, the λ of a penalty on the rows touched.
    """

    @torch.no_grad()
    def step(self) -> None:
        """Update every parameter that has a gradient."""
        for group in self.param_groups:
            if group.get("lazy_l2"):
                add_lazy_l2(group["params"], group["lazy_l2"])
            for parameter in group["params"]:
                grad = parameter.grad
                if grad is None:
                    continue
                if grad.is_sparse:
                    grad = coalesced(grad)
                    self._update(parameter, grad._indices()[0], grad._values(), group["lr"])
                else:
                    rows = torch.arange(len(parameter), device=parameter.device)
                    self._update(parameter, rows, grad, group["lr"])

    @abstractmethod
    def _update(self, parameter: nn.Parameter, rows: Tensor, grad: Tensor, lr: float) -> None:
        """Move `rows` `(n,)` of a parameter by their gradient `(n, …)`."""


class SparseAdam(RowOptimizer):
    """Adam on the rows that a batch touches; the moments of the others wait (torch.optim.SparseAdam's mathematics).

    Decay rates and ε are Adam's own (Kingma and Ba, 2015, algorithm 1).
    """

    betas, eps = (0.9, 0.999), 1e-8

    def _update(self, parameter: nn.Parameter, rows: Tensor, grad: Tensor, lr: float) -> None:
        if parameter not in self.state:
            self.state[parameter] = {
                "step": torch.zeros(()),
                "exp_avg": torch.zeros_like(parameter),
                "exp_avg_sq": torch.zeros_like(parameter),
            }
        state, (beta1, beta2) = self.state[parameter], self.betas
        state["step"] = state["step"].cpu() + 1
        step = int(state["step"])
        first = state["exp_avg"].index_select(0, rows).lerp_(grad, 1 - beta1)
        second = state["exp_avg_sq"].index_select(0, rows).mul_(beta2).addcmul_(grad, grad, value=1 - beta2)
        state["exp_avg"].index_copy_(0, rows, first)
        state["exp_avg_sq"].index_copy_(0, rows, second)
        rate = lr * (1 - beta2**step) ** 0.5 / (1 - beta1**step)
        moved = parameter.index_select(0, rows).addcdiv_(first, second.sqrt_().add_(self.eps), value=-rate)
        parameter.index_copy_(0, rows, moved)


class RowwiseAdagrad(RowOptimizer):
    """Adagrad with one accumulator a row, the mean of its squared gradients, as FBGEMM's `EXACT_ROWWISE_ADAGRAD`.

    Its learning rate is that of Adagrad (Duchi et al., 2011), far above Adam's.
    """

    eps = 1e-8

    def _update(self, parameter: nn.Parameter, rows: Tensor, grad: Tensor, lr: float) -> None:
        if parameter not in self.state:
            self.state[parameter] = {"sum": parameter.new_zeros(len(parameter))}
        state = self.state[parameter]
        total = state["sum"].index_select(0, rows).add_(grad.square().mean(dim=1))
        state["sum"].index_copy_(0, rows, total)
        step = grad / total.sqrt_().add_(self.eps).unsqueeze(1)
        parameter.index_copy_(0, rows, parameter.index_select(0, rows).sub_(step, alpha=lr))


ROW_OPTIMIZERS: dict[str, Callable[[Sequence[dict[str, Any]]], RowOptimizer]] = {
    "sparse_adam": SparseAdam,
    "rowwise_adagrad": RowwiseAdagrad,
}
