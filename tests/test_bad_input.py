"""Bad input through the command line: one clear sentence, exit code 2, nothing created, nothing lost."""

import contextlib
import errno
import json
import os
import pickle
import re
import shutil
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from deepfm.cli import main
from deepfm.data.sample import write_sample
from deepfm.engine.run import RunFolder
from deepfm.errors import ConfigError, DataError, RunError
from deepfm.models import DeepFM
from deepfm.reporting import Document
from deepfm.training import experiment
from deepfm.training.task import CTRTask
from deepfm.utils import get_logger, load_checkpoint, save_checkpoint
from tests.conftest import close_log_file

pytestmark = pytest.mark.usefixtures("one_thread")
TINY = [
    "device=cpu",
    "data.source=files",
    "data.num_neg_eval=20",
    "training.num_epochs=3",
    "training.batch_size=256",
    "dnn.hidden_units=[8]",
    "feature.fm_embed_dim=4",
]


@pytest.fixture(autouse=True)
def _own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(experiment, "build_run_report", lambda *_: Document("report", "", []))


@pytest.fixture
def own(small_dir):
    """Overrides of a run that would succeed."""
    return [*TINY, f"data.data_dir={small_dir}", "output_dir=run"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory, small_dir):
    """A finished run; tests copy it."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    assert main(["train", "--quiet", "--override", *TINY, f"data.data_dir={small_dir}", f"output_dir={folder}"]) == 0
    return folder


@pytest.fixture
def finished(trained, tmp_path):
    """A copy of the finished run at ./run."""
    shutil.copytree(trained, tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture
def unfinished(finished):
    """The same as an interruption leaves it: no results yet."""
    for name in ("results.json", "report.html", "ranks.npz"):
        (finished / name).unlink(missing_ok=True)
    return finished


@pytest.fixture
def refused(capsys):
    """Run a command that must fail: the sentence it prints, without its prefix."""

    def call(*argv, code=2):
        capsys.readouterr()
        assert main([str(arg) for arg in argv]) == code
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        assert err.count("\n") == 1, err
        assert err.endswith("\n")
        prefix, _, sentence = err.strip().partition("deepfm: ")
        assert prefix == ""
        assert sentence
        return sentence

    return call


def content(folder):
    """Every file below a folder with its bytes."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}


def nothing_in(folder):
    return list(Path(folder).iterdir()) == []


