"""Is the backward pass the derivative of the forward pass? `torch.autograd.gradcheck` in float64 on two rows."""

import math
import re
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.autograd.gradcheck import GradcheckError, gradcheck
from torch.func import functional_call
from torch.utils._pytree import tree_flatten, tree_unflatten

from deepfm.analysis.batch import Batch, named_tensors, tensors
from deepfm.analysis.losses import probe
from deepfm.analysis.reasons import reason_of
from deepfm.analysis.subject import Subject

ROWS = 2
ATTEMPTS = 3  # a wrong backward fails at every point, a kink at one
DIRECTIONS = 3
LEAST = 1e-6  # a derivative that differences of 1e-6 in float64 can still tell from nothing
JITTER = 1e-3  # of a tensor's own size, from the second attempt on


@dataclass(frozen=True)
class Place:
    """An input or a parameter, and the derivative along a random direction by differences and by autograd.

    Args:
        numerical, analytical: scaled to about 1 where there is a gradient; None where not finite.
        error: |numerical − analytical| over the larger of the two.
    """

    name: str
    kind: str
    passed: bool
    numerical: float | None = None
    analytical: float | None = None
    error: float | None = None
    message: str = ""


@dataclass(frozen=True)
class GradientCheck:
    """What was checked, and the worst of what failed.

    Args:
        passed: None where nothing could be checked.
        worst: the name of the failed place of the largest error.
        checked, total: places checked within the budget, and all there are.
        attempts: the most points looked at for one place.
        unchecked: places that torch cannot check, with the reason.
    """

    passed: bool | None = None
    worst: str | None = None
    failures: tuple[Place, ...] = ()
    checked: int = 0
    total: int = 0
    inputs: int = 0
    parameters: int = 0
    attempts: int = 0
    unchecked: dict[str, str] | None = None
    skipped: str | None = None

    SOURCES: ClassVar[dict[str, str]] = {
        "passed": "measured: gradcheck's fast mode in float64, two rows, evaluation mode",
        "failures": "measured: at three points each, of which two have jittered inputs and parameters",
        "worst": "derived: of the failures",
        "checked": "measured: counted",
        "total": "measured: counted",
        "inputs": "measured: counted, of those checked",
        "parameters": "measured: counted, of those checked",
        "attempts": "measured: counted",
    }


def measure_gradcheck(subject: Subject, *, budget_seconds: float = 6.0, seed: int = 0) -> GradientCheck:
    """Check floating-point inputs, then parameters, one by one until the time is used.

    Args:
        budget_seconds: from the first place on, which is always checked; parameters are taken evenly over the model.
    """
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with subject.scratch(train=False, seed=seed) as model, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if model is subject.model:
                return GradientCheck(skipped="the model cannot be copied, and a check in float64 would change it")
            model.double()
            batch = subject.sized(subject.batches[0], ROWS).map(
                lambda leaf: leaf.double() if leaf.is_floating_point() else leaf
            )
            return _check(subject, model, batch, budget_seconds, seed)
    except Exception as error:
        return GradientCheck(skipped=reason_of(error))
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


def _check(subject: Subject, model: nn.Module, batch: Batch, budget_seconds: float, seed: int) -> GradientCheck:
    watched = batch.map(lambda leaf: leaf.clone().requires_grad_() if leaf.is_floating_point() else leaf)
    output = subject.call(model, watched)
    found = [leaf for leaf in tensors(output) if leaf.is_floating_point()]
    if not found:
        return GradientCheck(skipped="the model gives no floating-point output")
    if any(leaf.dtype != torch.float64 for leaf in found) or _leaves_float64(found):
        return GradientCheck(skipped="the model computes in float32 inside, where differences of 1e-6 drown")
    if not any(leaf.requires_grad for leaf in found) and not _has_float_input(batch):
        return GradientCheck(skipped="no output depends on a parameter, and no input is floating point")
    given = {name: leaf for name, leaf in named_tensors(batch, model).items() if leaf.is_floating_point()}
    own = [name for name, part in model.named_parameters() if part.requires_grad]
    places = [*((name, "input") for name in given), *((name, "parameter") for name in _spread(own))]
    ended = math.inf
    checked: list[Place] = []
    unchecked: dict[str, str] = {}
    most = 0
    for name, kind in places:
        if checked and time.perf_counter() > ended:
            break
        if checked and ended == math.inf:  # torch imports a good deal for the first
            ended = time.perf_counter() + budget_seconds
        for attempt in range(ATTEMPTS):
            most = max(most, attempt + 1)
            place = _check_place(model, batch, name, kind, attempt, seed)
            if isinstance(place, str):
                unchecked[name] = place
                break
            if place.passed or attempt == ATTEMPTS - 1:
                checked.append(place)
                break
    if not checked:
        first = next(
            iter(unchecked.values()), "there is no floating-point input and no parameter that wants a gradient"
        )
        return GradientCheck(total=len(places), unchecked=unchecked, skipped=first)
    failures = tuple(place for place in checked if not place.passed)
    worst = max(failures, key=lambda place: place.error or 0.0).name if failures else None
    inputs = sum(place.kind == "input" for place in checked)
    return GradientCheck(
        not failures, worst, failures, len(checked), len(places), inputs, len(checked) - inputs, most, unchecked
    )


