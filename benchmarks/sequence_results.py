"""Train the behaviour models on MovieLens-100K, with ablations and baselines, and print their tables of test metrics.

    python benchmarks/sequence_results.py                    # everything that is not there yet, then the tables
    python benchmarks/sequence_results.py --only sin din     # those runs alone
    python benchmarks/sequence_results.py --table            # the tables of what is there

Each run is a folder below `--out`; a finished one is not trained again, an interrupted one is resumed. Within a split
all runs rank the same candidates. The tables go to `docs/sequence_results.md`.
"""

import argparse
import os
import platform
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, median, stdev
from typing import Any

from movielens_results import per_user_ndcg

METRICS = ["hr@10", "ndcg@10", "auc", "logloss", "logloss_calibrated"]
TEMPORAL = ("data.split_strategy=temporal",)
RULES = ("unseen", "unrated")


@dataclass(frozen=True)
class Entry:
    """A row of a table.

    Args:
        name: the folder's, and what `--only` asks for.
        title: as the table shows it.
        config: a file of `configs/`, without `.yaml`; empty for a baseline.
        overrides: beside the seed and the rule of negatives.
        seeds: how many.
        rule: of training negatives.
        baseline: its name, and its options.
        split: the table that it belongs to.
    """

    name: str
    title: str
    config: str = ""
    overrides: tuple[str, ...] = ()
    seeds: int = 3
    rule: str = "unseen"
    baseline: tuple[str, dict[str, Any]] | None = None
    split: str = "leave_one_out"


FULL_SOFTMAX = ("sin.fusion=transformer", "sin.candidate=product", "sin.use_dnn=false", "training.loss=full_softmax")


def models(split: str, rule: str) -> Iterator[Entry]:
    """The three models under a rule, or on a split."""
    end = "" if split == "leave_one_out" else f"-{split}"
    changes = () if split == "leave_one_out" else TEMPORAL
    for name, title in (("sin", "SIN"), ("bst", "BST"), ("din", "DIN")):
        seeds = 1 if end else 5 if name == "sin" else 3
        yield Entry(f"{name}-{rule}{end}", title, f"{name}_movielens", changes, seeds, rule, split=split)


def baselines(split: str) -> Iterator[Entry]:
    """What draws no negatives."""
    end = "" if split == "leave_one_out" else f"-{split}"
    changes = () if split == "leave_one_out" else TEMPORAL
    listed = (
        ("popularity", "popularity", ("popularity", {})),
        ("ease", "EASE", ("ease", {"l2": 200.0})),
        ("ease-recent", "EASE, history by recency", ("ease", {"l2": 200.0, "half_life": 5.0})),
        ("transitions", "item transitions", ("transitions", {})),
    )
    for name, title, baseline in listed:
        yield Entry(f"{name}{end}", title, "", changes, 1, "none", baseline, split)


def full_softmax(split: str) -> Entry:
    """SASRec's recipe: the Transformer's side alone against the whole catalogue."""
    end, changes = ("", ()) if split == "leave_one_out" else (f"-{split}", TEMPORAL)
    seeds = 1 if end else 3
    return Entry(
        f"sasrec-unseen{end}", "Transformer side, full softmax", "sasrec_movielens", changes, seeds, split=split
    )


ABLATIONS = tuple(
    Entry(f"sin-{fusion}", f"SIN, {title}", "sin_movielens", (f"sin.fusion={fusion}",), seeds)
    for fusion, title, seeds in (
        ("sum", "plain sum instead of the gate", 5),
        ("transformer", "Transformer only", 3),
        ("cin", "CIN only", 3),
    )
)
STRICT = Entry(
    "sin-strict", "SIN, strictly earlier timestamps", "sin_movielens", ("data.history_ties=strictly_earlier",), 3
)
ENTRIES: tuple[Entry, ...] = (
    *baselines("leave_one_out"),
    *models("leave_one_out", "unseen"),
    *ABLATIONS,
    full_softmax("leave_one_out"),
    *models("leave_one_out", "unrated"),
    STRICT,
    *baselines("temporal"),
    *models("temporal", "unseen"),
    full_softmax("temporal"),
)


def run_one(folder: Path, entry: Entry, seed: int) -> Path:
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
    if entry.baseline is not None:
        name, options = entry.baseline
        run_baseline(name, load_config(None, ["data.source=files", *entry.overrides]), run, overwrite=True, **options)
    elif run.checkpoint.exists():
        resume_experiment(run)
    else:
        own = [f"data.train_negatives={entry.rule}", f"seed={seed}", "device=cpu", "data.source=files"]
        train_experiment(load_config(f"configs/{entry.config}.yaml", [*own, *entry.overrides]), run, overwrite=True)
    return folder


