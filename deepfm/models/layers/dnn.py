"""The deep tower."""

from collections.abc import Sequence

from torch import Tensor, nn

from deepfm.errors import ConfigError

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "leaky_relu": nn.LeakyReLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
}


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
        layers: list[nn.Module] = []
        width = input_dim
        for units in hidden_units:
            layers.append(nn.Linear(width, units))
            if use_batch_norm:
                layers.append(nn.BatchNorm1d(units))
            layers.append(ACTIVATIONS[activation]())
            if dropout > 0:
                layers.append(nn.Dropout(dropout))
            width = units
        self.layers = nn.Sequential(*layers)
        self.output_dim = width

    def forward(self, x: Tensor) -> Tensor:
        """`(B, input_dim)` → `(B, output_dim)`."""
        output: Tensor = self.layers(x)
        return output
