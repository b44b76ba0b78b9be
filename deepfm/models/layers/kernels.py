"""What makes a step fast: four operations with hand-written gradients, and the switches around them.

Models and layers call these functions and know nothing of how they work. Each has a plain form in ordinary torch
operations, which is what `torch.compile`, export, autocast, MPS and `plain_kernels()` see; the fast form gives the
same numbers:

- `lookup`: rows of a table. torch scatters the gradient row by row into a new table of zeros; here the ids are sorted
  once and the rows of each id summed in one pass, and a large table may have its gradient as a sparse tensor of the
  rows that occurred.
- `dropout`: torch draws one float a value on one thread; here one 64-bit draw serves four values.
- `pair_products`: the second-order term with the gradient g·(s - x) in one pass.
- `interact`: a CIN layer in chunks whose outer products stay in the processor's cache and are formed again in the
  backward pass instead of being kept.
"""

import threading
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

CHUNK_ROWS = 4096  # rows (b·D, F) of the examples that a CIN takes at once
CHUNK_VALUES = 1 << 17  # values of an outer product's chunk: half a megabyte, a share of one core's cache
LANES = 4  # 16-bit numbers in a 64-bit draw

T = TypeVar("T")
_state = {"fast": True}


class _Scoring(threading.local):
    memory: dict[Hashable, Any] | None = None


_scoring = _Scoring()


@contextmanager
def plain_kernels() -> Iterator[None]:
    """Ordinary torch operations only, for a while: slower, and differentiable twice."""
    before, _state["fast"] = _state["fast"], False
    try:
        yield
    finally:
        _state["fast"] = before


@contextmanager
def scoring_kernels() -> Iterator[None]:
    """Weights stay as they are for a while, so layers may fold together once; hooks on those layers stay silent."""
    before, _scoring.memory = _scoring.memory, {}
    try:
        yield
    finally:
        _scoring.memory = before


def scoring() -> bool:
    """Whether layers may fold in this thread."""
    return _scoring.memory is not None and _state["fast"]


def remembered(key: Hashable, make: Callable[[], T]) -> T:
    """What `make` gives, made once within `scoring_kernels`."""
    if _scoring.memory is None:
        return make()
    if key not in _scoring.memory:
        _scoring.memory[key] = make()
    kept: T = _scoring.memory[key]
    return kept


def _fast(tensor: Tensor, *kinds: str) -> bool:
    """Whether the hand-written form applies to a tensor, on one of these kinds of device."""
    return (
        _state["fast"]
        and tensor.device.type in (kinds or ("cpu", "cuda"))
        and tensor.dtype is torch.float32
        and not torch.compiler.is_compiling()
        and torch._C._get_tracing_state() is None
        and not torch.is_autocast_enabled(tensor.device.type)
    )


def lookup(
    table: Tensor, linear: Tensor, blocks: Sequence[Tensor], keep: Tensor, sparse: bool = False
) -> list[tuple[Tensor, Tensor]]:
    """Rows of two tables that are indexed alike.

    Args:
        table: `(R, w)`.
        linear: `(R, 1)`.
        blocks: integer row numbers, each of any shape.
        keep: `(R, 1)`, 0 for the rows that are padding: they get no gradient; 1 for the others.
        sparse: whether the gradients are sparse tensors of the rows that occur, coalesced in the fast form.

    Returns:
        for each block the rows of `table`, shape `block.shape + (w,)`, and of `linear`, shape `block.shape`.
    """
    if _fast(table, "cpu"):  # elsewhere the count of distinct rows would have to be waited for
        found = _Lookup.apply(table, linear, keep, sparse, *blocks)
        return list(zip(found[::2], found[1::2], strict=True))
    pairs = []
    for block in blocks:
        kept = F.embedding(block, keep)  # (..., 1)
        rows, terms = F.embedding(block, table, sparse=sparse), F.embedding(block, linear, sparse=sparse)
        rows, terms = (found * kept + found.detach() * (1 - kept) for found in (rows, terms))
        pairs.append((rows, terms.squeeze(-1)))
    return pairs


