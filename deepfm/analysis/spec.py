"""Inputs from a line of text: `tokens:f32[8,20,512], mask:bool[8,20], ids:i64[8,20]<1000, target:f32[8]`."""

import re
from typing import Any

import torch
from torch import Tensor

from deepfm.errors import AnalysisError

TYPES = {
    **{"f16": torch.float16, "bf16": torch.bfloat16, "f32": torch.float32, "f64": torch.float64},
    **{"i32": torch.int32, "i64": torch.int64, "bool": torch.bool},
}
TARGET = "target"
MASKED = 0.2  # of a boolean input that is true
PART = re.compile(r"^(?P<name>[^\W\d]\w*):(?P<type>\w+)\[(?P<sizes>[\d\s,]*)\](?:<(?P<above>\d+))?$")


def random_batch(spec: str, seed: int = 0) -> Any:
    """Random inputs as a dict by name, and with a part that is named `target` a pair of inputs and target.

    Args:
        spec: `name:type[sizes]` with commas between; whole numbers need `<N` behind, which they stay below.

    Raises:
        AnalysisError: a part is none of this form.
    """
    source = torch.Generator().manual_seed(seed)
    made: dict[str, Tensor] = {}
    for part in _split(spec):
        name, tensor = _tensor(part, source)
        if name in made:
            raise AnalysisError(f"--spec names {name!r} twice; give each input once")
        made[name] = tensor
    if not made:
        raise AnalysisError("--spec is empty; expected such as 'tokens:f32[8,20,512], mask:bool[8,20]'")
    target = made.pop(TARGET, None)
    return made if target is None else (made, target)


def _split(spec: str) -> list[str]:
    return [part.strip() for part in re.split(r",(?![^\[]*\])", spec) if part.strip()]


def _tensor(part: str, source: torch.Generator) -> tuple[str, Tensor]:
    match = PART.match(part.replace(" ", ""))
    if match is None or match["type"] not in TYPES:
        raise AnalysisError(
            f"--spec holds {part!r}; expected name:type[sizes], such as tokens:f32[8,20,512] or ids:i64[8,20]<1000, "
            f"with a type of {', '.join(TYPES)}"
        )
    sizes = [int(size) for size in match["sizes"].split(",") if size]
    if not all(sizes):
        raise AnalysisError(f"--spec holds {part!r} with a size of 0; expected at least 1 everywhere")
    kind = TYPES[match["type"]]
    if kind == torch.bool:
        return match["name"], torch.rand(sizes, generator=source) < MASKED
    if kind.is_floating_point:
        return match["name"], torch.randn(sizes, generator=source).to(kind)
    if match["above"] is not None and not int(match["above"]):
        raise AnalysisError(f"--spec holds {part!r}, and no number from 0 is below that; expected 1 or more")
    if match["above"] is None:
        raise AnalysisError(
            f"--spec holds whole numbers without a bound, {part!r}; say what they stay below, as {part}<1000"
        )
    return match["name"], torch.randint(int(match["above"]), sizes, generator=source).to(kind)
