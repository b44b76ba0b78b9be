"""Tokens of several data sets in one file."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deepfm.errors import DataError
from deepfm.model_selection.tokens.dataset_tokens import DatasetMeta, DatasetTokens
from deepfm.model_selection.tokens.similarity import task_embedding, task_similarity
from deepfm.utils.io import load_arrays, save_arrays

PARTS = ("tokens", "mask", "counts", "meta", "encoder")


def save_tokens(path: Path, tasks: Mapping[str, DatasetTokens]) -> None:
    """Write the tokens of data sets by name as one `.npz`, whole or not at all."""
    arrays: dict[str, NDArray[np.generic]] = {"names": np.array(list(tasks), np.str_)}
    for at, its in enumerate(tasks.values()):
        meta = np.array(list(asdict(its.meta).values()), np.float64)
        encoder = np.array(its.encoder, np.str_)
        parts: tuple[NDArray[np.generic], ...] = (its.tokens, its.mask, its.counts, meta, encoder)
        for part, value in zip(PARTS, parts, strict=True):
            arrays[f"{at}.{part}"] = value
    save_arrays(path, arrays)


def load_tokens(path: Path) -> dict[str, DatasetTokens]:
    """Read what `save_tokens` wrote.

    Raises:
        RunError: the file is missing or damaged.
        DataError: it holds something else.
    """
    arrays = load_arrays(path, "tokens")
    try:
        found = {}
        for at, name in enumerate(arrays["names"]):
            tokens, mask, counts, meta, encoder = (arrays[f"{at}.{part}"] for part in PARTS)
            rows, classes, channels, imbalance, entropy = meta.tolist()
            about = DatasetMeta(int(rows), int(classes), int(channels), imbalance, entropy)
            found[str(name)] = DatasetTokens(tokens, mask, counts, about, str(encoder))
    except (KeyError, ValueError) as error:
        raise DataError(f"{path} holds no tokens of data sets; run deepfm zoo embed again") from error
    return found


def similarities(known: Sequence[DatasetTokens], asked: Sequence[DatasetTokens] | None = None) -> NDArray[np.float64]:
    """How alike data sets are by their tokens, from 0 to 1, `(Q, T)`; of the known among themselves by default."""
    base = [task_embedding(its) for its in known]
    return task_similarity(base, None if asked is None else [task_embedding(its) for its in asked])
