"""What is analysed: a model, batches that fit it, and a loss; and the ways to call it without changing it."""

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter
from torch.utils._pytree import tree_flatten, tree_unflatten

from deepfm.analysis.batch import Batch, Loader, make_batch, named_tensors, rows_of, shapes_of, tensors
from deepfm.analysis.guard import untouched
from deepfm.analysis.losses import Loss
from deepfm.analysis.reasons import reason_of
from deepfm.errors import AnalysisError

Outputs = Any
MOST_LOADED = 24  # batches that are taken from a loader


@dataclass(eq=False)
class Subject:
    """A model to analyse; nothing here changes it.

    Args:
        name: what the report calls it.
        model: the model, its parameters on one device.
        batches: one or more, of the same form.
        loss: how a batch becomes a scalar.
        optimizer: the one that trains it, where it is known; only its parameters are looked at.
        batch_dim: the dimension of inputs and targets that counts rows.
        notes: what the report should say beside.
        loader: where training's batches come from, which can be asked again; None where they are simply there.
    """

    name: str
    model: nn.Module
    batches: tuple[Batch, ...]
    loss: Loss
    optimizer: torch.optim.Optimizer | None = None
    batch_dim: int = 0
    notes: list[str] = field(default_factory=list)
    loader: Iterable[Batch] | None = None

    @property
    def device(self) -> torch.device:
        """Where the model lives; the CPU for a model without parameters."""
        first = next((part for part in (*self.model.parameters(), *self.model.buffers())), None)
        return torch.device("cpu") if first is None else first.device

    @property
    def rows(self) -> int:
        """Rows of the first batch."""
        return rows_of(self.batches[0], self.batch_dim)

    @property
    def training_batches(self) -> tuple[Batch, ...]:
        """The batches as training mode takes them: batch normalisation needs two rows, so single ones are joined."""
        normalised = any(isinstance(part, nn.modules.batchnorm._BatchNorm) for part in self.model.modules())
        if not normalised or self.rows > 1:
            return self.batches
        if len(self.batches) == 1:
            return (self.sized(self.batches[0], 2),)
        return (self._joined(self.batches),)

    def _joined(self, batches: Sequence[Batch]) -> Batch:
        """Batches as one, their rows after each other; what does not follow the rows is the first batch's."""
        first, rows = batches[0], rows_of(batches[0], self.batch_dim)
        parts = [tree_flatten((batch.args, batch.kwargs, batch.target)) for batch in batches]

        def join(leaves: tuple[Any, ...]) -> Any:
            leaf = leaves[0]
            follows = isinstance(leaf, Tensor) and leaf.ndim > self.batch_dim and leaf.shape[self.batch_dim] == rows
            return torch.cat(leaves, dim=self.batch_dim) if follows else leaf

        joined = [join(leaves) for leaves in zip(*(flat for flat, _ in parts), strict=True)]
        args, kwargs, target = tree_unflatten(joined, parts[0][1])
        return replace(first, args=args, kwargs=kwargs, target=target)

    def call(self, model: nn.Module, batch: Batch) -> Outputs:
        """The model's output for a batch."""
        return model(*batch.args, **batch.kwargs)

    def loss_of(self, model: nn.Module, batch: Batch) -> Tensor:
        """The scalar loss of a batch."""
        return self.loss(self.call(model, batch), batch.target)

    def sized(self, batch: Batch, rows: int) -> Batch:
        """The batch with so many rows: its first ones, or all of them again and again."""
        have = rows_of(batch, self.batch_dim)
        if have == rows:
            return batch
        picked = torch.arange(rows) % have

        def resize(leaf: Tensor) -> Tensor:
            if leaf.ndim <= self.batch_dim or leaf.shape[self.batch_dim] != have:
                return leaf
            return leaf.index_select(self.batch_dim, picked.to(leaf.device))

        return batch.map(resize)

    def set_mode(self, model: nn.Module, train: bool) -> None:
        """Evaluation mode, or training mode as the model came in: parts that were put in evaluation mode stay there."""
        model.train(train)
        if train and self.model.training:
            for module, own in zip(model.modules(), self.model.modules(), strict=True):
                module.training = own.training

    @contextmanager
    def scratch(self, *, train: bool = True, seed: int = 0) -> Iterator[nn.Module]:
        """A copy of the model to do anything with, in training or evaluation mode, under random streams of its own.

        A model that cannot be copied is itself given, and put back as it was afterwards.
        """
        with untouched(self.model):
            try:
                model = copy.deepcopy(self.model)
            except (RuntimeError, TypeError, NotImplementedError):
                model = self.model
            self.set_mode(model, train)
            for parameter in model.parameters():
                parameter.grad = None
            torch.manual_seed(seed)
            yield model


def make_subject(
    model: nn.Module,
    batches: Any,
    loss: Any = None,
    *,
    optimizer: torch.optim.Optimizer | None = None,
    name: str | None = None,
    batch_dim: int | None = None,
) -> Subject:
    """A subject, once it is sure that the model takes the batch and that there is a scalar to train on.

    Args:
        model: any module.
        batches: one batch, or a list, a loader or an iterator of them, of which the first 24 are taken. With a loss a
            batch is `(inputs, target)`; without, it is the inputs: a tensor, a tuple of arguments, or a dict of
            arguments by name (or one dict, where `forward` takes one).
        loss: a name (`bce`, `ce`, `mse`, `mae`, `huber`, `nll`), a function of output and target, `probe` for a random
            projection of the output, or None where the model's output is the loss.
        batch_dim: the dimension of rows; None to take 0, or 1 for PyTorch's sequence modules with `batch_first=False`.

    Raises:
        AnalysisError: the model cannot be run as it is, does not fit the batch, or gives no scalar loss.
    """
    refuse_unready(model)
    chosen = Loss.named(loss)
    dim = _batch_dim(model) if batch_dim is None else batch_dim
    loads = _is_many(batches) and not isinstance(batches, list)
    listed = list(islice(batches, MOST_LOADED)) if loads else batches if isinstance(batches, list) else [batches]
    if not listed:
        raise AnalysisError("there is no batch to run the model on; give at least one")
    made = tuple(make_batch(model, one, chosen.takes_target) for one in listed)
    subject = Subject(name or type(model).__name__, model, made, chosen, optimizer, dim)
    if loads and len(made) == MOST_LOADED:
        subject.notes.append(f"the first {MOST_LOADED} batches of the loader")
    if loads and not hasattr(batches, "__next__"):
        subject.loader = Loader(batches, lambda one: make_batch(model, one, chosen.takes_target))
    rows_of(made[0], dim)
    _refuse_foreign_device(subject)
    _check_runs(subject)
    return subject


