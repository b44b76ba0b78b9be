"""Rows from encoded files: the same rows, metrics and order rules as in memory; nothing half-written is used."""

import errno
from itertools import pairwise

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deepfm import TableAdapter
from deepfm.cli import main
from deepfm.config import load_config
from deepfm.data import store
from deepfm.data.store import StoreWriter, open_store
from deepfm.data.streaming import StreamedDataset
from deepfm.data.tables.rows import EncodedRows
from deepfm.data.tables.schema import TableColumn, TableSchema
from deepfm.engine.run import RunFolder
from deepfm.errors import DataError
from deepfm.models import create_model
from deepfm.training.evaluation import score_rows
from tests.data.tables.test_adapter import rows

SCHEMA = TableSchema(
    "click",
    {
        "user": TableColumn(min_count=2),
        "item": TableColumn(),
        "price": TableColumn("dense", missing="own"),
        "tags": TableColumn("sequence", max_length=3),
    },
)
SETTINGS = ["data.dataset_name=table", "training.metric=auc", "data.split_strategy=random", "device=cpu"]


def numbered(count: int, weighted: bool = False) -> EncodedRows:
    """Rows that say which they are."""
    number = np.arange(count, dtype=np.int32)
    features = {"id": number, "pair": np.stack([number, -number], axis=1)}
    weights = (number + 1).astype(np.float32) if weighted else None
    return EncodedRows(features, (number % 2).astype(np.float32), weights)


def stored(folder, count: int, shard_rows: int, buffer_rows: int, weighted: bool = False) -> StreamedDataset:
    before, store.SHARD_ROWS = store.SHARD_ROWS, shard_rows
    try:
        with StoreWriter(folder / "s", "key", ["train"]) as writer:
            writer.append("train", numbered(count, weighted))
    finally:
        store.SHARD_ROWS = before
    return StreamedDataset(open_store(folder / "s", "key")["train"], buffer_rows)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 60), st.integers(1, 25), st.integers(1, 40), st.integers(1, 20), st.integers(0, 10**6))
def test_every_row_once_in_a_new_order_and_from_any_batch_on(tmp_path_factory, count, shard, buffer, size, seed):
    dataset = stored(tmp_path_factory.mktemp("store"), count, shard, buffer)
    bounds = [*range(0, count, size), count]
    batches = list(dataset.shuffled_batches(bounds, seed, 1))
    assert [len(labels) for _, labels in batches] == [high - low for low, high in pairwise(bounds)]
    ids = torch.cat([features["id"] for features, _ in batches])
    assert sorted(ids.tolist()) == list(range(count))
    for features, labels in batches:
        assert torch.equal(features["pair"], torch.stack([features["id"], -features["id"]], dim=1))
        assert torch.equal(labels, (features["id"] % 2).float())
    start = seed % len(batches)
    again = list(dataset.shuffled_batches(bounds, seed, 1, start))
    assert torch.equal(
        torch.cat([features["id"] for features, _ in again]), torch.cat([b[0]["id"] for b in batches[start:]])
    )