class TestSettings:
    @pytest.mark.parametrize(
        ("override", "words"),
        [
            ("training.learning_rate=0.1", ["training.learning_rate = 0.1 is not a setting", "did you mean"]),
            ("batch_size=12", ["batch_size", "training.batch_size"]),
            ("trainign.lr=0.1", ["trainign", "training.lr"]),
            ("training.lr=fast", ["training.lr = 'fast'", "a number"]),
            ("training.batch_size=12.5", ["training.batch_size = 12.5", "a whole number"]),
            ("training.batch_size=-1", ["training.batch_size = -1", "at least 1"]),
            ("training.num_epochs=0", ["training.num_epochs = 0", "at least 1"]),
            ("training.lr=-0.1", ["training.lr = -0.1", "above 0"]),
            ("training.lr=.nan", ["training.lr = nan", "above 0"]),
            ("seed=-3", ["seed = -3", "at least 0"]),
            ("seed=true", ["seed = True", "a whole number"]),
            ("fm.use_first_order=1", ["fm.use_first_order = 1", "true or false"]),
            ("dnn.dropout=1.0", ["dnn.dropout = 1.0", "below 1"]),
            ("dnn.hidden_units=[64,-1]", ["dnn.hidden_units", "-1", "at least 1"]),
            ("dnn.hidden_units=64", ["dnn.hidden_units = 64", "a list"]),
            ("data.num_neg_train=0", ["data.num_neg_train = 0", "at least 1"]),
            ("training.optimizer=adagrad", ["training.optimizer = 'adagrad'", "adam, adamw, sgd"]),
            ("training.metric=ndgc@10", ["training.metric = 'ndgc@10'", "ndcg@K"]),
            ("training.metric=hr@7", ["training.metric = 'hr@7'", "training.ranking_ks"]),
            ("data.dataset_name=movielense", ["data.dataset_name = 'movielense'", "'movielens'"]),
            ("data.source=net", ["data.source = 'net'", "auto, files, download, sample"]),
            ("model_name=deepfn", ["model_name = 'deepfn'", "did you mean 'deepfm'?"]),
            ("model_name=bert4rec", ["model_name = 'bert4rec'", "deepfm, xdeepfm, attention_deepfm"]),
            ("device=gpu", ["device = 'gpu'", "auto, cpu, mps, cuda"]),
            ("device=cuda:99", ["device = 'cuda:99'", "not on this machine"]),
            ("training=5", ["training = 5", "section"]),
            ("training.lr.x=5", ["training.lr", "a number"]),
            ("training.lr", ["'training.lr'", "no '='", "training.lr=0.01"]),
            ("=5", ["'=5'", "key=value"]),
            ("dnn.hidden_units=[1,", ["dnn.hidden_units=[1,", "not YAML"]),
        ],
    )
    def test_a_wrong_setting_is_named_before_anything_is_made(self, refused, own, tmp_path, override, words):
        sentence = refused("train", "--override", *own, override)
        for word in words:
            assert word in sentence
        assert nothing_in(tmp_path)

    @pytest.mark.parametrize("verb", ["baseline", "evaluate", "data", "train"])
    def test_every_verb_refuses_a_wrong_setting(self, refused, tmp_path, verb):
        argv = {"baseline": ["baseline", "--name", "ease"], "data": ["data", "describe"]}.get(verb, [verb])
        assert "training.learning_rate" in refused(*argv, "--override", "training.learning_rate=1")
        assert nothing_in(tmp_path)

    def test_a_configuration_file_that_is_not_there(self, refused, tmp_path):
        assert "missing.yaml does not exist" in refused("train", "--config", "missing.yaml")
        assert nothing_in(tmp_path)

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            (b"training: [unclosed", "not YAML"),
            (b"- a\n- list\n", "holds a list"),
            (b"\xff\xfe\x00binary\x00", "is not"),
            (b"training: 5\n", "training = 5"),
            (b"training: {learning_rate: 5}\n", "training.learning_rate"),
            (b"1: 2\n", "1"),
            (b"training: {lr: {}}\n", "training.lr"),
        ],
    )
    def test_a_configuration_file_that_is_none(self, refused, tmp_path, text, words):
        (tmp_path / "bad.yaml").write_bytes(text)
        assert words in refused("train", "--config", "bad.yaml")
        assert [path.name for path in tmp_path.iterdir()] == ["bad.yaml"]

    def test_a_configuration_file_executes_nothing(self, refused, tmp_path):
        (tmp_path / "bad.yaml").write_text(f"seed: !!python/object/apply:os.system ['touch {tmp_path}/owned']\n")
        assert "not YAML" in refused("train", "--config", "bad.yaml")
        assert not (tmp_path / "owned").exists()

    def test_sizes_that_do_not_fit_each_other_leave_no_folder(self, refused, own, tmp_path):
        bad = ["model_name=attention_deepfm", "attention.num_heads=3"]
        assert "attention.num_heads = 3" in refused("train", "--override", *own, *bad)
        assert nothing_in(tmp_path)

    def test_single_rows_under_batch_normalisation(self, refused, own):
        assert "batch" in refused("train", "--override", *own, "training.batch_size=1")

    def test_debug_shows_the_traceback(self):
        with pytest.raises(ConfigError, match=r"training\.learning_rate"):
            main(["train", "--debug", "--override", "training.learning_rate=1"])

    @pytest.mark.parametrize(
        "options", [["ease", "--l2", "-1"], ["ease", "--l2", "inf"], ["itemknn", "--neighbours", "0"]]
    )
    def test_an_option_of_a_baseline_out_of_range(self, refused, own, tmp_path, options):
        name, option, value = options
        assert f"{option[2:]} = {value}" in refused("baseline", "--name", name, option, value, "--override", *own)
        assert nothing_in(tmp_path)

    @pytest.mark.parametrize("argv", [["train", "--nonsense"], ["nonsense"], ["baseline", "--name", "svd"], ["data"]])
    def test_an_argument_that_does_not_exist(self, argv, capsys, tmp_path):
        with pytest.raises(SystemExit) as end:
            main(argv)
        assert end.value.code == 2
        assert re.fullmatch(r"deepfm: .*; see deepfm.* --help\n", capsys.readouterr().err)
        assert nothing_in(tmp_path)


