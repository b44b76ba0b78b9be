"""Checkpoints inside an epoch: a run goes on at the batch where it was cut off, as if it had never been."""

import dataclasses

import numpy as np
import pytest
import torch

from deepfm.config import load_config
from deepfm.data import store
from deepfm.data.dataset import TabularDataset
from deepfm.data.schema import DatasetSchema, FeatureType, FieldSchema
from deepfm.data.store import StoreWriter, open_store
from deepfm.data.streaming import StreamedDataset
from deepfm.data.tables.encoder import EncodedRows
from deepfm.engine.checkpoint import load_fit
from deepfm.engine.loop import Observer, fit
from deepfm.engine.loop_settings import LoopSettings
from deepfm.engine.settings import build_settings
from deepfm.errors import CheckpointError, ConfigError, TrainingError
from deepfm.models import create_model
from deepfm.training.task import CTRTask
from tests.engine.test_other_task import CPU, Knobs, Ordering, StopAfter, weights

SCHEMA = DatasetSchema(
    {
        "user": FieldSchema("user", FeatureType.SPARSE, 30, 4),
        "price": FieldSchema("price", FeatureType.DENSE, 0, 4),
        "tags": FieldSchema("tags", FeatureType.SEQUENCE, 8, 4, max_length=3),
    },
    "click",
)
OPTIONS = [
    "device=cpu", "dnn.hidden_units=[8,4]", "dnn.dropout=0.3", "feature.fm_embed_dim=4", "training.metric=auc",
    "training.batch_size=32", "training.num_epochs=3", "training.lr=0.01", "training.scheduler=cosine",
    "training.checkpoint_batches=3", "training.accumulation_steps=2",
]  # fmt: skip
ROWS = 365  # 12 batches, the last of 13 rows


def encoded(rows: int, seed: int) -> EncodedRows:
    draw = np.random.default_rng(seed)
    users, prices = draw.integers(1, 30, rows, dtype=np.int32), draw.random(rows, dtype=np.float32)
    clicks = (draw.random(rows) < np.where(users % 2, 0.8, 0.2)).astype(np.float32)
    return EncodedRows({"user": users, "price": prices, "tags": draw.integers(0, 8, (rows, 3), dtype=np.int32)}, clicks)


@pytest.fixture(params=["memory", "streamed"])
def make_task(request, tmp_path, monkeypatch):
    """A task of the same rows each time, with weights that depend on the seed."""
    monkeypatch.setattr(store, "SHARD_ROWS", 50)
    rows, held_out = encoded(ROWS, 0), encoded(200, 1)
    if request.param == "streamed":
        with StoreWriter(tmp_path / "store", "key", ["train"]) as writer:
            writer.append("train", rows)

    def make(*overrides: str, seed: int = 0) -> CTRTask:
        config = load_config(None, [*OPTIONS, *overrides])
        torch.manual_seed(seed)
        if request.param == "streamed":
            train = StreamedDataset(open_store(tmp_path / "store", "key")["train"], 100)
        else:
            train = TabularDataset(rows.features, rows.labels)
        validation = TabularDataset(held_out.features, held_out.labels)
        return CTRTask(create_model("deepfm", SCHEMA, config), config, train, validation)

    return make


def run(task: CTRTask, **options):
    return fit(task, task.config.training, device=CPU, **options)


def interrupted(task: CTRTask, path, after: int) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(task, checkpoint=path, observers=[StopAfter(after)])


class Watch(Observer):
    def __init__(self) -> None:
        self.epochs, self.skipped, self.trained = [], [], 0

    def epoch_started(self, epoch):
        self.epochs.append(epoch)

    def batches_skipped(self, batches):
        self.skipped.append(batches)

    def batch_finished(self, rows):
        self.trained += 1


