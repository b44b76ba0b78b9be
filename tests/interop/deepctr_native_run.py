"""Run where DeepCTR-Torch is installed beside this package: train the native SIN, save it, read it again.

python tests/interop/deepctr_native_run.py FOLDER
"""

import contextlib
import io
import json
import sys
from pathlib import Path

import numpy as np
import requests
import torch


def _offline(*_, **__):
    raise OSError("tests ask no server")


requests.get = _offline  # importing the package asks PyPI for newer versions, in a thread

from deepctr_planted import FITTED, SIN_OPTIONS, auc, clicks, columns  # noqa: E402
from deepctr_torch import inputs  # noqa: E402
from deepctr_torch.models.basemodel import BaseModel  # noqa: E402

from deepfm.interop.deepctr_native import SIN  # noqa: E402

LINEAR = ("gender", "item", "cat", "price")


def made(seed=1, **options):
    listed = columns(inputs)
    linear = [column for column in listed if column.name in LINEAR]
    return SIN(linear, listed, ["item", "cat"], seed=seed, **SIN_OPTIONS, **options)


def main(folder):
    torch.set_num_threads(1)
    x, y, _ = clicks(3000, 0)
    held, truth, probability = clicks(2000, 1)
    model = made()
    model.compile("adam", "binary_crossentropy", ["auc"])
    history = model.fit(dict(x), y, **FITTED)
    predictions = model.predict(dict(held))
    torch.save(model.state_dict(), folder / "weights.pt")
    torch.save(model, folder / "model.pt")
    other = made(seed=2)
    before = other.predict(dict(held))
    other.load_state_dict(torch.load(folder / "weights.pt", weights_only=True))
    whole = torch.load(folder / "model.pt", weights_only=False)
    regression = made(task="regression")
    regression.compile("adam", "mse", ["mse"])
    np.save(folder / "predictions.npy", predictions)
    return {
        "is_native": isinstance(model, BaseModel) and type(model.cin).__module__.startswith("deepctr_torch."),
        "loss": history.history["loss"],
        "auc": auc(truth, predictions[:, 0]),
        "best": auc(truth, probability),
        "differed": bool(abs(before - predictions).max() > 0.01),
        "reloaded": bool(np.array_equal(other.predict(dict(held)), predictions)),
        "whole": bool(np.array_equal(whole.predict(dict(held)), predictions)),
        "regression": regression.fit(dict(x), y, **{**FITTED, "epochs": 3}).history["loss"],
        "penalised": sum(len(weights) for weights, _, _ in model.regularization_weight),
    }


if __name__ == "__main__":
    with contextlib.redirect_stdout(io.StringIO()):
        found = main(Path(sys.argv[1]))
    print(json.dumps(found))
