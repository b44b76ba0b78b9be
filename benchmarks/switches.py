"""What the switches that change the mathematics do to quality: MovieLens-100K, DeepFM, the same seeds for all.

    DEEPFM_DATA_DIR=... python benchmarks/switches.py            # every run that is not there yet, then the table
    DEEPFM_DATA_DIR=... python benchmarks/switches.py --table    # the table of what is there

Each run is a folder below `--out`; all rank the same candidates. Their speed is measured by `throughput.py --variant`.
The rate of `rowwise_adagrad` was chosen on the validation metric of one seed beforehand (`--rates`).
"""

import argparse
import os
import platform
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from statistics import mean, stdev

RATE = 0.1  # of rowwise_adagrad; `--rates` prints what it was chosen from
SWITCHES: dict[str, list[str]] = {
    "default": [],
    "sparse_adam": ["training.embedding_optimizer=sparse_adam"],
    "rowwise_adagrad": ["training.embedding_optimizer=rowwise_adagrad", f"training.embedding_lr={RATE}"],
    "lazy_embedding_l2": ["training.lazy_embedding_l2=true"],
    "bf16": ["training.precision=bf16"],
    "compile": ["training.compile=true"],
}
METRICS = ("ndcg@10", "auc")
RATES = [0.01, 0.03, 0.1, 0.3]


def run_one(folder: Path, overrides: list[str], seed: int) -> Path:
    """Train one run with one thread."""
    import torch

    from deepfm.config import load_config
    from deepfm.engine.run import RunFolder
    from deepfm.training.experiment import train_experiment
    from deepfm.utils.logging import configure_console

    torch.set_num_threads(1)
    configure_console(quiet=True)
    run = RunFolder(folder)
    if not run.finished:
        shared = [f"seed={seed}", "device=cpu", "data.source=files"]
        train_experiment(load_config("configs/deepfm_movielens.yaml", [*shared, *overrides]), run, overwrite=True)
    return folder


def spread(values: list[float], sign: str = "") -> str:
    """Mean and standard deviation."""
    return f"{mean(values):{sign}.4f}" + (f" ± {stdev(values):.4f}" if len(values) > 1 else "")


def table(out: Path) -> str:
    """The Markdown of what is finished below `out`: means and deviations, and differences paired by seed."""
    from deepfm.engine.run import RunFolder

    found = {
        name: {
            seed.name: RunFolder(seed).read_results()
            for seed in sorted((out / name).glob("s*"))
            if RunFolder(seed).finished
        }
        for name in SWITCHES
    }
    lines = [
        "| switch | seeds | test NDCG@10 | test AUC | NDCG@10 less the default, by seed | AUC less the default |",
        "|---|---|---|---|---|---|",
    ]
    base = found["default"]
    for name, runs in found.items():
        cells = [name, str(len(runs))]
        for metric in METRICS:
            values = [run["test"][metric] for run in runs.values()]
            cells.append(spread(values))
        for metric in METRICS:
            pairs = [run["test"][metric] - base[seed]["test"][metric] for seed, run in runs.items() if seed in base]
            cells.append("-" if name == "default" else spread(pairs, sign="+"))
        if runs:
            lines.append(f"| {' | '.join(cells)} |")
    early = [f"{name} {seed}" for name, runs in found.items() for seed, run in runs.items() if run["best_epoch"] <= 3]
    if early:
        lines += [
            "",
            f"Stopped before they had left the popularity of items (best epoch 3 or earlier): {', '.join(early)}.",
        ]
    any_run = next(iter(base.values()))
    return "\n".join([*lines, "", f"{platform.machine()}, {os.cpu_count()} cores, {any_run['env']}"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("outputs/switches"))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--parallel", type=int, default=os.cpu_count())
    parser.add_argument("--only", nargs="+", choices=SWITCHES, default=list(SWITCHES))
    parser.add_argument("--table", action="store_true", help="print the table of what is there")
    parser.add_argument("--rates", action="store_true", help="validation NDCG@10 of one seed at each rate")
    args = parser.parse_args()
    if args.rates:
        jobs = [
            (args.out / "rates" / str(rate), [SWITCHES["rowwise_adagrad"][0], f"training.embedding_lr={rate}"], 1)
            for rate in RATES
        ]
    else:
        jobs = [
            (args.out / name / f"s{seed}", SWITCHES[name], seed)
            for seed in range(1, args.seeds + 1)
            for name in args.only
        ]
    if not args.table:
        os.environ["OMP_NUM_THREADS"] = "1"
        with ProcessPoolExecutor(args.parallel) as pool:
            for future in as_completed([pool.submit(run_one, *job) for job in jobs]):
                print("done", future.result(), flush=True)
    if args.rates:
        from deepfm.engine.run import RunFolder

        for folder, _, _ in jobs:
            print(folder.name, f"{RunFolder(folder).read_results()['validation']['ndcg@10']:.4f}")
    else:
        print(table(args.out))


if __name__ == "__main__":
    main()
