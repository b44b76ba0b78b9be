"""The benchmarks run: tiny sizes, no peers, nothing asserted about time."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def run(*arguments, **environment):
    answer = subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env={**os.environ, **environment, "OMP_NUM_THREADS": "1"},
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


@pytest.mark.parametrize("optimizer", ["same", "rowwise_adagrad"])
def test_scaling_measures_a_point(optimizer):
    figures = json.loads(run("benchmarks/scaling.py", "--point", "9000", "1000", optimizer, "1"))
    assert figures["seconds"] > 0
    assert figures["encoded"] == 9000 * (7 * 4 + 4)