@pytest.mark.parametrize(
    ("stop_after", "kept"),
    [(2, 0), (5, 4), (8, 4), (9, 8), (12, 8), (12 + 3, 12), (24 + 11, 24 + 8)],
)
def test_a_run_goes_on_at_the_batch_of_its_last_checkpoint(make_task, tmp_path, stop_after, kept):
    whole = make_task()
    expected = run(whole)
    path = tmp_path / "last.ckpt"
    interrupted(make_task(), path, stop_after)
    task, watch = make_task(seed=99), Watch()
    state = run(task, checkpoint=path, resume=True, observers=[watch])
    assert torch.equal(weights(task), weights(whole))
    timeless = [{k: v for k, v in one.items() if k not in ("seconds", "rows_per_second")} for one in state.history]
    assert timeless == [{key: one[key] for key in known} for known, one in zip(timeless, expected.history, strict=True)]
    assert all(torch.equal(state.best_weights[name], expected.best_weights[name]) for name in expected.best_weights)
    assert (state.best_epoch, state.batches, state.rows) == (expected.best_epoch, 0, 0)
    assert watch.trained == 3 * 12 - kept
    assert watch.skipped == ([kept % 12] if kept % 12 else [])
    assert watch.epochs == list(range(kept // 12 + 1, 4))


def test_a_run_may_be_cut_off_again_and_again(make_task, tmp_path):
    whole = make_task()
    run(whole)
    path = tmp_path / "last.ckpt"
    interrupted(make_task(), path, 5)
    for _ in range(4):
        task = make_task(seed=7)
        with pytest.raises(KeyboardInterrupt):
            run(task, checkpoint=path, resume=True, observers=[StopAfter(6)])
    task = make_task(seed=8)
    run(task, checkpoint=path, resume=True)
    assert torch.equal(weights(task), weights(whole))


def test_what_is_saved_inside_an_epoch_counts_its_rows_and_losses(make_task, tmp_path):
    task, path = make_task(), tmp_path / "last.ckpt"
    interrupted(task, path, 12 + 9)
    from deepfm.engine.optim import build_optimizer
    from deepfm.engine.schedule import Schedule

    other = make_task(seed=3)
    optimizer = build_optimizer("adam", 0.01, other.parameter_groups(), CPU)
    schedule = Schedule("cosine", 0.01, 18)
    state = load_fit(path, other, optimizer, schedule, CPU)
    assert (state.epoch, state.batches, state.rows, schedule.step) == (1, 8, 8 * 32, 6 + 4)
    assert 0.3 * state.rows < state.loss_sum < 1.2 * state.rows
    assert state.epoch_seconds > 0
    assert len(state.history) == 1


@pytest.mark.parametrize("start", [1, 7, 11])
def test_batches_from_a_start_are_the_last_ones_of_all(make_task, start):
    task = make_task()
    every, last = list(task.batches(2)), list(task.batches(2, start))
    assert len(every) == task.num_batches()
    assert len(last) == len(every) - start
    for (features, labels), (other, others) in zip(last, every[start:], strict=True):
        assert torch.equal(labels, others)
        assert all(torch.equal(features[name], other[name]) for name in other)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            "training.batch_size=16",
            "is of an epoch of 12 batches, and an epoch has 23 here; resume with the batch size",
        ),
        ("training.accumulation_steps=3", "after batch 4 of an epoch, inside a step of accumulation_steps = 3; resume"),
    ],
)
def test_another_cut_of_the_epoch_is_refused(make_task, tmp_path, change, message):
    path = tmp_path / "last.ckpt"
    interrupted(make_task(), path, 5)
    with pytest.raises(CheckpointError, match=message):
        run(make_task(change), checkpoint=path, resume=True)


@pytest.mark.parametrize("make_task", ["streamed"], indirect=True)
def test_streamed_rows_are_not_gone_on_with_in_another_order(make_task, tmp_path):
    path = tmp_path / "last.ckpt"
    interrupted(make_task(), path, 5)
    task = make_task()
    task.train_ds.buffer_rows = 200
    with pytest.raises(CheckpointError, match="written with another training set"):
        run(task, checkpoint=path, resume=True)


class Halting(Ordering):
    """A task that counts its saves by its fingerprint, and may lose its mind."""

    poison = 0

    def __init__(self) -> None:
        super().__init__()
        self.saves = 0

    def fingerprint(self):
        self.saves += 1
        return {}

    def batches(self, epoch, start=0):
        for number, batch in enumerate(list(super().batches(epoch))[start:], start=start + 1):
            yield [(a * float("nan"), b) for a, b in batch] if number == self.poison else batch


def test_checkpoints_come_with_the_steps_and_never_twice(tmp_path):
    for every, accumulation, saves in ((1, 1, 4), (2, 1, 2), (3, 1, 1), (5, 1, 0), (1, 2, 2), (3, 2, 1), (None, 1, 0)):
        task = Halting()
        knobs = dataclasses.replace(Knobs(), num_epochs=1, checkpoint_batches=every, accumulation_steps=accumulation)
        fit(task, knobs, device=CPU, checkpoint=tmp_path / "last.ckpt")
        assert task.saves == 2 + saves, (every, accumulation)  # and one before the epoch, and one after it


def test_a_loss_that_turns_nan_names_the_state_that_is_kept(tmp_path):
    task, knobs = Halting(), dataclasses.replace(Knobs(), checkpoint_batches=2)
    task.poison = 4
    with pytest.raises(TrainingError, match="nan in epoch 1, batch 4; the state after epoch 1, batch 2, is kept"):
        fit(task, knobs, device=CPU, checkpoint=tmp_path / "last.ckpt")
    well = Halting()
    fit(well, knobs, device=CPU, checkpoint=tmp_path / "last.ckpt", resume=True)
    assert weights(well).isfinite().all()


def test_zero_batches_between_checkpoints_are_refused():
    with pytest.raises(ConfigError, match="checkpoint_batches"):
        build_settings(LoopSettings, {"checkpoint_batches": 0})
