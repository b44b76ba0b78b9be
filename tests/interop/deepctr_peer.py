"""Run where DeepCTR-Torch is installed: what its models make of the cases, written to a folder.

python tests/interop/deepctr_peer.py FOLDER
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

from deepctr_cases import CASES, TRAINED, data, fit_options, make, penalties_of, signatures  # noqa: E402
from deepctr_torch import callbacks, inputs, models  # noqa: E402


def perturb(model):
    """Weights of a size at which an error shows, and running statistics that are not the first ones."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, weight in model.state_dict().items():
            if weight.dtype.is_floating_point:
                noise = torch.randn(weight.shape, generator=generator)
                if name.endswith("running_var"):
                    weight.copy_(noise.abs() + 0.5)
                else:
                    weight.copy_((1.0 if ".bn." in name and name.endswith(".weight") else 0.0) + 0.3 * noise)


def copied(state):
    return {name: weight.clone() for name, weight in state.items()}


def main(folder):
    torch.set_num_threads(1)
    Path(folder, "signatures.json").write_text(json.dumps(signatures(inputs, models, callbacks)))
    for number, case in enumerate(CASES):
        model = make(inputs, models, case, seed=3)
        perturb(model)
        x, y = data(inputs, case)
        answer = {"state": copied(model.state_dict()), "predictions": torch.from_numpy(model.predict(dict(x)))}
        ordered = [x[name] if x[name].ndim > 1 else x[name][:, None] for name in model.feature_index]
        task, model.out.task = model.out.task, "regression"
        with torch.no_grad():
            answer["logits"] = model(torch.from_numpy(np.concatenate(ordered, axis=1)).float())
        model.out.task = task
        if case in TRAINED:
            trained = make(inputs, models, case, seed=3, **penalties_of(case))
            trained.load_state_dict(answer["state"])
            trained.compile(TRAINED[case][0], "mse" if task == "regression" else "binary_crossentropy", ["mse"])
            history = trained.fit(dict(x), y, **fit_options(case))
            answer["history"] = {name: list(map(float, values)) for name, values in history.history.items()}
            answer["trained"] = copied(trained.state_dict())
        torch.save(answer, Path(folder) / f"{number}.pt")


if __name__ == "__main__":
    with contextlib.redirect_stdout(io.StringIO()):
        main(sys.argv[1])
