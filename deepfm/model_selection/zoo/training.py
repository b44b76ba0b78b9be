"""Training many networks of one architecture at once, and the same recipe one by one.

AdamW works element by element and each network's loss is its own, so a stack trains as its members would alone.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call, vmap
from torch.nn import functional as F

from deepfm.model_selection.zoo.networks import Network

OnStep = Callable[[int, Mapping[str, Tensor]], None]  # called with the steps done and the parameters
CLOSED = -1e9  # the logit of a class that a member does not have


@dataclass(frozen=True)
class Recipe:
    """AdamW with a cosine to zero; `body_lr` is the body's rate as a share of `lr`, which is the head's."""

    steps: int
    lr: float
    weight_decay: float
    body_lr: float = 1.0


@dataclass(frozen=True)
class Lessons:
    """What the S members of a stack learn from.

    Args:
        images: `(n, 8, 8)`, float32, of all members.
        labels: `(n,)`, int64.
        batches: `(steps, S, b)`, the rows that each member sees in each step; `(1, S, b)` for the same in every step.
        classes: `(S,)`, how many of the head's logits each member has; the rest are closed.
    """

    images: Tensor
    labels: Tensor
    batches: Tensor
    classes: Tensor

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """Images `(S, b, 8, 8)` and labels `(S, b)` of a step."""
        rows = self.batches[step % len(self.batches)]
        return self.images[rows], self.labels[rows]


def stack(states: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Parameters of S networks as one dictionary of `(S, ...)` tensors."""
    return {name: torch.stack([state[name] for state in states]) for name in states[0]}


def unstack(parameters: Mapping[str, Tensor]) -> list[dict[str, Tensor]]:
    """One dictionary a member, with tensors of their own."""
    size = len(next(iter(parameters.values())))
    return [{name: weight[i].detach().clone() for name, weight in parameters.items()} for i in range(size)]


def train_stack(
    network: Network, parameters: Mapping[str, Tensor], lessons: Lessons, recipe: Recipe, on_step: OnStep | None = None
) -> dict[str, Tensor]:
    """Train the S members of `parameters`, each on its own lessons, in one AdamW.

    Args:
        network: the architecture; its own weights are not used.
        parameters: `(S, ...)` each.
        lessons: of the same S members.
        recipe: how.
        on_step: told after each step.

    Returns:
        The trained parameters.
    """
    trained = {name: weight.detach().clone().requires_grad_() for name, weight in parameters.items()}
    descent = _Descent(trained, recipe)
    closed = _closed(lessons.classes, trained["head.bias"].shape[-1])

    def member_loss(weights: dict[str, Tensor], images: Tensor, labels: Tensor, closed: Tensor) -> Tensor:
        return F.cross_entropy(functional_call(network, weights, (images,)) + closed, labels)

    stack_loss = vmap(member_loss)
    for step in range(recipe.steps):
        loss = stack_loss(trained, *lessons.batch(step), closed).sum()
        descent.update(loss)
        if on_step is not None:
            on_step(step + 1, trained)
    return {name: weight.detach() for name, weight in trained.items()}


def train_one_by_one(
    network: Network, parameters: Mapping[str, Tensor], lessons: Lessons, recipe: Recipe
) -> dict[str, Tensor]:
    """What `train_stack` does, one member after the other, with an optimizer each: the reference for it."""
    done = []
    for member, state in enumerate(unstack(parameters)):
        weights = {name: weight.requires_grad_() for name, weight in state.items()}
        descent = _Descent(weights, recipe)
        closed = _closed(lessons.classes, weights["head.bias"].shape[-1])[member]
        for step in range(recipe.steps):
            images, labels = (part[member] for part in lessons.batch(step))
            loss = F.cross_entropy(functional_call(network, weights, (images,)) + closed, labels)
            descent.update(loss)
        done.append({name: weight.detach() for name, weight in weights.items()})
    return stack(done)


@torch.no_grad()
def stack_accuracy(
    network: Network, parameters: Mapping[str, Tensor], images: Tensor, labels: Tensor, classes: Tensor
) -> Tensor:
    """The share of rows that each member gets right, `(S,)`.

    Args:
        network: the architecture.
        parameters: `(S, ...)` each.
        images: `(n, 8, 8)`.
        labels: `(n,)`.
        classes: `(S,)`, how many logits each member has.
    """

    def logits(weights: dict[str, Tensor]) -> Tensor:
        answer: Tensor = functional_call(network, weights, (images,))
        return answer

    answer = vmap(logits)(dict(parameters))  # (S, n, C)
    answer = answer + _closed(classes, answer.shape[-1])[:, None]
    return (answer.argmax(-1) == labels).float().mean(-1)


def _closed(classes: Tensor, logits: int) -> Tensor:
    """What is added to the logits: 0 for a class that a member has, `CLOSED` for others: `(S, C)`."""
    return torch.where(torch.arange(logits) < classes[:, None], 0.0, CLOSED)


class _Descent:
    """AdamW over the weights of one network or a stack of them, on a recipe's schedule."""

    def __init__(self, weights: Mapping[str, Tensor], recipe: Recipe) -> None:
        rates = {"body.": recipe.lr * recipe.body_lr, "head.": recipe.lr}
        groups: list[dict[str, Any]] = [
            {"params": [weight for name, weight in weights.items() if name.startswith(part)], "lr": rate}
            for part, rate in rates.items()
        ]
        self.optimizer = torch.optim.AdamW(groups, weight_decay=recipe.weight_decay, fused=True)
        self.schedule = torch.optim.lr_scheduler.CosineAnnealingLR(self.optimizer, recipe.steps)

    def update(self, loss: Tensor) -> None:
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.schedule.step()
