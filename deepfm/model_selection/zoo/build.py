"""Building a zoo: models, tasks and outcomes, each stage whole or not at all."""

import dataclasses
import functools
import time
from collections.abc import Callable
from pathlib import Path

import polars as pl
import torch

from deepfm.errors import DataError
from deepfm.model_selection.catalogue import Catalogue
from deepfm.model_selection.zoo.datasets import make_task
from deepfm.model_selection.zoo.finetuning import finetune
from deepfm.model_selection.zoo.folder import STAGES, Layout, Manifest, Zoo, load_task, save_task
from deepfm.model_selection.zoo.model import ZooModel, save_states
from deepfm.model_selection.zoo.networks import multiply_adds
from deepfm.model_selection.zoo.pretraining import PretrainedModel, pretrain
from deepfm.model_selection.zoo.rows import SIDE
from deepfm.model_selection.zoo.settings import BuildSettings

LICENCE = "Apache-2.0"  # this package's: the models are made by it
TIMINGS, TIMED_CALLS = 7, 30

OnProgress = Callable[[str, int, int], None]  # the stage, the parts of it that are done, and all of them


def no_progress(stage: str, done: int, total: int) -> None:
    """Nobody watches."""


def build_zoo(
    settings: BuildSettings, folder: str | Path, *, seed: int = 0, on_progress: OnProgress = no_progress
) -> Zoo:
    """Train a zoo and measure every model on every task.

    Stages that the folder holds already, with these settings and this seed, are kept; an interrupted build goes on
    with the stage that it was in.

    Args:
        settings: what to build.
        folder: where; new, empty, or with a zoo.
        seed: of all randomness; on one machine, a build with the same seed has the same files but for latencies.
        on_progress: told how far each stage is.

    Raises:
        DataError: the folder holds something else.
        ExtraError: scikit-learn is not here.
        RunError: the disk refuses a file.
    """
    layout = Layout(Path(folder))
    manifest = _begun(layout, settings, seed)
    stages = {"models": _build_models, "tasks": _build_tasks, "outcomes": _build_outcomes}
    for stage in STAGES:
        if manifest.has(stage):
            continue
        stages[stage](layout, manifest, functools.partial(on_progress, stage))
        manifest = manifest.with_stage(stage)
        manifest.save(layout)
    return Zoo.open(folder)


def _begun(layout: Layout, settings: BuildSettings, seed: int) -> Manifest:
    """The manifest of a build, on disk before any other file: only stages that can be kept stand in it."""
    if not layout.manifest.exists():
        if layout.folder.exists() and (not layout.folder.is_dir() or any(layout.folder.iterdir())):
            raise DataError(f"{layout.folder} holds something that is no zoo; choose a new or an empty folder")
        manifest = Manifest(settings, seed)
    else:
        manifest = dataclasses.replace(Manifest.load(layout), settings=settings, seed=seed)
        manifest = dataclasses.replace(
            manifest, stages={stage: key for stage, key in manifest.stages.items() if key == manifest.key(stage)}
        )
    manifest.save(layout)
    return manifest


def _build_models(layout: Layout, manifest: Manifest, on_progress: Callable[[int, int], None]) -> None:
    for path in (layout.weights("*"), layout.states("*")):
        for old in path.parent.glob(path.name):
            old.unlink()
    models = pretrain(manifest.settings.models, manifest.seed, on_progress)
    for model in models:
        as_saved = ZooModel(model.name, model.architecture, model.classes, model.state)
        as_saved.save(layout.weights(model.name))
        save_states(layout.states(model.name), list(model.further), {"architecture": model.architecture}, model.classes)
    latencies = {model.architecture: model for model in models}
    milliseconds = {name: latency_ms(model) for name, model in latencies.items()}
    rows = [_catalogue_row(layout, model, milliseconds[model.architecture]) for model in models]
    Catalogue(pl.DataFrame(rows, infer_schema_length=None), layout.folder).save(layout.catalogue)


def _build_tasks(layout: Layout, manifest: Manifest, on_progress: Callable[[int, int], None]) -> None:
    for old in layout.task("*").parent.glob("*.npz"):
        old.unlink()
    names = manifest.settings.tasks.names
    for number, name in enumerate(names):
        on_progress(number, len(names))
        save_task(layout.task(name), make_task(name, manifest.settings.tasks, manifest.seed))
    on_progress(len(names), len(names))


def _build_outcomes(layout: Layout, manifest: Manifest, on_progress: Callable[[int, int], None]) -> None:
    catalogue = Catalogue.load(layout.catalogue)
    models = {name: ZooModel.load(catalogue.weights_of(name)) for name in catalogue.models}
    outcomes = finetune(
        {name: model.state for name, model in models.items()},
        {name: model.architecture for name, model in models.items()},
        [load_task(layout.task(name), name) for name in manifest.settings.tasks.names],
        manifest.settings.finetune,
        manifest.recipe,
        manifest.seed,
        on_progress,
    )
    outcomes.save(layout.outcomes)


def _catalogue_row(layout: Layout, model: PretrainedModel, milliseconds: float) -> dict[str, object]:
    network = ZooModel(model.name, model.architecture, model.classes, model.state).network()
    return {
        "model": model.name,
        "family": model.source,
        "architecture": model.architecture,
        "parameters": sum(weight.numel() for weight in network.body.parameters()),
        "macs": float(multiply_adds(network)),
        "latency_ms": milliseconds,
        "licence": LICENCE,
        "weights": str(layout.weights(model.name).relative_to(layout.folder)),
        "source_accuracy": model.accuracy,
        "source_classes": len(model.classes),
    }


@torch.inference_mode()
def latency_ms(model: PretrainedModel) -> float:
    """The milliseconds of the features of one image: the fastest of several means, which a busy machine hurts least."""
    network = ZooModel(model.name, model.architecture, model.classes, model.state).network()
    image = torch.zeros(1, SIDE, SIDE)
    network.features(image)
    means = []
    for _ in range(TIMINGS):
        started = time.perf_counter()
        for _ in range(TIMED_CALLS):
            network.features(image)
        means.append((time.perf_counter() - started) / TIMED_CALLS)
    return 1e3 * min(means)