class TestData:
    def test_missing_files(self, refused, own, tmp_path):
        sentence = refused("train", "--override", *own, "data.data_dir=nowhere")
        assert "u.data, u.user, u.item not found in nowhere" in sentence
        assert "data.data_dir" in sentence
        assert nothing_in(tmp_path)

    @pytest.fixture
    def damaged(self, small_dir, tmp_path):
        folder = tmp_path / "damaged"
        shutil.copytree(small_dir, folder)
        lines = (folder / "u.data").read_text().splitlines()
        lines[6] = "\t".join([*lines[6].split("\t")[:2], "five", "881250949"])
        (folder / "u.data").write_text("\n".join(lines) + "\n")
        return folder

    @pytest.mark.parametrize("verb", [["train"], ["baseline", "--name", "ease"], ["data", "describe"]])
    def test_a_damaged_file_is_named_with_its_line(self, refused, own, tmp_path, damaged, verb):
        sentence = refused(*verb, "--override", *own, f"data.data_dir={damaged}")
        assert "u.data line 7: rating 'five'" in sentence
        assert [path.name for path in tmp_path.iterdir()] == ["damaged"]

    def test_check_names_it_too(self, refused, damaged):
        assert "u.data line 7: rating 'five'" in refused("data", "check", damaged)
        assert "not found in nowhere" in refused("data", "check", "nowhere")

    @pytest.mark.parametrize("verb", [["train"], ["baseline", "--name", "ease"]])
    def test_overwriting_with_bad_data_loses_nothing(self, refused, own, finished, verb):
        before = content(finished)
        refused(*verb, "--overwrite", "--override", *own, "data.data_dir=nowhere")
        assert content(finished) == before

    def test_overwriting_with_bad_options_loses_nothing(self, refused, own, finished):
        before = content(finished)
        refused("baseline", "--name", "ease", "--l2", "-1", "--overwrite", "--override", *own)
        assert content(finished) == before

    def test_after_the_data_are_there_the_same_command_works(self, refused, own, capsys):
        refused("train", "--override", *own, "data.data_dir=nowhere")
        assert main(["train", "--quiet", "--override", *own, "training.num_epochs=1"]) == 0

    def test_a_threshold_that_nothing_reaches(self, refused, own):
        assert "0 positive events" in refused("train", "--override", *own, "data.label_threshold=6")

    @pytest.mark.parametrize(
        "argv",
        [["sample", "file/made"], ["sample", "made", "--seed", "-1"], ["fetch", "made", "--url", "no-address"]],
    )
    def test_data_that_cannot_be_made(self, refused, tmp_path, argv):
        (tmp_path / "file").write_text("")
        refused("data", *argv)
        assert [path.name for path in tmp_path.iterdir()] == ["file"]