def test_epochs_differ_and_rows_of_different_files_meet(tmp_path):
    dataset = stored(tmp_path, 400, 100, 200, weighted=True)
    bounds = [0, 100, 200, 300, 400]
    first, second = (list(dataset.shuffled_batches(bounds, 7, epoch)) for epoch in (1, 2))
    assert first[0][0]["id"].tolist() != second[0][0]["id"].tolist()
    assert len({number // 100 for number in first[0][0]["id"].tolist()}) == 2
    assert torch.equal(first[0][2], first[0][0]["id"].float() + 1)  # weights go with their rows


def test_slices_and_indices_are_those_of_memory(tmp_path):
    dataset = stored(tmp_path, 50, 8, 10)
    for low, high in ((0, 50), (3, 9), (8, 16), (49, 50), (7, 41)):
        features, labels = dataset.batch(slice(low, high))
        assert features["id"].tolist() == list(range(low, high))
        assert labels.tolist() == [number % 2 for number in range(low, high)]
    wanted = torch.tensor([49, 0, 8, 7, 8])
    assert dataset.batch(wanted)[0]["id"].tolist() == wanted.tolist()
    assert dataset[17][0]["id"].item() == 17


def test_what_is_not_whole_is_not_used(tmp_path):
    stored(tmp_path, 50, 8, 10)
    folder = tmp_path / "s"
    assert open_store(folder, "other") is None
    shard = sorted(folder.glob("*.parquet"))[2]
    content = shard.read_bytes()
    shard.write_bytes(content[:-1])
    assert open_store(folder, "key") is None
    shard.write_bytes(content)
    assert open_store(folder, "key") is not None
    (folder / "manifest.json").unlink()
    assert open_store(folder, "key") is None


def test_files_do_not_depend_on_how_the_rows_came(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "SHARD_ROWS", 8)
    whole = numbered(50)
    numbers, sizes = np.arange(50), []
    for name, cuts in (("one", [0, 50]), ("many", [0, 3, 11, 12, 40, 50])):
        with StoreWriter(tmp_path / name, "key", ["train"]) as writer:
            for low, high in pairwise(cuts):
                writer.append("train", whole.where((numbers >= low) & (numbers < high)))
        shards = open_store(tmp_path / name, "key")["train"]
        sizes.append([shard.rows for shard in shards])
        assert StreamedDataset(shards, 10).batch(slice(0, 50))[0]["id"].tolist() == list(range(50))
    assert sizes[0] == sizes[1] == [8, 8, 8, 8, 8, 8, 2]


def test_a_full_disk_leaves_nothing_behind(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(store.pq, "write_table", refuse)
    with pytest.raises(DataError, match=r"No space left on device; free space there, or set data\.cache_dir"):
        stored(tmp_path, 50, 8, 10)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def built(tmp_path):
    """A table's parts in memory and streamed, and the adapters."""
    frame = rows(3000, 0).with_columns(price=pl.when(pl.col("price") > 3).then("price"))
    both = []
    for streaming in ("false", "true"):
        config = load_config(None, [*SETTINGS, f"data.streaming={streaming}", f"data.cache_dir={tmp_path / 'cache'}"])
        adapter = TableAdapter(frame, config.data, schema=SCHEMA)
        both.append((adapter.build(), config))
    return both


def test_a_table_streams_the_rows_that_it_has_in_memory(built):
    ((schema, *parts), config), ((streamed_schema, *streamed), _) = built
    assert streamed_schema == schema
    assert all(isinstance(part, StreamedDataset) for part in streamed)
    torch.manual_seed(0)
    model = create_model("deepfm", schema, config)
    for memory, files in zip(parts, streamed, strict=True):
        files.check(schema)
        assert torch.equal(files.labels, memory.labels)
        assert np.abs(score_rows(model, files) - score_rows(model, memory)).max() < 1e-6


@pytest.mark.parametrize("streaming", ["true", "false"])
def test_only_training_weighs_rows(tmp_path, streaming):
    for seed, (stem, weight) in enumerate({"train": 2.0, "valid": 0.0, "test": 0.0}.items()):
        rows(200, seed).with_columns(w=pl.lit(weight)).write_csv(tmp_path / f"{stem}.csv")
    TableSchema("click", {"user": TableColumn(), "item": TableColumn()}, weight="w").save(tmp_path / "schema.yaml")
    config = load_config(None, [*SETTINGS[:2], f"data.streaming={streaming}", f"data.cache_dir={tmp_path / 'cache'}"])
    schema, train, *others = TableAdapter(tmp_path, config.data).build()
    assert [part.weights for part in others] == [None, None]
    for part in others:
        assert len(score_rows(create_model("deepfm", schema, config), part)) == 200
    if streaming == "false":
        assert train.weights.tolist() == [1] * 200


def test_training_streams_and_the_run_is_evaluated_alike(tmp_path):
    rows(2000, 1).write_csv(tmp_path / "clicks.csv")
    options = ["training.num_epochs=3", "training.batch_size=100", "training.lr=0.01", "device=cpu"]
    options += ["dnn.hidden_units=[16]", "data.buffer_rows=300", f"data.cache_dir={tmp_path / 'cache'}"]
    results = {}
    for streaming in ("true", "false"):
        run = tmp_path / streaming
        command = ["train", "--quiet", "--data", str(tmp_path / "clicks.csv"), "--override", *options]
        assert main([*command, f"data.streaming={streaming}", f"output_dir={run}"]) == 0
        results[streaming] = RunFolder(run).read_results()
    assert results["true"]["protocol"] == results["false"]["protocol"]
    for split in ("validation", "test"):  # other orders of rows, the same problem
        assert results["true"][split]["auc"] > 0.6
        assert abs(results["true"][split]["auc"] - results["false"][split]["auc"]) < 0.1
    assert main(["evaluate", str(tmp_path / "true")]) == 0
