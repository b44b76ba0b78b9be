"""How well codes of a few numbers hold unseen networks: the auto-encoder beside principal components."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from deepfm.errors import DataError
from deepfm.model_selection.network_settings import AutoEncoderSettings
from deepfm.model_selection.weight_encoder import Network, as_tokens, train_autoencoder
from deepfm.model_selection.weights import Standardisation, pad_weight_tokens

SIZES = (16, 32, 64)


@dataclass(frozen=True)
class Reconstruction:
    """One size of code, on networks that took no part in training.

    Args:
        code_size: numbers a network.
        autoencoder: the mean squared error over a network's layers and features, then over networks, in units of the
            training layers' variance: 1 is about what an answer of all means costs.
        principal_components: the same of as many principal components.
    """

    code_size: int
    autoencoder: float
    principal_components: float


def reconstruction_table(
    training: Sequence[Network],
    held_out: Sequence[Network],
    settings: AutoEncoderSettings,
    *,
    sizes: Sequence[int] = SIZES,
    seed: int = 0,
) -> list[Reconstruction]:
    """Train an auto-encoder and principal components of each size, and rebuild held-out networks by both.

    Raises:
        DataError: there is no training or no held-out network.
    """
    if not training or not held_out:
        raise DataError(f"{len(training)} training and {len(held_out)} held-out networks; expected at least one each")
    train, test = as_tokens(training), as_tokens(held_out)
    found = []
    for size in sizes:
        encoder = train_autoencoder(train, replace(settings, code_size=size), seed=seed)
        components = principal_errors([*train], [*test], size)
        found.append(Reconstruction(size, float(encoder.errors(test).mean()), float(components.mean())))
    return found


def principal_errors(training: Sequence[Network], held_out: Sequence[Network], size: int) -> NDArray[np.float64]:
    """The errors `(M,)` of held-out networks rebuilt of `size` principal components of the training ones.

    A network is its standardised layers one after the other, 0 where it has none; only layers that it has count.
    """
    values, mask = pad_weight_tokens([*as_tokens(training), *as_tokens(held_out)])
    count = len(training)
    standardised = Standardisation.fit(values[:count][mask[:count]]).apply(values).astype(np.float64)
    rows = np.where(mask[:, :, None], standardised, 0.0).reshape(len(values), -1)
    mean = rows[:count].mean(axis=0)
    axes = np.linalg.svd(rows[:count] - mean, full_matrices=False)[2][:size]
    centred = rows[count:] - mean
    squares = (centred - centred @ axes.T @ axes).reshape(len(centred), *values.shape[1:]) ** 2
    kept = mask[count:]
    return (squares.mean(axis=2) * kept).sum(axis=1) / kept.sum(axis=1)