class TestOutputFolder:
    def test_a_finished_run_is_not_replaced_unasked(self, refused, own, finished):
        before = content(finished)
        sentence = refused("train", "--override", *own)
        assert "run already holds a finished run" in sentence
        assert "--overwrite" in sentence
        refused("baseline", "--name", "popularity", "--override", *own)
        assert content(finished) == before

    def test_when_asked_it_is(self, own, finished):
        (finished / "notes.txt").write_text("mine")
        before = content(finished)
        one_epoch = [*own, "training.num_epochs=1", "seed=7"]
        assert main(["train", "--quiet", "--overwrite", "--override", *one_epoch]) == 0
        after = content(finished)
        assert json.loads(after["results.json"])["epochs"] == 1
        assert after["metrics.jsonl"].count(b"\n") == 1
        assert after["best.safetensors"] != before["best.safetensors"]
        assert after["notes.txt"] == b"mine"

    def test_a_baseline_in_place_of_a_model_leaves_no_weights(self, own, finished):
        assert main(["baseline", "--name", "ease", "--quiet", "--overwrite", "--override", *own]) == 0
        assert not {"best.safetensors", "last.ckpt", "metrics.jsonl"} & set(content(finished))

    def test_an_unfinished_run_is_to_be_resumed(self, refused, own, unfinished):
        before = content(unfinished)
        sentence = refused("train", "--override", *own)
        assert "unfinished run" in sentence
        assert "--resume" in sentence
        assert content(unfinished) == before

    @pytest.mark.parametrize("path", ["file", "file/run", "file/a/b/run"])
    def test_a_folder_that_cannot_be_made(self, refused, own, tmp_path, path):
        (tmp_path / "file").write_text("mine")
        sentence = refused("train", "--override", *own, f"output_dir={path}")
        assert f"no run can be written to {path}" in sentence
        assert content(tmp_path) == {"file": b"mine"}

    @pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs Linux's /proc, a folder nobody can write to")
    def test_a_folder_that_is_there_and_read_only(self, refused, own):
        assert "cannot write /proc" in refused("train", "--override", *own, "output_dir=/proc")
        assert "cannot write /proc" in refused("baseline", "--name", "ease", "--override", *own, "output_dir=/proc")

    def test_an_interruption_before_training(self, refused, own, monkeypatch, tmp_path):
        def interrupt(*_):
            raise KeyboardInterrupt

        monkeypatch.setattr(experiment, "open_data", interrupt)
        assert "nothing to resume" in refused("train", "--override", *own, code=130)

    def test_an_interruption_of_another_verb(self, refused, own, monkeypatch, trained):
        def interrupt(*_):
            raise KeyboardInterrupt

        monkeypatch.setattr(experiment, "open_data", interrupt)
        assert refused("evaluate", trained, code=130) == "interrupted"


def fail_on_replace(monkeypatch, name, after=0):
    """A disk that is full when the file `name` is to be put in place, once `after` earlier ones were."""
    replace, done = os.replace, []

    def full(source, target, **kwargs):
        if Path(target).name == name:
            done.append(None)
            if len(done) > after:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return replace(source, target, **kwargs)

    monkeypatch.setattr(os, "replace", full)


