"""The data sets by name, as sources to pre-train on and as tasks to fine-tune on."""

from collections.abc import Callable, Mapping

import numpy as np

from deepfm.model_selection.zoo import digits, patches, shapes
from deepfm.model_selection.zoo.rows import Draw, Rows, TransferTask, stratified
from deepfm.model_selection.zoo.settings import TaskSettings
from deepfm.utils.seeding import random_stream

Maker = Callable[[Draw], Rows]

DATASETS: Mapping[str, Maker] = {
    "digits_plain": digits.plain,
    "digits_permuted": digits.permuted,
    "digits_inverted": digits.inverted,
    "digits_noisy": digits.noisy,
    "digits_parity": digits.parity,
    "digits_rotation": digits.rotation,
    "digits_mirrored": digits.mirrored,
    "digits_reshuffled": digits.reshuffled,
    "digits_permuted_parity": digits.permuted_parity,
    "digits_textured": digits.textured,
    "digits_loops": digits.loops,
    "patches_photograph": patches.photograph,
    "patches_rotation": patches.rotation,
    "patches_noise": patches.noise,
    "patches_blur": patches.blur,
    "patches_grain": patches.grain,
    "gratings_orientation": shapes.gratings_orientation,
    "gratings_frequency": shapes.gratings_frequency,
    "blobs_count": shapes.blobs_count,
    "blobs_size": shapes.blobs_size,
    "shapes_kind": shapes.shapes_kind,
}


def make_source(name: str, size: int, seed: int) -> Rows:
    """`size` images to pre-train on; no task of a zoo with this seed has one of them.

    Raises:
        ExtraError: scikit-learn is not here.
    """
    return DATASETS[name](Draw(True, size, seed, random_stream(f"zoo source {name}", seed)))


def make_task(name: str, settings: TaskSettings, seed: int) -> TransferTask:
    """A task with its pool, its test rows and the shots of each seed.

    Raises:
        ExtraError: scikit-learn is not here.
        DataError: there are fewer shots than classes.
    """
    size = settings.pool_rows + settings.test_rows
    rows = DATASETS[name](Draw(False, size, seed, random_stream(f"zoo task {name}", seed)))
    order = np.arange(len(rows))
    pool, test = rows.take(order[: settings.pool_rows]), rows.take(order[settings.pool_rows :])
    shots = [
        stratified(pool.labels, settings.shots, random_stream(f"zoo shots {name}", seed, one))
        for one in range(settings.seeds)
    ]
    return TransferTask(name, pool, test, np.stack(shots))