class _Lookup(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, table: Tensor, linear: Tensor, keep: Tensor, sparse: bool, *blocks: Tensor) -> Any:
        ctx.save_for_backward(keep, *blocks)
        ctx.set_materialize_grads(False)  # a view that nobody used leaves its table alone
        ctx.sparse, ctx.shapes = sparse, (table.shape, linear.shape)
        found = []
        for block in blocks:
            rows = block.reshape(-1)
            found.append(table.index_select(0, rows).view(*block.shape, table.shape[1]))
            found.append(linear.view(-1).index_select(0, rows).view(block.shape))
        return tuple(found)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor | None) -> Any:
        keep, *blocks = ctx.saved_tensors
        ids = _joined([block.reshape(-1) for block in blocks])
        ordered, order = ids.sort(stable=True)
        first = torch.ones_like(ordered, dtype=torch.bool)
        torch.ne(ordered[1:], ordered[:-1], out=first[1:])
        starts = first.nonzero().squeeze(1)  # where each distinct row begins
        rows = ordered.index_select(0, starts).long()
        kept = keep.index_select(0, rows)
        starts = starts.to(order.dtype)
        answers: list[Tensor | None] = []
        for shape, parts, needed in zip(ctx.shapes, (grads[::2], grads[1::2]), ctx.needs_input_grad[:2], strict=True):
            if not needed or all(part is None for part in parts):
                answers.append(None)
                continue
            flat = _joined(
                [
                    keep.new_zeros(block.numel(), shape[1]) if part is None else part.reshape(-1, shape[1])
                    for part, block in zip(parts, blocks, strict=True)
                ]
            )
            summed = F.embedding_bag(order, flat, starts, mode="sum").mul_(kept)  # (distinct rows, w)
            if ctx.sparse:
                answers.append(
                    torch.sparse_coo_tensor(rows[None], summed, shape, is_coalesced=True, check_invariants=False)
                )
            else:
                answers.append(summed.new_zeros(shape).index_copy_(0, rows, summed))
        return (*answers, None, None, *(None for _ in blocks))


def _joined(parts: list[Tensor]) -> Tensor:
    return parts[0].contiguous() if len(parts) == 1 else torch.cat(parts)


