"""How outputs become a scalar: losses by name, a person's own, a model's own, or a random projection."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils._pytree import tree_flatten

from deepfm.engine.settings import nearest
from deepfm.errors import AnalysisError
from deepfm.utils.modules import import_source


def _like(output: Tensor, target: Tensor) -> Tensor:
    """The output in the target's shape, where they differ in dimensions of 1 alone."""
    return output.reshape(target.shape) if output.numel() == target.numel() else output


def bce(output: Tensor, target: Tensor) -> Tensor:
    """Binary cross-entropy of logits."""
    return F.binary_cross_entropy_with_logits(_like(output, target), target.to(output.dtype))


def mse(output: Tensor, target: Tensor) -> Tensor:
    """Mean squared error."""
    return F.mse_loss(_like(output, target), target.to(output.dtype))


def mae(output: Tensor, target: Tensor) -> Tensor:
    """Mean absolute error."""
    return F.l1_loss(_like(output, target), target.to(output.dtype))


def huber(output: Tensor, target: Tensor) -> Tensor:
    """Huber's loss with delta 1."""
    return F.huber_loss(_like(output, target), target.to(output.dtype))


def probe(output: Any, _: Any = None) -> Tensor:
    """The mean of the outputs times fixed random signs: no loss to train on, but a way to see gradients."""
    parts = [leaf for leaf in tree_flatten(output)[0] if isinstance(leaf, Tensor) and leaf.is_floating_point()]
    if not parts:
        raise AnalysisError("the model gives no floating-point output; a probe needs one")
    source = torch.Generator().manual_seed(0)
    signs = [torch.randn(part.shape, generator=source).sign().to(part) for part in parts]
    return torch.stack([(part * sign).mean() for part, sign in zip(parts, signs, strict=True)]).sum()


NAMED: dict[str, Callable[..., Tensor]] = {
    **{"bce": bce, "ce": F.cross_entropy, "mse": mse, "mae": mae, "huber": huber, "nll": F.nll_loss, "probe": probe}
}


@dataclass(frozen=True)
class Loss:
    """A loss and how it is called.

    Args:
        name: for the report.
        function: of output and target; None where the output is the loss.
    """

    name: str
    function: Callable[..., Any] | None

    def __call__(self, output: Any, target: Any) -> Any:
        """The loss; whether it is a scalar is the caller's to see."""
        return output if self.function is None else self.function(output, target)

    @property
    def takes_target(self) -> bool:
        """Whether a batch has a target beside its inputs."""
        return self.function is not None and self.function is not probe

    @property
    def trains(self) -> bool:
        """Whether lowering it means anything."""
        return self.function is not probe

    @classmethod
    def named(cls, loss: Any) -> "Loss":
        """A loss by its name, as `module:function` or `file.py:function`, or as it is.

        Raises:
            AnalysisError: there is none of that name.
        """
        if isinstance(loss, cls):
            return loss
        if loss is None:
            return cls("the model's own", None)
        if callable(loss):
            return cls(getattr(loss, "__name__", type(loss).__name__), loss)
        if isinstance(loss, str) and ":" in loss:
            found = load_attribute(loss)
            if not callable(found):
                raise AnalysisError(
                    f"loss {loss} is a {type(found).__name__}; expected a function of output and target"
                )
            return cls(loss, found)
        if loss in NAMED:
            return cls(loss, NAMED[loss])
        raise AnalysisError(
            f"loss {loss!r} is unknown; {nearest(str(loss), list(NAMED))}, or give module:function or file.py:function"
        )


def load_attribute(place: str) -> Any:
    """What `module:name` or `file.py:name` names; the module is imported because it is asked for.

    Raises:
        AnalysisError: there is no such file, module or name, or importing it fails.
    """
    source, _, name = place.rpartition(":")
    found = module = import_source(source, AnalysisError)
    for part in name.split("."):
        if not hasattr(found, part):
            public = [each for each in vars(module) if not each.startswith("_")]
            raise AnalysisError(f"{source} has no {name!r}; {nearest(name, public)}")
        found = getattr(found, part)
    return found