class TestFullDisk:
    @pytest.mark.parametrize(("name", "after"), [("last.ckpt", 2), ("best.safetensors", 1), ("metrics.jsonl", 1)])
    def test_in_the_middle_of_training(self, refused, own, trained, monkeypatch, tmp_path, name, after):
        fail_on_replace(monkeypatch, name, after)
        sentence = refused("train", "--override", *own)
        assert f"run/{name}" in sentence
        assert "No space left on device" in sentence
        assert not list(Path("run").glob("*.partial")) + list(Path("run").glob(".*.partial"))
        assert load_checkpoint("run/last.ckpt")["state"]["epoch"] in (1, 2)
        assert Path("run/metrics.jsonl").read_text().count("\n") >= 1
        monkeypatch.undo()
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(experiment, "build_run_report", lambda *_: Document("report", "", []))
        assert main(["train", "--quiet", "--resume", "run"]) == 0
        weights, expected = load_file("run/best.safetensors"), load_file(trained / "best.safetensors")
        assert all(torch.equal(weights[key], expected[key]) for key in expected)

    @pytest.mark.parametrize(
        "name",
        [
            "config.yaml",
            "schema.json",
            "encoders.json",
            "candidates.npz",
            "last.ckpt",
            "metrics.jsonl",
            "report.html",
            "results.json",
        ],
    )
    @pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's /dev/full, a disk that is always full")
    def test_for_real_at_every_file(self, refused, own, tmp_path, name):
        """The file's temporary neighbour leads to a device on which every write says that it is full."""
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / f".{name}.{os.getpid()}.partial").symlink_to("/dev/full")
        sentence = refused("train", "--override", *own, "training.num_epochs=1")
        assert f"run/{name}" in sentence
        assert not (tmp_path / "run" / name).exists()
        assert not (tmp_path / "run" / "results.json").exists()

    @pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's /dev/full, a disk that is always full")
    def test_a_log_that_cannot_be_written_does_not_flood_the_terminal(self, capsys):
        with contextlib.suppress(RunError):
            logger = get_logger(file="/dev/full")
            try:
                logger.warning("a line")
            finally:
                close_log_file(logger)
        assert "Traceback" not in capsys.readouterr().err

    @pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX resource limits")
    def test_weights_that_do_not_fit_on_the_disk(self, tmp_path):
        """A limit on the size of files stands for a disk with little left."""
        import resource

        run = RunFolder(tmp_path / "run").create()
        run.save_weights({"weight": torch.ones(10)}, {"schema": "mine"})
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
        try:
            with pytest.raises(RunError, match=r"cannot write .*best\.safetensors"):
                run.save_weights({"weight": torch.zeros(100_000)}, {"schema": "mine"})
            with pytest.raises(RunError, match=r"cannot write .*last\.ckpt"):
                save_checkpoint({"weight": torch.zeros(100_000)}, run.checkpoint)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert torch.equal(run.load_weights({"schema": "mine"})["weight"], torch.ones(10))
        assert [path.name for path in run.path.iterdir()] == ["best.safetensors"]


