"""Whole runs: killed, interrupted and resumed ones give what they would have given; the real data."""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from deepfm.cli import main
from deepfm.data.negatives import load_candidates
from deepfm.data.sample import write_sample
from deepfm.utils import load_checkpoint

pytestmark = pytest.mark.usefixtures("one_thread")
ROOT = Path(__file__).resolve().parent.parent
EPOCHS = 8
PATIENCE = 600  # seconds that a busy machine may take for one epoch


@pytest.fixture(scope="module")
def overrides(tmp_path_factory):
    """Eight epochs of about 250 batches: long enough to be hit in the middle."""
    folder = tmp_path_factory.mktemp("data")
    write_sample(folder, seed=1, num_users=120, num_movies=200, num_ratings=6000)
    return [
        "device=cpu",
        "data.source=files",
        f"data.data_dir={folder}",
        "data.num_neg_eval=50",
        f"training.num_epochs={EPOCHS}",
        "training.batch_size=64",
        "training.plateau_patience=0",
        "training.early_stopping_patience=50",
        "training.lr=0.01",
        "dnn.hidden_units=[16,8]",
        "feature.fm_embed_dim=4",
    ]


@pytest.fixture(scope="module")
def uninterrupted(overrides, tmp_path_factory):
    run = tmp_path_factory.mktemp("whole") / "run"
    assert main(["train", "--quiet", "--override", *overrides, f"output_dir={run}"]) == 0
    return run


@contextlib.contextmanager
def training(overrides, run):
    """A `deepfm train` in a process of its own, given once it has finished two epochs."""
    command = [sys.executable, "-m", "deepfm", "train", "--quiet", "--override", *overrides, f"output_dir={run}"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        command,
        cwd=run.parent,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a job in the background ignores Ctrl-C
    )
    try:
        deadline = time.monotonic() + PATIENCE
        while not (run / "metrics.jsonl").exists() or (run / "metrics.jsonl").read_text().count("\n") < 2:
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline, "two epochs never ended"
            time.sleep(0.005)
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def history(run):
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in record.items() if "second" not in key} for record in records]


def results(run):
    return json.loads((run / "results.json").read_text())


def assert_same_run(run, other):
    """Two folders hold the same weights and metrics, bit for bit; times may differ."""
    best, best_other = load_file(run / "best.safetensors"), load_file(other / "best.safetensors")
    assert best.keys() == best_other.keys()
    assert [name for name in best if not torch.equal(best[name], best_other[name])] == []
    last, last_other = load_checkpoint(run / "last.ckpt"), load_checkpoint(other / "last.ckpt")
    assert [name for name in last["model"] if not torch.equal(last["model"][name], last_other["model"][name])] == []
    for part, other_part in zip(last["optimizer"]["parts"], last_other["optimizer"]["parts"], strict=True):
        assert part["state"]
        for moments, other_moments in zip(part["state"], other_part["state"], strict=True):
            assert moments.keys() == other_moments.keys() == {"step", "exp_avg", "exp_avg_sq"}
            for name, value in moments.items():
                assert torch.equal(value, other_moments[name])
    assert torch.equal(last["random"]["cpu"], last_other["random"]["cpu"])
    assert last["schedule"] == last_other["schedule"]
    assert history(run) == history(other)
    one, two = results(run), results(other)
    for key in ("model", "data", "protocol", "validation", "test", "best_epoch", "epochs"):
        assert one[key] == two[key], key


def test_a_killed_run_resumes_to_the_same_weights(overrides, uninterrupted, tmp_path, capsys):
    run = tmp_path / "killed"
    with training(overrides, run) as process:
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    assert not (run / "results.json").exists()
    epochs_before = len(history(run))
    assert 2 <= epochs_before < EPOCHS, "the kill came too late; this test needs slower epochs"
    assert main(["train", "--resume", str(run)]) == 0
    out = capsys.readouterr().out
    assert "epoch 1: loss" not in out  # the finished epochs were not trained again
    assert f"epoch {EPOCHS}: loss" in out
    assert_same_run(run, uninterrupted)
    leftovers = [path.name for path in run.iterdir() if "partial" in path.name]
    assert leftovers == []


