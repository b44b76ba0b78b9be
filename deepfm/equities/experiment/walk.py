"""A walk-forward experiment: every fold and seed trained in its own folder, and all tests measured together once."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from deepfm.engine.device import resolve_device
from deepfm.engine.loop import Observer
from deepfm.engine.run import RunFolder, environment
from deepfm.engine.settings import settings_to_dict
from deepfm.equities.days.graph import GraphSettings
from deepfm.equities.evaluation.results import Evaluation
from deepfm.equities.experiment.ablation import ABLATIONS, compare_arms
from deepfm.equities.experiment.beforehand import refuse_unready
from deepfm.equities.experiment.examine import ANALYSIS, examine_before_training
from deepfm.equities.experiment.fold_results import recorded
from deepfm.equities.experiment.fold_run import PREDICTIONS, fold_folder, settings_hash, train_fold
from deepfm.equities.experiment.inside import inside_of
from deepfm.equities.experiment.market import FoldArrays, Market, fold_arrays, open_market, refuse_untrainable
from deepfm.equities.experiment.measure import evaluate_scores, joined_predictions, provenance
from deepfm.equities.experiment.ranker import ABOUT, Ranker
from deepfm.equities.experiment.record import experiment_settings, require_trained, unfinished
from deepfm.equities.reports.report import build_report
from deepfm.equities.settings import METRIC, EquitiesSettings
from deepfm.equities.walk_forward import Fold
from deepfm.errors import RunError
from deepfm.reporting import write_document
from deepfm.utils.io import write_json
from deepfm.utils.logging import get_logger, run_log

log = get_logger(__name__)
EVALUATION = "evaluation.json"
BASELINES = "baselines"
Watch = Callable[[Fold, int], Sequence[Observer]]


def no_observers(_: Fold, __: int) -> Sequence[Observer]:
    """Nobody watches."""
    return ()


def run_experiment(
    settings: EquitiesSettings,
    experiment: RunFolder,
    watch: Watch = no_observers,
    *,
    resume: bool = False,
    overwrite: bool = False,
    folds: Sequence[str] = (),
) -> dict[str, Any]:
    """Train all folds with all seeds, then measure their tests together, beside the baselines.

    Args:
        settings: the experiment.
        experiment: its folder, which holds a folder for each fold and seed.
        watch: who observes the fit of a fold with a seed.
        resume: go on with what the folder holds: finished folds are read, an interrupted one goes on inside.
        overwrite: replace it.
        folds: names of those to train; empty for all. Where others are left, nothing is measured yet.

    Returns:
        The content of `results.json`; where folds are left, a mapping with them at `left`.

    Raises:
        DeepFMError: anything that is wrong with the settings, the data or the device, before work starts.
        AnalysisError: the analyser found a risk of priority 1 in the network.
        RunError: the folder holds an experiment, or to resume another one than described.
    """
    resolve_device(settings.device)
    refuse_unready(settings)
    if not resume:
        experiment.refuse_existing(overwrite)
        if experiment.config.exists() and not overwrite:
            raise RunError(
                f"{experiment.path} already holds an experiment; continue it with --resume, choose another output_dir "
                "or pass --overwrite"
            )
    elif settings_hash(experiment_settings(experiment)) != settings_hash(settings):
        raise RunError(f"{experiment.path} is an experiment of other settings; resume it with its own")
    market = open_market(settings)
    refuse_unknown_folds(market, folds)
    refuse_untrainable(market, settings)
    with run_log() as log_to:
        if not resume:
            _clear(experiment)
            experiment.create(overwrite=True)
            experiment.write_config(settings_to_dict(settings))
        log_to(experiment.log)
        for fold in market.folds:
            if not folds or fold.name in folds:
                train_runs(market, fold, [(settings, experiment, seed) for seed in settings.seeds], watch)
        if left := unfinished(market, settings, experiment):
            return {"left": left}
        return measure_experiment(market, settings, experiment)[0]


def measure_experiment(
    market: Market, settings: EquitiesSettings, experiment: RunFolder
) -> tuple[dict[str, Any], Evaluation]:
    """Read what all folds predicted, measure it beside the baselines, and write the results and the report.

    Returns:
        The content of `results.json`, and the evaluation.

    Raises:
        RunError: a fold is not trained, or was trained on other data or by other settings than these.
    """
    require_trained(market, settings, experiment)
    scores, quantiles = joined_predictions(market, settings, experiment)
    found = evaluate_scores(market, settings, scores, quantiles, experiment.path / BASELINES)
    found = dataclasses.replace(found, ablations=compare_arms(market, settings, experiment))
    write_json(experiment.path / EVALUATION, {**found.to_dict(), **provenance(market, settings)})
    write_report(market, settings, experiment, found)
    folds = [fold_folder(experiment, fold, seed).read_results() for fold in market.folds for seed in settings.seeds]
    names = list(dict.fromkeys(name for one in folds for name in one["validation"]))
    seconds = sum(one["seconds"] for one in folds)
    experiment.write_results(
        {
            "kind": "equities",
            "model": "atft",
            "data": market.about,
            "protocol": {
                "label": recorded(fold_folder(experiment, market.folds[0], settings.seed), "label"),
                "split_strategy": "walk forward",
                **provenance(market, settings),
            },
            "validation": {
                name: float(np.mean([one["validation"][name] for one in folds if name in one["validation"]]))
                for name in names
            },
            "test": {
                f"{METRIC}_{result.horizon}": result.rank_ic.mean
                for result in found.results
                if np.isfinite(result.rank_ic.mean)  # no day may have enough stocks
            },
            "best_epoch": None,
            "epochs": sum(one["epochs"] for one in folds),
            "seconds": round(seconds, 3),
            "rows_per_second": round(float(np.median([one["rows_per_second"] for one in folds])), 1),
            "env": environment(str(resolve_device(settings.device))),
        }
    )
    return experiment.read_results(), found


def write_report(
    market: Market, settings: EquitiesSettings, experiment: RunFolder, found: Evaluation, place: Path | None = None
) -> None:
    """Write `report.html`, with what can be read inside the last fold's network.

    Args:
        market, settings, experiment, found: what is reported.
        place: another file for it; where it ends in `.md` as Markdown, its plots beside it.
    """
    folds = ", ".join(fold.name for fold in market.folds)
    seeds = ", ".join(map(str, settings.seeds))
    notes = [
        f"Folds {folds}; seeds {seeds}; scores are the mean rank over seeds. Data {market.about['name']}, "
        f"hash {market.about['hash'][:12]}."
    ]
    fold = market.folds[-1]
    ranker = Ranker.load(fold_folder(experiment, fold, settings.seed))
    inside = inside_of(ranker, market.panel, fold.validation)
    write_document(build_report(found, inside, notes), place or experiment.report)


def train_runs(
    market: Market, fold: Fold, runs: Sequence[tuple[EquitiesSettings, RunFolder, int]], watch: Watch = no_observers
) -> None:
    """Train a fold for each of some settings, experiments' folders and seeds, on shared arrays; finished ones are kept.

    The settings may differ in what changes no array but the graph's: all but `data` and `split`.
    """
    inputs: FoldArrays | None = None
    graph: GraphSettings | None = None
    for settings, experiment, seed in runs:
        run = fold_folder(experiment, fold, seed)
        if run.finished:
            log.info("%s: fold %s, seed %d is finished", experiment.path, fold.name, seed)
            continue
        if inputs is None or graph != settings.graph:
            inputs, graph = fold_arrays(market, fold, settings), settings.graph
        examine_before_training(market, inputs, settings, fold.name, seed, experiment)
        log.info("training %s", run.path)
        own = dataclasses.replace(settings, seeds=(seed,), output_dir=None)
        train_fold(market, fold, inputs, own, seed, run, watch(fold, seed))


def refuse_unknown_folds(market: Market, names: Sequence[str]) -> None:
    """Make sure that folds are some of a market's.

    Raises:
        RunError: one is not.
    """
    known = [fold.name for fold in market.folds]
    if unknown := [name for name in names if name not in known]:
        raise RunError(f"fold {unknown[0]!r} is none of this split; expected one of {', '.join(known)}")


def _clear(experiment: RunFolder) -> None:
    """Take away the runs of an earlier experiment, of whatever folds and seeds, and what was measured of them."""
    folds = "fold-*/seed-*"
    for path in (*experiment.path.glob(folds), *experiment.path.glob(f"{ABLATIONS}/*/{folds}")):
        if path.is_dir():
            RunFolder(path).create(overwrite=True)
            for name in (ABOUT, PREDICTIONS):
                (path / name).unlink(missing_ok=True)
    for name in (EVALUATION, ANALYSIS):
        (experiment.path / name).unlink(missing_ok=True)