class TestEvaluate:
    def test_a_folder_that_is_no_run(self, refused, tmp_path):
        assert "run folder nowhere does not exist" in refused("evaluate", "nowhere")
        (tmp_path / "empty").mkdir()
        assert "empty holds no config.yaml" in refused("evaluate", "empty")
        (tmp_path / "file").write_text("")
        refused("evaluate", "file")

    @pytest.mark.parametrize("name", ["config.yaml", "best.safetensors", "encoders.json", "candidates.npz"])
    def test_a_file_that_is_missing(self, refused, finished, name):
        (finished / name).unlink()
        assert name in refused("evaluate", finished)

    def test_a_baselines_run(self, refused, own):
        assert main(["baseline", "--name", "ease", "--quiet", "--override", *own]) == 0
        assert "no weights" in refused("evaluate", "run")

    def test_a_configuration_without_runs(self, refused):
        assert "no run with a best.safetensors at or below outputs" in refused("evaluate")

    def test_a_run_and_a_configuration(self, refused, finished):
        assert "expected one of them" in refused("evaluate", finished, "--config", "any.yaml")

    @pytest.mark.parametrize("keep", [0, 1, 7, 8, 100, 0.5, -1])
    def test_truncated_weights(self, refused, finished, keep):
        file = finished / "best.safetensors"
        whole = file.read_bytes()
        file.write_bytes(whole[: int(len(whole) * keep) if keep == 0.5 else keep])
        assert "best.safetensors is truncated or damaged" in refused("evaluate", finished)

    def test_a_header_that_claims_too_much(self, refused, finished):
        (finished / "best.safetensors").write_bytes(struct.pack("<Q", 2**60) + b"{}")
        assert "best.safetensors is truncated or damaged" in refused("evaluate", finished)

    @pytest.mark.parametrize("what", ["schema", "model"])
    def test_weights_of_another_schema_or_model(self, refused, finished, what):
        file = finished / "best.safetensors"
        with safe_open(str(file), "pt") as opened:
            metadata = {**opened.metadata(), what: "another"}
        save_file(load_file(file), str(file), metadata=metadata)
        assert f"best.safetensors was trained with another {what}" in refused("evaluate", finished)

    def test_weights_without_metadata(self, refused, finished):
        file = finished / "best.safetensors"
        save_file(load_file(file), str(file))
        assert "another" in refused("evaluate", finished)

    @pytest.mark.parametrize("damage", ["missing", "shape", "extra"])
    def test_weights_that_do_not_fit_the_model(self, refused, finished, damage):
        file = finished / "best.safetensors"
        with safe_open(str(file), "pt") as opened:
            metadata = opened.metadata()
        weights = load_file(file)
        if damage == "missing":
            del weights["dnn_output.bias"]
        elif damage == "shape":
            weights["dnn_output.bias"] = torch.zeros(3)
        else:
            weights["another"] = torch.zeros(3)
        save_file(weights, str(file), metadata=metadata)
        assert "best.safetensors" in refused("evaluate", finished)

    def test_an_override_that_the_weights_do_not_fit(self, refused, finished):
        refused("evaluate", finished, "--override", "dnn.hidden_units=[4]")
        refused("evaluate", finished, "--override", "model_name=xdeepfm")

    def test_encoders_of_another_data_set(self, refused, finished):
        encoders = json.loads((finished / "encoders.json").read_text())
        encoders["movie_id"]["classes"].append(99_999)
        (finished / "encoders.json").write_text(json.dumps(encoders))
        assert "another schema" in refused("evaluate", finished)

    @pytest.mark.parametrize(
        "text",
        ["", "{", "[]", "null", '{"user_id": 5}', '{"user_id": {"kind": "label"}}', '{"user_id": {"kind": "x"}}'],
    )
    def test_damaged_encoders(self, refused, finished, text):
        (finished / "encoders.json").write_text(text)
        refused("evaluate", finished)

    @pytest.mark.parametrize("damage", ["truncated", "text", "hostile", "empty", "other arrays"])
    def test_damaged_candidates(self, refused, finished, tmp_path, damage):
        file = finished / "candidates.npz"
        whole = file.read_bytes()
        if damage == "hostile":
            np.savez(file, test_users=np.array([Hostile(tmp_path / "owned")], dtype=object))
        elif damage == "other arrays":
            np.savez(file, test_users=np.arange(3))
        else:
            file.write_bytes({"truncated": whole[:-30], "text": b"no archive", "empty": b""}[damage])
        assert "candidates.npz" in refused("evaluate", finished)
        assert not (tmp_path / "owned").exists()

    def test_candidates_of_another_catalogue(self, refused, finished):
        file = finished / "candidates.npz"
        with np.load(file) as arrays:
            changed = {name: arrays[name].copy() for name in arrays.files}
        changed["test_items"][3] = 10_000
        np.savez(file, **changed)
        assert "candidates" in refused("evaluate", finished)

    @pytest.mark.parametrize("text", ["", "{", "[]", '{"version": 7}', '{"version": 1}'])
    def test_damaged_results(self, refused, finished, text):
        (finished / "results.json").write_text(text)
        assert "results.json" in refused("evaluate", finished)
        assert "results.json" in refused("compare", finished)

    @pytest.fixture
    def other_dir(self, tmp_path):
        write_sample(tmp_path / "other", seed=2, num_users=60, num_movies=150, num_ratings=2400)
        return tmp_path / "other"

    def test_other_data_than_the_runs(self, refused, finished, other_dir):
        before = content(finished)
        sentence = refused("evaluate", finished, "--override", f"data.data_dir={other_dir}")
        assert "was trained with another data set; give the run's own (data.data_dir=" in sentence
        assert content(finished) == before


