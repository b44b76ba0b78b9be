"""The benchmarks run: tiny sizes, no peers, nothing asserted about time."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]


def run(*arguments, commands=None, **environment):
    answer = subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env={**os.environ, **environment, "OMP_NUM_THREADS": "1"},
        input=commands,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert answer.returncode == 0, answer.stderr
    return answer.stdout


@pytest.mark.slow
def test_throughput_compares_ours_with_the_lean_loop(movielens_dir):
    out = run(
        "benchmarks/throughput.py", "--quick", "--workload", "a", "--turns", "1", "--threads", "1",
        "--contenders", "deepfm", "lean loop, fused table",
        DEEPFM_DATA_DIR=str(movielens_dir),
    )  # fmt: skip
    assert "lean loop, fused table" in out
    assert "deepfm" in out


@pytest.mark.parametrize("letter", ["f", "g"])
def test_sequence_plans_write_what_contenders_read(letter, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    from contenders.plans import WORKLOADS, prepare
    from contenders.workload import Rows, Workload

    for number, plan in enumerate(WORKLOADS[letter]):
        folder = tmp_path / str(number)
        workload = prepare(plan, folder, True, 1, 1)
        assert Workload.read(folder) == workload
        assert workload.behaviour.shares_table_with == "movie_id"
        files = ["train.npz", "candidates.npz"] if plan.kind == "predict" else ["train.npz"]
        for file in files:
            rows = Rows.read(folder / file, workload.fields)
            histories = rows.columns[workload.behaviour.name]
            assert histories.shape == (len(rows.labels), workload.behaviour.max_length)
            assert 0 < (histories != 0).mean() < 1
            assert (np.diff(histories != 0, axis=1) >= 0).all()  # padding before events
        training = Rows.read(folder / "train.npz", workload.fields)
        assert training.labels.reshape(-1, 5).argmax(axis=1).max() == 0  # a like, then its negatives
        assert training.labels.mean() == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("letter", "table", "overrides"),
    [("f", "DIN", []), ("f", "SIN", ["rows=plain"]), ("g", "BST", []), ("g", "DIN", ["rows=plain"])],
)
def test_ours_trains_and_scores_behind_histories(letter, table, overrides, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    from contenders.plans import WORKLOADS, prepare

    (plan,) = (plan for plan in WORKLOADS[letter] if plan.title.startswith(f"({letter}) {table}"))
    prepare(plan, tmp_path / "0", True, 1, 1)
    arguments = ["--override", *overrides] if overrides else []
    arguments += ["--predict", "bulk"] if plan.kind == "predict" else []
    out = run("benchmarks/contenders/deepfm_run.py", str(tmp_path / "0"), *arguments, commands=f"{plan.kind}\n" * 2)
    hello, first, second = (json.loads(line) for line in out.splitlines())
    assert hello["parameters"] > 0
    if plan.kind == "train":
        assert first["rows"] > 4_000
        assert second["loss"] < first["loss"]
    else:
        assert first["rows"] > 4_000
        assert first["metrics"] == second["metrics"]


@pytest.mark.parametrize("optimizer", ["same", "rowwise_adagrad"])
def test_scaling_measures_a_point(optimizer):
    figures = json.loads(run("benchmarks/scaling.py", "--point", "9000", "1000", optimizer, "1"))
    assert figures["seconds"] > 0
    assert figures["encoded"] == 9000 * (7 * 4 + 4)
