"""Frequency-adaptive normalisation (Ye et al., NeurIPS 2024)."""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deepfm.equities.network.normalized import Forecaster, Normalized, rows_first, time_first
from deepfm.errors import ConfigError


class FrequencyNormalization(nn.Module):
    """Takes the K strongest Fourier components out of each sequence, and forecasts them apart.

    Each instance is one feature of one stock (Ye et al., 2024, section 3.1), so no other stock is looked at. The
    forecast reads the last L - S sessions and gives the main part of the next S; the auxiliary loss asks the same
    forecast, from the first L - S sessions, for the main part of the last S, so that it never leaves the look-back.
    The transform is a product with fixed cosines and sines, which every device has and every exporter knows.

    Args:
        sequence_length: L.
        components: K, of L // 2 + 1.
        steps: S, below L.
        inner_size: of the forecasting network.

    Raises:
        ConfigError: fewer than K components, or too few sessions to forecast from.
    """

    def __init__(self, sequence_length: int, components: int, steps: int, inner_size: int) -> None:
        super().__init__()
        seen = sequence_length - steps
        if seen < 2:
            raise ConfigError(
                f"frequency_steps = {steps} of sequence_length = {sequence_length}; expected at most "
                f"{sequence_length - 2}, to forecast from two sessions or more"
            )
        if components >= seen // 2 + 1:
            raise ConfigError(
                f"frequency_components = {components}, and {seen} sessions have {seen // 2 + 1}; expected fewer, "
                "or nothing is left"
            )
        self.components, self.steps, self.seen = components, steps, seen
        self.num_outlooks = steps
        self.whole = _Transform(sequence_length)
        self.part = _Transform(seen)
        ages = torch.arange(seen).flip(0)
        memory = 2.0 * torch.arange(1, steps + 1).unsqueeze(1)  # the further ahead, the longer the average at the start
        self.forecaster = Forecaster((-ages / memory).softmax(1), seen, inner_size)

    def forward(self, sequences: Tensor) -> Normalized:
        """`(R, L, F)` → the residual `(R, L, F)`, the outlook `(R, S, F)` and the auxiliary loss."""
        with torch.autocast(sequences.device.type, enabled=False):
            series = time_first(sequences.float())
            main = self.whole.main_part(series, self.components)
            early, late = series[: self.seen], series[self.steps :]
            recalled = self.forecaster(self.part.main_part(early, self.components), early)
            outlook = self.forecaster(self.part.main_part(late, self.components), late)
            auxiliary = F.mse_loss(recalled, main[self.seen :])
            rows = len(sequences)
            return Normalized(rows_first(series - main, rows), rows_first(outlook, rows), auxiliary)


class _Transform(nn.Module):
    """The discrete Fourier transform of real series of one length, as a matrix product."""

    def __init__(self, length: int) -> None:
        super().__init__()
        count = length // 2 + 1
        turns = np.outer(np.arange(length), np.arange(count)) % length  # exact in integers
        cosines, sines = np.cos(2 * np.pi * turns / length), np.sin(2 * np.pi * turns / length)
        mirrored = np.full(count, 2.0)  # a component and its mirror image
        mirrored[0] = 1.0
        if length % 2 == 0:
            mirrored[-1] = 1.0
        forth = np.concatenate([cosines, -sines], axis=1).T  # (2 · count, length)
        back = np.concatenate([mirrored * cosines, -mirrored * sines], axis=1) / length
        self.forth: Tensor
        self.back: Tensor
        self.register_buffer("forth", torch.from_numpy(forth).float(), persistent=False)
        self.register_buffer("back", torch.from_numpy(back).float(), persistent=False)

    def main_part(self, series: Tensor, components: int) -> Tensor:
        """`(length, X)` → the sum of its strongest components (and of those that equal them), the same shape."""
        spectrum = (self.forth @ series).unflatten(0, (2, -1))  # (2, count, X): real, imaginary
        left = spectrum.square().sum(0)
        for _ in range(components):  # far cheaper than a sort of short lists
            left = left.masked_fill(left >= left.amax(0), -1.0)
        return self.back @ (spectrum * (left < 0)).flatten(0, 1)
