"""Train the shipped configurations on MovieLens-100K and print the table of test metrics.

    python benchmarks/movielens_results.py            # everything that is not there yet, then the table
    python benchmarks/movielens_results.py --table    # the table of what is there

Each run is a folder below `--out`; a finished one is not trained again, an interrupted one is resumed, so the script
can be stopped and started at will. All runs rank the same candidates. The table goes to `docs/results.md`.
"""

import argparse
import os
import platform
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from statistics import mean, median, stdev
from typing import Any

MODELS = [
    "deepfm_movielens",
    "deepfm_movielens_tuned",
    "xdeepfm_movielens_tuned",
    "attention_deepfm_movielens_tuned",
]
BASELINES = ["popularity", "itemknn", "ease"]
RULES = ["unrated", "unseen"]
METRICS = ["hr@10", "ndcg@10", "auc", "logloss"]


def run_one(folder: Path, name: str, rule: str | None, seed: int) -> Path:
    """Train, resume or fit one run, with one thread, so that as many run at once as there are cores."""
    import torch

    from deepfm.baselines import run_baseline
    from deepfm.config import load_config
    from deepfm.engine.run import RunFolder
    from deepfm.training.experiment import resume_experiment, train_experiment
    from deepfm.utils.logging import configure_console

    torch.set_num_threads(1)
    configure_console(quiet=True)
    run = RunFolder(folder)
    if run.finished:
        return folder
    if rule is None:
        run_baseline(name, load_config(None, ["data.source=files"]), run, overwrite=True)
    elif run.checkpoint.exists():
        resume_experiment(run)
    else:
        overrides = [f"data.train_negatives={rule}", f"seed={seed}", "device=cpu", "data.source=files"]
        train_experiment(load_config(f"configs/{name}.yaml", overrides), run, overwrite=True)
    return folder


def jobs(out: Path, models: list[str], seeds: int) -> Iterator[tuple[Path, str, str | None, int]]:
    for name in BASELINES:
        yield out / name / "s1", name, None, 1
    for seed in range(1, seeds + 1):
        for rule in reversed(RULES):
            for name in models:
                yield out / f"{name}-{rule}" / f"s{seed}", name, rule, seed


def per_user_ndcg(folder: Path) -> Any:
    import numpy as np

    from deepfm.engine.run import RunFolder
    from deepfm.utils.io import load_arrays

    ranks = load_arrays(RunFolder(folder).ranks, "ranks file")["test"]
    return np.where(ranks <= 10, 1 / np.log2(ranks + 1.0), 0.0)


def summary(out: Path) -> str:
    """The Markdown of everything that is finished below `out`."""
    import torch

    from deepfm.engine.run import RunFolder
    from deepfm.statistics import paired_bootstrap

    rows: dict[tuple[str, str], list[tuple[Path, dict]]] = {}
    for folder in sorted(out.glob("*/s*")):
        run = RunFolder(folder)
        if run.finished:
            results = run.read_results()
            rule = results["protocol"]["train_negatives"] if results["kind"] == "model" else "none"
            rows.setdefault((folder.parent.name.removesuffix(f"-{rule}"), rule), []).append((folder, results))
    candidates = {results["protocol"]["candidates"] for group in rows.values() for _, results in group}
    assert len(candidates) == 1, f"runs below {out} ranked different candidates: {candidates}"
    order = {name: number for number, name in enumerate([*BASELINES, *MODELS])}
    lines = [
        "| run | training negatives | seeds | HR@10 | NDCG@10 | AUC | log loss | best epoch | seconds a run |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for (name, rule), group in sorted(rows.items(), key=lambda row: (order.get(row[0][0], 99), row[0][1])):
        cells = []
        for metric in METRICS:
            values = [results["test"][metric] for _, results in group]
            if values[0] is None:
                cells.append("-")
            else:
                cells.append(f"{mean(values):.4f}" + (f" ± {stdev(values):.4f}" if len(values) > 1 else ""))
        epochs = [results["best_epoch"] for _, results in group if results["best_epoch"]]
        seconds = median(results["seconds"] for _, results in group)
        lines.append(
            f"| {name} | {rule} | {len(group)} | {' | '.join(cells)} | "
            f"{f'{mean(epochs):.0f}' if epochs else '-'} | {seconds:.0f} |"
        )
    lines += [
        "",
        "NDCG@10 minus EASE's on the same candidates: mean over users of the mean over seeds, with the paired",
    ]
    lines += ["bootstrap's 95 % interval over users.", "", "| run | training negatives | difference |", "|---|---|---|"]
    ease = per_user_ndcg(out / "ease" / "s1")
    for (name, rule), group in sorted(rows.items(), key=lambda row: (order.get(row[0][0], 99), row[0][1])):
        if name not in BASELINES:
            ours = sum(per_user_ndcg(folder) for folder, _ in group) / len(group)
            lines.append(f"| {name} | {rule} | {paired_bootstrap(ours, ease)} |")
    machine = (
        f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, torch {torch.__version__}"
    )
    revisions = sorted({str(results["env"]["git"]) for group in rows.values() for _, results in group})
    lines += [
        "",
        f"Machine: {machine}; one thread a run. Revision: {', '.join(revisions)}.",
    ]
    return "\n".join(lines) + "\n"


HEADER = """# Results on MovieLens-100K

Written by `make results` (`benchmarks/movielens_results.py`). Leave-one-out, 942 users, 1 + 999 candidates, the same
for all; mean ± standard deviation over seeds; test metrics of the epoch that is best on validation. `unrated` and
`unseen` are two ways of drawing training negatives; [protocol.md](protocol.md) says why only the second can be compared
with methods that draw none.

"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=MODELS, help="names of configs/*.yaml")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--out", type=Path, default=Path("outputs/results"))
    parser.add_argument("--table", action="store_true", help="train nothing")
    args = parser.parse_args()
    if not args.table:
        left = list(jobs(args.out, args.models, args.seeds))
        with ProcessPoolExecutor(args.workers) as pool:
            for number, future in enumerate(as_completed([pool.submit(run_one, *job) for job in left]), start=1):
                print(f"{number} of {len(left)}: {future.result()}", flush=True)
    table = summary(args.out)
    Path("docs/results.md").write_text(HEADER + table, encoding="utf-8")
    print(table)


if __name__ == "__main__":
    main()
