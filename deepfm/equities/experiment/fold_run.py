"""One network of one fold and seed: trained into a run folder of its own, resumed there, and its test scored once."""

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from deepfm.engine.checkpoint import FitState
from deepfm.engine.device import resolve_device
from deepfm.engine.loop import Observer, fit
from deepfm.engine.run import RunFolder, environment
from deepfm.engine.settings import settings_to_dict
from deepfm.equities.days.arrays import DayOrder
from deepfm.equities.evaluation.metrics import rank_ic
from deepfm.equities.experiment.fold_results import recorded
from deepfm.equities.experiment.market import FoldArrays, Market
from deepfm.equities.experiment.predictions import Predictions, read_predictions, write_predictions
from deepfm.equities.experiment.ranker import Ranker, untrained_ranker
from deepfm.equities.experiment.task import RankingTask
from deepfm.equities.features.own import module_hashes
from deepfm.equities.losses import CombinedLoss
from deepfm.equities.settings import METRIC, EquitiesSettings
from deepfm.equities.walk_forward import Fold
from deepfm.errors import RunError
from deepfm.utils.logging import get_logger
from deepfm.utils.seeding import seed_everything

log = get_logger(__name__)
PREDICTIONS = "predictions.parquet"
DECIDING = ("data", "split", "graph", "model", "training")  # sections that decide a network's weights
OF_THE_PLACE = (("data", "path"), ("data", "sectors"))


def fold_folder(experiment: RunFolder, fold: Fold, seed: int) -> RunFolder:
    """Where a fold's run with a seed is."""
    return RunFolder(experiment.path / f"fold-{fold.name}" / f"seed-{seed}")


def identity(market: Market, fold: Fold, settings: EquitiesSettings, seed: int) -> dict[str, str]:
    """What a checkpoint must agree on to be continued."""
    return {
        "data": market.about["hash"],
        "fold": fold.name,
        "seed": str(seed),
        "configuration": settings_hash(settings),
    }


def settings_hash(settings: EquitiesSettings) -> str:
    """A short hash of all settings that decide what is trained."""
    plain = {name: value for name, value in settings_to_dict(settings).items() if name in DECIDING}
    modules = plain["data"].pop("feature_modules")
    if modules:  # by what is in them; without any, a configuration is what it was before it could have some
        plain["data"]["feature_modules"] = list(module_hashes(modules).values())
    for section, name in OF_THE_PLACE:
        plain[section] = {key: value for key, value in plain[section].items() if key != name}
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:16]


def require_identity(run: RunFolder, market: Market, fold: Fold, settings: EquitiesSettings, seed: int) -> None:
    """Make sure that a finished fold is of this data and these settings.

    Raises:
        RunError: it is not, or its results are damaged.
    """
    if recorded(run, "identity") != identity(market, fold, settings, seed):
        raise RunError(
            f"{run.path} was trained on other data or by other settings than are to be measured; change "
            "nothing but the section evaluation, and give the panel that it was trained on"
        )


def ranking_task(
    ranker: Ranker, inputs: FoldArrays, settings: EquitiesSettings, about: dict[str, str], device: torch.device
) -> RankingTask:
    """The engine's task of a fold.

    Args:
        ranker: whose network is trained.
        inputs: the fold's arrays.
        settings: of the experiment.
        about: what a checkpoint must agree on, the seed of the order of days at `seed`.
        device: where the network is put.
    """
    data, training = settings.data, settings.training
    order = DayOrder(
        inputs.train, training.batch_size, data.train_every, training.sharpe_weight > 0, int(about["seed"])
    )
    loss = CombinedLoss(training, settings.model.quantiles, len(data.prediction_horizons))
    return RankingTask(
        ranker.model.to(device),
        loss,
        inputs.arrays,
        order,
        inputs.validation,
        data.prediction_horizons,
        weight_decay=training.weight_decay,
        identity=about,
        device=device,
    )


def train_fold(
    market: Market,
    fold: Fold,
    inputs: FoldArrays,
    settings: EquitiesSettings,
    seed: int,
    run: RunFolder,
    observers: Sequence[Observer] = (),
) -> dict[str, Any]:
    """Train a fold with a seed, or go on with it, or read what it found; its test is scored once, at the end.

    Args:
        market: what the experiment reads.
        fold: one of its folds.
        inputs: the fold's arrays.
        settings: of the experiment.
        seed: of weights, order and dropout.
        run: the fold's folder.
        observers: watch the fit.

    Returns:
        The content of `results.json`.

    Raises:
        RunError: the folder holds another training, or damaged results.
    """
    about = identity(market, fold, settings, seed)
    if run.finished:
        if recorded(run, "identity") != about:
            raise RunError(
                f"{run.path} holds a fold of other data or settings; choose another output_dir or pass --overwrite"
            )
        return run.read_results()
    device = resolve_device(settings.device)
    ranker = untrained_ranker(market, inputs, settings, fold.name, seed)
    task = ranking_task(ranker, inputs, settings, about, device)
    resume = run.checkpoint.exists()
    if not resume:
        run.create(overwrite=True)
        run.write_config(settings_to_dict(settings))
    log.info(
        "fold %s, seed %d: %d parameters, %d training and %d validation sessions, on %s%s",
        fold.name, seed, sum(part.numel() for part in ranker.model.parameters()), len(inputs.train),
        len(inputs.validation), device, ", resumed" if resume else "",
    )  # fmt: skip
    seed_everything(seed)
    state = fit(
        task, settings.training.loop(), device=device, checkpoint=run.checkpoint, resume=resume, observers=observers
    )
    run.write_history(state.history)
    ranker.save(run)
    write_predictions(
        run.path / PREDICTIONS, ranker.predict_days(market.panel, inputs.arrays, inputs.test), {**about, **market.about}
    )
    predictions = read_predictions(run.path / PREDICTIONS)
    run.write_results(_results(market, fold, settings, state, about, predictions, str(device)))
    return run.read_results()


def _results(
    market: Market,
    fold: Fold,
    settings: EquitiesSettings,
    state: FitState,
    about: dict[str, str],
    predictions: Predictions,
    device: str,
) -> dict[str, Any]:
    best = state.history[state.best_epoch - 1]
    return {
        "kind": "equities fold",
        "model": "atft",
        "data": market.about,
        "protocol": {
            "label": _label(settings),
            "split_strategy": f"walk forward, fold {fold.name}",
            "split": [row for row in market.split if row["fold"] == fold.name],
            "seeds": [int(about["seed"])],
            "identity": about,
        },
        "validation": {name: value for name, value in best.items() if name.startswith(METRIC)},
        "test": rank_ic_of(market, predictions.dense(market.panel)[0]),
        "best_epoch": state.best_epoch,
        "epochs": state.epoch,
        "seconds": round(state.seconds, 3),
        "rows_per_second": round(state.rows_per_second, 1),
        "env": environment(device),
    }


def rank_ic_of(market: Market, scores: np.ndarray) -> dict[str, float]:
    """The mean daily RankIC of scores `(T, N, K)` for each horizon; horizons without a day are left out."""
    found = {}
    for at, horizon in enumerate(market.labels.horizons):
        daily = rank_ic(scores[:, :, at], market.labels.returns[:, :, at], market.rows)
        if np.isfinite(daily).any():
            found[f"{METRIC}_{horizon}"] = float(np.nanmean(daily))
    return found


def _label(settings: EquitiesSettings) -> str:
    horizons = ", ".join(map(str, settings.data.prediction_horizons))
    return f"returns over {horizons} sessions, traded {settings.data.delay} later"
