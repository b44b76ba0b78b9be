"""How much of a planted signal a network finds, by the path that real panels take."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from deepfm.engine.device import resolve_device
from deepfm.engine.loop import fit
from deepfm.equities.evaluation.metrics import quantile_coverage, rank_ic
from deepfm.equities.experiment.fold_run import ranking_task
from deepfm.equities.experiment.inside import mean_weights
from deepfm.equities.experiment.market import Market, fold_arrays, market_of
from deepfm.equities.experiment.ranker import untrained_ranker
from deepfm.equities.experiment.task import ROWS
from deepfm.equities.panels.synthetic import PlantedPanel
from deepfm.equities.settings import EquitiesSettings
from deepfm.errors import DataError
from deepfm.utils.seeding import seed_everything

LEAST_NAMES = 2


@dataclass(frozen=True, eq=False)
class Recovery:
    """What was found on the test days of the first fold.

    Args:
        rank_ic: the network's mean daily RankIC, one for each horizon, `(K,)`.
        attainable: the same of the oracle, `(K,)`.
        weights: each feature's mean selection weight; None without variable selection.
        coverage: the share of targets below each quantile over the first horizon, `(Q,)`.
        scores: of the test sessions, `(T, N, K)`; NaN elsewhere.
    """

    rank_ic: NDArray[np.float64]
    attainable: NDArray[np.float64]
    weights: dict[str, float] | None
    coverage: NDArray[np.float64]
    scores: NDArray[np.float32]

    @property
    def share(self) -> float:
        """How much of the attainable RankIC was found, over all horizons."""
        return float(self.rank_ic.sum() / self.attainable.sum())


def recover(
    planted: PlantedPanel, settings: EquitiesSettings, *, shuffle: np.random.Generator | None = None
) -> Recovery:
    """Train the first fold with the first seed, and compare its test with the oracle's.

    Args:
        planted: a generated panel, whose horizons the settings ask for.
        settings: of an experiment; its path is not read.
        shuffle: draws an order in which each day's returns are dealt out anew, in training and in test, so that there
            is nothing to find; None for the true ones.

    Raises:
        DataError: the panel's oracle is of other horizons.
    """
    if planted.horizons != settings.data.prediction_horizons:
        raise DataError(
            f"the oracle is of the horizons {list(planted.horizons)}; expected data.prediction_horizons = "
            f"{list(settings.data.prediction_horizons)}"
        )
    market = market_of(planted.panel, settings, {"name": "planted", "hash": "0", "source": "generated"})
    if shuffle is not None:
        returns = shuffled_within_days(market.labels.returns, shuffle)
        market = replace(market, labels=replace(market.labels, returns=returns))
    fold, device = market.folds[0], resolve_device(settings.device)
    inputs = fold_arrays(market, fold, settings)
    ranker = untrained_ranker(market, inputs, settings, fold.name, settings.seed)
    task = ranking_task(ranker, inputs, settings, {"seed": str(settings.seed)}, device)
    seed_everything(settings.seed)
    fit(task, settings.training.loop(), device=device)
    shape = market.labels.returns.shape
    scores = np.full(shape, np.nan, np.float32)
    quantiles = np.full((*shape, len(settings.model.quantiles)), np.nan, np.float32)
    ranker.model.eval()
    for part in inputs.arrays.groups(inputs.test, ROWS):
        batch = inputs.arrays.batch(part)
        with torch.no_grad():
            forecast = ranker.model(batch.to(device))
        place = (part[batch.day.numpy()], batch.stock.numpy())
        scores[place] = forecast.scores.float().cpu().numpy()
        quantiles[place] = forecast.quantiles.float().cpu().numpy()
    targets = market.labels.ranked(market.rows)
    first = quantile_coverage(quantiles[inputs.test, :, 0], targets[inputs.test, :, 0], market.rows[inputs.test])
    return Recovery(
        _mean_rank_ic(market, scores, inputs.test),
        _mean_rank_ic(market, planted.oracle, inputs.test),
        mean_weights(ranker, inputs.arrays, inputs.test[:8])[0],
        np.asarray(first),
        scores,
    )


def _mean_rank_ic(market: Market, scores: NDArray[np.float32], sessions: NDArray[np.int64]) -> NDArray[np.float64]:
    returns, rows = market.labels.returns[sessions], market.rows[sessions]
    found = [rank_ic(scores[sessions, :, at], returns[..., at], rows, LEAST_NAMES) for at in range(returns.shape[2])]
    return np.array([np.nanmean(daily) for daily in found])


def shuffled_within_days(returns: NDArray[np.float32], draw: np.random.Generator) -> NDArray[np.float32]:
    """Each day's returns, `(T, N, K)`, dealt out anew among the stocks that have them all."""
    dealt = returns.copy()
    for day, given in zip(dealt, returns, strict=True):
        known = np.flatnonzero(np.isfinite(given).all(axis=1))
        day[known] = given[draw.permutation(known)]
    return dealt
