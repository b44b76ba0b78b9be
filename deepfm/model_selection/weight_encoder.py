"""The trained auto-encoder, frozen: any network's weights to its embedding."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from deepfm.engine.loop import Observer, fit
from deepfm.engine.task import ParameterGroup, Progress, Task, no_progress
from deepfm.errors import CheckpointError
from deepfm.model_selection.autoencoder import ModelAutoEncoder, reconstruction_errors, reconstruction_loss
from deepfm.model_selection.network_files import (
    content_hash,
    fill,
    load_weights,
    own_streams,
    read_about,
    save_network,
)
from deepfm.model_selection.network_settings import AutoEncoderSettings
from deepfm.model_selection.weights import (
    FEATURES,
    Standardisation,
    State,
    WeightTokens,
    pad_weight_tokens,
    weight_tokens,
)
from deepfm.utils.seeding import random_stream

VERSION = 1
NAME = "autoencoder"
CHUNK = 256  # networks encoded at once
CPU = torch.device("cpu")

Network = nn.Module | State | WeightTokens
Batch = tuple[Tensor, Tensor]  # layers and mask


class AutoEncoderTask(Task):
    """Networks to be rebuilt from their codes.

    With held-out networks the epoch of their least error is best; without, all epochs are run.

    Args:
        model: the auto-encoder.
        batch: all training networks, `(M, L, W)` and `(M, L)`, standardised, on the device.
        settings: of the training.
        seed: of the order.
        held_out: networks to stop early by.
    """

    metric: str | None = None
    maximize = False

    def __init__(
        self,
        model: ModelAutoEncoder,
        batch: Batch,
        settings: AutoEncoderSettings,
        *,
        seed: int = 0,
        held_out: Batch | None = None,
    ) -> None:
        self.model, self.all, self.settings, self.seed, self.held_out = model, batch, settings, seed, held_out
        self.metric = None if held_out is None else "held_out_error"

    def num_batches(self) -> int:
        """Batches an epoch."""
        return -(-len(self.all[0]) // self.settings.batch_size)

    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Every network once, in an order that seed and epoch decide."""
        tokens, mask = self.all
        order = torch.from_numpy(random_stream("auto-encoder order", self.seed, epoch).permutation(len(tokens)))
        for rows in order.to(tokens.device).split(self.settings.batch_size)[start:]:
            yield tokens[rows], mask[rows]

    def loss(self, batch: Batch) -> tuple[Tensor, int]:
        """The mean error of a batch, and its networks."""
        return reconstruction_loss(self.model(*batch), batch), len(batch[0])

    def evaluate(self, on_progress: Progress = no_progress) -> dict[str, float]:
        """The error on the held-out networks, where there are any."""
        return {} if self.held_out is None else {"held_out_error": float(self.loss(self.held_out)[0])}

    def parameter_groups(self) -> list[ParameterGroup]:
        """Matrices decay; biases, norms and queries do not."""
        matrices = [part for part in self.model.parameters() if part.ndim == 2]
        others = [part for part in self.model.parameters() if part.ndim != 2]
        return [ParameterGroup(matrices, weight_decay=self.settings.weight_decay), ParameterGroup(others)]