def finished(out: Path, entry: Entry) -> list[tuple[Path, dict[str, Any]]]:
    from deepfm.engine.run import RunFolder

    folders = [out / entry.name / f"s{seed}" for seed in range(1, entry.seeds + 1)]
    return [(folder, RunFolder(folder).read_results()) for folder in folders if RunFolder(folder).finished]


def table(out: Path, entries: list[Entry], against: str | None = None) -> list[str]:
    """Markdown of some rows; `against` adds NDCG@10 minus that row's, user by user."""
    from deepfm.statistics import paired_bootstrap

    head = ["run", "training negatives", "seeds", "HR@10", "NDCG@10", "AUC", "log loss", "calibrated", "best epoch"]
    head += ["seconds"] + (["NDCG@10 minus the first row's"] if against else [])
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    reference = next((finished(out, entry) for entry in entries if entry.name == against), [])
    candidates = set()
    for entry in entries:
        runs = finished(out, entry)
        if not runs:
            continue
        cells = [entry.title, entry.rule, str(len(runs))]
        candidates |= {results["protocol"]["candidates"] for _, results in runs}
        for metric in METRICS:
            values = [results["test"].get(metric) for _, results in runs]
            if values[0] is None:
                cells.append("-")
            else:
                cells.append(f"{mean(values):.4f}" + (f" ± {stdev(values):.4f}" if len(values) > 1 else ""))
        epochs = [results["best_epoch"] for _, results in runs if results["best_epoch"]]
        cells.append(f"{mean(epochs):.0f}" if epochs else "-")
        cells.append(f"{median(results['seconds'] for _, results in runs):.0f}")
        if against:
            own, other = ([per_user_ndcg(folder) for folder, _ in group] for group in (runs, reference))
            same = entry.name == against or not reference
            cells.append("" if same else str(paired_bootstrap(sum(own) / len(own), sum(other) / len(other))))
        lines.append("| " + " | ".join(cells) + " |")
    assert len(candidates) <= 1, f"runs below {out} ranked different candidates: {candidates}"
    return [*lines, ""]


def summary(out: Path) -> str:
    """All tables, in Markdown."""
    import torch

    whole = [entry for entry in ENTRIES if entry.split == "leave_one_out"]
    ablations = [entry for entry in whole if entry.name == "sin-unseen" or entry in ABLATIONS]
    ties = [entry for entry in whole if entry.name == "sin-unseen"] + [STRICT]
    main_rows = [entry for entry in whole if entry not in ABLATIONS and entry != STRICT]
    lines = ["## Leave-one-out", "", *table(out, main_rows)]
    lines += ["## SIN and its ablations", "", *table(out, ablations, "sin-unseen")]
    lines += ["## What counts as before", "", *table(out, ties, "sin-unseen")]
    lines += ["## The temporal split", "", *table(out, [entry for entry in ENTRIES if entry.split == "temporal"])]
    every = [results for entry in ENTRIES for _, results in finished(out, entry)]
    machine = (
        f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, torch {torch.__version__}"
    )
    revisions = ", ".join(sorted({str(results["env"]["git"]) for results in every}))
    return "\n".join([*lines, f"Machine: {machine}; one thread a run. Revision: {revisions}."]) + "\n"


HEADER = """# Results of the behaviour models on MovieLens-100K

Written by `benchmarks/sequence_results.py`. 1 + 999 candidates a user, the same for all rows of a split; test histories
include the validation like; mean ± standard deviation over seeds; test metrics of the epoch that is best on validation.
`calibrated` is the log loss of the probabilities that `predict` gives after a ranking loss. Differences are paired,
user by user, with the bootstrap's 95 % interval.

"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", help="names of runs, or beginnings of them")
    parser.add_argument("--seeds", type=int, default=5, help="at most so many of each run's seeds")
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--out", type=Path, default=Path("outputs/sequence"))
    parser.add_argument("--table", action="store_true", help="train nothing")
    args = parser.parse_args()
    wanted = [entry for entry in ENTRIES if not args.only or entry.name.startswith(tuple(args.only))]
    if not args.table:
        jobs = [
            (args.out / entry.name / f"s{seed}", entry, seed)
            for seed in range(1, 1 + args.seeds)
            for entry in wanted
            if seed <= entry.seeds
        ]
        with ProcessPoolExecutor(args.workers) as pool:
            for number, future in enumerate(as_completed([pool.submit(run_one, *job) for job in jobs]), start=1):
                print(f"{number} of {len(jobs)}: {future.result()}", flush=True)
    text = summary(args.out)
    Path("docs/sequence_results.md").write_text(HEADER + text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
