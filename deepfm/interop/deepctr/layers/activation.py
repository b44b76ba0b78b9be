"""Activations by name."""

from typing import Any

import torch
from torch import Tensor, nn

from deepfm.errors import ConfigError

NAMED: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "sigmoid": nn.Sigmoid,
    "prelu": nn.PReLU,
    "linear": nn.Identity,
}


class Dice(nn.Module):
    """p·x + α·(1 - p)·x with p = σ(BatchNorm(x)) (Zhou et al., 2018, section 5.3).

    The batch is normalised over all axes but the last.

    Args:
        emb_size: E.
        dim: axes of the input that the state dict of DeepCTR-Torch is for: α is `(E,)` for 2 and `(E, 1)` for 3.
        epsilon: of the normalisation.
        device: where it lives.

    Example:
        >>> Dice(4)(torch.zeros(2, 4)).shape
        torch.Size([2, 4])
    """

    def __init__(self, emb_size: int, dim: int = 2, epsilon: float = 1e-8, device: str | torch.device = "cpu") -> None:
        super().__init__()
        self.bn = nn.BatchNorm1d(emb_size, eps=epsilon)
        self.alpha = nn.Parameter(torch.zeros((emb_size,) if dim == 2 else (emb_size, 1)))
        self.to(device)

    def forward(self, x: Tensor) -> Tensor:
        """`(…, E)` to the same shape."""
        share = torch.sigmoid(self.bn(x.reshape(-1, x.shape[-1]))).view_as(x)
        return x * torch.lerp(self.alpha.view(-1), share.new_ones(()), share)


def activation_layer(act_name: str | type[nn.Module], hidden_size: int | None = None, dice_dim: int = 2) -> nn.Module:
    """The activation of a name: relu, sigmoid, prelu, linear or dice in any case; or of a class of modules.

    Args:
        act_name: see above.
        hidden_size: for dice.
        dice_dim: for dice, see `Dice`.

    Raises:
        ConfigError: the name is unknown.
    """
    if isinstance(act_name, type) and issubclass(act_name, nn.Module):
        made: Any = act_name
        layer: nn.Module = made()
        return layer
    name = str(act_name).lower()
    if name == "dice" and hidden_size is not None:
        return Dice(hidden_size, dice_dim)
    if name not in NAMED:
        known = ", ".join([*NAMED, "dice"])
        raise ConfigError(f"activation {act_name!r} is unknown; expected one of {known}, or a class of nn.Module")
    return NAMED[name]()
