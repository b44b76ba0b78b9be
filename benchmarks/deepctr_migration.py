"""What a DeepCTR-Torch user gains by changing the import line: the same script on both packages, in turns.

    make bench-deepctr                                         # once: DeepCTR-Torch's environment, in .bench/
    python benchmarks/deepctr_migration.py                     # MovieLens-100K, both rules of negatives, three seeds
    python benchmarks/deepctr_migration.py --draws 20          # an epoch's negatives are the next of 20 draws

DeepFM on MovieLens-100K's split and candidates, from DEEPFM_DATA_DIR or ../shared/datasets/ml-100k. Rows are written
once and are the same for both; a seed is that of the negatives and of the model. Both processes take turns, an epoch
each, on one thread; an epoch ends with the validation candidates ranked. The epoch with the best validation NDCG@10 is
ranked on the test once. Prints Markdown; exits with status 1 where DeepCTR-Torch's NDCG@10 is above by more than the
paired bootstrap's interval, or where its CPU seconds are not at least half as much again.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = ROOT / "benchmarks" / "contenders" / "migration_run.py"
PEER = ROOT / ".bench" / "deepctr_torch" / "bin" / "python"
PACKAGES = {"deepfm.interop.deepctr": Path(sys.executable), "deepctr_torch": PEER}
HEADER = (
    "package", "seeds", "validation NDCG@10", "HR@10", "NDCG@10", "AUC", "best epoch", "CPU-s in fit",
    "CPU-s ranking", "CPU-s in all",
)  # fmt: skip
SHARE = 2 / 3  # of DeepCTR-Torch's CPU seconds that ours may take at most


def prepare(folder: Path, args: argparse.Namespace, rule: str, seed: int) -> None:
    """Write the training rows, the candidates and the settings that both packages read."""
    from deepfm.config import DataConfig
    from deepfm.data.movielens import MovieLensAdapter
    from deepfm.data.schema import FeatureType
    from deepfm.utils.logging import configure_console

    configure_console(quiet=True)
    config = DataConfig(
        source="files", train_negatives=rule, num_neg_train=args.negatives, num_neg_eval=args.candidates
    )
    schema, train, validation, test = MovieLensAdapter(args.data_dir, config, seed=seed).build()
    for draw in range(args.draws):
        train.resample(draw + 1)
        write(folder / f"train{draw:03d}.npz", train)
    write(folder / "validation.npz", validation)
    write(folder / "test.npz", test)
    sparse = {
        field.name: field.vocabulary_size
        for field in schema.fields.values()
        if field.feature_type is FeatureType.SPARSE
    }
    several = {field.name: (field.vocabulary_size, field.max_length) for field in schema.sequence_fields}
    settings = {
        "sparse": sparse,
        "several": several,
        "embedding_dim": args.embedding_dim,
        "batch_size": args.batch_size,
        "seed": seed,
        "model": {"dnn_hidden_units": args.hidden_units, "dnn_dropout": args.dropout, "l2_reg_embedding": args.l2},
    }
    (folder / "settings.json").write_text(json.dumps(settings), encoding="utf-8")


def write(path: Path, dataset: Any) -> None:
    features, labels = dataset.batch(slice(0, len(dataset)))
    columns = {name: column.numpy() for name, column in features.items()}
    if dataset.group_offsets is not None:
        columns["offsets"] = dataset.group_offsets
    np.savez(path, label=labels.numpy(), **columns)


class Worker:
    """A package's process, which works only when asked."""

    def __init__(self, package: str, folder: Path) -> None:
        self.package, self.log = package, folder / f"{package}.log"
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        with open(self.log, "w", encoding="utf-8") as log:
            self.process = subprocess.Popen(
                [PACKAGES[package], SCRIPT, package, folder], env=environment, text=True, stdin=subprocess.PIPE,
                stdout=subprocess.PIPE, stderr=log,
            )  # fmt: skip

    def ask(self, what: str) -> dict[str, Any]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{what}\n")
        self.process.stdin.flush()
        for line in self.process.stdout:
            if line.startswith("@"):
                answer: dict[str, Any] = json.loads(line[1:])
                return answer
        raise SystemExit(f"{self.package} ended: {self.log.read_text(encoding='utf-8')[-2000:]}")

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def compare(folder: Path, args: argparse.Namespace, title: str) -> dict[str, dict[str, Any]]:
    """Train both in turns until each has seen `patience` epochs without improvement; what the test gives."""
    workers = {package: Worker(package, folder) for package in PACKAGES}
    best = dict.fromkeys(PACKAGES, -1.0)
    stalled = dict.fromkeys(PACKAGES, 0)
    running, results = list(PACKAGES), {}
    for epoch in range(1, args.epochs + 1):
        for package in list(running):
            found = workers[package].ask("epoch")
            print(
                f"{title}, {package}, epoch {epoch}: loss {found['loss']:.4f}, validation HR@10 {found['hr']:.4f}, "
                f"NDCG@10 {found['ndcg']:.4f}, CPU {found['cpu']['total']:.1f} s",
                file=sys.stderr, flush=True,
            )  # fmt: skip
            stalled[package] = 0 if found["ndcg"] > best[package] else stalled[package] + 1
            best[package] = max(best[package], found["ndcg"])
            if stalled[package] >= args.patience:
                running.remove(package)
        running.reverse()
    for package, worker in workers.items():
        results[package] = worker.ask("test")
        results[package]["ranks"] = np.load(folder / f"{package}-test-ranks.npy")
        worker.close()
    return results


