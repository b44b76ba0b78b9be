"""A network's parameters, grouped into layers and told apart by kind."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter

from deepfm.errors import DataError

State = Mapping[str, Tensor]  # what `state_dict()` or a safetensors file holds

KINDS = ("linear", "convolution", "normalisation", "embedding", "recurrent", "attention", "other")
MODULES: tuple[tuple[str, tuple[type[nn.Module], ...]], ...] = (
    ("convolution", (_ConvNd,)),
    ("normalisation", (_BatchNorm, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)),
    ("embedding", (nn.Embedding, nn.EmbeddingBag)),
    ("recurrent", (nn.RNNBase, nn.RNNCellBase)),
    ("attention", (nn.MultiheadAttention,)),
    ("linear", (nn.Linear, nn.Bilinear)),
)
RUNNING = ("running_mean", "running_var", "num_batches_tracked")


@dataclass(frozen=True, eq=False)
class Layer:
    """One weight and its bias.

    Args:
        name: of the weight.
        kind: one of `KINDS`.
        weight: of any shape, float64.
        bias: of any shape, float64; None where there is none.
    """

    name: str
    kind: str
    weight: NDArray[np.float64]
    bias: NDArray[np.float64] | None


def layers_of(network: nn.Module | State) -> list[Layer]:
    """The layers of a network, in the natural order of their names, so that a file's order does not matter.

    Of a module the kinds are those of its parts, where they are known; of a bare state, and of other parts, they are
    told by names and shapes. Buffers of running statistics and whole numbers are left out.

    Raises:
        DataError: there is no floating-point weight, one is NaN or infinite, or one has no values yet.
    """
    state = network.state_dict() if isinstance(network, nn.Module) else network
    kinds = {name.rpartition(".")[0]: "attention" for name in state if name.endswith("in_proj_weight")}
    kinds |= _kinds(network) if isinstance(network, nn.Module) else {}
    parameters = {
        name: tensor
        for name, tensor in state.items()
        if isinstance(tensor, Tensor)
        and not name.endswith(RUNNING)
        and (_without_values(tensor) or (tensor.is_floating_point() and tensor.numel()))
    }
    if not parameters:
        raise DataError(
            f"the network has no floating-point weights among its {len(state)} tensors; expected at least one layer "
            "with parameters"
        )
    arrays = {name: _values(name, parameters[name]) for name in sorted(parameters, key=_natural)}
    biases = {_bias_of(name): name for name in arrays if _bias_of(name) in arrays}
    return [
        Layer(name, _kind(name, array, _bias_of(name) in biases, kinds), array, arrays.get(_bias_of(name)))
        for name, array in arrays.items()
        if name not in biases
    ]


def _kinds(network: nn.Module) -> dict[str, str]:
    """The kind of each module that has a known one, by its name."""
    return {
        name: kind
        for name, part in network.named_modules()
        for kind, types in reversed(MODULES)
        if isinstance(part, types)
    }


def _kind(name: str, weight: NDArray[np.float64], biased: bool, kinds: Mapping[str, str]) -> str:
    module, _, leaf = name.rpartition(".")
    parent = module.rpartition(".")[0]
    attends = "attention" in (kinds.get(module), kinds.get(parent))  # itself, or as the output projection
    if attends or (module not in kinds and re.search("attn|attention", name.lower())):
        return "attention" if weight.ndim == 2 else "normalisation" if weight.ndim == 1 else "other"
    if module in kinds:
        return kinds[module]
    if re.search(r"_(ih|hh)(_|$)", leaf):
        return "recurrent"
    if "weight" not in leaf or not weight.ndim:
        return "other"
    if weight.ndim == 2:
        return "embedding" if not biased and "emb" in name.lower() else "linear"
    return "normalisation" if weight.ndim == 1 else "convolution"


def _bias_of(name: str) -> str:
    """The name that the bias of this weight has; of what is no weight, none."""
    module, _, leaf = name.rpartition(".")
    return f"{module}.{leaf.replace('weight', 'bias')}".lstrip(".") if "weight" in leaf else ""


def _without_values(tensor: Tensor) -> bool:
    return isinstance(tensor, UninitializedParameter | UninitializedBuffer) or tensor.is_meta


def _values(name: str, tensor: Tensor) -> NDArray[np.float64]:
    if _without_values(tensor):
        raise DataError(f"weight {name!r} has no values yet; load the network's weights, or run it once, before this")
    values: NDArray[np.float64] = tensor.detach().cpu().to(torch.float64).numpy()
    if not np.isfinite(values).all():
        bad = int((~np.isfinite(values)).sum())
        raise DataError(
            f"weight {name!r} has {bad} of {values.size} values that are NaN or infinite; a broken network says "
            "nothing, so leave it out or restore its weights"
        )
    return values


def _natural(name: str) -> list[tuple[int, int, str]]:
    """A key that sorts numbers in names as numbers."""
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in re.split(r"(\d+)", name)]
