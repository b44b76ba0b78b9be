"""The arms of an ablation: a network with one part the other way, where it is trained, and what it has found."""

import dataclasses
import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from deepfm.engine.run import RunFolder
from deepfm.equities.evaluation.ablation import PartDifference, compare_means
from deepfm.equities.evaluation.metrics import rank_ic
from deepfm.equities.evaluation.places import Floats
from deepfm.equities.experiment.fold_run import PREDICTIONS, fold_folder, require_identity
from deepfm.equities.experiment.market import Market
from deepfm.equities.experiment.predictions import mean_of_seeds, read_predictions
from deepfm.equities.network_settings import NORMALIZATIONS
from deepfm.equities.settings import SWITCHES, AblationSettings, EquitiesSettings
from deepfm.equities.walk_forward import Fold

ABLATIONS = "ablations"
MODULES = {"FAN": "feature_attention", "SAN": "stock_attention", "VSN": "variable_selection"}  # of the model's settings


@dataclass(frozen=True)
class Arm:
    """The network of an experiment with one part the other way.

    Args:
        part: one of `SWITCHES`.
        state: what it is here: "off", "on", or a normalisation's kind.
        settings: the experiment's but for that.
    """

    part: str
    state: str
    settings: EquitiesSettings

    def folder(self, experiment: RunFolder) -> RunFolder:
        """Where it is trained, fold by fold, as an experiment is."""
        return RunFolder(experiment.path / ABLATIONS / f"{self.part}-{self.state}")


def arm_of(settings: EquitiesSettings, part: str, kind: str) -> Arm:
    """The experiment's network with `part` the other way; a normalisation that is off is switched to `kind`."""
    model, graph = settings.model, settings.graph
    if part == "normalization":
        state = kind if model.adaptive_normalization == "off" else "off"
        model = dataclasses.replace(model, adaptive_normalization=state)
    elif part == "graph":
        on = not (model.graph_attention and graph.enabled)
        state = "on" if on else "off"
        model = dataclasses.replace(model, graph_attention=on)
        graph = dataclasses.replace(graph, enabled=graph.enabled or on)
    else:
        on = not getattr(model, MODULES[part])
        state = "on" if on else "off"
        changed: dict[str, Any] = {MODULES[part]: on}
        model = dataclasses.replace(model, **changed)
    changes: dict[str, Any] = {"ablation": AblationSettings(), "analysis_seconds": 0}  # the whole network was looked at
    return Arm(part, state, dataclasses.replace(settings, model=model, graph=graph, **changes))


def possible_arms(settings: EquitiesSettings) -> tuple[Arm, ...]:
    """All that may have been trained for an experiment, whatever its section `ablation` says now."""
    arms = [arm_of(settings, part, kind) for part in SWITCHES for kind in NORMALIZATIONS if kind != "off"]
    return tuple({(arm.part, arm.state): arm for arm in arms}.values())


Runs = tuple[tuple[Fold, tuple[int, ...]], ...]


def compare_arms(market: Market, settings: EquitiesSettings, experiment: RunFolder) -> tuple[PartDifference, ...]:
    """Each arm that is trained beside the whole network, on the folds and with the seeds that both have finished.

    Raises:
        RunError: one of them was trained on other data or by other settings.
    """
    of_whole = _finished(market, settings, experiment)
    whole = functools.cache(functools.partial(_daily_rank_ic, market, experiment))
    found: list[PartDifference] = []
    for arm in possible_arms(settings):
        folder = arm.folder(experiment)
        of_arm = _finished(market, arm.settings, folder)
        both = [(fold, tuple(seed for seed in of_arm[fold] if seed in of_whole[fold])) for fold in market.folds]
        runs = tuple((fold, seeds) for fold, seeds in both if seeds)
        if runs:
            deviations = _seed_deviations(whole, runs, of_whole)
            found += _differences(market, arm, runs, (whole(runs), _daily_rank_ic(market, folder, runs)), deviations)
    return tuple(found)


def _finished(market: Market, settings: EquitiesSettings, folder: RunFolder) -> dict[Fold, tuple[int, ...]]:
    """The seeds that each fold is finished with."""
    found = {}
    for fold in market.folds:
        found[fold] = tuple(seed for seed in settings.seeds if fold_folder(folder, fold, seed).finished)
        for seed in found[fold]:
            require_identity(fold_folder(folder, fold, seed), market, fold, settings, seed)
    return found


def _daily_rank_ic(market: Market, folder: RunFolder, runs: Runs) -> Floats:
    """The RankIC of each test day of some folds, `(S, K)`; scores of several seeds are joined as elsewhere."""
    days = []
    for fold, seeds in runs:
        paths = [fold_folder(folder, fold, seed).path / PREDICTIONS for seed in seeds]
        scores = mean_of_seeds([read_predictions(path).dense(market.panel)[0][fold.test] for path in paths])
        returns, rows = market.labels.returns[fold.test], market.rows[fold.test]
        horizons = range(returns.shape[2])
        days.append(np.stack([rank_ic(scores[:, :, at], returns[:, :, at], rows) for at in horizons], axis=1))
    return np.concatenate(days)


def _seed_deviations(
    whole: Callable[[Runs], Floats], runs: Runs, of_whole: dict[Fold, tuple[int, ...]]
) -> Floats | None:
    """How much the mean RankIC on the folds of `runs` deviates over the whole network's seeds, `(K,)`."""
    shared = [seed for seed in of_whole[runs[0][0]] if all(seed in of_whole[fold] for fold, _ in runs)]
    if len(shared) < 2:
        return None
    daily = np.stack([whole(tuple((fold, (seed,)) for fold, _ in runs)) for seed in shared])
    known = np.isfinite(daily)
    means = np.where(known, daily, 0.0).sum(axis=1) / np.maximum(known.sum(axis=1), 1)
    return np.asarray(means.std(axis=0, ddof=1))


def _differences(
    market: Market, arm: Arm, runs: Runs, daily: tuple[Floats, Floats], deviations: Floats | None
) -> list[PartDifference]:
    """One for each horizon at which the whole network and the arm share a day."""
    shared = np.isfinite(daily[0]) & np.isfinite(daily[1])
    sessions = np.concatenate([fold.test for fold, _ in runs])
    return [
        PartDifference(
            arm.part,
            arm.state,
            horizon,
            tuple((fold.name, seeds) for fold, seeds in runs),
            *compare_means(daily[0][:, at], daily[1][:, at], horizon, sessions),
            None if deviations is None else float(deviations[at]),
        )
        for at, horizon in enumerate(market.labels.horizons)
        if shared[:, at].any()
    ]