@dataclass(frozen=True, eq=False)
class WeightEncoder:
    """An auto-encoder that learns no more, with the constants that it was trained with.

    Args:
        model: frozen: its parameters take no gradient, and it is in evaluation mode.
        standardisation: of the training layers.
        settings: that it was trained with.
        trained_on: a hash of the training networks' layers.
    """

    model: ModelAutoEncoder
    standardisation: Standardisation
    settings: AutoEncoderSettings
    trained_on: str

    def __post_init__(self) -> None:
        self.model.requires_grad_(False).eval()

    @torch.no_grad()
    def embed(self, networks: Sequence[Network]) -> NDArray[np.float32]:
        """The codes `(M, E)` of networks: modules, states, or their tokens. A code depends on its network alone.

        Raises:
            DataError: there is no network, or one has no weights, or weights that are NaN or infinite.
        """
        tokens, mask = self.prepared(networks)
        parts = zip(tokens.split(CHUNK), mask.split(CHUNK), strict=True)
        return torch.cat([self.model.encode(*part) for part in parts]).cpu().numpy()

    @torch.no_grad()
    def errors(self, networks: Sequence[Network]) -> NDArray[np.float64]:
        """How badly each network is rebuilt `(M,)`: its mean squared error, in units of the training layers' variance.

        Raises:
            DataError: as `embed`.
        """
        tokens, mask = self.prepared(networks)
        parts = zip(tokens.split(CHUNK), mask.split(CHUNK), strict=True)
        found = torch.cat([reconstruction_errors(self.model(*part), *part) for part in parts])
        return found.cpu().numpy().astype(np.float64)

    def prepared(self, networks: Sequence[Network]) -> Batch:
        """The standardised layers `(M, L, W)` of networks and their mask `(M, L)`, on the model's device."""
        values, mask = pad_weight_tokens(as_tokens(networks))
        device = next(self.model.parameters()).device
        return torch.from_numpy(self.standardisation.apply(values)).to(device), torch.from_numpy(mask).to(device)

    def save(self, folder: Path) -> None:
        """Write `autoencoder.safetensors` and `autoencoder.json`."""
        from deepfm.engine.settings import settings_to_dict

        about = {
            "version": VERSION,
            "features": list(FEATURES),
            "settings": settings_to_dict(self.settings),
            "means": self.standardisation.means.tolist(),
            "deviations": self.standardisation.deviations.tolist(),
            "trained_on": self.trained_on,
        }
        save_network(self.model, about, folder, NAME)

    @classmethod
    def load(cls, folder: Path) -> "WeightEncoder":
        """What `save` wrote, on the CPU.

        Raises:
            CheckpointError: a file is missing, damaged, or of another version.
        """
        from deepfm.engine.settings import build_settings

        about = read_about(folder, NAME, VERSION)
        if about.get("features") != list(FEATURES):
            raise CheckpointError(f"{folder / NAME}.json was trained on other features of weights; train it again")
        settings = build_settings(AutoEncoderSettings, about["settings"], "autoencoder.")
        with own_streams(0, CPU):
            model = new_autoencoder(settings)
        fill(model, load_weights(folder, NAME, about), folder / f"{NAME}.safetensors")
        means, deviations = (np.array(about[name], np.float32) for name in ("means", "deviations"))
        return cls(model, Standardisation(means, deviations), settings, about["trained_on"])


def new_autoencoder(settings: AutoEncoderSettings) -> ModelAutoEncoder:
    """An untrained auto-encoder of these settings, drawn from torch's stream."""
    return ModelAutoEncoder(
        len(FEATURES),
        settings.code_size,
        settings.hidden_size,
        settings.num_heads,
        settings.num_layers,
        settings.num_queries,
        settings.dropout,
    )


def train_autoencoder(
    networks: Sequence[Network],
    settings: AutoEncoderSettings,
    *,
    seed: int = 0,
    held_out: Sequence[Network] = (),
    device: torch.device = CPU,
    observers: Sequence[Observer] = (),
) -> WeightEncoder:
    """An auto-encoder that learned from these networks' weights, frozen; on the CPU always the same with one seed.

    Args:
        networks: to train on; constants are theirs alone.
        settings: of the network and the training.
        seed: of first weights and orders.
        held_out: networks to stop early by; none to run all epochs.

    Raises:
        DataError: there is no network, or one has no weights, or weights that are NaN or infinite.
        TrainingError: the loss is no longer finite.
    """
    networks = as_tokens(networks)
    encoder = untrained_encoder(networks, settings, seed)
    model = encoder.model.to(device)
    model.requires_grad_(True)
    stops = encoder.prepared(held_out) if len(held_out) else None
    task = AutoEncoderTask(model, encoder.prepared(networks), settings, seed=seed, held_out=stops)
    with own_streams(seed, device):
        fit(task, settings, device=device, observers=observers)
    return replace(encoder)  # freezes it again


def untrained_encoder(networks: Sequence[Network], settings: AutoEncoderSettings, seed: int = 0) -> WeightEncoder:
    """An encoder with the constants of these training networks, that begins with their principal components.

    Raises:
        DataError: as `WeightEncoder.embed`.
    """
    values, mask = pad_weight_tokens(as_tokens(networks))
    with own_streams(seed, CPU):
        encoder = WeightEncoder(
            new_autoencoder(settings), Standardisation.fit(values[mask]), settings, content_hash(values, mask)
        )
    encoder.model.begin_with_components(*encoder.prepared(networks))
    return encoder


def as_tokens(networks: Sequence[Network]) -> list[WeightTokens]:
    """The tokens of networks; what is tokens already stays."""
    return [one if isinstance(one, WeightTokens) else weight_tokens(one) for one in networks]
