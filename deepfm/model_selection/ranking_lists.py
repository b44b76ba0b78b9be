"""What a ranker learns from: for each task its tokens, the models' embeddings and what they reached."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deepfm.errors import DataError

LEAST_DEVIATION = 0.25  # of the median task's; below it a task's differences are mostly noise


@dataclass(frozen=True, eq=False)
class RankingList:
    """One task.

    Args:
        name: of the task, for errors.
        tokens: `(C, F)`, float32; only those that are there, no padding.
        embeddings: `(N, E)`, float32; lists may share one array.
        outcomes: `(N,)`, higher is better; NaN where nobody measured.

    Raises:
        DataError: a shape does not fit, or a token or an embedding is not finite.
    """

    name: str
    tokens: NDArray[np.float32]
    embeddings: NDArray[np.float32]
    outcomes: NDArray[np.float64]

    def __post_init__(self) -> None:
        if self.tokens.ndim != 2 or self.embeddings.ndim != 2 or self.outcomes.shape != (len(self.embeddings),):
            raise DataError(
                f"task {self.name!r} has tokens {self.tokens.shape}, embeddings {self.embeddings.shape} and outcomes "
                f"{self.outcomes.shape}; expected (C, F), (N, E) and (N,)"
            )
        for what, values in (("tokens", self.tokens), ("embeddings", self.embeddings)):
            if not np.isfinite(values).all():
                raise DataError(f"task {self.name!r} has {what} that are NaN or infinite; mend or drop them")


@dataclass(frozen=True, eq=False)
class PaddedLists:
    """Lists side by side.

    Args:
        tokens: `(B, C, F)`; token_mask: `(B, C)`.
        embeddings: `(B, N, E)`; targets: `(B, N)`, NaN where nobody measured or no model stands.
        model_mask: `(B, N)`, True where a model stands.
    """

    tokens: NDArray[np.float32]
    token_mask: NDArray[np.bool_]
    embeddings: NDArray[np.float32]
    targets: NDArray[np.float32]
    model_mask: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.tokens)


def pad_lists(lists: Sequence[RankingList], targets: Sequence[NDArray[np.float64]] | None = None) -> PaddedLists:
    """Lists of any numbers of tokens and models as arrays.

    Args:
        targets: what stands for the outcomes; None for the outcomes themselves.

    Raises:
        DataError: there is no list, or their tokens or embeddings have several widths.
    """
    if not lists:
        raise DataError("there is no task to rank models for; expected at least one list")
    for what, widths in (
        ("tokens", {one.tokens.shape[1] for one in lists}),
        ("embeddings", {one.embeddings.shape[1] for one in lists}),
    ):
        if len(widths) > 1:
            raise DataError(f"{what} of different tasks have the widths {sorted(widths)}; expected one")
    size, first = len(lists), lists[0]
    longest, most = max(len(one.tokens) for one in lists), max(len(one.embeddings) for one in lists)
    padded = PaddedLists(
        np.zeros((size, longest, first.tokens.shape[1]), np.float32),
        np.zeros((size, longest), np.bool_),
        np.zeros((size, most, first.embeddings.shape[1]), np.float32),
        np.full((size, most), np.nan, np.float32),
        np.zeros((size, most), np.bool_),
    )
    for at, (one, values) in enumerate(zip(lists, targets or [one.outcomes for one in lists], strict=True)):
        count, models = len(one.tokens), len(one.embeddings)
        padded.tokens[at, :count], padded.token_mask[at, :count] = one.tokens, True
        padded.embeddings[at, :models], padded.model_mask[at, :models] = one.embeddings, True
        padded.targets[at, :models] = values
    return padded


def standardised_targets(lists: Sequence[RankingList], like: Sequence[RankingList] = ()) -> list[NDArray[np.float64]]:
    """Each task's outcomes in deviations from its own mean, NaN where they are.

    A task's deviation counts as at least `LEAST_DEVIATION` of the median of the training tasks', so that a task on
    which all models are alike does not teach its noise.

    Args:
        like: the training tasks; none for the lists themselves.
    """
    known = [deviation for one in like or lists if (deviation := _deviation(one.outcomes)) > 0]
    least = LEAST_DEVIATION * float(np.median(known)) if known else 1.0
    found = []
    for one in lists:
        measured = one.outcomes[~np.isnan(one.outcomes)]
        mean = measured.mean() if len(measured) else 0.0
        found.append((one.outcomes - mean) / max(least, _deviation(one.outcomes)))
    return found


def _deviation(outcomes: NDArray[np.float64]) -> float:
    measured = outcomes[~np.isnan(outcomes)]
    return float(measured.std()) if len(measured) else 0.0
