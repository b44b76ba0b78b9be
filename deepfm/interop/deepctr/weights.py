"""Weights of DeepCTR-Torch's models in ours, and ours under its names."""

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from deepfm.errors import CheckpointError
from deepfm.interop.deepctr.models.basemodel import BaseModel
from deepfm.interop.deepctr.tables import table_views

# Our names as DeepCTR-Torch has them; tables are apart, as theirs are views of parts of ours.
RENAMED = (
    (r"\bdnn\.layers\.(\d+)\.linear\.", r"dnn.linears.\1."),
    (r"\bdnn\.layers\.(\d+)\.norm\.", r"dnn.bn.\1."),
    (r"\bdnn\.layers\.(\d+)\.activation\.", r"dnn.activation_layers.\1."),
    (r"\bcin\.compressions\.(\d+)\.", r"cin.conv1ds.\1."),
)


def deepctr_weights(model: BaseModel) -> dict[str, Tensor]:
    """A model's weights under DeepCTR-Torch's names and shapes, as views: to write into them is to write into it.

    Copied out, `{name: weight.clone() for …}`, they are a state dict that the same model of DeepCTR-Torch loads.
    """
    columns = model.columns
    own = {
        f"embedding_dict.{name}.weight": view.weight
        for name, view in table_views(columns.dnn_columns, columns, linear=False).items()
    }
    own |= {
        f"linear_model.embedding_dict.{name}.weight": view.weight
        for name, view in table_views(columns.linear_columns, columns, linear=True).items()
    }
    if columns.linear_weight is not None:
        own["linear_model.weight"] = columns.linear_weight.detach()
    for name, weight in model.state_dict().items():
        if not name.startswith("columns."):
            for ours, theirs in RENAMED:
                name = re.sub(ours, theirs, name)
            # A convolution over one place has an axis for it.
            own[name] = weight.unsqueeze(-1) if ".conv1ds." in name and weight.dim() == 2 else weight
    return own


@torch.no_grad()
def load_deepctr_weights(model: BaseModel, state_dict: Mapping[str, Any]) -> None:
    """Copy the state dict of DeepCTR-Torch's DeepFM, xDeepFM, WDL, AutoInt, DCN or DIN into ours.

    The model then gives the same logits. Nothing is written unless everything fits.

    Args:
        model: of the same class, made from the same columns and options.
        state_dict: what `model.state_dict()` gave there, also after a way through `torch.save`.

    Raises:
        CheckpointError: a weight is missing, unexpected or of another shape; it is named.

    Example:
        >>> load_deepctr_weights(model, torch.load("deepctr.pt", weights_only=True))  # doctest: +SKIP
    """
    name = type(model).__name__
    if not isinstance(state_dict, Mapping):
        raise CheckpointError(
            f"the weights are a {type(state_dict).__name__}; expected the state dict of DeepCTR-Torch's {name}"
        )
    own = deepctr_weights(model)
    advice = f"make {name} with the columns and options that it had there"
    for key, weight in own.items():
        if key not in state_dict:
            raise CheckpointError(f"{key!r} is missing from the weights of DeepCTR-Torch's {name}; {advice}")
        shape = tuple(getattr(state_dict[key], "shape", ()))
        if shape != tuple(weight.shape):
            raise CheckpointError(f"{key!r} has shape {shape}; expected {tuple(weight.shape)}, so {advice}")
    unexpected = [key for key, weight in state_dict.items() if key not in own and torch.as_tensor(weight).numel()]
    if unexpected:
        raise CheckpointError(f"{unexpected[0]!r} among the weights belongs to nothing in this {name}; {advice}")
    for key, weight in own.items():
        weight.copy_(torch.as_tensor(state_dict[key]))
