"""Baselines as runs, on the split and the candidates that the models see."""

import time
from typing import Any

from deepfm.baselines.item_models import EASE, Baseline, ItemKNN, Popularity
from deepfm.config import ExperimentConfig
from deepfm.engine.run import RunFolder
from deepfm.engine.settings import nearest, settings_to_dict
from deepfm.errors import ConfigError
from deepfm.training.evaluation import evaluate_scores
from deepfm.training.experiment import finish_run, open_data, run_results

BASELINES: dict[str, type[Baseline]] = {"popularity": Popularity, "itemknn": ItemKNN, "ease": EASE}


def run_baseline(
    name: str, config: ExperimentConfig, run: RunFolder, *, overwrite: bool = False, **options: Any
) -> dict[str, Any]:
    """Fit a baseline on the training likes and write its run: results and report, no weights.

    Args:
        name: popularity, itemknn or ease.
        config: its data section decides split and candidates.
        run: the folder, which is written to only when the baseline is fitted.
        overwrite: replace the run that the folder holds.
        options: the baseline's own, such as `l2`.

    Raises:
        ConfigError: an unknown name or an option out of range.
    """
    if name not in BASELINES:
        raise ConfigError(f"baseline {name!r} is unknown; {nearest(name, list(BASELINES))}")
    baseline = BASELINES[name](**options)
    run.refuse_existing(overwrite)
    data = open_data(config)
    started = time.perf_counter()
    likes = data.adapter.training_likes()
    baseline.fit(*likes, data.adapter.num_users, data.adapter.num_items)
    evaluations = {
        split: evaluate_scores(
            baseline.score(dataset.users.numpy(), dataset.items.numpy()),
            dataset,
            config.training.ranking_ks,
            are_logits=False,
        )
        for split, dataset in (("validation", data.validation), ("test", data.test))
    }
    seconds = time.perf_counter() - started
    run.create(overwrite)
    run.write_config(settings_to_dict(config))
    data.save(run)
    results = run_results(
        "baseline", name, data, evaluations, "cpu",
        best_epoch=None, epochs=0, seconds=round(seconds, 3), rows_per_second=None,
    )  # fmt: skip
    return finish_run(run, results | {"weights": None, "options": options}, evaluations)
