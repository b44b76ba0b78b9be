"""Which module is at work: in the forward pass by hooks, in the backward pass by the numbers of autograd's nodes."""

from bisect import bisect_right
from typing import Any

import torch
from torch import nn

Place = tuple[str, ...]
"""Names of modules from the outermost, "" (the model itself), to the innermost; empty outside of the model."""


class Places:
    """Follows a model's modules while it runs; a context manager that leaves no hook behind.

    A module that is called twice is at its place both times; one that has two names goes by the first. What the
    backward pass does belongs to the module whose forward pass asked for it, as autograd numbers its nodes in the
    order in which they were made.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self._stack: list[str] = []
        self._starts: list[int] = []
        self._calls: list[tuple[int, Place]] = []  # the last number and the place, in the order of `_starts`
        self._handles: list[Any] = []

    def __enter__(self) -> "Places":
        for name, module in self.model.named_modules():
            if isinstance(module, torch.jit.ScriptModule):
                continue
            enter, leave = self._hooks(name)
            self._handles.append(module.register_forward_pre_hook(enter, prepend=True))
            self._handles.append(module.register_forward_hook(leave, always_call=True))
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    @property
    def current(self) -> Place:
        """Where the operation of this moment belongs."""
        if self._stack:
            return tuple(self._stack)
        node = torch._C._current_autograd_node()
        return () if node is None else self._of_number(node._sequence_nr())

    def _of_number(self, number: int) -> Place:
        for at in range(bisect_right(self._starts, number) - 1, -1, -1):
            end, place = self._calls[at]
            if number < end:
                return place
        return ()

    def _hooks(self, name: str) -> tuple[Any, Any]:
        def enter(*_: Any) -> None:
            self._stack.append(name)
            self._starts.append(_next_number())
            self._calls.append((1 << 62, tuple(self._stack)))

        def leave(*_: Any) -> None:
            place = tuple(self._stack)
            at = next(at for at in range(len(self._calls) - 1, -1, -1) if self._calls[at] == (1 << 62, place))
            self._calls[at] = (_next_number(), place)
            self._stack.pop()

        return enter, leave


def _next_number() -> int:
    """Of the node that autograd would make next."""
    return torch._C._autograd._get_sequence_nr()
