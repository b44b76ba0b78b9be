"""What all tests share: where the real data is, and small data sets made on the spot."""

import logging
import os
from pathlib import Path

import pytest
import torch

from deepfm.config import DATA_DIR_VARIABLE, DataConfig
from deepfm.data.grouplens.download import FILES
from deepfm.data.movielens import MovieLensAdapter
from deepfm.data.sample import write_sample
from deepfm.engine.device import single_thread
from deepfm.reporting import drawing
from deepfm.utils.logging import configure_console

ROOT = Path(__file__).resolve().parent.parent
NAMED_DATA = os.environ.get(DATA_DIR_VARIABLE)
SMALL = {"num_users": 60, "num_movies": 150, "num_ratings": 2400}


@pytest.fixture(scope="module")
def one_thread():
    with single_thread() as threads:
        yield threads


@pytest.fixture(autouse=True)
def _no_data_variable(monkeypatch):
    """A test sees the defaults, whatever the shell says."""
    monkeypatch.delenv(DATA_DIR_VARIABLE, raising=False)


@pytest.fixture(autouse=True)
def _blank_plots(request, monkeypatch):
    """A plot takes a third of a second: they are drawn where a test is marked `plots`, and blank elsewhere."""
    if request.node.get_closest_marker("plots") is None:
        monkeypatch.setattr(drawing, "_rendered", lambda _: '<svg viewBox="0 0 1 1"></svg>')


@pytest.fixture(autouse=True)
def _console():
    """The log as a command finds it: the tests of commands leave theirs quiet, or on stderr."""
    configure_console()


@pytest.fixture(scope="session")
def movielens_dir() -> Path:
    """The folder of the real MovieLens-100K: local files, else the download, else the test is skipped."""
    places = [Path(NAMED_DATA)] if NAMED_DATA else []
    places += [ROOT / "data" / "ml-100k", ROOT.parent / "shared" / "datasets" / "ml-100k"]
    for place in places:
        if all((place / name).exists() for name in FILES):
            return place
    if NAMED_DATA:
        pytest.fail(f"{DATA_DIR_VARIABLE}={NAMED_DATA} holds no MovieLens-100K")
    from deepfm.data.grouplens.download import download_movielens
    from deepfm.errors import DataError

    try:
        download_movielens(ROOT / "data" / "ml-100k")
    except DataError as error:
        pytest.skip(f"real MovieLens-100K is not here and cannot be fetched: {error}")
    return ROOT / "data" / "ml-100k"


@pytest.fixture(scope="session")
def small_dir(tmp_path_factory) -> Path:
    """A generated data set of 60 users in MovieLens' format."""
    folder = tmp_path_factory.mktemp("small")
    write_sample(folder, seed=1, **SMALL)
    return folder


@pytest.fixture
def small_config() -> DataConfig:
    return DataConfig(source="files", num_neg_eval=50)


@pytest.fixture
def small_adapter(small_dir, small_config) -> MovieLensAdapter:
    return MovieLensAdapter(small_dir, small_config)


def zero_padding(model) -> None:
    """Padding rows zero again, after a test has written over all weights of a model or a layer."""

    from deepfm.data.schema import FeatureType
    from deepfm.models.layers import FeatureEmbedding

    for embedding in (module for module in model.modules() if isinstance(module, FeatureEmbedding)):
        for field in embedding.schema.fields.values():
            if field.feature_type is not FeatureType.DENSE:
                with torch.no_grad():
                    for first_order in (False, True):
                        embedding.field_weight(field.name, first_order)[0] = 0.0


def close_log_file(logger: logging.Logger) -> None:
    """Take the files away that a test gave a logger."""
    for handler in [handler for handler in logger.handlers if isinstance(handler, logging.FileHandler)]:
        logger.removeHandler(handler)
        handler.close()
