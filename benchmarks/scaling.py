"""Seconds and memory of training against rows and against vocabulary; prints tables and draws `--plot`.

    python benchmarks/scaling.py [--threads 2] [--quick] [--plot docs/images/scaling.png]

Rows: one epoch of the contract's DeepFM on seven generated integer fields, 10^5 to 10^7 rows. Vocabulary: 40 steps of
4,096 rows on one large field beside six small ones, 10^4 to 10^7 ids, width 16, with the dense default and with the
two optimizers that move only the rows of a batch. Each point is a fresh process on Linux; its memory is the peak
from the moment when the data are there and the model has been warmed up.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
from pathlib import Path

SMALL = [50, 100, 500, 1_000, 20, 2_000]
BATCH = 4096


def measure(rows: int, vocabulary: int, optimizer: str, threads: int) -> dict[str, float]:
    """One epoch in this process: seconds, rows per second, and bytes."""
    import gc
    import time

    import numpy as np
    import torch

    from deepfm.config import load_config
    from deepfm.data.dataset import TabularDataset
    from deepfm.data.schema import DatasetSchema, FeatureType, FieldSchema
    from deepfm.engine.loop import Observer, fit
    from deepfm.models import create_model
    from deepfm.training.task import CTRTask

    class TrainingOnly(CTRTask):
        def evaluate(self, *_: object) -> dict[str, float]:
            return {"auc": 0.5}

    class Clock(Observer):
        seconds = 0.0

        def fit_started(self, *_: int) -> None:
            self.started = time.perf_counter()

        def evaluating(self, done: int, total: int) -> None:
            self.seconds = self.seconds or time.perf_counter() - self.started

    def memory(what: str) -> int:
        status = Path("/proc/self/status").read_text()
        return int(status.split(f"{what}:")[1].split()[0]) * 1024

    torch.set_num_threads(threads)
    rng = np.random.default_rng(0)
    sizes = [vocabulary, *SMALL]
    fields = {f"f{i}": FieldSchema(f"f{i}", FeatureType.SPARSE, size + 1, 16) for i, size in enumerate(sizes)}
    schema = DatasetSchema(fields, "label")
    overrides = ["training.num_epochs=1", "training.metric=auc", "feature.projection=if_needed", "device=cpu"]
    config = load_config(
        None, [*overrides, f"training.embedding_optimizer={optimizer}", f"training.batch_size={BATCH}"]
    )

    def columns(count: int) -> dict[str, np.ndarray]:
        return {
            f"f{i}": (rng.zipf(1.2, count) % size + 1).astype(np.int32)
            if i == 0
            else rng.integers(1, size, count, np.int32)
            for i, size in enumerate(sizes)
        }

    def task(count: int) -> TrainingOnly:
        data = TabularDataset(columns(count), rng.integers(0, 2, count).astype(np.float32))
        return TrainingOnly(model, config, data, data)

    model = create_model("deepfm", schema, config)
    fit(
        task(min(64 * BATCH, rows)), config.training, device=torch.device("cpu")
    )  # model, optimizer and kernels are warm
    chosen = task(rows)
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here
    encoded, before = chosen.train_ds.nbytes, memory("VmRSS")
    clock = Clock()
    fit(chosen, config.training, device=torch.device("cpu"), observers=[clock])
    return {"seconds": clock.seconds, "encoded": encoded, "beyond": memory("VmHWM") - before, "peak": memory("VmHWM")}


def point(rows: int, vocabulary: int, optimizer: str, threads: int) -> dict[str, float]:
    """`measure` in a fresh process."""
    arguments = [str(rows), str(vocabulary), optimizer, str(threads)]
    answer = subprocess.run(
        [sys.executable, __file__, "--point", *arguments], capture_output=True, text=True, check=False
    )
    if answer.returncode:
        sys.exit(answer.stderr)
    figures: dict[str, float] = json.loads(answer.stdout.splitlines()[-1])
    return figures


def main() -> None:
    if sys.argv[1:2] == ["--point"]:
        rows, vocabulary, optimizer, threads = sys.argv[2:]
        print(json.dumps(measure(int(rows), int(vocabulary), optimizer, int(threads))))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--quick", action="store_true", help="three small points of each")
    parser.add_argument("--plot", type=Path, help="draw the curves into this PNG")
    args = parser.parse_args()
    by_rows = [10_000, 30_000, 100_000] if args.quick else [100_000, 300_000, 1_000_000, 3_000_000, 10_000_000]
    sizes = [10_000, 100_000] if args.quick else [10_000, 100_000, 1_000_000, 10_000_000]
    steps = 4 if args.quick else 40
    print("| rows | seconds an epoch | rows/s | encoded columns, MB | columns and training, of the columns |")
    print("|---|---|---|---|---|")
    rows_figures = {}
    for rows in by_rows:
        rows_figures[rows] = found = point(rows, 10_000, "same", args.threads)
        print(
            f"| {rows:,} | {found['seconds']:.2f} | {rows / found['seconds']:,.0f} | {found['encoded'] / 1e6:,.1f} | "
            f"{1 + found['beyond'] / found['encoded']:.2f} |",
            flush=True,
        )
    print("\n| vocabulary | table optimizer | ms a step | peak of the process, MB |\n|---|---|---|---|")
    size_figures: dict[str, dict[int, dict[str, float]]] = {}
    for optimizer in ("same", "sparse_adam", "rowwise_adagrad"):
        for size in sizes:
            found = point(steps * BATCH, size, optimizer, args.threads)
            size_figures.setdefault(optimizer, {})[size] = found
            print(
                f"| {size:,} | {optimizer} | {found['seconds'] / steps * 1e3:.1f} | {found['peak'] / 1e6:,.0f} |",
                flush=True,
            )
    print(f"\n{platform.processor() or platform.machine()}, {os.cpu_count()} cores, {args.threads} threads")
    if args.plot:
        draw(args.plot, rows_figures, size_figures, steps)


def draw(
    path: Path, by_rows: dict[int, dict[str, float]], by_size: dict[str, dict[int, dict[str, float]]], steps: int
) -> None:
    """Two panels: seconds an epoch against rows, milliseconds a step against vocabulary."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.8), layout="constrained")
    left.loglog(list(by_rows), [point["seconds"] for point in by_rows.values()], marker="o")
    left.set(xlabel="training rows", ylabel="seconds an epoch", title="Rows (vocabulary 10,000)")
    labels = {"same": "Adam, every row (default)", "sparse_adam": "sparse_adam", "rowwise_adagrad": "rowwise_adagrad"}
    for optimizer, points in by_size.items():
        right.loglog(
            list(points), [p["seconds"] / steps * 1e3 for p in points.values()], marker="o", label=labels[optimizer]
        )
    right.set(
        xlabel="vocabulary of the large field",
        ylabel="milliseconds a step",
        title=f"Vocabulary ({BATCH:,} rows a step)",
    )
    right.legend(frameon=False)
    for axes in (left, right):
        axes.grid(alpha=0.3, which="both")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
