"""A batch to analyse with: the arguments of one call, what is in them, and what the loss compares the output with."""

import inspect
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_map

from deepfm.errors import AnalysisError


@dataclass(frozen=True, eq=False)
class Batch:
    """What one call of the model takes, and what its loss compares the output with.

    Args:
        args, kwargs: of `forward`.
        target: whatever the loss takes beside the output; None where the model makes its own loss.
    """

    args: tuple[Any, ...]
    kwargs: dict[str, Any] = field(default_factory=dict)
    target: Any = None

    def map(self, change: Callable[[Tensor], Tensor]) -> "Batch":
        """The batch with every tensor changed, in inputs and target."""

        def changed(part: Any) -> Any:
            return tree_map(lambda leaf: change(leaf) if isinstance(leaf, Tensor) else leaf, part)

        return Batch(changed(self.args), changed(self.kwargs), changed(self.target))


@dataclass(frozen=True, eq=False)
class Loader:
    """Batches as training gets them, made on the way each time that they are asked for.

    Args:
        source: of what a person gives for a batch.
        make: a batch of it.
    """

    source: Iterable[Any]
    make: Callable[[Any], Any]

    def __iter__(self) -> Iterator[Any]:
        return map(self.make, self.source)


def make_batch(model: nn.Module, given: Any, has_target: bool) -> Batch:
    """A batch from what a person gives: with a loss a pair of inputs and target, without the inputs.

    Raises:
        AnalysisError: it is no pair where one is needed.
    """
    target = None
    if has_target:
        if not isinstance(given, list | tuple) or len(given) != 2:
            what = f"a {type(given).__name__}" if not isinstance(given, tuple) else f"{len(given)} parts"
            raise AnalysisError(f"a batch is {what}; with a loss expected a pair of inputs and target")
        given, target = given
    if isinstance(given, dict):
        parameters = inspect.signature(model.forward).parameters
        by_name = set(given) <= set(parameters) or any(its.kind == its.VAR_KEYWORD for its in parameters.values())
        return Batch((), dict(given), target) if by_name else Batch((given,), {}, target)
    return Batch(tuple(given) if isinstance(given, list | tuple) else (given,), {}, target)


def rows_of(batch: Batch, dim: int) -> int:
    """How many rows a batch has: the size that most of its tensors have in the dimension of rows.

    Raises:
        AnalysisError: no tensor has such a dimension.
    """
    sizes = [leaf.shape[dim] for leaf in tensors(batch.args, batch.kwargs) if leaf.ndim > dim]
    if not sizes:
        given = "" if dim == 0 else f" {dim}"
        raise AnalysisError(
            f"the batch holds no tensor with the dimension{given} of rows; give tensors of one row or more"
            + (f", or another --batch-dim than {dim}" if dim else "")
        )
    return max(set(sizes), key=lambda size: (sizes.count(size), -sizes.index(size)))


def tensors(*parts: Any) -> list[Tensor]:
    """Every tensor in some nested parts, in order."""
    return [leaf for leaf in tree_flatten(parts)[0] if isinstance(leaf, Tensor)]


def named_tensors(batch: Batch, model: nn.Module) -> dict[str, Tensor]:
    """The inputs by the names that `forward` or their dict gives them."""
    names = [
        parameter.name
        for parameter in inspect.signature(model.forward).parameters.values()
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
    ]
    found: dict[str, Tensor] = {}

    def add(prefix: str, value: Any) -> None:
        if isinstance(value, Tensor):
            found[prefix] = value
        elif isinstance(value, dict):
            for key, part in value.items():
                add(str(key), part)
        elif isinstance(value, list | tuple):
            for place, part in enumerate(value):
                add(f"{prefix}[{place}]", part)

    for place, value in enumerate(batch.args):
        add(names[place] if place < len(names) else f"input{place}", value)
    for key, value in batch.kwargs.items():
        add(key, value)
    return found


def shapes_of(value: Any) -> str:
    """Shapes of tensors in words, for an error."""
    found = [f"{tuple(leaf.shape)}" for leaf in tensors(value)]
    return " and ".join(found) if found else f"a {type(value).__name__}"
