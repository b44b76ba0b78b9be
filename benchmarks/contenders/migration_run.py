"""A script as DeepCTR-Torch's users write it, for either package: epochs of `fit`, candidates ranked after each.

    python benchmarks/contenders/migration_run.py PACKAGE FOLDER

PACKAGE is `deepctr_torch` or `deepfm.interop.deepctr`, and all that differs. FOLDER holds what
`benchmarks/deepctr_migration.py` wrote. A line `epoch` on stdin trains and ranks the validation candidates, `test` goes
back to the best epoch and ranks the test's; each is answered by a line of JSON that begins with `@`.
"""

import copy
import json
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from ranking import auc

K, SCORING_ROWS = 10, 8192
Columns = dict[str, NDArray[Any]]


def read(path: Path) -> tuple[Columns, NDArray[np.float32], NDArray[np.int64] | None]:
    with np.load(path, allow_pickle=False) as arrays:
        columns = dict(arrays)
    return columns, columns.pop("label"), columns.pop("offsets", None)


def ranks_of(scores: NDArray[np.floating], labels: NDArray[np.float32], offsets: NDArray[np.int64]) -> NDArray[Any]:
    """The rank `(U,)` of each user's one positive; a tie counts against it."""
    positives = scores[np.flatnonzero(labels > 0)]
    beaten = scores >= np.repeat(positives, np.diff(offsets))  # the positive itself among them
    return np.add.reduceat(beaten.astype(np.int64), offsets[:-1])


def main(package: str, folder: Path) -> None:
    settings = json.loads((folder / "settings.json").read_text(encoding="utf-8"))
    torch.set_num_threads(1)
    if package == "deepctr_torch":
        import requests

        def offline(*_: Any, **__: Any) -> None:
            raise OSError("the benchmark asks no server")

        requests.get = offline  # importing the package asks PyPI for newer versions, in a thread
    inputs, models = import_module(f"{package}.inputs"), import_module(f"{package}.models")
    start = time.process_time()

    columns = [
        inputs.SparseFeat(name, rows, embedding_dim=settings["embedding_dim"])
        for name, rows in settings["sparse"].items()
    ] + [
        inputs.VarLenSparseFeat(
            inputs.SparseFeat(name, rows, embedding_dim=settings["embedding_dim"]), maxlen=length, combiner="mean"
        )
        for name, (rows, length) in settings["several"].items()
    ]
    names = inputs.get_feature_names(columns)
    model = models.DeepFM(columns, columns, task="binary", device="cpu", seed=settings["seed"], **settings["model"])
    model.compile("adam", "binary_crossentropy", metrics=[])
    draws = [read(path) for path in sorted(folder.glob("train*.npz"))]
    cpu = {"train": 0.0, "rank": 0.0, "total": 0.0}

    def rank(split: str) -> dict[str, Any]:
        began = time.process_time()
        x, labels, offsets = read(folder / f"{split}.npz")
        scores = model.predict({name: x[name] for name in names}, batch_size=SCORING_ROWS)[:, 0]
        ranks = ranks_of(scores, labels, offsets)
        gains = np.where(ranks <= K, 1 / np.log2(ranks + 1.0), 0.0)
        cpu["rank"] += time.process_time() - began
        np.save(folder / f"{package}-{split}-ranks.npy", ranks)
        return {"hr": float((ranks <= K).mean()), "ndcg": float(gains.mean()), "auc": auc(scores, labels)}

    best: dict[str, Any] = {"ndcg": -1.0}
    epoch = 0
    for line in sys.stdin:
        if line.strip() == "epoch":
            x, labels, _ = draws[epoch % len(draws)]
            began = time.process_time()
            history = model.fit(
                {name: x[name] for name in names}, labels, batch_size=settings["batch_size"], epochs=epoch + 1,
                initial_epoch=epoch, verbose=0,
            )  # fmt: skip
            cpu["train"] += time.process_time() - began
            epoch += 1
            found = {"epoch": epoch, "loss": float(history.history["loss"][-1]), **rank("validation")}
            if found["ndcg"] > best["ndcg"]:
                best = {**found, "weights": copy.deepcopy(model.state_dict())}
        else:
            model.load_state_dict(best["weights"])
            found = {"test": rank("test"), "best": {key: best[key] for key in best if key != "weights"}}
        cpu["total"] = time.process_time() - start
        print("@" + json.dumps({**found, "cpu": cpu}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
