"""The stage `embed`: every data set as tokens, every model as a fingerprint, every pair probed."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from deepfm.errors import ConfigError, DataError
from deepfm.model_selection.fingerprint import kernel_vectors, probe_inputs
from deepfm.model_selection.images import LabelledRows
from deepfm.model_selection.probe_scores import COLUMNS as PROBE_COLUMNS
from deepfm.model_selection.probe_scores import ProbeScores
from deepfm.model_selection.probes import PROBES, run_probes
from deepfm.model_selection.settings import EmbedSettings, ModelSelectionSettings, stage_dict
from deepfm.model_selection.shelf import Shelf, ShelfFolder, key_of
from deepfm.model_selection.token_store import save_tokens
from deepfm.model_selection.tokens import (
    AnalyticEncoder,
    ClipEncoder,
    DatasetTokens,
    TokenEncoder,
    class_tokens,
    image_tokens,
)
from deepfm.model_selection.zoo.folder import Zoo
from deepfm.model_selection.zoo.model import ZooModel
from deepfm.model_selection.zoo.rows import SIDE
from deepfm.utils.io import load_arrays, save_arrays

LABELS = {
    "logme": "LogME",
    "h_score": "H-score",
    "neighbour": "k-NN",
    "ridge": "ridge",
    "ridge_explained": "ridge R²",
    "leep": "LEEP",
    "nce": "NCE",
}  # what the probes are called in tables
LEVELS = ("k-NN", "ridge")  # probes that are accuracies themselves

Watch = Callable[[str, int, int], None]


def embed(shelf: Shelf, settings: ModelSelectionSettings, watch: Watch = lambda *_: None) -> Shelf:
    """Make tokens, fingerprints and probe scores of a zoo, unless they are there already.

    A shelf of imported tables has no images and no weights: it is given back as it is.

    Raises:
        DataError: weights or rows are missing or damaged.
        ExtraError: the encoder needs a package that is not here.
    """
    if shelf.zoo is None:
        return shelf
    key = embed_key(shelf, settings)
    at = shelf.folder
    parts = (at.probes, at.tokens, at.kernels)
    if at.is_done("embed", key) and all(path.exists() for path in parts):
        return shelf
    zoo = shelf.zoo
    models = {name: zoo.model(name) for name in shelf.catalogue.models}
    encoder = encoder_of(settings.embed, settings.device)
    tokens: dict[str, DatasetTokens] = {}
    scores = []
    for done, name in enumerate(zoo.tasks):
        watch("probes", done, len(zoo.tasks))
        task = zoo.task(name)
        shots = task.training(0)
        tokens[name] = tokens_of(shots.images[:, None], shots.labels, encoder, settings.embed, len(shots.classes))
        seeds = [task.training(seed) for seed in range(task.seeds)]
        scores.append(probe_task(name, models, [(its.images, its.labels) for its in seeds]))
    watch("probes", len(zoo.tasks), len(zoo.tasks))
    inputs = probe_inputs(settings.embed.probe_inputs, size=(SIDE, SIDE))
    kernels = kernel_vectors({name: _on_grey(model) for name, model in models.items()}, inputs)
    ProbeScores(pl.concat(scores)).save(at.probes)
    save_tokens(at.tokens, tokens)
    save_arrays(at.kernels, {"models": np.array(list(models), np.str_), "vectors": kernels})
    at.finish("embed", key)
    return Shelf.open(at.path)


def embed_key(shelf: Shelf, settings: ModelSelectionSettings) -> str:
    """What the stage depends on."""
    stages = {} if shelf.zoo is None else dict(shelf.zoo.manifest.stages)
    return key_of(stages, stage_dict(settings, ("embed",)))


def require_embedded(shelf: Shelf, settings: ModelSelectionSettings) -> None:
    """Refuse a zoo of which the stage `embed` was not run with these settings.

    Raises:
        DataError: it was not, or with others.
    """
    if shelf.zoo is None or shelf.folder.is_done("embed", embed_key(shelf, settings)):
        return
    found = "other settings of embed than these" if shelf.folder.stage("embed").exists() else "no stage behind it yet"
    raise DataError(
        f"the zoo in {shelf.folder.path} has {found}; run deepfm zoo train --folder {shelf.folder.path} with the "
        "settings that you want, which it then keeps"
    )


def encoder_of(settings: EmbedSettings, device: str = "cpu") -> TokenEncoder:
    """The encoder that the settings name.

    Raises:
        ConfigError: CLIP without weights.
        ExtraError: CLIP's package is not here.
        DataError: its weights are not on this machine.
    """
    if settings.encoder == "analytic":
        return AnalyticEncoder(SIDE)
    if settings.clip_weights is None:
        raise ConfigError("embed.encoder = clip needs embed.clip_weights, a file or a tag whose weights are here")
    return ClipEncoder(settings.clip_architecture, weights=settings.clip_weights, device=device)


def tokens_of(
    rows: NDArray[np.float32],
    labels: NDArray[np.int64],
    encoder: TokenEncoder,
    settings: EmbedSettings,
    classes: int | None = None,
) -> DatasetTokens:
    """The tokens of labelled images `(n, C, H, W)`, one a class or one an image."""
    make = class_tokens if settings.tokens == "class" else image_tokens
    return make(rows, labels, encoder, classes=classes)


def probe_task(
    task: str,
    models: Mapping[str, ZooModel],
    draws: Sequence[tuple[NDArray[np.float32], NDArray[np.int64]]],
    watch: Watch = lambda *_: None,
) -> pl.DataFrame:
    """Every probe of every model on a task, the mean over draws of images `(n, 8, 8)` with labels `(n,)`."""
    rows = []
    for done, (name, model) in enumerate(models.items()):
        watch("probes", done, len(models))
        found = [
            run_probes(model.features(images), labels, model.source_probabilities(images)).values
            for images, labels in draws
        ]
        for probe in PROBES:
            value = float(np.mean([one[probe] for one in found]))
            if np.isfinite(value):
                rows.append((name, task, LABELS[probe], value))
    return pl.DataFrame(rows, schema=dict(PROBE_COLUMNS), orient="row")


def as_the_zoo_sees(rows: LabelledRows) -> NDArray[np.float32]:
    """Any images as the zoo's models take them: grey, 8 by 8, `(n, 8, 8)`."""
    return rows.fitted(1, (SIDE, SIDE)).rows[:, 0]


def load_kernels(folder: ShelfFolder, models: Sequence[str]) -> NDArray[np.float64]:
    """The kernel vectors of some models, `(M, K)`.

    Raises:
        DataError: the stage was not run, or with other models.
    """
    if not folder.kernels.exists():
        raise DataError(f"{folder.path} has no fingerprints of its models; run deepfm zoo embed")
    arrays = load_arrays(folder.kernels, "fingerprints")
    places = {str(name): at for at, name in enumerate(arrays["models"])}
    if strange := [name for name in models if name not in places]:
        raise DataError(f"model {strange[0]!r} was not there when the fingerprints were made; run deepfm zoo embed")
    return arrays["vectors"][[places[name] for name in models]]


def zoo_models(zoo: Zoo, models: Sequence[str]) -> dict[str, ZooModel]:
    """Models of a zoo by name, with their weights."""
    return {name: zoo.model(name) for name in models}


def _on_grey(model: ZooModel) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    return lambda images: model.features(images[:, 0])