def dropout(x: Tensor, p: float, training: bool) -> Tensor:
    """Zero each value with probability `p`, to a 65,536th, and scale the others to keep the mean (training only)."""
    bound = round(p * 65_536) - 32_769  # draws at or below it are dropped
    if not training or bound < -32_768:
        return x
    traced = torch.compiler.is_compiling() or torch._C._get_tracing_state() is not None
    if x.device.type != "cpu" or x.dtype is not torch.float32 or traced or bound >= 32_766:
        return F.dropout(x, p, training)
    draws = torch.empty(-(-x.numel() // LANES), dtype=torch.int64).random_(-(2**63), None)
    lanes = draws.view(torch.int16)[: x.numel()].view(x.shape)  # uniform on -32,768 to 32,767
    if _fast(x, "cpu"):
        dropped: Tensor = _Dropout.apply(x, lanes, bound)
        return dropped
    return x * (lanes > bound) / _share_kept(bound)


def _share_kept(bound: int) -> float:
    return (32_767 - bound) / 65_536


class _Dropout(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, lanes: Tensor, bound: int) -> Tensor:
        ctx.save_for_backward(lanes)
        ctx.bound = bound
        return _drop(x, lanes, bound)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Any:
        return _drop(grad, ctx.saved_tensors[0], ctx.bound), None, None


def _drop(x: Tensor, lanes: Tensor, bound: int) -> Tensor:
    # "x where lane > bound, else 0" in the one vectorised pass that torch has for it.
    dropped: Tensor = torch.ops.aten.threshold_backward(x, lanes.float(), bound)
    return dropped.mul_(1.0 / _share_kept(bound))


def pair_products(x: Tensor) -> Tensor:
    """Σ over pairs of fields of their inner product: `(B, F, D)` to `(B, 1)` (Rendle, 2010, lemma 3.1)."""
    if _fast(x):
        total: Tensor = _Pairwise.apply(x)
        return total
    square_of_sum = x.sum(dim=1).square()  # (B, D)
    sum_of_squares = x.square().sum(dim=1)  # (B, D)
    return 0.5 * (square_of_sum - sum_of_squares).sum(dim=1, keepdim=True)


class _Pairwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        total = x.sum(dim=1)  # (B, D)
        ctx.save_for_backward(x, total)
        flat = x.flatten(1)
        squares = torch.linalg.vecdot(flat, flat)  # (B,)
        return 0.5 * (torch.linalg.vecdot(total, total) - squares).unsqueeze(1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        x, total = ctx.saved_tensors
        return (total.unsqueeze(1) - x).mul_(grad.unsqueeze(2))  # ∂/∂x_i = Σ_j x_j - x_i


def interact(maps: Tensor, fields: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """One CIN layer before its activation: the outer product of maps and fields, compressed.

    Args:
        maps: `(N, H)`, an embedding dimension of an example a row.
        fields: `(N, F)`.
        weight: `(O, H·F)`.
        bias: `(O,)`.

    Returns:
        `(N, O)`.
    """
    if _fast(maps, "cpu"):
        out: Tensor = _Interact.apply(maps, fields, weight, bias)
        return out
    return F.linear((maps.unsqueeze(2) * fields.unsqueeze(1)).flatten(1), weight, bias)


class _Interact(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, maps: Tensor, fields: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(maps, fields, weight)
        kernel = _fields_first(weight, maps.shape[1])  # (F·H, O)
        out = maps.new_empty(len(maps), len(weight))
        for part in _chunks(maps, fields):
            torch.addmm(bias, _outer(maps[part], fields[part]).flatten(1), kernel, out=out[part])
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Any:
        maps, fields, weight = ctx.saved_tensors
        num_maps, num_fields = maps.shape[1], fields.shape[1]
        kernel = _fields_first(weight, num_maps)
        grad_kernel = torch.zeros_like(kernel)
        grad_maps = torch.empty_like(maps, memory_format=torch.contiguous_format)
        grad_fields = torch.empty_like(fields, memory_format=torch.contiguous_format)
        for part in _chunks(maps, fields):
            m, f, g = maps[part], fields[part], grad[part].contiguous()
            grad_kernel.addmm_(_outer(m, f).flatten(1).t(), g)
            outer = (g @ kernel.t()).unflatten(1, (num_fields, num_maps))  # the outer product's gradient
            torch.bmm(f.unsqueeze(1), outer, out=grad_maps[part].unsqueeze(1))
            torch.sum(outer.mul_(m.unsqueeze(1)), dim=2, out=grad_fields[part])
        grad_weight = grad_kernel.view(num_fields, num_maps, -1).permute(2, 1, 0).reshape(weight.shape)
        return grad_maps, grad_fields, grad_weight, grad.sum(dim=0)


def _fields_first(weight: Tensor, num_maps: int) -> Tensor:
    """`(O, H·F)` as `(F·H, O)`: long runs of maps vectorise, short ones of fields do not."""
    return weight.unflatten(1, (num_maps, -1)).permute(2, 1, 0).reshape(-1, len(weight))


def _outer(maps: Tensor, fields: Tensor) -> Tensor:
    return fields.unsqueeze(2) * maps.unsqueeze(1)  # (n, F, H)


def chunk_size(x: Tensor) -> int:
    """How many examples `(B, F, D)` a CIN takes at once: few enough on CPU for all its maps to stay in the cache."""
    return max(1, CHUNK_ROWS // x.shape[2]) if _fast(x, "cpu") else max(1, len(x))


def _chunks(maps: Tensor, fields: Tensor) -> Iterator[slice]:
    size = max(64, CHUNK_VALUES // (maps.shape[1] * fields.shape[1]))
    for start in range(0, len(maps), size):
        yield slice(start, start + size)
