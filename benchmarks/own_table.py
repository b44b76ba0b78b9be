"""A generated table of many rows: seconds and peak memory of inference, fitting, encoding, training and predicting.

    python benchmarks/own_table.py [--rows 10000000] [--streaming true false] [--folder /tmp/own_table]

Twenty columns: four of ids (10^2 to 10^6 values), six of categories, four of texts, four of numbers, one list, and the
label. Each way is a process of its own on Linux, in turns where one is named more than once; its peak memory is the
largest resident set of its life. Encoding alone is measured on one core.
"""

import argparse
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

PART_ROWS = 1_000_000
STREAMING = ("true", "false")
ONE_CORE = "one core"


def generate(path: Path, rows: int) -> None:
    """Write the table, a million rows at a time."""
    import numpy as np
    import polars as pl
    import pyarrow.parquet as pq

    writer = None
    for start in range(0, rows, PART_ROWS):
        count, rng = min(PART_ROWS, rows - start), np.random.default_rng(start)
        ids = {f"id{power}": (rng.zipf(1.3, count) % 10**power).astype(np.int64) for power in (2, 3, 5, 6)}
        few = {f"kind{number}": rng.integers(0, 5 + 10 * number, count) for number in range(6)}
        texts = {f"text{number}": np.char.add("t", (rng.integers(0, 200, count)).astype(str)) for number in range(4)}
        numbers = {f"number{number}": rng.lognormal(0, 1, count) for number in range(4)}
        chance = 1 / (1 + np.exp(1.5 - np.sin(few["kind5"]) * 2 - (ids["id2"] % 3)))
        frame = pl.DataFrame({"click": (rng.random(count) < chance).astype(np.int8), **ids, **few, **texts, **numbers})
        lists = frame.select(pl.concat_str("text0", "text1", separator="|").alias("list"))
        table = frame.hstack(lists).to_arrow()
        writer = writer or pq.ParquetWriter(path, table.schema)
        writer.write_table(table)
    if writer is not None:
        writer.close()


def measure(path: Path, streaming: str, threads: int) -> dict[str, float]:
    """Every step in this process: seconds, and the peak memory at its end."""
    import polars as pl
    import torch

    from deepfm.config import load_config
    from deepfm.data.tables.adapter import TableAdapter
    from deepfm.data.tables.encoder import TableEncoder
    from deepfm.inference import Predictor
    from deepfm.models import create_model
    from deepfm.training.trainer import Trainer

    torch.set_num_threads(threads)
    overrides = ["data.dataset_name=table", f"data.table={path}", "data.split_strategy=random", "training.metric=auc"]
    overrides += ["training.num_epochs=1", "device=cpu", "data.label=click", f"data.streaming={streaming}"]
    config = load_config(None, [*overrides, f"data.cache_dir={path.parent / 'cache'}"])
    figures: dict[str, float] = {}

    def step(name: str, started: float) -> float:
        figures[f"{name} s"] = time.perf_counter() - started
        figures[f"{name} GB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        return time.perf_counter()

    now = time.perf_counter()
    adapter = TableAdapter(config.data.data_dir, config.data)
    now = step("infer", now)
    schema, train, validation, test = adapter.build()
    now = step("fit and encode", now)
    trainer = Trainer(create_model("deepfm", schema, config), schema, config, train, validation, test)
    now = time.perf_counter()
    state = trainer.train()
    now = step("one epoch", now)
    figures["rows/s"] = state.rows_per_second
    figures["auc"] = trainer.evaluations["validation"].metrics["auc"] or 0.0
    rows = pl.scan_parquet(path).head(PART_ROWS).collect()
    now = time.perf_counter()
    Predictor(TableEncoder(adapter.schema, adapter.encoders), trainer.model).predict(rows)
    step(f"predict {len(rows):,}", now)
    return figures


def encoding(path: Path) -> dict[str, float]:
    """Fitting the encoders on at most a million rows, and encoding these, on one core: seconds and rows a minute."""
    import polars as pl

    from deepfm.config import load_config
    from deepfm.data.tables.adapter import TableAdapter
    from deepfm.data.tables.encoder import TableEncoder

    overrides = ["data.dataset_name=table", f"data.table={path}", "data.split_strategy=random", "data.label=click"]
    config = load_config(None, overrides)
    table = pl.scan_parquet(path).head(PART_ROWS)
    started = time.perf_counter()
    encoder = TableEncoder(TableAdapter(config.data.data_dir, config.data).schema).fit(table)
    fitted = time.perf_counter()
    rows = len(encoder.encode(table).labels)
    ended = time.perf_counter()
    return {
        "infer and fit s": fitted - started,
        "encode s": ended - fitted,
        "encoded rows a minute": 60 * rows / (ended - fitted),
        "fitted and encoded rows a minute": 60 * rows / (ended - started),
    }


def main() -> None:
    """Generate where there is need, measure each way in turn, print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--streaming", nargs="+", choices=STREAMING, default=["true"])
    parser.add_argument("--folder", type=Path, default=Path("/tmp/own_table"))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    args = parser.parse_args()
    path = args.folder / f"rows-{args.rows}.parquet"
    if args.measure:
        one_core = args.measure == ONE_CORE
        print(json.dumps(encoding(path) if one_core else measure(path, args.measure, args.threads)))
        return
    args.folder.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        generate(path, args.rows)
    size, machine = path.stat().st_size / 1e9, f"{platform.machine()}, {os.cpu_count()} cores"
    print(f"{args.rows:,} rows, {size:.2f} GB of Parquet; {machine}")
    for way in [*args.streaming, ONE_CORE]:
        shutil.rmtree(args.folder / "cache", ignore_errors=True)
        command = [sys.executable, __file__, "--rows", str(args.rows), "--folder", str(args.folder)]
        command += ["--threads", str(args.threads), "--measure", way]
        limits = {"POLARS_MAX_THREADS": "1", "OMP_NUM_THREADS": "1"} if way == ONE_CORE else {}
        answer = subprocess.run(command, capture_output=True, text=True, env=os.environ | limits)
        title = way if way == ONE_CORE else f"streaming {way}"
        if answer.returncode:
            print(f"{title}: failed\n{answer.stderr[-2000:]}")
            continue
        figures = json.loads(answer.stdout.splitlines()[-1])
        print(f"{title}: " + ", ".join(f"{name} {value:,.2f}" for name, value in figures.items()), flush=True)


if __name__ == "__main__":
    main()
