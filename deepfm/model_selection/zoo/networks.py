"""The networks of the zoo: a body that gives features, and a linear head."""

import functools
import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deepfm.model_selection.zoo.rows import SIDE

KERNEL = 3


class SmallConvolution(nn.Module):
    """A 3 x 3 convolution with padding 1 on a map so small that it is fastest as one dense product.

    The dense matrix is the kernel times a fixed basis of shifts, so gradients reach the kernel. Stacked by `vmap` the
    product stays one batched product, where a convolution falls apart into groups.

    Args:
        inputs: channels in.
        outputs: channels out.
        side: of the square map that comes in.
        stride: 1 or 2.
    """

    basis: Tensor

    def __init__(self, inputs: int, outputs: int, side: int, stride: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs, KERNEL, KERNEL))
        self.bias = nn.Parameter(torch.empty(outputs))
        self.side, self.out_side = side, side // stride
        self.register_buffer("basis", _shifts(side, stride), persistent=False)

    def forward(self, maps: Tensor) -> Tensor:
        """`(B, inputs, side, side)` to `(B, outputs, out_side, out_side)`."""
        outputs, inputs = self.weight.shape[:2]
        before, after = self.side**2, self.out_side**2
        dense = (self.weight.reshape(outputs * inputs, -1) @ self.basis).reshape(outputs, inputs, before, after)
        dense = dense.permute(1, 2, 0, 3).reshape(inputs * before, outputs * after)
        answer = (maps.reshape(len(maps), -1) @ dense).reshape(len(maps), outputs, after)
        return (answer + self.bias[:, None]).reshape(len(maps), outputs, self.out_side, self.out_side)


class Network(nn.Module):
    """A body and a linear head.

    Args:
        body: `(B, 1, 8, 8)` to features `(B, D)`.
        width: D.
        classes: how many logits the head gives.
    """

    def __init__(self, body: nn.Sequential, width: int, classes: int) -> None:
        super().__init__()
        self.body, self.width = body, width
        self.head = nn.utils.skip_init(nn.Linear, width, classes)

    def features(self, images: Tensor) -> Tensor:
        """Images `(B, 8, 8)` in [0, 1] to features `(B, D)`."""
        features: Tensor = self.body(images[:, None])
        return features

    def forward(self, images: Tensor) -> Tensor:
        """Images `(B, 8, 8)` in [0, 1] to logits `(B, classes)`."""
        logits: Tensor = self.head(self.features(images))
        return logits


# channels or widths of the layers, the convolutions' strides, and whether each has a norm
_MLPS = {"mlp64x1": (64,), "mlp48x2": (48, 48)}
_CNNS = {
    "cnn12x2": (12, (2, 2), False),
    "cnn16x2n": (16, (2, 2), True),
    "cnn12x3n": (12, (2, 1, 2), True),
}


def build_network(architecture: str, classes: int, generator: torch.Generator | None = None) -> Network:
    """A network, its weights drawn from `generator`, or unset where there is none."""
    network = _mlp(_MLPS[architecture], classes) if architecture in _MLPS else _cnn(*_CNNS[architecture], classes)
    if generator is not None:
        initialise(network, generator)
    return network


@torch.no_grad()
def initialise(network: nn.Module, generator: torch.Generator) -> None:
    """Draw weights and biases uniformly within 1/sqrt(fan-in), as torch does; norms begin as the identity."""
    for layer in network.modules():
        if isinstance(layer, nn.GroupNorm):
            layer.reset_parameters()
        elif isinstance(layer, (nn.Linear, SmallConvolution)):
            bound = 1 / math.sqrt(layer.weight[0].numel())
            layer.weight.uniform_(-bound, bound, generator=generator)
            layer.bias.uniform_(-bound, bound, generator=generator)


def multiply_adds(network: Network) -> int:
    """The multiply-adds of the body for one image; a convolution's are counted without the padding's savings."""
    total = 0
    for layer in network.body:
        if isinstance(layer, nn.Linear):
            total += layer.weight.numel()
        elif isinstance(layer, SmallConvolution):
            total += layer.weight.numel() * layer.out_side**2
    return total


def body_of(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights without the head's."""
    return {name: weight for name, weight in state.items() if name.startswith("body.")}


def _mlp(widths: tuple[int, ...], classes: int) -> Network:
    layers: list[nn.Module] = [nn.Flatten()]
    before = SIDE * SIDE
    for width in widths:
        layers += [nn.utils.skip_init(nn.Linear, before, width), nn.ReLU()]
        before = width
    return Network(nn.Sequential(*layers), before, classes)


def _cnn(channels: int, strides: tuple[int, ...], normed: bool, classes: int) -> Network:
    layers: list[nn.Module] = []
    before, side = 1, SIDE
    for stride in strides:
        layers.append(SmallConvolution(before, channels, side, stride))
        layers += [nn.GroupNorm(1, channels)] if normed else []
        layers.append(nn.ReLU())
        before, side = channels, side // stride
    layers.append(nn.Flatten())
    return Network(nn.Sequential(*layers), channels * side * side, classes)


@functools.cache
def _shifts(side: int, stride: int) -> Tensor:
    """Which input pixel each output pixel sees through each kernel cell: `(9, side², (side/stride)²)`, flattened."""
    cells = torch.eye(KERNEL * KERNEL).reshape(-1, 1, KERNEL, KERNEL)
    pixels = torch.eye(side * side).reshape(-1, 1, side, side)
    seen = F.conv2d(pixels, cells, stride=stride, padding=1)  # (side², 9, out, out)
    return seen.transpose(0, 1).reshape(KERNEL * KERNEL, -1).contiguous()
