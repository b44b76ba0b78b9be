"""Runs whose data are gone, trained once for all tests of inference."""

import shutil

import pytest

from deepfm.data.negatives import load_candidates
from deepfm.data.sample import write_sample
from deepfm.engine.device import single_thread
from deepfm.engine.run import RunFolder
from tests.conftest import SMALL as SIZES
from tests.inference.runs import TABLE_SCHEMA, table_rows, train


@pytest.fixture(autouse=True, scope="package")
def _one_thread():
    with single_thread():
        yield


@pytest.fixture(scope="package")
def clicks(tmp_path_factory):
    """A table's run, its test rows and the logits that training gave them."""
    folder = tmp_path_factory.mktemp("clicks")
    (folder / "data").mkdir()
    (folder / "data" / "schema.yaml").write_text(TABLE_SCHEMA)
    parts = {
        part: table_rows(count, seed)
        for seed, (part, count) in enumerate({"train": 900, "valid": 300, "test": 300}.items())
    }
    for part, rows in parts.items():
        rows.write_csv(folder / "data" / f"{part}.csv")
    scores = train(
        folder / "run", "data.dataset_name=table", f"data.data_dir={folder / 'data'}", "training.metric=auc",
        "training.calibration=platt",
    )  # fmt: skip
    shutil.rmtree(folder / "data")
    return folder / "run", parts, scores


@pytest.fixture(scope="package", params=["deepfm", "din", "bst", "sin"])
def films(request, tmp_path_factory):
    """A MovieLens run, the pairs of its test candidates and the logits that training gave them."""
    folder = tmp_path_factory.mktemp("films")
    write_sample(folder / "data", seed=1, **SIZES)
    scores = train(
        folder / "run", f"model_name={request.param}", "data.source=files", f"data.data_dir={folder / 'data'}",
        "data.num_neg_eval=20", "feature.max_history=8", "sin.num_heads=2", "bst.num_heads=2",
    )  # fmt: skip
    import polars as pl

    from deepfm.data.grouplens.files import load_movielens

    raw = load_movielens(folder / "data", "files")
    test = load_candidates(RunFolder(folder / "run").candidates)["test"]
    users = raw.users["user_id"][test.users].repeat(test.sizes)
    pairs = pl.DataFrame({"user_id": users, "movie_id": raw.movies["movie_id"][test.items]})
    shutil.rmtree(folder / "data")
    return folder / "run", pairs, scores, raw
