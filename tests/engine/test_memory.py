"""Memory is asked for before it is taken; batches reach the device in order."""

import ctypes
import subprocess
import sys

import numpy as np
import psutil
import pytest
import torch

from deepfm.config import load_config
from deepfm.data.dataset import TabularDataset
from deepfm.engine import memory
from deepfm.errors import DataError
from deepfm.training.experiment import open_data

CPU = torch.device("cpu")


def test_free_memory_is_the_machines(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "CGROUP", tmp_path)
    machine = psutil.virtual_memory()
    assert 0 < memory.free_memory() <= machine.total
    assert memory.free_memory(CPU) <= machine.total


@pytest.mark.parametrize(("limit", "used", "free"), [("1000", "400", 700), ("max", "400", None)])
def test_a_containers_limit_counts(tmp_path, monkeypatch, limit, used, free):
    (tmp_path / "memory.max").write_text(f"{limit}\n")
    (tmp_path / "memory.current").write_text(f"{used}\n")
    (tmp_path / "memory.stat").write_text("anon 300\ninactive_file 100\n")
    monkeypatch.setattr(memory, "CGROUP", tmp_path)
    found = memory.free_memory()
    assert found == free if free is not None else found > 1000


def test_what_fits_is_let_pass():
    memory.require_memory(1, "one byte", "do nothing")


def test_what_does_not_fit_names_both_sizes_and_the_way_out(monkeypatch):
    monkeypatch.setattr(memory, "free_memory", lambda device=None: 2 * memory.GIB)
    with pytest.raises(
        DataError,
        match=r"^a lot need about 3\.0 GiB of memory and 2\.0 GiB are free; take less, or stream a table",
    ):
        memory.require_memory(3 * memory.GIB, "a lot", "take less")


def test_negatives_that_would_not_fit_are_refused_before_they_are_drawn(small_dir, monkeypatch):
    overrides = [
        f"data.data_dir={small_dir}",
        "data.source=files",
        "data.num_neg_eval=50",
        "data.num_neg_train=9999999999",
    ]
    monkeypatch.setattr(
        "deepfm.data.interactions.TrainingInteractions._draw", lambda *_: pytest.fail("negatives were drawn")
    )
    with pytest.raises(
        DataError, match=r"9,999,999,999 negatives each need about [\d,.]+ GiB .* lower data.num_neg_train"
    ):
        open_data(load_config(None, overrides))


def test_columns_that_need_a_copy_are_refused_where_it_would_not_fit(monkeypatch):
    monkeypatch.setattr(memory, "free_memory", lambda device=None: 39)
    ids = np.ones(10, dtype=np.int8)
    with pytest.raises(DataError, match="10 rows of 1 fields need"):
        TabularDataset({"id": ids}, np.zeros(10))
    monkeypatch.setattr(memory, "free_memory", lambda device=None: 40)
    assert len(TabularDataset({"id": ids}, np.zeros(10))) == 10


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.float32])
def test_columns_that_need_no_copy_take_nothing(monkeypatch, dtype):
    monkeypatch.setattr(memory, "free_memory", lambda device=None: 0)
    column = np.ones(10, dtype=dtype)
    data = TabularDataset({"id": column}, np.zeros(10, dtype=np.float32))
    column[3] = 7
    assert data.features["id"][3] == 7  # the same memory


def test_data_stay_in_main_memory_where_the_device_has_too_little(monkeypatch):
    monkeypatch.setattr(memory, "free_memory", lambda device=None: 100)
    assert memory.fits(10**12, CPU)
    assert memory.fits(50, torch.device("cuda"))
    assert not memory.fits(51, torch.device("cuda"))


def test_batches_are_fed_in_order_and_whole():
    batches = [({"a": torch.tensor([i])}, torch.tensor([float(i)])) for i in range(5)]
    fed = list(memory.feed(iter(batches), CPU))
    assert [features["a"].item() for features, _ in fed] == [0, 1, 2, 3, 4]
    assert [labels.item() for _, labels in fed] == [0.0, 1.0, 2.0, 3.0, 4.0]


def test_feeding_takes_no_batch_before_it_is_asked_for():
    taken = []

    def batches():
        for i in range(3):
            taken.append(i)
            yield torch.tensor(i)

    fed = memory.feed(batches(), CPU)
    next(fed)
    assert taken == [0]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads what the process holds from /proc")
def test_holes_in_the_heap_go_back_to_the_system():
    if not hasattr(ctypes.CDLL(None), "malloc_trim"):
        pytest.skip("the C library is not glibc")
    code = (
        "import psutil, ctypes\n"
        "from deepfm.engine.memory import release_free_memory\n"
        "libc = ctypes.CDLL(None)\n"
        "libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]\n"
        "places = [libc.malloc(100_000) for _ in range(2_000)]\n"
        "for place in places: ctypes.memset(ctypes.c_void_p(place), 1, 100_000)\n"
        "for number, place in enumerate(places):\n"
        "    if number % 20: libc.free(place)\n"
        "held = psutil.Process().memory_info().rss\n"
        "given = release_free_memory()\n"
        "print(given, held - psutil.Process().memory_info().rss)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    given, less = done.stdout.split()
    assert given == "True"
    assert int(less) > 100e6  # of the 190 MB that are free