def _check_place(model: nn.Module, batch: Batch, name: str, kind: str, attempt: int, seed: int) -> Place | str:
    """One place at one point; or why torch cannot check it."""
    source = torch.Generator().manual_seed(1000 * seed + attempt)

    def moved(leaf: Tensor) -> Tensor:
        if attempt == 0 or not leaf.is_floating_point():
            return leaf.detach()
        scale = JITTER * float(leaf.detach().abs().mean() or 1.0)
        noise = torch.randn(leaf.shape, generator=source, dtype=torch.float64).to(leaf.device)
        return leaf.detach() + scale * noise

    weights = {key: moved(part) for key, part in model.named_parameters()}
    function, point = _function(model, batch.map(moved), weights, name, kind, seed)
    try:
        along = _directions(function, point, kind, source)
        origin = torch.zeros(DIRECTIONS, dtype=torch.float64, device=point.device, requires_grad=True)
        gradcheck(along, (origin,), fast_mode=True, nondet_tol=1e-9)
    except GradcheckError as error:
        text = str(error)
        if "not reentrant" in text:
            return "the backward pass is not deterministic"
        return Place(name, kind, False, *_read(text), " ".join(text.split())[:200])
    except Exception as error:
        return reason_of(error)
    return Place(name, kind, True)


def _read(text: str) -> tuple[float | None, float | None, float | None]:
    """The two derivatives in gradcheck's message, and how far apart they are."""
    found = [re.search(rf"\b{side}:\s*(\S+)", text) for side in ("numerical", "analytical")]
    try:
        numerical, analytical = (float(one[1]) for one in found if one is not None)
    except ValueError:
        return None, None, None
    if not (math.isfinite(numerical) and math.isfinite(analytical)):
        return None, None, None
    return numerical, analytical, abs(numerical - analytical) / max(abs(numerical), abs(analytical), 1e-300)


def _function(
    model: nn.Module, batch: Batch, weights: dict[str, Tensor], name: str, kind: str, seed: int
) -> tuple[Callable[[Tensor], Tensor], Tensor]:
    """All outputs, summed under random signs, as a function of one tensor; and that tensor."""
    leaves, form = tree_flatten((batch.args, batch.kwargs))
    target = named_tensors(batch, model)[name] if kind == "input" else None
    at = next((place for place, leaf in enumerate(leaves) if leaf is target), None)

    def function(value: Tensor) -> Tensor:
        torch.manual_seed(seed)
        filled, given = list(leaves), dict(weights)
        if at is None:
            given[name] = value
        else:
            filled[at] = value
        args, kwargs = tree_unflatten(filled, form)
        return probe(functional_call(model, given, args, kwargs))

    return function, (weights[name] if target is None else target).clone()


def _directions(
    function: Callable[[Tensor], Tensor], point: Tensor, kind: str, source: torch.Generator
) -> Callable[[Tensor], Tensor]:
    """The function along a few random directions `(DIRECTIONS,)`, scaled to a gradient of about 1.

    A failure of gradcheck's fast mode costs a run for every number of the tensor; so there are few. Rows of a matrix
    without any gradient, such as the padding of a table, which has none on purpose, are left out.
    """
    start = point.clone().requires_grad_()
    value = function(start)
    gradient = torch.zeros_like(point)
    if value.requires_grad:
        found = torch.autograd.grad(value, start, allow_unused=True)[0]
        gradient = gradient if found is None else found.to_dense()
    ways = torch.randn((DIRECTIONS, *point.shape), generator=source, dtype=torch.float64).to(point.device)
    if kind == "parameter" and point.ndim == 2 and bool((gradient != 0).any()):
        ways = ways * (gradient != 0).any(dim=1, keepdim=True)
    ways = ways / ways.reshape(DIRECTIONS, -1).norm(dim=1).clamp(min=1e-300).view(-1, *(1 for _ in point.shape))
    size = float((ways * gradient).reshape(DIRECTIONS, -1).sum(1).abs().max())
    factor = 1 / size if size > LEAST else 1.0

    def along(steps: Tensor) -> Tensor:
        moved = function(point + (steps.view(-1, *(1 for _ in point.shape)) * ways).sum(0))
        return factor * moved + 0.0 * steps.sum()

    return along


def _spread(names: Sequence[str]) -> list[str]:
    """Names in an order whose every beginning is spread over the model."""
    step = max(1, len(names) // 8)
    return [name for first in range(step) for name in names[first::step]]


def _has_float_input(batch: Batch) -> bool:
    return any(leaf.is_floating_point() for leaf in tensors(batch.args, batch.kwargs))


def _leaves_float64(outputs: Sequence[Tensor]) -> bool:
    """Whether a number with a gradient is of less than float64 anywhere between the parameters and the outputs."""
    ahead = [leaf.grad_fn for leaf in outputs if leaf.grad_fn is not None]
    seen = set(ahead)
    while ahead:
        node = ahead.pop()
        for made in getattr(node, "_input_metadata", ()):
            if made is not None and made.dtype.is_floating_point and made.dtype != torch.float64:
                return True
        following = {before for before, _ in node.next_functions if before is not None} - seen
        seen |= following
        ahead.extend(following)
    return False
