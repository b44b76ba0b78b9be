"""Where DeepCTR-Torch is installed beside this package."""

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".bench" / "deepctr_torch" / "bin" / "python"


def run_with_deepctr_torch(*arguments, timeout=300):
    """What a script prints where DeepCTR-Torch is; a test without that environment is skipped."""
    if not PYTHON.exists():
        pytest.skip(f"DeepCTR-Torch's environment {PYTHON} is not here; make bench-deepctr makes it")
    answer = subprocess.run(
        [PYTHON, *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    assert answer.returncode == 0, answer.stderr
    return answer.stdout
