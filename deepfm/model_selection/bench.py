"""The leaderboard of a shelf: every method under every protocol, with the ceiling and the share of interaction."""

import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepfm.errors import DataError
from deepfm.model_selection import methods
from deepfm.model_selection.embedding import LEVELS, require_embedded
from deepfm.model_selection.expected import IntervalCoverage, expect, interval_coverage
from deepfm.model_selection.leaderboard import Leaderboard, evaluate
from deepfm.model_selection.metadata import MetadataEncoder
from deepfm.model_selection.methods import Chance, Given, Method, OneProbe, SimilarTasks, Stack, SumOfZ
from deepfm.model_selection.pattern_ridge import PatternRidge
from deepfm.model_selection.prior import normal_scores
from deepfm.model_selection.protocols import PROTOCOLS, Fold, Protocol, folds
from deepfm.model_selection.settings import ModelSelectionSettings
from deepfm.model_selection.shelf import Shelf
from deepfm.model_selection.stacker import Stacker, StackerSettings
from deepfm.model_selection.training import NOTHING_HIDDEN, Trained, trained
from deepfm.model_selection.variance import VarianceShares, seed_ceiling, variance_shares

METADATA_PENALTY = 1.0

Array = NDArray[np.float64]
Watch = Callable[[str], None]


@dataclass(frozen=True, eq=False)
class Bench:
    """What was compared.

    Args:
        boards: one a protocol.
        shares: components of variance; None where there are too few outcomes.
        ceiling: weighted tau of one seed against the others; None where there are no seeds.
        intervals: how often the intervals of a recommendation hold; None where there are too few tasks.
        models, tasks: how many.
        seconds: of processor time for all of it.
        machine: what it ran on.
    """

    boards: tuple[Leaderboard, ...]
    shares: VarianceShares | None
    ceiling: float | None
    intervals: IntervalCoverage | None
    models: int
    tasks: int
    seconds: float
    machine: str

    def to_dict(self) -> dict[str, Any]:
        """Plain data: every method's mean and interval by metric, and its value on every task."""
        boards = {}
        for board in self.boards:
            boards[board.protocol] = {
                method: {
                    metric: {
                        "mean": board.mean(method, metric),
                        "low": board.interval(method, metric).low,
                        "high": board.interval(method, metric).high,
                        "tasks": dict(zip(board.tasks, values.tolist(), strict=True)),
                    }
                    for metric, values in metrics.items()
                }
                for method, metrics in board.values.items()
            }
        return {
            "boards": boards,
            "seed_ceiling": self.ceiling,
            "interaction_share": None if self.shares is None else self.shares.interaction_share,
            "intervals": None if self.intervals is None else asdict(self.intervals),
            "models": self.models,
            "tasks": self.tasks,
            "cpu_seconds": self.seconds,
            "machine": self.machine,
        }


def bench(
    shelf: Shelf,
    settings: ModelSelectionSettings,
    protocols: Sequence[Protocol] = PROTOCOLS,
    *,
    split: str | None = None,
    watch: Watch = lambda _: None,
) -> Bench:
    """Compare all methods that the shelf allows.

    "unseen family" protocols need two families; they are left out where there is one. Of methods from history alone
    none can rank a family that it has never seen: these say "no evidence" there, and are at chance.

    Raises:
        DataError: no task has outcomes that differ, or a stage was not run.
    """
    started = time.process_time()
    require_embedded(shelf, settings)
    found = trained(shelf, settings, split=split)
    evidence = found.evidence
    boards = []
    for protocol in protocols:
        if protocol != "unseen task" and len(set(evidence.families)) < 2:
            continue
        watch(protocol)
        if found.rankers is not None:
            found.rankers.prepare([fold for fold, _ in folds(evidence, protocol)])
        boards.append(evaluate(evidence, _methods(shelf, found, settings, protocol), protocol))
    values = shelf.outcomes.by_seed(evidence.models, evidence.tasks, split=split).values
    return Bench(
        tuple(boards),
        _or_none(lambda: variance_shares(values)),
        _or_none(lambda: seed_ceiling(values)),
        _or_none(lambda: _intervals(found)),
        len(evidence.models),
        len(evidence.tasks),
        time.process_time() - started,
        f"{platform.processor() or platform.machine()}, Python {platform.python_version()}",
    )


def _methods(shelf: Shelf, found: Trained, settings: ModelSelectionSettings, protocol: Protocol) -> list[Method]:
    evidence = found.evidence
    probes = [OneProbe(name) for name in evidence.probes]
    metadata = Given("metadata", _MetadataRidge(shelf, evidence.outcomes))
    ranker: list[Method] = [] if found.rankers is None else [Given("neural ranker", found.rankers)]
    if protocol == "unseen task":
        history: list[Method] = [methods.AVERAGE_RANK, methods.AVERAGE_Z, methods.AVERAGE_VALUE, methods.COMPLETED]
        alike: list[Method] = [] if evidence.similarity is None else [SimilarTasks()]
        sums: list[Method] = [SumOfZ(name) for name in evidence.probes if name == "LogME"]
        own: list[Method] = [Stack("stack", Stacker(settings.stacker))]
        if found.rankers is not None and settings.join.stack_ranker:
            own.append(Stack("stack with ranker", found.stacker))
        return [Chance(), *history, *alike, metadata, *probes, *sums, *ranker, *own]
    blind = Stacker(StackerSettings(history=(), penalty=settings.stacker.penalty))
    stack: list[Method] = [Stack("stack of probes", blind)] if evidence.probes else []
    return [Chance(), methods.AVERAGE_RANK, metadata, *probes, *ranker, *stack]


class _MetadataRidge:
    """A ridge from what the catalogue says of a model to its normal score, over the tasks and models of a fold."""

    def __init__(self, shelf: Shelf, outcomes: Array) -> None:
        self.features = MetadataEncoder.fit(shelf.catalogue).transform(shelf.catalogue)
        self.outcomes = outcomes

    def __call__(self, fold: Fold) -> Array:
        values = np.array(self.outcomes)
        values[:, list(fold.hidden_tasks | {fold.task})] = np.nan
        values[list(fold.hidden_models)] = np.nan
        features, targets, tasks = [], [], []
        for task in range(values.shape[1]):
            known = np.flatnonzero(~np.isnan(values[:, task]))
            if len(known) > 1:
                features.append(self.features[known])
                targets.append(normal_scores(values[known, task]))
                tasks.append(np.full(len(known), task))
        if not tasks:
            return np.full(len(self.features), np.nan)
        rows, wanted, places = (np.concatenate(one) for one in (features, targets, tasks))
        return PatternRidge(rows, wanted, places, METADATA_PENALTY, False).predict(self.features).values


def _intervals(found: Trained) -> IntervalCoverage:
    levels = [name for name in LEVELS if name in found.evidence.probes]
    everything = found.evidence.seen(Fold(0, NOTHING_HIDDEN))
    return interval_coverage(expect(Stacker(found.stacker.settings), everything, levels=levels)[2].errors)


def _or_none(measure: Callable[[], Any]) -> Any:
    try:
        return measure()
    except DataError:
        return None
