import json
import logging
import os
import pickle
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deepfm.errors import CheckpointError, RunError
from deepfm.utils import get_logger, load_checkpoint, random_stream, save_checkpoint, seed_everything
from deepfm.utils.io import (
    atomic_path,
    load_arrays,
    read_json,
    save_arrays,
    write_bytes,
    write_json,
    write_text,
)
from tests.conftest import close_log_file

DISK_FULL = OSError(28, "No space left on device")


def failing(error):
    def call(*_, **__):
        raise error

    return call


@pytest.fixture
def old(tmp_path):
    path = tmp_path / "file.txt"
    path.write_text("old")
    return path


def assert_untouched(old):
    assert old.read_text() == "old"
    assert list(old.parent.iterdir()) == [old]


class TestAtomicWrites:
    def test_a_new_file_and_its_folders_are_made(self, tmp_path):
        path = tmp_path / "a" / "b" / "file.txt"
        write_text(path, "Grüße\n")
        assert path.read_bytes() == "Grüße\n".encode()
        assert list(path.parent.iterdir()) == [path]

    def test_an_old_file_is_replaced(self, old):
        write_bytes(old, b"new")
        assert old.read_bytes() == b"new"
        assert list(old.parent.iterdir()) == [old]

    def test_until_the_end_the_old_file_stands(self, old):
        with atomic_path(old) as beside:
            beside.write_text("new")
            assert old.read_text() == "old"
            assert beside.parent == old.parent
        assert old.read_text() == "new"

    @pytest.mark.parametrize("call", ["replace", "fsync"])
    def test_a_system_that_refuses_leaves_the_old_file(self, call, old, monkeypatch):
        monkeypatch.setattr(os, call, failing(DISK_FULL))
        with pytest.raises(RunError, match=r"cannot write .*file\.txt: No space left on device"):
            write_text(old, "new")
        assert_untouched(old)

    def test_a_full_disk_in_the_middle_leaves_the_old_file(self, old):
        def half_written():
            with atomic_path(old) as beside:
                beside.write_text("ne")
                raise DISK_FULL

        with pytest.raises(RunError, match="No space left"):
            half_written()
        assert_untouched(old)

    def test_any_other_error_is_passed_on_and_leaves_the_old_file(self, old):
        def interrupted():
            with atomic_path(old) as beside:
                beside.write_text("ne")
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            interrupted()
        assert_untouched(old)

    def test_a_file_in_the_way_of_a_folder_is_a_run_error(self, old):
        with pytest.raises(RunError, match="cannot write"):
            write_text(old / "below.txt", "new")
        assert_untouched(old)

    def test_json_survives_and_nan_is_refused(self, old):
        write_json(old, {"a": [1, 2.5, None, "ä"]})
        assert read_json(old, "test file") == {"a": [1, 2.5, None, "ä"]}
        assert old.read_text().endswith("\n")
        with pytest.raises(ValueError, match="JSON compliant"):
            write_json(old, {"a": float("nan")})
        assert json.loads(old.read_text()) == {"a": [1, 2.5, None, "ä"]}

    def test_json_that_cannot_be_read_names_thing_and_file(self, old, tmp_path):
        with pytest.raises(RunError, match=r"results file .*absent does not exist"):
            read_json(tmp_path / "absent", "results file")
        with pytest.raises(RunError, match=r"results file .*file\.txt cannot be read as JSON"):
            read_json(old, "results file")
        old.write_bytes(b"\xff\xfe")
        with pytest.raises(RunError, match="cannot be read as JSON"):
            read_json(old, "results file")

    def test_arrays_survive_their_file(self, old):
        arrays = {"ids": np.arange(3), "scores": np.array([0.1, 0.2], dtype=np.float32), "none": np.zeros((0, 2))}
        save_arrays(old, arrays)
        loaded = load_arrays(old, "test file")
        assert list(loaded) == list(arrays)
        for name, array in arrays.items():
            assert loaded[name].dtype == array.dtype
            np.testing.assert_array_equal(loaded[name], array)
        assert list(old.parent.iterdir()) == [old]

    def test_arrays_that_cannot_be_read_name_thing_and_file(self, old, tmp_path):
        with pytest.raises(RunError, match=r"candidates file .*file\.txt is damaged"):
            load_arrays(old, "candidates file")
        with pytest.raises(RunError, match=r"candidates file .*absent does not exist"):
            load_arrays(tmp_path / "absent", "candidates file")


STATE = {
    "weights": {"a": torch.arange(6.0).reshape(2, 3), "b": torch.tensor([1, 2])},
    "history": [{"epoch": 1, "auc": 0.5}],
    "name": "deepfm",
    "none": None,
}


