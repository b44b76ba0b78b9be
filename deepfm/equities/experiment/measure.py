"""All tests of an experiment, put together and measured beside the baselines."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepfm.engine.run import RunFolder
from deepfm.equities.baselines import RankedFeatures, walk_forward_scores
from deepfm.equities.evaluation.backtest import BacktestSettings
from deepfm.equities.evaluation.evaluate import evaluate
from deepfm.equities.evaluation.results import Evaluation
from deepfm.equities.experiment.fold_run import PREDICTIONS, fold_folder
from deepfm.equities.experiment.market import Market
from deepfm.equities.experiment.predictions import mean_of_seeds, read_predictions
from deepfm.equities.labels import rank_within_day
from deepfm.equities.settings import EquitiesSettings
from deepfm.errors import DataError

NAME = "ATFT"
BLENDED = "LightGBM"  # whose blend with the network is measured where it is among the baselines


def joined_predictions(
    market: Market, settings: EquitiesSettings, experiment: RunFolder
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """All tests' scores, `(T, N, K)`, and quantiles: of scores the mean rank over seeds, of quantiles their mean."""
    shape = (*market.rows.shape, len(market.labels.horizons))
    scores = np.full(shape, np.nan, np.float32)
    quantiles = np.full((*shape, len(settings.model.quantiles)), np.nan, np.float32)
    for fold in market.folds:
        runs = [fold_folder(experiment, fold, seed) for seed in settings.seeds]
        found = [read_predictions(run.path / PREDICTIONS).dense(market.panel) for run in runs]
        scores[fold.test] = mean_of_seeds([one[fold.test] for one, _ in found])
        quantiles[fold.test] = np.mean([one[fold.test] for _, one in found], axis=0)
    return scores, quantiles


def evaluate_scores(
    market: Market,
    settings: EquitiesSettings,
    scores: NDArray[np.float32],
    quantiles: NDArray[np.float32] | None = None,
    folder: Path | None = None,
    *,
    long_only: bool = False,
    everywhere: bool = False,
) -> Evaluation:
    """Measure scores on all tests, beside the baselines of the settings, whose scores `folder` keeps.

    With `everywhere`, scores count on every session that has some, be it in a test or not.

    Raises:
        DataError: there is nothing to measure.
    """
    wanted = settings.evaluation
    baselines = baseline_scores(market, settings, folder) if wanted.baselines else {}
    tests = np.concatenate([fold.test for fold in market.folds])
    if everywhere:
        tests = np.arange(market.panel.num_sessions)
    targets = (
        market.labels.ranked(market.rows) if settings.data.target == "rank" else market.labels.zscored(market.rows)
    )
    return evaluate(
        scores,
        market.panel,
        market.labels,
        market.rows,
        baselines,
        quantiles,
        tests[np.isfinite(scores[tests]).any(axis=(1, 2))],
        name=NAME,
        quantile_targets=None if quantiles is None else targets,
        levels=settings.model.quantiles,
        settings=BacktestSettings(
            market.labels.delay,
            wanted.share,
            wanted.costs,
            long_only,
            trials=wanted.trials,
            trial_deviation=wanted.trial_deviation,
        ),
        blended=BLENDED if BLENDED in baselines else None,
    )


def baseline_scores(
    market: Market, settings: EquitiesSettings, folder: Path | None = None
) -> dict[str, NDArray[np.float32]]:
    """The baselines' scores on all tests, from the same features, ranked within the day, and the same folds."""
    ranked = RankedFeatures(rank_within_day(market.features.values, market.rows), market.features.names)
    return walk_forward_scores(
        settings.evaluation.baselines, ranked, market.labels.ranked(market.rows), market.folds, folder, settings.seed
    )


def provenance(market: Market, settings: EquitiesSettings) -> dict[str, Any]:
    """What every output carries: which data, which split, which seeds."""
    return {"data": market.about, "split": market.split, "seeds": list(settings.seeds)}


def evaluate_baselines(market: Market, settings: EquitiesSettings, folder: Path | None = None) -> Evaluation:
    """Measure the baselines alone: the last of the settings, beside the others.

    Raises:
        DataError: the settings name none.
    """
    scores = baseline_scores(market, settings, folder)
    if not scores:
        raise DataError("evaluation.baselines is empty; name one, such as ridge")
    last = list(scores)[-1]
    others = {name: one for name, one in scores.items() if name != last}
    wanted = settings.evaluation
    traded = BacktestSettings(market.labels.delay, wanted.share, wanted.costs)
    return evaluate(scores[last], market.panel, market.labels, market.rows, others, name=last, settings=traded)
