"""Ranking the stocks of new days with what an experiment trained; memory does not grow with the days."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from deepfm.engine.memory import release_free_memory
from deepfm.engine.run import RunFolder
from deepfm.equities.days.arrays import Sessions
from deepfm.equities.days.graph import TrailingGraphs
from deepfm.equities.experiment.fold_results import tested_from
from deepfm.equities.experiment.predictions import Predictions
from deepfm.equities.experiment.ranker import ABOUT, Ranker
from deepfm.equities.experiment.record import experiment_settings
from deepfm.equities.features import FeatureRegistry
from deepfm.equities.labels import rank_within_day
from deepfm.equities.panels.panel import Panel
from deepfm.errors import DataError, RunError

CHUNK_SESSIONS = 250  # whose features are held at once
RELEASE_SESSIONS = 25  # days of ever other numbers of stocks leave holes in the heap
CPU = torch.device("cpu")


def load_rankers(
    folder: str | Path, device: torch.device = CPU, registry: FeatureRegistry | None = None
) -> list[Ranker]:
    """The rankers of a folder: that of a fold and seed, or of an experiment those of its last trained fold.

    Args:
        folder: of either.
        device: where the networks are put.
        registry: as of `Ranker.load`.

    Raises:
        RunError: the folder holds neither, or a file in it is damaged.
        ConfigError: as of `Ranker.load`.
    """
    run = RunFolder(folder)
    if (run.path / ABOUT).exists():
        return [Ranker.load(run, device, registry)]
    settings = experiment_settings(run)
    trained = sorted(path for path in run.path.glob("fold-*") if any(path.glob(f"seed-*/{ABOUT}")))
    if not trained:
        raise RunError(f"{run.path} holds no trained fold; expected a folder that `deepfm equities train` wrote")
    last = max(trained, key=_begins)
    return [
        Ranker.load(RunFolder(last / f"seed-{seed}"), device, registry)
        for seed in settings.seeds
        if (last / f"seed-{seed}" / ABOUT).exists()
    ]


def predict(rankers: Sequence[Ranker], panel: Panel, sessions: Sessions) -> Iterator[Predictions]:
    """Rank the stocks of some sessions, a day at a time.

    What is said of a session depends on nothing after it, and not on which others are asked for. The scores of several
    rankers, seeds of one fold, are the means of their ranks within the day; their quantiles are means. Stocks of a
    panel that knows no sector have those of the training.

    Args:
        rankers: of one fold.
        panel: with enough sessions before the first one to look back on.
        sessions: indices into the panel, rising.

    Raises:
        DataError: a session has too few before it.
    """
    panel = rankers[0].sectors.completed(panel)
    graphs = TrailingGraphs(panel, rankers[0].settings.graph)
    for part in np.split(sessions, np.flatnonzero(np.diff(sessions // CHUNK_SESSIONS)) + 1):
        if len(part):
            yield from _predict_part(rankers, panel, part, graphs)
            release_free_memory()


def _predict_part(
    rankers: Sequence[Ranker], panel: Panel, part: Sessions, graphs: TrailingGraphs
) -> Iterator[Predictions]:
    """Rank the stocks of sessions whose features are held at once."""
    arrays = rankers[0].arrays(panel, int(part[0]), int(part[-1]), graphs)
    predicted = zip(*(ranker.predict_days(panel, arrays, part) for ranker in rankers), strict=True)
    for number, days in enumerate(predicted, start=1):
        yield _mean(days)
        if number % RELEASE_SESSIONS == 0:
            release_free_memory()


def sessions_between(panel: Panel, first: str | None, last: str | None, sequence_length: int) -> Sessions:
    """The sessions from one date to another, both inside; by default all that have enough before them.

    Raises:
        DataError: a date is none, or there is no session between them.
    """
    begin = sequence_length - 1 if first is None else int(np.searchsorted(panel.sessions, _date(first)))
    end = panel.num_sessions if last is None else int(np.searchsorted(panel.sessions, _date(last), side="right"))
    if begin >= end:
        raise DataError(
            f"the panel has no session from {first or 'its start'} to {last or 'its end'} with {sequence_length - 1} "
            f"before it; it spans {panel.sessions[0]} to {panel.sessions[-1]}"
        )
    return np.arange(begin, end)


def sessions_after(panel: Panel, learned_until: str) -> Sessions:
    """The sessions after the last one that a network learned from or was chosen by.

    Raises:
        DataError: there is none.
    """
    begin = int(np.searchsorted(panel.sessions, _date(learned_until), side="right"))
    if begin >= panel.num_sessions:
        raise DataError(
            f"the panel has no session after {learned_until}, up to which the network learned; give later prices, or "
            "ask for earlier days with --from, which test nothing"
        )
    return np.arange(begin, panel.num_sessions)


def _mean(days: Sequence[Predictions]) -> Predictions:
    if len(days) == 1:
        return days[0]
    ranks = [rank_within_day(one.scores[None], np.ones((1, len(one)), np.bool_))[0] for one in days]
    scores, quantiles = np.mean(ranks, axis=0), np.mean([one.quantiles for one in days], axis=0)
    return replace(days[0], scores=np.asarray(scores, np.float32), quantiles=np.asarray(quantiles, np.float32))


def _begins(fold: Path) -> str:
    """When a fold's test begins, as ISO text, by its first seed's results."""
    for results in sorted(fold.glob("seed-*/results.json")):
        return tested_from(RunFolder(results.parent))
    return ""


def _date(text: str) -> np.datetime64:
    try:
        return np.datetime64(text, "D")
    except ValueError as error:
        raise DataError(f"{text!r} is no date; expected one such as 2017-01-31") from error