@pytest.fixture
def renumbered(small_dir, tmp_path):
    """The same data with two movies' numbers exchanged: all counts are equal, the likes are others."""
    folder = tmp_path / "renumbered"
    shutil.copytree(small_dir, folder)
    rows = [line.split("\t") for line in (folder / "u.data").read_text().splitlines()]
    movies = {row[1] for row in rows}
    ordered = sorted(movies, key=int)
    swap = dict(zip(ordered, ordered[1:] + ordered[:1], strict=True))
    (folder / "u.data").write_text("".join("\t".join([row[0], swap[row[1]], *row[2:]]) + "\n" for row in rows))
    return folder


class TestUnfinishedRunOnOtherData:
    """A run that was interrupted knows its data as well as a finished one does."""

    def test_evaluate(self, refused, unfinished, renumbered):
        assert "data" in refused("evaluate", unfinished, "--override", f"data.data_dir={renumbered}")

    def test_resume(self, refused, unfinished, small_dir, renumbered):
        config = unfinished / "config.yaml"
        config.write_text(config.read_text().replace(str(small_dir), str(renumbered)))
        before = content(unfinished)
        assert "data" in refused("train", "--resume", unfinished)
        before.pop("train.log")
        after = content(unfinished)
        after.pop("train.log")
        assert after == before


