"""Towers, DIN's network on a candidate and an event, and the last step to a prediction."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deepfm.errors import ConfigError
from deepfm.interop.deepctr.layers.activation import activation_layer
from deepfm.models import layers

TASKS = ("binary", "regression")


class DNN(layers.DNN):
    """Linear → BatchNorm → activation → Dropout, per layer, with weights drawn from N(0, init_std²).

    Args:
        inputs_dim: width of the input.
        hidden_units: width of each layer.
        activation: as for `activation_layer`.
        l2_reg: of no effect; the model that holds the tower penalises it.
        dropout_rate: share of activations that training drops.
        use_bn: whether to normalise before the activation.
        init_std: see above.
        dice_dim: of the activation Dice.
        seed: of no effect.
        device: where it lives.

    Raises:
        ConfigError: no layer, or an unknown activation.
    """

    def __init__(
        self,
        inputs_dim: int,
        hidden_units: Sequence[int],
        activation: str | type[nn.Module] = "relu",
        l2_reg: float = 0,
        dropout_rate: float = 0,
        use_bn: bool = False,
        init_std: float = 0.0001,
        dice_dim: int = 3,
        seed: int = 1024,
        device: str | torch.device = "cpu",
    ) -> None:
        if not len(hidden_units):
            raise ConfigError("hidden_units is empty; expected at least one width, such as (256, 128)")
        super().__init__(inputs_dim, hidden_units, "relu", dropout_rate, use_bn)
        for layer, width in zip(self.layers, hidden_units, strict=True):
            layer.activation = activation_layer(activation, width, dice_dim)
        for weight in self.weights:
            nn.init.normal_(weight, std=init_std)
        self.to(device)

    @property
    def weights(self) -> list[nn.Parameter]:
        """The weights of the linear layers, biases apart."""
        return [parameter for name, parameter in self.named_parameters() if name.endswith("linear.weight")]


class LocalActivationUnit(nn.Module):
    """A score for each event of a history: a tower on [candidate, event, candidate - event, candidate ∘ event].

    Zhou et al., 2018, section 4.3. The first layer is linear in the first three, which are formed once a candidate and
    once an event.

    Args:
        hidden_units: of the tower.
        embedding_dim: E.
        activation, dropout_rate, dice_dim, l2_reg, use_bn: as for `DNN`.
    """

    def __init__(
        self,
        hidden_units: Sequence[int] = (64, 32),
        embedding_dim: int = 4,
        activation: str | type[nn.Module] = "sigmoid",
        dropout_rate: float = 0,
        dice_dim: int = 3,
        l2_reg: float = 0,
        use_bn: bool = False,
    ) -> None:
        super().__init__()
        self.dnn = DNN(4 * embedding_dim, hidden_units, activation, l2_reg, dropout_rate, use_bn, dice_dim=dice_dim)
        self.dense = nn.Linear(hidden_units[-1], 1)

    def forward(self, query: Tensor, user_behavior: Tensor) -> Tensor:
        """A candidate `(B, 1, E)` and a history `(B, T, E)` → `(B, T, 1)`."""
        first = self.dnn.layers[0]
        linear, norm, dropout = first.linear, first.norm, first.dropout
        assert isinstance(linear, nn.Linear)
        of_candidate, of_event, of_difference, of_product = linear.weight.chunk(4, dim=1)  # each (H, E)
        x = F.linear(query * user_behavior, of_product)  # (B, T, H)
        x = x + F.linear(query, of_candidate + of_difference, linear.bias)
        x = (x + F.linear(user_behavior, of_event - of_difference)).flatten(0, 1)  # (B·T, H)
        x = first.get_submodule("activation")(norm(x) if isinstance(norm, nn.Module) else x)
        x = dropout(x) if isinstance(dropout, nn.Module) else x
        for layer in list(self.dnn.layers)[1:]:
            x = layer(x)
        score: Tensor = self.dense(x)
        return score.view(user_behavior.shape[0], -1, 1)


class PredictionLayer(nn.Module):
    """A bias and, for a binary task, a sigmoid.

    Args:
        task: `binary` or `regression`.
        use_bias: whether there is a bias.

    Raises:
        ConfigError: another task.
    """

    def __init__(self, task: str = "binary", use_bias: bool = True) -> None:
        super().__init__()
        if task not in TASKS:
            raise ConfigError(f"task = {task!r} is unknown; expected binary or regression")
        self.task = task
        self.bias = nn.Parameter(torch.zeros(1)) if use_bias else None

    def logits(self, x: Tensor) -> Tensor:
        """`(B, 1)` with the bias, before the sigmoid."""
        return x if self.bias is None else x + self.bias

    def forward(self, x: Tensor) -> Tensor:
        """`(B, 1)` to predictions `(B, 1)`."""
        return torch.sigmoid(self.logits(x)) if self.task == "binary" else self.logits(x)
