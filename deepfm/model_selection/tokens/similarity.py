"""How alike data sets are: one vector each, and a kernel over them."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from deepfm.errors import DataError
from deepfm.model_selection.tokens.dataset_tokens import DatasetTokens

META = 5  # numbers of an embedding that tell of the data set as a whole

Float = NDArray[np.float64]


def task_embedding(tokens: DatasetTokens) -> Float:
    """One vector of fixed size for a data set: mean and standard deviation of its tokens, and of its meta the logs.

    The order of tokens and masked places change nothing.

    Returns:
        `(2F + 5,)`; the last five are the logs of rows, classes, channels and imbalance, and the label entropy.
    """
    real = tokens.tokens[tokens.mask].astype(np.float64)
    meta = tokens.meta
    logs = np.log([meta.rows, meta.classes, meta.channels, meta.imbalance])
    return np.concatenate([real.mean(axis=0), real.std(axis=0), logs, [meta.label_entropy]])


def task_similarity(known: Sequence[Float] | Float, asked: Sequence[Float] | Float | None = None) -> Float:
    """How alike tasks are, from 0 to 1, by their embeddings: exp(−d²/2m²), m the median distance of the known.

    The mean of the tokens, their deviation and the meta weigh alike: each of these parts is divided by its spread over
    the known tasks, the meta number by number. What does not vary among these is left out, as there is no telling how
    much a difference in it means.

    Args:
        known: `(T, 2F + 5)`, as `task_embedding` makes them.
        asked: `(Q, 2F + 5)`; None for the known themselves.

    Returns:
        `(Q, T)`; 1 on the diagonal where `asked` is None.

    Raises:
        DataError: no known tasks, or embeddings of another width.
    """
    base = np.asarray(known, dtype=np.float64)
    other = base if asked is None else np.asarray(asked, dtype=np.float64)
    if base.ndim != 2 or other.ndim != 2 or not len(base) or base.shape[1] != other.shape[1] or base.shape[1] <= META:
        raise DataError(
            f"task embeddings have shapes {base.shape} and {other.shape}; expected (tasks, width), of one width, from "
            "the same encoder"
        )
    scales = _scales(base)
    there, here = base * scales, other * scales
    among = _squared_distances(there, there)
    typical = np.median(among[np.triu_indices(len(base), 1)]) if len(base) > 1 else 0.0
    similar: Float = np.exp(-0.5 * _squared_distances(here, there) / (typical if typical > 0 else 1.0))
    return similar


def _scales(base: Float) -> Float:
    """What each number of an embedding is multiplied by, so that its three parts weigh alike; 0 where none varies."""
    variances = base.var(axis=0)
    width = (base.shape[1] - META) // 2
    parts = (variances[:width], variances[width:-META])
    wide = [np.full(len(part), part.sum()) for part in parts]
    alone = variances[-META:] * META
    total = np.concatenate([*wide, alone])
    varies = total > 1e-18 * max(float((base**2).max()), 1.0)
    return np.where(varies, 1 / np.sqrt(np.where(varies, total, 1.0)), 0.0)


def _squared_distances(first: Float, second: Float) -> Float:
    middle = second.mean(axis=0)  # rounding grows with the distance from the origin
    first, second = first - middle, second - middle
    lengths = (first**2).sum(axis=1)[:, None] + (second**2).sum(axis=1)
    return np.maximum(lengths - 2 * first @ second.T, 0.0)
