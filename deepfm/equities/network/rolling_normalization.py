"""Scores over trailing windows."""

import torch
from torch import Tensor, nn

from deepfm.equities.network.normalized import VARIANCE_FLOOR, Normalized, nothing_taken, time_first
from deepfm.errors import ConfigError


class RollingNormalization(nn.Module):
    """Blends each value with its scores over trailing windows: `g₀ x + Σ_w g_w (x - mean_w) / deviation_w`.

    A window holds the session itself and those before it, at the start of the look-back fewer than its length, and
    never a later one or another stock's. Each feature has its own shares g, which sum to 1 and start equal.

    Args:
        sequence_length: L.
        windows: sessions, from 2 to L.
        num_features: F.

    Raises:
        ConfigError: a window is longer than the look-back.
    """

    num_outlooks = 0

    def __init__(self, sequence_length: int, windows: tuple[int, ...], num_features: int) -> None:
        super().__init__()
        if max(windows) > sequence_length:
            raise ConfigError(
                f"rolling_windows = {list(windows)} exceed sequence_length = {sequence_length}; expected none longer"
            )
        behind = torch.arange(sequence_length).unsqueeze(1) - torch.arange(sequence_length)
        averages = [((behind >= 0) & (behind < window)).float() for window in windows]
        self.averages: Tensor
        stacked = torch.cat([average / average.sum(1, keepdim=True) for average in averages])  # (W · L, L)
        self.register_buffer("averages", stacked, persistent=False)
        self.blend = nn.Parameter(torch.zeros(len(windows) + 1, 1, num_features))

    def forward(self, sequences: Tensor) -> Normalized:
        """`(R, L, F)` → blended `(R, L, F)`."""
        with torch.autocast(sequences.device.type, enabled=False):
            series = time_first(sequences.float())
            length, rows = sequences.shape[1], len(sequences)
            mean = (self.averages @ series).unflatten(0, (-1, length))  # (W, L, R · F)
            squares = (self.averages @ series.square()).unflatten(0, (-1, length))
            deviation = ((squares - mean.square()).clamp(min=0) + VARIANCE_FLOOR).sqrt()
            scores = ((series - mean) / deviation).unflatten(2, (rows, -1))  # (W, L, R, F)
            shares = self.blend.softmax(0)
            blended = shares[0] * sequences.float() + (shares[1:, :, None] * scores).sum(0).transpose(0, 1)
            return nothing_taken(blended)
