"""The weights of networks as sequences of tokens, one a layer."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import nn

from deepfm.errors import DataError
from deepfm.model_selection.weights.layers import State, layers_of
from deepfm.model_selection.weights.statistics import FEATURES, layer_features


@dataclass(frozen=True, eq=False)
class WeightTokens:
    """One network's layers.

    Args:
        values: `(L, W)`, float32, the features that `FEATURES` names.
        layers: L names.
        kinds: L kinds.
    """

    values: NDArray[np.float32]
    layers: tuple[str, ...]
    kinds: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.layers)


def weight_tokens(network: nn.Module | State) -> WeightTokens:
    """The layers of any network as tokens.

    Args:
        network: a module, or a state as `state_dict()` and safetensors files hold it.

    Raises:
        DataError: there is no weight in it, or one is NaN, infinite or without values.
    """
    layers = layers_of(network)
    features = [layer_features(layer, place, len(layers)) for place, layer in enumerate(layers)]
    limit = float(np.finfo(np.float32).max)
    values = np.clip(np.stack(features), -limit, limit).astype(np.float32)
    return WeightTokens(values, tuple(layer.name for layer in layers), tuple(layer.kind for layer in layers))


def pad_weight_tokens(tokens: Sequence[WeightTokens]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Networks of any depths side by side: values `(B, L, W)`, 0 where a network has no such layer, and mask `(B, L)`.

    Raises:
        DataError: there is no network.
    """
    if not tokens:
        raise DataError("there is no network to encode; expected the weights of at least one")
    longest = max(map(len, tokens))
    values = np.zeros((len(tokens), longest, len(FEATURES)), np.float32)
    for row, one in zip(values, tokens, strict=True):
        row[: len(one)] = one.values
    return values, np.arange(longest) < np.array([len(one) for one in tokens])[:, None]
