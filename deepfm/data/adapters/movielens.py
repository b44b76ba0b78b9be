"""MovieLens of any size, opened by name."""

from typing import Any

from deepfm.config import DataConfig
from deepfm.data.grouplens.archive import ARCHIVES
from deepfm.data.movielens import MovieLensAdapter


def open_movielens(config: DataConfig, *, seed: int = 42, max_history: int = 0, **_: Any) -> MovieLensAdapter:
    """The adapter of the version that `data.dataset_name` names.

    Where `data.data_dir` is left at its default, the default folder of the version's own archive is meant.
    """
    folder = config.data_dir if config.data_dir != DataConfig.data_dir else ARCHIVES[config.dataset_name].folder
    return MovieLensAdapter(folder, config, seed=seed, max_history=max_history)