def row(package: str, results: list[dict[str, Any]]) -> str:
    def cell(values: list[float], digits: int) -> str:
        spread = f" ± {stdev(values):.{digits}f}" if len(values) > 1 else ""
        return f"{mean(values):.{digits}f}{spread}"

    cells = [
        cell([result["best"]["ndcg"] for result in results], 4),
        cell([result["test"]["hr"] for result in results], 4),
        cell([result["test"]["ndcg"] for result in results], 4),
        cell([result["test"]["auc"] for result in results], 4),
        cell([result["best"]["epoch"] for result in results], 0),
        *(cell([result["cpu"][part] for result in results], 1) for part in ("train", "rank", "total")),
    ]
    return f"| {package} | {len(results)} | {' | '.join(cells)} |"


def gains(results: list[dict[str, Any]]) -> Any:
    """NDCG@10 of each user, the mean over seeds."""
    ranks = np.array([result["ranks"] for result in results])
    return np.where(ranks <= 10, 1 / np.log2(ranks + 1.0), 0.0).mean(axis=0)


def report(rule: str, found: dict[str, list[dict[str, Any]]]) -> tuple[str, bool]:
    """The Markdown of a rule, and whether the bar is held."""
    from deepfm.statistics import paired_bootstrap

    ours, theirs = found["deepfm.interop.deepctr"], found["deepctr_torch"]
    difference = paired_bootstrap(gains(ours), gains(theirs))
    shares = {
        part: mean(one["cpu"][part] for one in ours) / mean(one["cpu"][part] for one in theirs)
        for part in ("train", "total")
    }
    lines = [
        f"## Training negatives: {rule}",
        "",
        f"| {' | '.join(HEADER)} |",
        "|---" * len(HEADER) + "|",
        *(row(package, results) for package, results in found.items()),
        "",
        f"NDCG@10, ours minus theirs, paired over users: {difference}. Our share of their CPU seconds: "
        f"{shares['train']:.2f} in fit, {shares['total']:.2f} in all (at most {SHARE:.2f} is the bar).",
        "",
    ]
    return "\n".join(lines), difference.high >= 0 and max(shares.values()) <= SHARE


def arguments() -> argparse.Namespace:
    beside = ROOT.parent / "shared" / "datasets" / "ml-100k"
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, default=Path(os.environ.get("DEEPFM_DATA_DIR", beside)))
    parser.add_argument("--rules", nargs="+", default=["unrated", "unseen"], choices=["unrated", "unseen"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--draws", type=int, default=1, help="draws of negatives that the epochs go through")
    parser.add_argument("--negatives", type=int, default=4, help="a like")
    parser.add_argument("--candidates", type=int, default=999, help="negatives a user in validation and test")
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--patience", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=1024)
    parser.add_argument("--embedding-dim", type=int, default=16)
    parser.add_argument("--hidden-units", type=int, nargs="+", default=[256, 128, 64])
    parser.add_argument("--dropout", type=float, default=0.1)
    parser.add_argument("--l2", type=float, default=1e-5, help="l2_reg_embedding")
    return parser.parse_args()


def main() -> int:
    args = arguments()
    if not PEER.exists():
        raise SystemExit(f"DeepCTR-Torch's environment {PEER} is not here; make bench-deepctr makes it")
    found: dict[str, dict[str, list[dict[str, Any]]]] = {rule: {name: [] for name in PACKAGES} for rule in args.rules}
    for seed in range(1, args.seeds + 1):
        for rule in args.rules:
            with tempfile.TemporaryDirectory() as folder:
                prepare(Path(folder), args, rule, seed)
                results = compare(Path(folder), args, f"{rule}, seed {seed}")
            for package, result in results.items():
                found[rule][package].append(result)
    reports = [report(rule, results) for rule, results in found.items()]
    print("\n".join(text for text, _ in reports))
    return 0 if all(held for _, held in reports) else 1


if __name__ == "__main__":
    sys.exit(main())
