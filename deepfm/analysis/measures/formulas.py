"""FLOPs of operations for which torch's counter has no formula, or a wrong one, from the shapes of their arguments."""

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import torch

aten = torch.ops.aten
Shape = Sequence[int]


def mv(matrix: Shape, *_: Any, **__: Any) -> int:
    """A matrix (M, K) times a vector: 2 M K."""
    return 2 * prod(matrix)


def addmv(_start: Shape, matrix: Shape, *_: Any, **__: Any) -> int:
    """The same, added to something."""
    return 2 * prod(matrix)


def dot(one: Shape, *_: Any, **__: Any) -> int:
    """Two vectors of K: 2 K."""
    return 2 * prod(one)


def addbmm(_start: Shape, one: Shape, other: Shape, *_: Any, **__: Any) -> int:
    """(B, M, K) times (B, K, N), summed over B: 2 B M K N."""
    return 2 * prod(one) * other[2]


def trilinear(
    first: Shape,
    second: Shape,
    third: Shape,
    expand1: Shape,
    expand2: Shape,
    expand3: Shape,
    summed: Shape,
    *_: Any,
    **__: Any,
) -> int:
    """A sum over the product of three tensors, as `nn.Bilinear` is: two products of matrices, one after the other.

    Dimensions that the third one lacks are summed in the first product (ATen, `_trilinear`).
    """
    shapes = []
    for shape, expanded in ((first, expand1), (second, expand2), (third, expand3)):
        sizes = list(shape)
        for dim in sorted(expanded):
            sizes.insert(dim, 1)
        shapes.append(sizes)
    space = [max(sizes) for sizes in zip(*shapes, strict=True)]
    early = [dim for dim in summed if dim in expand3]
    return 2 * prod(space) + 2 * prod(size for dim, size in enumerate(space) if dim not in early)


def convolution_backward(
    gradient: Shape,
    given: Shape,
    weight: Shape,
    _bias: Any,
    _stride: Any,
    _padding: Any,
    _dilation: Any,
    transposed: bool,
    _output_padding: Any,
    _groups: int,
    wanted: Sequence[bool],
    **__: Any,
) -> int:
    """The gradients of input and weight take as much as the convolution each.

    Torch's own formula multiplies the weight's by the number of groups.
    """
    places = given if transposed else gradient
    return 2 * places[0] * prod(places[2:]) * prod(weight) * sum(wanted[:2])


FORMULAS: dict[Any, Callable[..., int]] = {
    aten.convolution_backward: convolution_backward,
    aten.mv: mv,
    aten.addmv: addmv,
    aten.dot: dot,
    aten.vdot: dot,
    aten.addbmm: addbmm,
    aten._trilinear: trilinear,
}
