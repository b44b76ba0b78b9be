"""Several vectors of a row to one."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deepfm.errors import ConfigError
from deepfm.interop.deepctr.layers.core import LocalActivationUnit

HIDDEN = -1e9
TINY = 1e-8  # beside a number of events, nothing; where there are none, no division by zero


class SequencePoolingLayer(nn.Module):
    """The sum, mean or maximum of the valid vectors of a row; zeros where none is valid.

    Args:
        mode: `sum`, `mean` or `max`.
        supports_masking: whether the second input is a mask `(B, T)`; otherwise it is the lengths `(B, 1)`.
        device: where it lives.

    Raises:
        ConfigError: another mode.
    """

    def __init__(self, mode: str = "mean", supports_masking: bool = False, device: str | torch.device = "cpu") -> None:
        super().__init__()
        if mode not in ("sum", "mean", "max"):
            raise ConfigError(f"mode = {mode!r} of a pooling layer is unknown; expected sum, mean or max")
        self.mode, self.supports_masking = mode, supports_masking
        self.to(device)

    def forward(self, seq_value_len_list: Sequence[Tensor]) -> Tensor:
        """`[(B, T, E), mask or lengths]` → `(B, 1, E)`."""
        vectors, valid = seq_value_len_list
        if self.supports_masking:
            mask, lengths = valid.bool(), valid.bool().sum(dim=1, keepdim=True)
        else:
            mask, lengths = prefix_mask(valid, vectors.shape[1]), valid
        hidden = ~mask.unsqueeze(2)
        if self.mode == "max":
            largest = vectors.masked_fill(hidden, -torch.inf).amax(dim=1, keepdim=True)
            return largest.masked_fill(hidden.all(dim=1, keepdim=True), 0.0)
        total = vectors.masked_fill(hidden, 0.0).sum(dim=1, keepdim=True)
        return total if self.mode == "sum" else total / (lengths.unsqueeze(2) + TINY)


class AttentionSequencePoolingLayer(nn.Module):
    """DIN's sum of a history's events, each weighted by its score for the candidate (Zhou et al., 2018, equation 3).

    Args:
        att_hidden_units, att_activation, embedding_dim: of the `LocalActivationUnit`.
        weight_normalization: whether a softmax makes the weights add up to one.
        return_score: whether the weights `(B, 1, T)` come out instead.
        supports_masking: whether a mask `(B, T)` is given instead of lengths.
        kwargs: of no effect.
    """

    def __init__(
        self,
        att_hidden_units: Sequence[int] = (80, 40),
        att_activation: str | type[nn.Module] = "sigmoid",
        weight_normalization: bool = False,
        return_score: bool = False,
        supports_masking: bool = False,
        embedding_dim: int = 4,
        **kwargs: Any,
    ) -> None:
        super().__init__()
        self.weight_normalization, self.return_score = weight_normalization, return_score
        self.supports_masking = supports_masking
        self.local_att = LocalActivationUnit(att_hidden_units, embedding_dim, att_activation)

    def forward(self, query: Tensor, keys: Tensor, keys_length: Tensor | None, mask: Tensor | None = None) -> Tensor:
        """A candidate `(B, 1, E)` and a history `(B, T, E)` of lengths `(B, 1)` → `(B, 1, E)`; zeros for no history."""
        if mask is None and keys_length is None:
            raise ConfigError("a history needs its lengths or a mask, and got neither; give keys_length")
        if not self.supports_masking and keys_length is not None:
            mask = prefix_mask(keys_length, keys.shape[1])
        assert mask is not None
        weights = self.local_att(query, keys).transpose(1, 2)  # (B, 1, T)
        seen = mask.unsqueeze(1)
        if self.weight_normalization:
            weights = F.softmax(weights.masked_fill(~seen, HIDDEN), dim=-1)
        weights = weights.masked_fill(~seen, 0.0)
        return weights if self.return_score else weights @ keys


def prefix_mask(lengths: Tensor, maxlen: int) -> Tensor:
    """Lengths `(B, 1)` → `(B, maxlen)`, true at the first so many places."""
    return torch.arange(maxlen, device=lengths.device) < lengths.reshape(-1, 1)
