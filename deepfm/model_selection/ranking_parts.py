"""Which models and tokens of which tasks a training step sees."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deepfm.model_selection.network_settings import RankerSettings
from deepfm.model_selection.ranking_lists import PaddedLists
from deepfm.utils.seeding import random_stream


@dataclass(frozen=True, eq=False)
class Part:
    """Some models and tokens of some tasks.

    Args:
        rows: `(B,)`, the tasks.
        places: `(B, n)`, models of each.
        taken: `(B, n)`, False where `places` holds one too many.
        token_mask: `(B, C)`, True for tokens that are kept.
    """

    rows: NDArray[np.int64]
    places: NDArray[np.int64]
    taken: NDArray[np.bool_]
    token_mask: NDArray[np.bool_]

    def of(self, lists: PaddedLists) -> PaddedLists:
        """The part of the lists that it was drawn from; targets are NaN where no model is taken."""
        at = self.rows[:, None], self.places
        targets = np.where(self.taken, lists.targets[at], np.nan).astype(np.float32)
        return PaddedLists(lists.tokens[self.rows], self.token_mask, lists.embeddings[at], targets, self.taken)


def drawn_parts(lists: PaddedLists, settings: RankerSettings, seed: int, epoch: int) -> Iterator[Part]:
    """Every task once, in batches; order and parts are a pure function of seed and epoch.

    Of a task with outcomes at least two measured models are drawn, and of one with tokens at least one.
    """
    draw = random_stream("ranker parts", seed, epoch)
    order = draw.permutation(len(lists))
    for start in range(0, len(order), settings.batch_size):
        rows = order[start : start + settings.batch_size]
        measured = ~np.isnan(lists.targets[rows])
        shares = np.ceil(settings.model_share * measured.sum(axis=1)).astype(np.int64)
        wanted = shares.clip(2, settings.max_models)
        places = np.argsort(np.where(measured, draw.random(measured.shape), 2.0), axis=1)[:, : wanted.max()]
        taken = (np.arange(places.shape[1]) < wanted[:, None]) & np.take_along_axis(measured, places, axis=1)
        mask = lists.token_mask[rows]
        chance = np.where(mask, draw.random(mask.shape), 2.0)
        kept = np.ceil(settings.token_share * mask.sum(axis=1))
        yield Part(rows, places, taken, mask & (chance.argsort(axis=1).argsort(axis=1) < kept[:, None]))
