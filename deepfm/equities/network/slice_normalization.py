"""Slice-adaptive normalisation (Liu et al., NeurIPS 2023)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deepfm.equities.network.normalized import VARIANCE_FLOOR, Forecaster, Normalized, rows_first, time_first
from deepfm.errors import ConfigError


class SliceNormalization(nn.Module):
    """Standardises each slice of each sequence by its own mean and deviation, and forecasts the next slice's.

    The statistics are those of one feature of one stock over P sessions (Liu et al., 2023, equations 1 and 2), so no
    other stock is looked at. The forecast reads the last n - 1 slices' means and deviations and gives the next one's;
    the auxiliary loss asks it, from the first n - 1, for the last slice's, so that it never leaves the look-back.

    Args:
        sequence_length: L.
        slice_length: P, of which L holds n ≥ 2.
        inner_size: of the forecasting network.

    Raises:
        ConfigError: L is no multiple of P, or holds one slice alone.
    """

    num_outlooks = 2

    def __init__(self, sequence_length: int, slice_length: int, inner_size: int) -> None:
        super().__init__()
        if sequence_length % slice_length or sequence_length < 2 * slice_length:
            raise ConfigError(
                f"slice_length = {slice_length} does not divide sequence_length = {sequence_length} into two slices or "
                "more; expected one that does"
            )
        self.slice_length = slice_length
        known = sequence_length // slice_length - 1
        guess = torch.zeros(2, known, 2)
        guess[0, -1, 0] = guess[1, -1, 1] = 1.0  # the next slice is as the last one
        self.forecaster = Forecaster(guess.flatten(1), 0, inner_size)

    def forward(self, sequences: Tensor) -> Normalized:
        """`(R, L, F)` → standardised `(R, L, F)`, the next slice's mean and deviation `(R, 2, F)`, the auxiliary."""
        with torch.autocast(sequences.device.type, enabled=False):
            slices = time_first(sequences.float()).unflatten(0, (-1, self.slice_length))  # (n, P, R · F)
            mean = slices.mean(1, keepdim=True)
            deviation = ((slices - mean).square().mean(1, keepdim=True) + VARIANCE_FLOOR).sqrt()
            standardised = ((slices - mean) / deviation).flatten(0, 1)
            statistics = torch.cat([mean, deviation], dim=1)  # (n, 2, R · F)
            recalled = self.forecaster(statistics[:-1].flatten(0, 1))
            outlook = self.forecaster(statistics[1:].flatten(0, 1))
            auxiliary = F.mse_loss(recalled, statistics[-1])
            rows = len(sequences)
            return Normalized(rows_first(standardised, rows), rows_first(outlook, rows), auxiliary)
