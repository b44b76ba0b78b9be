"""SIN inside DeepCTR-Torch, run where that is installed, and the same weights in ours."""

import json
import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest
import torch

from deepfm.interop.deepctr import inputs, load_deepctr_weights
from deepfm.interop.deepctr.models import SIN
from tests.interop.deepctr_env import ROOT, run_with_deepctr_torch
from tests.interop.deepctr_planted import SIN_OPTIONS, clicks, columns


@pytest.fixture(scope="module")
def native(tmp_path_factory):
    """Where the run left its files, and what it found."""
    folder = tmp_path_factory.mktemp("native")
    out = run_with_deepctr_torch(ROOT / "tests" / "interop" / "deepctr_native_run.py", folder)
    return folder, json.loads(out.splitlines()[-1])


def test_it_is_one_of_deepctr_torchs_models_and_learns(native):
    _, found = native
    assert found["is_native"]
    losses = found["loss"]
    assert all(later < earlier for earlier, later in pairwise(losses))
    assert losses[-1] < 0.56 < 0.67 < losses[0]
    assert 0.72 < found["auc"] < found["best"] + 0.02
    assert found["regression"][-1] < found["regression"][0]
    assert found["penalised"] == 12  # three tables, four linear weights, two of the CIN, two of the tower and its last


def test_it_is_the_same_after_saving(native):
    _, found = native
    assert found["differed"]
    assert found["reloaded"]
    assert found["whole"]


def test_its_weights_give_its_predictions_here(native):
    folder, _ = native
    listed = columns(inputs)
    linear = [column for column in listed if column.name in ("gender", "item", "cat", "price")]
    model = SIN(linear, listed, ["item", "cat"], **SIN_OPTIONS)
    load_deepctr_weights(model, torch.load(folder / "weights.pt", weights_only=True))
    wanted = np.load(folder / "predictions.npy")
    np.testing.assert_allclose(model.predict(clicks(2000, 1)[0]), wanted, atol=1e-5)
    assert np.ptp(wanted) > 0.5


def test_without_deepctr_torch_the_import_says_what_is_missing():
    """In this environment, or in one that hides it."""
    code = "import sys; sys.modules['deepctr_torch'] = None\nimport deepfm.interop.deepctr_native"
    answer = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert answer.returncode == 1
    last = answer.stderr.splitlines()[-1]
    assert last.startswith("ImportError: deepfm.interop.deepctr_native needs DeepCTR-Torch 0.3.0")
    assert "'deepfm[deepctr]'" in last
    assert "requests and pip" in last