def test_an_interrupted_run_says_how_to_go_on_and_does(overrides, uninterrupted, tmp_path):
    run = tmp_path / "interrupted"
    with training(overrides, run) as process:
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert "Traceback" not in out + err
    assert err.count("\n") == 1
    said = re.fullmatch(r"deepfm: interrupted; .*continue with: deepfm (train --resume (\S+))\n", err)
    assert said, err
    assert Path(said[2]) == run
    assert not (run / "results.json").exists()
    assert 2 <= len(history(run)) < EPOCHS
    assert main([*said[1].split(), "--quiet"]) == 0
    assert_same_run(run, uninterrupted)


def test_resuming_twice_by_configuration_after_two_interruptions(overrides, uninterrupted, tmp_path, monkeypatch):
    """`--resume` without a folder takes the latest run of the configuration; Ctrl-C in any batch loses nothing."""
    from deepfm.training.task import CTRTask

    monkeypatch.chdir(tmp_path)
    loss, calls = CTRTask.loss, []

    def interrupted(task, batch):
        calls.append(None)
        if len(calls) in (333, 900):
            raise KeyboardInterrupt
        return loss(task, batch)

    monkeypatch.setattr(CTRTask, "loss", interrupted)
    assert main(["train", "--quiet", "--override", *overrides]) == 130
    (run,) = (tmp_path / "outputs" / "deepfm").iterdir()
    assert main(["train", "--quiet", "--resume"]) == 130
    assert not (run / "results.json").exists()
    assert main(["train", "--quiet", "--resume"]) == 0
    assert_same_run(run, uninterrupted)


def test_resuming_a_finished_run_is_refused_and_does_no_harm(uninterrupted, tmp_path, capsys, monkeypatch):
    run = tmp_path / "outputs" / "again"
    shutil.copytree(uninterrupted, run)
    before = {path.name: path.read_bytes() for path in run.iterdir()}
    assert main(["train", "--quiet", "--resume", str(run)]) == 2
    assert "is finished, there is nothing to resume" in capsys.readouterr().err
    monkeypatch.chdir(tmp_path)
    assert main(["train", "--quiet", "--resume"]) == 2
    assert "no unfinished run at or below outputs" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in run.iterdir()} == before


def test_the_same_configuration_gives_the_same_run(overrides, uninterrupted, tmp_path):
    run = tmp_path / "twin"
    assert main(["train", "--quiet", "--override", *overrides, f"output_dir={run}"]) == 0
    assert_same_run(run, uninterrupted)
    for name in ("schema.json", "encoders.json"):
        assert (run / name).read_bytes() == (uninterrupted / name).read_bytes()


@pytest.mark.slow
class TestRealData:
    @pytest.fixture(autouse=True)
    def _all_threads(self, one_thread):
        torch.set_num_threads(one_thread)
        yield
        torch.set_num_threads(1)

    @pytest.mark.parametrize("model", ["deepfm", "xdeepfm", "attention_deepfm"])
    def test_two_epochs_learn(self, movielens_dir, tmp_path, model):
        run = tmp_path / model
        own = [f"data.data_dir={movielens_dir}", "data.source=files", "training.num_epochs=2", f"output_dir={run}"]
        # The protocol's 999 candidates and the shipped widths would make these the longest part of the suite.
        own += ["data.num_neg_eval=199", "cin.layer_sizes=[32,32]", "attention.attention_dim=16"]
        config = ROOT / "configs" / f"{model}_movielens.yaml"
        assert main(["train", "--quiet", "--config", str(config), "--override", *own, "device=cpu"]) == 0
        found = results(run)
        assert (found["model"], found["data"]["name"], found["epochs"]) == (model, "ml-100k", 2)
        assert found["test"]["auc"] > 0.5
        assert found["test"]["hr@10"] > 0.1  # a random order reaches .05
        for candidates in load_candidates(run / "candidates.npz").values():
            assert len(candidates.users) == 942

    def test_baselines_are_where_others_found_them(self, movielens_dir, tmp_path):
        test = {}
        for name in ("popularity", "itemknn", "ease"):
            run = tmp_path / name
            own = [f"data.data_dir={movielens_dir}", "data.source=files", f"output_dir={run}"]
            assert main(["baseline", "--name", name, "--quiet", "--override", *own]) == 0
            test[name] = results(run)["test"]
        assert test["popularity"]["hr@10"] == pytest.approx(0.1285, abs=0.01)
        assert test["popularity"]["ndcg@10"] == pytest.approx(0.067, abs=0.01)
        assert test["ease"]["ndcg@10"] > test["itemknn"]["ndcg@10"] > test["popularity"]["ndcg@10"]
        assert test["ease"]["hr@10"] == pytest.approx(0.222, abs=0.02)