class _Touch:
    """Whoever unpickles this creates a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


class TestCheckpoints:
    def test_a_checkpoint_survives_its_file(self, tmp_path):
        save_checkpoint(STATE, tmp_path / "last.ckpt")
        loaded = load_checkpoint(tmp_path / "last.ckpt", "cpu")
        assert {key: loaded[key] for key in ("history", "name", "none")} == {
            key: STATE[key] for key in ("history", "name", "none")
        }
        for name, tensor in STATE["weights"].items():
            assert torch.equal(loaded["weights"][name], tensor)
            assert loaded["weights"][name].dtype == tensor.dtype
        assert [path.name for path in tmp_path.iterdir()] == ["last.ckpt"]

    def test_the_device_may_be_an_object(self, tmp_path):
        save_checkpoint(STATE, tmp_path / "last.ckpt")
        assert load_checkpoint(tmp_path / "last.ckpt", torch.device("cpu"))["weights"]["a"].device.type == "cpu"

    @pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
    def test_a_hostile_checkpoint_is_refused_and_not_executed(self, legacy, tmp_path):
        witness, path = tmp_path / "executed", tmp_path / "last.ckpt"
        torch.save({"a": _Touch(witness)}, path, _use_new_zipfile_serialization=not legacy)
        with pytest.raises(CheckpointError, match="was not loaded"):
            load_checkpoint(path)
        assert not witness.exists()
        torch.load(path, weights_only=False)  # the attack is real
        assert witness.exists()

    def test_a_bare_hostile_pickle_is_refused_and_not_executed(self, tmp_path):
        witness, path = tmp_path / "executed", tmp_path / "last.ckpt"
        path.write_bytes(pickle.dumps(_Touch(witness), protocol=2))
        with pytest.raises(CheckpointError):
            load_checkpoint(path)
        assert not witness.exists()
        pickle.loads(path.read_bytes())
        assert witness.exists()

    def test_a_pickled_model_is_refused(self, tmp_path):
        torch.save(torch.nn.Linear(2, 2), tmp_path / "model.pt")
        with pytest.raises(CheckpointError, match="more than tensors and plain values"):
            load_checkpoint(tmp_path / "model.pt")

    @settings(deadline=None, max_examples=40)
    @given(share=st.floats(0, 1, exclude_max=True))
    def test_a_truncated_checkpoint_is_refused(self, share, tmp_path_factory):
        path = tmp_path_factory.mktemp("truncated") / "last.ckpt"
        save_checkpoint(STATE, path)
        content = path.read_bytes()
        path.write_bytes(content[: int(len(content) * share)])
        with pytest.raises(CheckpointError, match=r"last\.ckpt"):
            load_checkpoint(path)

    @pytest.mark.parametrize("content", [b"", b"text", b"\x80", b"PK\x03\x04", b"\0" * 64, bytes(range(256)), b"{}\n"])
    def test_a_file_that_is_no_checkpoint_is_refused(self, content, tmp_path):
        (tmp_path / "last.ckpt").write_bytes(content)
        with pytest.raises(CheckpointError, match=r"last\.ckpt"):
            load_checkpoint(tmp_path / "last.ckpt")

    @settings(deadline=None, max_examples=60)
    @given(content=st.binary(min_size=1, max_size=40))
    def test_any_bytes_are_refused_by_a_checkpoint_error(self, content, tmp_path_factory):
        path = tmp_path_factory.mktemp("bytes") / "last.ckpt"
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match=r"last\.ckpt"):
            load_checkpoint(path)

    def test_a_missing_file_and_a_folder_are_named(self, tmp_path):
        with pytest.raises(CheckpointError, match=r"absent\.ckpt does not exist"):
            load_checkpoint(tmp_path / "absent.ckpt")
        with pytest.raises(CheckpointError, match=str(tmp_path.name)):
            load_checkpoint(tmp_path)

    def test_a_tensor_alone_is_no_state(self, tmp_path):
        torch.save(torch.zeros(2), tmp_path / "last.ckpt")
        with pytest.raises(CheckpointError, match="holds a Tensor; expected a dict"):
            load_checkpoint(tmp_path / "last.ckpt")

    @pytest.mark.parametrize("error", [DISK_FULL, RuntimeError("unexpected pos 64 vs 0\nmore")])
    def test_a_failed_save_leaves_the_old_checkpoint(self, error, tmp_path, monkeypatch):
        path = tmp_path / "last.ckpt"
        save_checkpoint(STATE, path)
        before = path.read_bytes()

        def half(_, file):
            file.write(b"half")
            raise error

        monkeypatch.setattr(torch, "save", half)
        with pytest.raises(RunError, match=r"cannot write .*last\.ckpt") as caught:
            save_checkpoint({"new": 1}, path)
        assert "\n" not in str(caught.value)
        assert path.read_bytes() == before
        assert list(tmp_path.iterdir()) == [path]

    def test_a_rename_that_fails_leaves_the_old_checkpoint(self, tmp_path, monkeypatch):
        path = tmp_path / "last.ckpt"
        save_checkpoint({"epoch": 1}, path)
        monkeypatch.setattr(os, "replace", failing(DISK_FULL))
        with pytest.raises(RunError, match="No space left"):
            save_checkpoint({"epoch": 2}, path)
        monkeypatch.undo()
        assert load_checkpoint(path) == {"epoch": 1}
        assert list(tmp_path.iterdir()) == [path]

    @pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
    def test_a_disk_that_is_really_full_is_a_run_error(self, tmp_path):
        def write():
            with atomic_path(tmp_path / "last.ckpt") as beside:
                beside.symlink_to("/dev/full")
                beside.write_bytes(b"x" * 10)

        with pytest.raises(RunError, match="No space left"):
            write()
        assert list(tmp_path.iterdir()) == []


class TestLogger:
    def test_writes_to_stdout(self, capsys):
        get_logger("deepfm.tests").info("%d rows", 3)
        captured = capsys.readouterr()
        assert captured.out == "3 rows\n"
        assert captured.err == ""

    def test_warnings_say_so_and_debug_is_silent(self, capsys):
        logger = get_logger("deepfm.tests")
        logger.debug("no")
        logger.warning("careful")
        assert capsys.readouterr().out == "WARNING: careful\n"

    def test_a_line_is_written_once_however_often_it_is_asked_for(self, capsys):
        for _ in range(3):
            logger = get_logger("deepfm.tests")
        logger.info("once")
        assert capsys.readouterr().out == "once\n"

    def test_a_name_from_outside_is_put_below_the_package(self):
        assert get_logger("mine").name == "deepfm.mine"
        assert get_logger("deepfmx").name == "deepfm.deepfmx"
        assert get_logger("deepfm.a").name == "deepfm.a"
        assert get_logger().name == "deepfm"

    def test_a_file_gets_every_line_once_beside_stdout(self, tmp_path, capsys):
        path = tmp_path / "train.log"
        logger = get_logger("deepfm.tests", path)
        assert get_logger("deepfm.tests", path) is logger
        try:
            logger.info("größer")
            get_logger("deepfm.tests.below").info("below")
        finally:
            close_log_file(logger)
        logger.info("after")
        lines = path.read_text(encoding="utf-8").splitlines()
        assert [line.split(" INFO ")[1] for line in lines] == ["größer", "below"]
        assert capsys.readouterr().out == "größer\nbelow\nafter\n"

    def test_a_file_is_appended_to(self, tmp_path):
        path = tmp_path / "train.log"
        for text in ("one", "two"):
            logger = get_logger("deepfm.tests", path)
            logger.info(text)
            close_log_file(logger)
        assert [line.split()[-1] for line in path.read_text().splitlines()] == ["one", "two"]

    def test_other_loggers_are_left_alone(self):
        handlers, level = list(logging.getLogger().handlers), logging.getLogger().level
        get_logger("deepfm.tests")
        assert logging.getLogger().handlers == handlers
        assert logging.getLogger().level == level

    def test_stdout_is_that_of_the_moment(self, capsys, monkeypatch):
        class Lines(list):
            def write(self, text):
                self.append(text)

            def flush(self):
                pass

        lines = Lines()
        monkeypatch.setattr(sys, "stdout", lines)
        get_logger("deepfm.tests").info("here")
        assert lines == ["here\n"]


@pytest.fixture
def _keep_global_generators():
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002
    with torch.random.fork_rng():
        yield
    random.setstate(python)
    np.random.set_state(numpy)  # noqa: NPY002


def draws():
    return random.random(), np.random.rand(), torch.rand(3).tolist()  # noqa: NPY002


@pytest.mark.usefixtures("_keep_global_generators")
class TestSeeding:
    def test_a_seed_repeats_the_draws_of_python_numpy_and_torch(self):
        seed_everything(5)
        first = draws()
        assert draws() != first
        seed_everything(5)
        assert draws() == first

    def test_another_seed_gives_other_draws_of_each(self):
        seed_everything(5)
        first = draws()
        seed_everything(6)
        assert all(one != other for one, other in zip(first, draws(), strict=True))

    def test_a_stream_is_a_pure_function_of_its_arguments(self):
        wanted = random_stream("negatives", 1, 2).random(5).tolist()
        random_stream("negatives", 1, 3).random(100)
        seed_everything(9)
        assert random_stream("negatives", 1, 2).random(5).tolist() == wanted

    def test_a_stream_touches_no_global_generator(self):
        seed_everything(5)
        first = draws()
        seed_everything(5)
        random_stream("negatives", 1, 2).random(5)
        assert draws() == first

    def test_streams_differ_by_purpose_and_by_every_number(self):
        arguments = [("a", 1, 2), ("b", 1, 2), ("a", 2, 2), ("a", 1, 3), ("a", 2, 1), ("a", 0, 1), ("a", 1, 0)]
        drawn = [random_stream(*one).integers(2**62) for one in arguments]
        assert len(set(drawn)) == len(arguments)

    def test_a_stream_does_not_depend_on_the_process(self):
        code = "from deepfm.utils import random_stream; print(random_stream('negatives', 42, 1).integers(2**62))"
        result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert int(result.stdout) == random_stream("negatives", 42, 1).integers(2**62)
