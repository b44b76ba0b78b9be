"""The benchmark of the changed import line, tiny: the same script trains and ranks on both packages."""

import os
import re
import subprocess
import sys

import pytest

from deepfm.data.sample import write_sample
from tests.interop.deepctr_env import PYTHON, ROOT


@pytest.mark.skipif(not PYTHON.exists(), reason=f"DeepCTR-Torch's {PYTHON} is not here; make bench-deepctr makes it")
def test_both_packages_run_the_same_script(tmp_path):
    write_sample(tmp_path, seed=1, num_users=60, num_movies=150, num_ratings=2400)
    options = ["--seeds", "1", "--rules", "unseen", "--epochs", "3", "--candidates", "50", "--batch-size", "128"]
    answer = subprocess.run(
        [sys.executable, "benchmarks/deepctr_migration.py", "--data-dir", tmp_path, *options, "--draws", "2"],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert answer.returncode in (0, 1), answer.stderr  # 1: the bar is missed, which means nothing at this size
    assert answer.stdout.startswith("## Training negatives: unseen\n")
    rows = {
        cells[0]: cells
        for cells in re.findall(r"^\| (\S+) \| (\d) \| (\S+) \| (\S+) \| (\S+) \| (\S+) \|", answer.stdout, re.M)
    }
    assert set(rows) == {"deepfm.interop.deepctr", "deepctr_torch"}
    for _, seeds, validation, hits, gains, auc in rows.values():
        assert seeds == "1"
        assert 0.1 < float(validation) < float(hits) < 1
        assert 0.1 < float(gains) < float(hits)
        assert 0.6 < float(auc) < 1
    losses = [float(loss) for loss in re.findall(r"interop\.deepctr, epoch \d: loss (\S+),", answer.stderr)]
    assert len(losses) == 3
    assert losses == sorted(losses, reverse=True)
