"""Baselines as runs, on the split and the candidates that the models see."""

import time
from typing import Any

import numpy as np
import torch

from deepfm.baselines.base import NO_ITEM, Baseline, Moments
from deepfm.baselines.item_models import EASE, ItemKNN, Popularity
from deepfm.baselines.transitions import Transitions
from deepfm.config import ExperimentConfig
from deepfm.data.adapters import ranks_candidates
from deepfm.data.history import histories_before
from deepfm.data.interactions import InteractionDataset
from deepfm.data.movielens import MovieLensAdapter
from deepfm.engine.run import RunFolder
from deepfm.engine.settings import nearest, settings_to_dict
from deepfm.errors import ConfigError
from deepfm.training.evaluation import evaluate_scores
from deepfm.training.experiment import finish_run, open_data, run_results

BASELINES: dict[str, type[Baseline]] = {
    "popularity": Popularity,
    "itemknn": ItemKNN,
    "ease": EASE,
    "transitions": Transitions,
}


def run_baseline(
    name: str, config: ExperimentConfig, run: RunFolder, *, overwrite: bool = False, **options: Any
) -> dict[str, Any]:
    """Fit a baseline on the training likes and write its run: results and report, no weights.

    Args:
        name: popularity, itemknn, ease or transitions.
        config: its data section decides split and candidates.
        run: the folder, which is written to only when the baseline is fitted.
        overwrite: replace the run that the folder holds.
        options: the baseline's own, such as `l2`.

    Returns:
        the content of the run's `results.json`: `options` holds all settings of the baseline, and `model` its name
        and those that are not the default.

    Raises:
        ConfigError: an unknown name or an option out of range.
    """
    if name not in BASELINES:
        raise ConfigError(f"baseline {name!r} is unknown; {nearest(name, list(BASELINES))}")
    baseline = BASELINES[name](**options)
    run.refuse_existing(overwrite)
    if ranks_candidates(config.data.dataset_name) is False:
        raise ConfigError(
            f"baseline {name!r} ranks candidates by likes, and data.dataset_name = {config.data.dataset_name!r} has "
            "rows alone; use data.dataset_name=movielens"
        )
    data = open_data(config)
    adapter = data.adapter
    if not isinstance(adapter, MovieLensAdapter):
        raise ConfigError(
            f"baseline {name!r} reads likes of MovieLens, and data.dataset_name = {config.data.dataset_name!r} gives "
            f"a {type(adapter).__name__}; use data.dataset_name=movielens"
        )
    started = time.perf_counter()
    baseline.fit(*adapter.training_likes(), adapter.num_users, adapter.num_items)
    evaluations = {}
    for split, dataset in (("validation", data.validation), ("test", data.test)):
        assert isinstance(dataset, InteractionDataset)
        scores = baseline.score(moments_in(adapter, split), dataset.group_ids, dataset.items.numpy())
        evaluations[split] = evaluate_scores(scores, dataset, config.training.ranking_ks, are_logits=False)
    seconds = time.perf_counter() - started
    run.create(overwrite)
    run.write_config(settings_to_dict(config))
    data.save(run)
    results = run_results(
        "baseline", _label(name, baseline), data, evaluations, "cpu",
        best_epoch=None, epochs=0, seconds=round(seconds, 3), rows_per_second=None,
    )  # fmt: skip
    return finish_run(run, results | {"weights": None, "options": baseline.options}, evaluations)


def moments_in(adapter: MovieLensAdapter, split: str) -> Moments:
    """The moments of a split's groups of candidates, with the histories that a model would see, at full length."""
    users, numbers, movies = adapter.visible_likes(split)
    moments = adapter.moments_of(split)
    histories = histories_before((users, numbers, movies + 1), *moments, max_length=int(np.bincount(users).max()))
    padded = histories.latest(torch.arange(len(histories))).numpy()  # (G, L), 0 where there is no like
    return Moments(moments[0], np.where(padded > 0, padded.astype(np.int64) - 1, NO_ITEM))


def _label(name: str, baseline: Baseline) -> str:
    """The name, with the options that tell it from the same baseline at its defaults."""
    defaults = type(baseline)().options
    changed = [f"{key}={value:g}" for key, value in baseline.options.items() if defaults.get(key) != value]
    return f"{name} ({', '.join(changed)})" if changed else name
