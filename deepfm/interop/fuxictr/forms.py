"""What a model of FuxiCTR becomes, and the keys that many of its models share."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from deepfm.interop.fuxictr.keys import Keys, as_number

Section = dict[str, Any]
ACTIVATIONS = {  # by FuxiCTR's name in lower case
    "relu": "relu",
    "sigmoid": "sigmoid",
    "tanh": "tanh",
    "gelu": "gelu",
    "silu": "silu",
    "leakyrelu": "leaky_relu",
}
KNOWN_ACTIVATIONS = "relu, sigmoid, tanh, GELU, SiLU, LeakyReLU"
THREE = (64, 64, 64)  # FuxiCTR's default of most towers


@dataclass(frozen=True)
class Form:
    """What a model of FuxiCTR is here.

    Args:
        name: FuxiCTR's name.
        model_name: ours.
        sections: our sections and their keys.
        first_order: whether FuxiCTR's has linear weights, in tables of their own that no two columns share.
        equal_widths: whether it needs all columns equally wide.
        always_there: whether ours counts a field of zeros as absent, which FuxiCTR's does not.
        histories: target and sequence column of each behaviour sequence.
        heads: how many attention heads share the width of a behaviour sequence's tokens.
        context: columns that the model names beside those.
        note: what to know of the model.
    """

    name: str
    model_name: str
    sections: dict[str, Section]
    first_order: bool = False
    equal_widths: bool = True
    always_there: bool = False
    histories: tuple[tuple[str, str], ...] = ()
    heads: int = 1
    context: tuple[str, ...] = ()
    note: str = ""

    @property
    def unpooled(self) -> set[str]:
        """The behaviour sequences."""
        return {sequence for _, sequence in self.histories}


def tower(
    keys: Keys,
    units: str = "hidden_units",
    activations: str = "hidden_activations",
    *,
    default: Sequence[int] = THREE,
    older: Sequence[str] = (),
) -> Section:
    """The `dnn` section of a model's one tower; `older` are FuxiCTR 1's names of its activations."""
    return {
        "hidden_units": some_widths(keys, units, default),
        "activation": activation(keys, activations, older=older),
        "dropout": dropout(keys, "net_dropout"),
        "use_batch_norm": keys.flag("batch_norm", False),
    }


def some_widths(keys: Keys, name: str, default: Sequence[int], *, older: Sequence[str] = ()) -> list[int]:
    """The widths of a network that ours always has."""
    widths = keys.widths(name, default, older=older)
    if not widths:
        keys.refuse(name, "this model always has that network here; write one width at least")
    return widths or [1]


def activation(
    keys: Keys, name: str, default: str = "ReLU", *, known: str = KNOWN_ACTIVATIONS, older: Sequence[str] = ()
) -> str:
    """An activation that is here too, the same in all layers."""
    given = keys.take(name, default, older=older)
    kinds = {str(one).lower() for one in given} if isinstance(given, list) else {str(given).lower()}
    ours = ACTIVATIONS.get(kinds.pop()) if len(kinds) == 1 else None
    if ours is None:
        keys.refuse(name, f"not an activation that is here too; write one of {known} for all layers", "relu")
    return ours or "relu"


def dropout(keys: Keys, name: str) -> float:
    """A dropout, the same in all layers."""
    given = keys.take(name, 0)
    shares = {as_number(one) for one in given} if isinstance(given, list) and given else {as_number(given)}
    share = shares.pop() if len(shares) == 1 else None
    if share is None or not 0 <= share < 1:
        keys.refuse(name, "expected one share of at least 0 and below 1, as layers have no dropouts of their own here")
        return 0.0
    return share
