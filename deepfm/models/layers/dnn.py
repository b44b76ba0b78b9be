"""The deep tower."""

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deepfm.engine.acceleration import Recomputable
from deepfm.errors import ConfigError
from deepfm.models.layers.kernels import dropout, remembered, scoring

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "leaky_relu": nn.LeakyReLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
}


class Dropout(nn.Dropout):
    """Dropout as torch's, with cheaper random numbers on CPU."""

    def forward(self, input: Tensor) -> Tensor:
        """Any shape to the same shape."""
        return dropout(input, self.p, self.training)


class DNN(nn.Module):
    """Linear → BatchNorm → activation → Dropout, per layer.

    Args:
        input_dim: width of the input.
        hidden_units: width of each layer; the last is `output_dim`.
        activation: a name of `ACTIVATIONS`.
        dropout: share of activations that training drops, in [0, 1).
        use_batch_norm: whether to normalise before the activation.

    Raises:
        ConfigError: no layer, or an unknown activation.

    Example:
        >>> DNN(8, [16, 4])(torch.zeros(2, 8)).shape
        torch.Size([2, 4])
    """

    def __init__(
        self,
        input_dim: int,
        hidden_units: Sequence[int],
        activation: str = "relu",
        dropout: float = 0.0,
        use_batch_norm: bool = False,
    ) -> None:
        super().__init__()
        if not hidden_units:
            raise ConfigError("dnn.hidden_units = [] has no layer; expected at least one width, such as [64]")
        if activation not in ACTIVATIONS:
            raise ConfigError(f"activation {activation!r} is unknown; expected one of {', '.join(ACTIVATIONS)}")
        widths = [input_dim, *hidden_units]
        self.layers = nn.Sequential(
            *(_HiddenLayer(wide, narrow, activation, dropout, use_batch_norm) for wide, narrow in pairwise(widths))
        )
        self.output_dim = widths[-1]

    def forward(self, *parts: Tensor) -> Tensor:
        """`(B, input_dim)`, or parts of it that would stand side by side, → `(B, output_dim)`."""
        first, *rest = self.layers
        x: Tensor = first(*parts)
        for layer in rest:
            x = layer(x)
        return x


class _HiddenLayer(Recomputable):
    """One layer of the tower."""

    def __init__(self, wide: int, narrow: int, activation: str, dropout: float, use_batch_norm: bool) -> None:
        super().__init__()
        self.linear = nn.Linear(wide, narrow)
        self.norm = nn.BatchNorm1d(narrow) if use_batch_norm else None
        self.activation = ACTIVATIONS[activation]()
        self.dropout = Dropout(dropout) if dropout > 0 else None

    def forward(self, *parts: Tensor) -> Tensor:
        """`(B, wide)`, or parts of it that would stand side by side, → `(B, narrow)`."""
        if scoring() and not self.training:
            return self._score(*parts)
        x = self.linear(torch.cat(parts, dim=1) if len(parts) > 1 else parts[0])
        x = x if self.norm is None else self.norm(x)
        x = self.activation(x)
        return x if self.dropout is None else self.dropout(x)

    def _score(self, *parts: Tensor) -> Tensor:
        """The same in evaluation mode, with the normalisation folded into the weights."""
        weight, bias = remembered(self, self._folded)
        if len(parts) > 1:
            weights = remembered((self, "parts"), lambda: _columns(weight, parts))
            x = F.linear(parts[0], weights[0], bias)
            for part, columns in zip(parts[1:], weights[1:], strict=True):
                x = x.addmm_(part, columns.t())
        else:
            x = F.linear(parts[0], weight, bias)
        output: Tensor = x.relu_() if isinstance(self.activation, nn.ReLU) else self.activation(x)
        return output

    def _folded(self) -> tuple[Tensor, Tensor]:
        weight, bias, norm = self.linear.weight, self.linear.bias, self.norm
        if norm is None or norm.running_mean is None or norm.running_var is None:
            return weight, bias
        scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
        return weight * scale.unsqueeze(1), (bias - norm.running_mean) * scale + norm.bias


def _columns(weight: Tensor, parts: Sequence[Tensor]) -> list[Tensor]:
    """A weight's columns for each of some parts side by side."""
    return [columns.contiguous() for columns in weight.split([part.shape[1] for part in parts], dim=1)]