class Hostile:
    """Unpickling this makes a file."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return (open, (str(self.mark), "w"))


class TestResume:
    def test_a_folder_that_is_no_run(self, refused, tmp_path):
        assert "run folder nowhere does not exist" in refused("train", "--resume", "nowhere")
        (tmp_path / "empty").mkdir()
        assert "empty holds no config.yaml" in refused("train", "--resume", "empty")
        assert "no unfinished run at or below outputs" in refused("train", "--resume")
        assert nothing_in(tmp_path / "empty")

    def test_its_own_configuration_only(self, refused, unfinished):
        sentence = refused("train", "--resume", unfinished, "--override", "training.lr=1")
        assert "own configuration and data; leave out all else" in sentence

    @pytest.mark.parametrize("keep", [0, 1, 100, 0.5, -1])
    def test_a_truncated_checkpoint(self, refused, unfinished, keep):
        file = unfinished / "last.ckpt"
        whole = file.read_bytes()
        file.write_bytes(whole[: int(len(whole) * keep) if keep == 0.5 else keep])
        before = content(unfinished)
        assert "last.ckpt" in refused("train", "--resume", unfinished)
        after = content(unfinished)
        assert {name: data for name, data in after.items() if name != "train.log"} == {
            name: data for name, data in before.items() if name != "train.log"
        }

    @pytest.mark.parametrize("form", ["pickle", "torch", "inside a checkpoint"])
    def test_a_hostile_checkpoint_executes_nothing(self, refused, unfinished, tmp_path, form):
        mark, file = tmp_path / "owned", unfinished / "last.ckpt"
        if form == "pickle":
            file.write_bytes(pickle.dumps(Hostile(mark)))
        else:
            state = load_checkpoint(file) if form == "inside a checkpoint" else {}
            torch.save({**state, "extra": Hostile(mark)}, file)
        mark.unlink(missing_ok=True)
        assert "last.ckpt holds more than tensors and plain values" in refused("train", "--resume", unfinished)
        assert not mark.exists()
        torch.load(file, weights_only=False) if form != "pickle" else pickle.loads(file.read_bytes())
        assert mark.exists(), "this test's file is not hostile at all"

    @pytest.mark.parametrize(
        "change",
        [
            lambda state: {"version": 1},
            lambda state: {},
            lambda state: {**state, "version": 99},
            lambda state: {**state, "fingerprint": None},
            lambda state: {**state, "model": {}},
            lambda state: {**state, "model": 5},
            lambda state: {**state, "random": {}},
            lambda state: {**state, "random": {"cpu": 5}},
            lambda state: {**state, "state": {"epoch": "three"}},
            lambda state: {**state, "state": {**state["state"], "history": None}},
            lambda state: {**state, "schedule": None},
            lambda state: {**state, "optimizer": {"state": {}, "param_groups": []}},
            lambda state: [state],
        ],
        ids=[
            "version only",
            "empty",
            "newer version",
            "no fingerprint",
            "no weights",
            "weights no dict",
            "no random state",
            "random state no tensor",
            "state incomplete",
            "history none",
            "schedule none",
            "optimizer empty",
            "a list",
        ],
    )
    def test_a_checkpoint_of_another_making(self, refused, unfinished, change):
        file = unfinished / "last.ckpt"
        torch.save(change(load_checkpoint(file)), file)
        assert "last.ckpt" in refused("train", "--resume", unfinished)

    def test_the_checkpoint_of_another_model(self, refused, unfinished):
        config = unfinished / "config.yaml"
        config.write_text(config.read_text().replace("model_name: deepfm", "model_name: xdeepfm"))
        before = (unfinished / "last.ckpt").read_bytes()
        assert "last.ckpt was written with another model" in refused("train", "--resume", unfinished)
        assert (unfinished / "last.ckpt").read_bytes() == before

    def test_a_checkpoint_of_other_sizes(self, refused, unfinished):
        config = unfinished / "config.yaml"
        config.write_text(config.read_text().replace("fm_embed_dim: 4", "fm_embed_dim: 5"))
        assert "does not fit this model" in refused("train", "--resume", unfinished)


class TestLossThatTurnsNaN:
    def test_a_rate_too_high_names_epoch_and_batch(self, refused, own):
        own = [*own, "training.lr=1e30", "training.gradient_clip_norm=null"]
        sentence = refused("train", "--override", *own)
        assert re.search(r"the loss is (nan|inf) in epoch 1, batch \d+; the state before training is kept", sentence)
        assert load_checkpoint("run/last.ckpt")["state"]["epoch"] == 0
        assert not Path("run/results.json").exists()

    def test_the_last_good_epoch_stands_and_can_be_continued(self, refused, own, trained, monkeypatch):
        loss, calls = CTRTask.loss, []

        def poisoned(task, batch):
            calls.append(None)
            value, rows = loss(task, batch)
            return (value * float("nan"), rows) if len(calls) == 24 + 5 else (value, rows)

        with monkeypatch.context() as patch:
            patch.setattr(CTRTask, "loss", poisoned)
            sentence = refused("train", "--override", *own)
        batches = -(-6000 // 256)
        assert batches == 24
        assert "the loss is nan in epoch 2, batch 5; the state after epoch 1 is kept" in sentence
        assert load_checkpoint("run/last.ckpt")["state"]["epoch"] == 1
        assert Path("run/metrics.jsonl").read_text().count("\n") == 1
        assert main(["train", "--quiet", "--resume", "run"]) == 0
        weights, expected = load_file("run/best.safetensors"), load_file(trained / "best.safetensors")
        assert all(torch.equal(weights[key], expected[key]) for key in expected)

    def test_a_score_that_turns_nan_in_validation(self, refused, own, monkeypatch):
        forward = DeepFM._forward_components

        def poisoned(self, *views):
            logits = forward(self, *views)
            return logits if self.training else logits * float("nan")

        monkeypatch.setattr(DeepFM, "_forward_components", poisoned)
        sentence = refused("train", "--override", *own)
        assert "DeepFM gives the score nan in batch 1" in sentence
        assert load_checkpoint("run/last.ckpt")["state"]["epoch"] == 0

    def test_debug_shows_the_traceback(self, own, capfd):
        with pytest.raises(DataError):
            main(["train", "--debug", "--override", *own, "data.data_dir=nowhere"])


def test_a_reader_that_goes_away_is_no_error(trained, monkeypatch):
    """`deepfm compare | head -1`."""

    class Closed:
        def write(self, *_):
            raise BrokenPipeError

        def flush(self):
            raise BrokenPipeError

        def isatty(self):
            return False

    class Stderr:
        def close(self):
            pass

    monkeypatch.setattr(sys, "stdout", Closed())
    monkeypatch.setattr(sys, "stderr", Stderr())
    assert main(["compare", str(trained), "--json"]) == 0
