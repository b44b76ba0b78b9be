"""What goes in and what comes out: shapes and which dimensions are free, types, ranges, ids and their bounds."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from deepfm.analysis.batch import Batch, named_tensors, tensors
from deepfm.analysis.subject import Subject

BATCH = "B"


@dataclass(frozen=True)
class TensorFacts:
    """A tensor as it goes in or comes out.

    Args:
        dims: its sizes; one that follows the rows is "B", one that may vary is "L", "M", … behind its size.
        low, high, mean: of its numbers that are finite; None where there are none.
    """

    name: str
    shape: tuple[int, ...]
    dims: tuple[str, ...]
    dtype: str
    low: float | None
    high: float | None
    mean: float | None
    nan: int
    inf: int


@dataclass(frozen=True)
class VocabularyFacts:
    """A table of embeddings and the ids that the batches asked it for."""

    module: str
    rows: int
    low: int
    high: int
    padding: int | None
    padding_share: float | None


@dataclass(frozen=True)
class Contract:
    """What a batch must be and what the model makes of it.

    Args:
        free: letter → size that was tried beside the given one and worked.
        promises: what whoever made the batches says of a field (a schema's vocabulary and padding), by its name.
    """

    SOURCES: ClassVar[dict[str, str]] = {
        "dims": "measured: runs with other rows and with other sizes",
        "range": "measured: all batches",
        "vocabularies": "measured: ids that embeddings were asked for",
    }
    inputs: tuple[TensorFacts, ...]
    outputs: tuple[TensorFacts, ...]
    free: Mapping[str, int]
    vocabularies: tuple[VocabularyFacts, ...]
    promises: Mapping[str, str]


def measure_contract(subject: Subject, promises: Mapping[str, str] | None = None) -> Contract:
    """Run the model at other sizes in evaluation mode, and look at what goes in and out."""
    given = subject.batches[0]
    seen: dict[str, list[Tensor]] = {}
    for batch in subject.batches:
        for name, leaf in named_tensors(batch, subject.model).items():
            seen.setdefault(name, []).append(leaf)
    with subject.scratch(train=False) as model, torch.no_grad():
        vocabularies = _vocabularies(subject, model)
        output = subject.call(model, given)
        smaller = subject.sized(given, max(1, subject.rows - 1)) if subject.rows > 1 else subject.sized(given, 2)
        other_rows = _try(subject, model, smaller)
        free = _free_dims(subject, model, given)
    letters = {size: letter for letter, (size, _) in free.items()}
    follows = {BATCH: (output, other_rows)} | {letter: (output, changed) for letter, (_, changed) in free.items()}
    inputs = tuple(_facts(name, leaves, _input_dims(subject, leaves[0], letters)) for name, leaves in seen.items())
    named = _named_outputs(output)
    outputs = tuple(
        _facts(name, [leaf], _output_dims(place, leaf, follows)) for place, (name, leaf) in enumerate(named)
    )
    sizes = {letter: size for letter, (size, _) in free.items()}
    return Contract(inputs, outputs, sizes, vocabularies, dict(promises or {}))


def _try(subject: Subject, model: nn.Module, batch: Batch) -> Any:
    """The output, or None where the model does not take this."""
    try:
        return subject.call(model, batch)
    except Exception:  # whatever a foreign forward raises at a size that it was not made for
        return None


def _free_dims(subject: Subject, model: nn.Module, given: Batch) -> dict[str, tuple[int, Any]]:
    """Letter → a size and the output when every input of that size is one shorter there."""
    leaves = tensors(given.args, given.kwargs)
    sizes = sorted({leaf.shape[dim] for leaf in leaves for dim in range(leaf.ndim) if dim != subject.batch_dim})
    found: dict[str, tuple[int, Any]] = {}
    for size in sizes:
        if size < 2 or size == subject.rows:
            continue

        def shorter(leaf: Tensor, size: int = size) -> Tensor:
            for dim in range(leaf.ndim):
                if dim != subject.batch_dim and leaf.shape[dim] == size:
                    leaf = leaf.narrow(dim, 0, size - 1)
            return leaf

        def change(part: Any, change: Any = shorter) -> Any:
            return tree_map(lambda leaf: change(leaf) if isinstance(leaf, Tensor) else leaf, part)

        output = _try(subject, model, Batch(change(given.args), change(given.kwargs), given.target))
        if output is not None:
            found["LMNPQRSTUVWXYZ"[len(found) % 14]] = size, output
    return found


def _input_dims(subject: Subject, leaf: Tensor, letters: Mapping[int, str]) -> tuple[str, ...]:
    def named(dim: int, size: int) -> str:
        if dim == subject.batch_dim and size == subject.rows:
            return BATCH
        return f"{letters[size]}={size}" if size in letters else str(size)

    return tuple(named(dim, size) for dim, size in enumerate(leaf.shape))


def _output_dims(place: int, leaf: Tensor, follows: Mapping[str, tuple[Any, Any]]) -> tuple[str, ...]:
    named = [str(size) for size in leaf.shape]
    for letter, (_, changed) in follows.items():
        others = tensors(changed)
        if place < len(others) and others[place].ndim == leaf.ndim:
            for dim, (size, other) in enumerate(zip(leaf.shape, others[place].shape, strict=True)):
                if size != other and named[dim] == str(size):
                    named[dim] = BATCH if letter == BATCH else f"{letter}={size}"
    return tuple(named)


def _facts(name: str, leaves: list[Tensor], dims: tuple[str, ...]) -> TensorFacts:
    first = leaves[0]
    flat = torch.cat([leaf.detach().reshape(-1).cpu() for leaf in leaves])
    numbers = flat.to(torch.float64) if not flat.is_complex() else flat.abs().to(torch.float64)
    finite = numbers[torch.isfinite(numbers)]
    some = len(finite) > 0
    return TensorFacts(
        name,
        tuple(first.shape),
        dims,
        str(first.dtype).removeprefix("torch."),
        float(finite.min()) if some else None,
        float(finite.max()) if some else None,
        float(finite.mean()) if some else None,
        int(torch.isnan(numbers).sum()),
        int(torch.isinf(numbers).sum()),
    )


def _named_outputs(output: Any) -> list[tuple[str, Tensor]]:
    if isinstance(output, Mapping):
        return [(str(key), leaf) for key, part in output.items() for leaf in tensors(part)]
    found = tensors(output)
    return [("output" if len(found) == 1 else f"output[{place}]", leaf) for place, leaf in enumerate(found)]


def _vocabularies(subject: Subject, model: nn.Module) -> tuple[VocabularyFacts, ...]:
    asked: dict[str, list[Tensor]] = {}
    tables = {name: part for name, part in model.named_modules() if isinstance(part, nn.Embedding | nn.EmbeddingBag)}

    def watching(name: str) -> Any:
        def hook(_: nn.Module, args: Any) -> None:
            asked.setdefault(name, []).append(args[0].detach().reshape(-1))

        return hook

    handles = [table.register_forward_pre_hook(watching(name)) for name, table in tables.items()]
    for batch in subject.batches:
        _try(subject, model, batch)
    for handle in handles:
        handle.remove()
    found = []
    for name, ids in asked.items():
        every, table = torch.cat(ids), tables[name]
        padding = table.padding_idx
        share = None if padding is None else float((every == padding).float().mean())
        found.append(VocabularyFacts(name, table.num_embeddings, int(every.min()), int(every.max()), padding, share))
    return tuple(found)
