"""CPU seconds from the import to the first batch, of one DeepFM epoch (training and ranking evaluation apart) and of
negatives; and what the loader alone gives.

    DEEPFM_DATA_DIR=... python benchmarks/startup_and_epoch.py

Each figure is the median of `--runs` fresh processes with one thread; `import torch` alone is measured beside them,
as nothing of this package can be faster than that.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
from statistics import median

CHILD = """
import time, json
ROWS = 1_000_000
started = time.process_time()
def elapsed():
    return time.process_time() - started
figures = {}
import torch
figures["import torch"] = elapsed()
torch.set_num_threads(1)
from deepfm.config import load_config
from deepfm.engine.checkpoint import FitState
from deepfm.engine.loop import Observer, fit
from deepfm.models import create_model
from deepfm.training.experiment import open_data
from deepfm.training.task import CTRTask
from deepfm.utils.logging import configure_console
configure_console(quiet=True)
config = load_config("configs/deepfm_movielens.yaml", ["training.num_epochs=1"])
data = open_data(config)
model = create_model(config.model_name, data.schema, config)
task = CTRTask(model, config, data.train, data.validation)
next(iter(task.batches(1)))
figures["import to first batch"] = elapsed()

class Clock(Observer):
    def fit_started(self, *_):
        self.started = elapsed()
    def evaluating(self, done, total):
        if not done:
            figures["epoch: training"] = elapsed() - self.started
            self.trained = elapsed()
    def epoch_finished(self, state, improved):
        figures["epoch: evaluation"] = elapsed() - self.trained
        figures["epoch"] = elapsed() - self.started

fit(task, config.training, device=torch.device("cpu"), observers=[Clock()])
start = elapsed()
data.train.resample(2)
figures["negatives of an epoch"] = elapsed() - start
import numpy as np
from deepfm.data.dataset import TabularDataset
rng = np.random.default_rng(0)
sizes = {"f0": 944, "f1": 1683, "f2": 8, "f3": 3, "f4": 22, "f5": 100, "f6": 1000}
columns = {name: rng.integers(0, size, ROWS, dtype=np.int32) for name, size in sizes.items()}
rows = TabularDataset(columns, np.zeros(ROWS, dtype=np.float32))
task = CTRTask(model, load_config(None, ["training.metric=auc"]), rows, rows)
start = elapsed()
for _ in task.batches(1):
    pass
figures["seven integer fields: million rows a second"] = ROWS / (elapsed() - start) / 1e6
start = elapsed()
torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))])
figures["the first object of torch.optim, which nothing here makes"] = elapsed() - start
print(json.dumps(figures))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3)
    args = parser.parse_args()
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    runs = []
    for _ in range(args.runs):
        answer = subprocess.run([sys.executable, "-c", CHILD], env=environment, capture_output=True, text=True)
        if answer.returncode:
            sys.exit(answer.stderr)
        runs.append(json.loads(answer.stdout.splitlines()[-1]))
    print(f"| CPU seconds, median of {args.runs} (lowest - highest) | |\n|---|---|")
    for name in runs[0]:
        values = [run[name] for run in runs]
        print(f"| {name} | {median(values):.3f} ({min(values):.3f} - {max(values):.3f}) |")
    print(f"\n{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, one thread")


if __name__ == "__main__":
    main()