def _is_many(batches: Any) -> bool:
    return isinstance(batches, list) or (
        hasattr(batches, "__next__")
        or (hasattr(batches, "__iter__") and not isinstance(batches, Tensor | tuple | dict))
    )


def _batch_dim(model: nn.Module) -> int:
    """PyTorch's sequence modules count rows in the second dimension unless told otherwise."""
    first = model.layers[0].self_attn if isinstance(model, nn.TransformerEncoder | nn.TransformerDecoder) else model
    first = first.self_attn if isinstance(first, nn.TransformerEncoderLayer | nn.TransformerDecoderLayer) else first
    sequential = isinstance(first, nn.RNNBase | nn.MultiheadAttention | nn.Transformer)
    return int(sequential and not first.batch_first)


def refuse_unready(model: nn.Module) -> None:
    """Refuse what cannot be run as it is.

    Raises:
        AnalysisError: no module, one of TorchScript, or parameters without a shape or values.
    """
    if not isinstance(model, nn.Module):
        raise AnalysisError(f"the model is a {type(model).__name__}; expected a torch.nn.Module")
    if isinstance(model, torch.jit.ScriptModule):
        raise AnalysisError("the model is compiled by TorchScript, which lets nobody watch it; give the module it was")
    for name, part in (*model.named_parameters(), *model.named_buffers()):
        if isinstance(part, UninitializedParameter | UninitializedBuffer):
            raise AnalysisError(
                f"parameter {name!r} has no shape yet, as its module is lazy; run the model once on a batch first"
            )
        if part.is_meta:
            raise AnalysisError(
                f"parameter {name!r} is on the meta device and has no values; fill it, as with "
                "model.to_empty(device=…) and an initialisation"
            )


def _refuse_foreign_device(subject: Subject) -> None:
    devices = {part.device for part in (*subject.model.parameters(), *subject.model.buffers())}
    if len(devices) > 1:
        raise AnalysisError(f"the model lies on {sorted(map(str, devices))}; expected one device, so move it with .to")
    for batch in subject.batches:
        for leaf in tensors(batch.args, batch.kwargs, batch.target):
            if devices and leaf.device != subject.device:
                raise AnalysisError(
                    f"the model is on {subject.device} and a batch holds a tensor on {leaf.device}; move one with .to"
                )


def _check_runs(subject: Subject) -> None:
    """Run once in evaluation mode, so that every later measurement may rely on it."""
    where: list[str] = []

    def entering(name: str) -> Callable[..., None]:
        def hook(*_: Any) -> None:
            where.append(name)

        return hook

    with subject.scratch(train=False) as model, torch.no_grad():
        handles = [
            module.register_forward_pre_hook(entering(name), with_kwargs=True)
            for name, module in model.named_modules()
            if name
        ]
        batch = subject.batches[0]
        try:
            output = subject.call(model, batch)
        except Exception as error:
            raise AnalysisError(_misfit(subject, model, batch, where, error)) from error
        finally:
            for handle in handles:
                handle.remove()
        try:
            loss = subject.loss(output, batch.target)
        except AnalysisError:
            raise
        except Exception as error:
            shapes = f"outputs {shapes_of(output)} and target {shapes_of(batch.target)}"
            raise AnalysisError(f"the loss {subject.loss.name} fails on {shapes}: {reason_of(error)}") from error
    if not isinstance(loss, Tensor) or loss.ndim != 0:
        if subject.loss.takes_target:
            raise AnalysisError(
                f"the loss {subject.loss.name} gives {shapes_of(loss)} and no scalar; take its mean over the rows"
            )
        raise AnalysisError(
            f"the model's output is {shapes_of(loss)} and no scalar loss; name one with --loss (loss=), such as bce, "
            "ce, mse or module:function, or probe to measure gradients of a random projection"
        )
    if not loss.is_floating_point():
        raise AnalysisError(f"the loss is of type {loss.dtype}; expected a floating-point scalar")


def _misfit(subject: Subject, model: nn.Module, batch: Batch, where: Sequence[str], error: Exception) -> str:
    given = ", ".join(f"{name} {tuple(leaf.shape)}" for name, leaf in named_tensors(batch, model).items())
    place = ""
    if where:
        module = model.get_submodule(where[-1])
        weights = ", ".join(f"{name} {tuple(part.shape)}" for name, part in module.named_parameters(recurse=False))
        place = f" in module {where[-1]!r} ({type(module).__name__}{', ' + weights if weights else ''})"
    hint = ""
    if not subject.loss.takes_target and len(batch.args) == 2 and "positional argument" in str(error):
        hint = "; if the second is the target, name the loss with --loss (loss=)"
    return f"{subject.name} does not take the batch ({given}): it fails{place}: {reason_of(error)}{hint}"
