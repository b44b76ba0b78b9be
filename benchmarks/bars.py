"""Train BARS' published settings on its own files and print our test metrics beside the published ones.

    python benchmarks/bars.py --data-dir data/bars                  # whatever is there, five seeds, then the table
    python benchmarks/bars.py --data-dir data/bars --only deepfm_frappe_x1 --seeds 1
    python benchmarks/bars.py --table                               # the table of what is there

`--data-dir` holds `Frappe_x1`, `MovielensLatest_x1` and `Criteo_x1`, each with the `train.csv`, `valid.csv` and
`test.csv` that BARS publishes; what is missing is left out. Each run is a folder below `--out`: a finished one is not
trained again, an interrupted one is resumed, and one of other settings or files is refused. The table goes to
`--report`; its notes are of each run's own folder. The exit status is 1 where a run failed.
"""

import argparse
import contextlib
import hashlib
import json
import os
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from bars_published import MD5, MODELS, PUBLISHED, SETS, split_name
from bars_runs import Finished, Job, configure, data_hash, finished, run_one

from deepfm.errors import DeepFMError

FIRST_SEED = 2021
PARTS = ("train", "valid", "test")


def available(data_dir: Path) -> list[str]:
    """The data sets of which all three files are there."""
    return [key for key, folder in SETS.items() if all((data_dir / folder / f"{part}.csv").is_file() for part in PARTS)]


def are_published(data_set: str, data_dir: Path) -> bool:
    """Whether the files are, byte for byte, those that BARS publishes."""
    digests = []
    for part in PARTS:
        with open(data_dir / SETS[data_set] / f"{part}.csv", "rb") as file:
            digests.append(hashlib.file_digest(file, "md5").hexdigest())
    return tuple(digests) == MD5[data_set]


def spread(values: Any) -> str:
    """Mean ± standard deviation, or the one value."""
    return f"{mean(values):.5f}" + (f" ± {stdev(values):.5f}" if len(values) > 1 else "")


def table(out: Path) -> str:
    """Ours beside the published, in Markdown; a row for each configuration, changed settings and files."""
    from deepfm.reporting import Column, Table

    columns = [
        Column("data set"), Column("model"),
        Column("parameters", format=",d"), Column("published parameters", format=",d"),
        Column("seeds", format="d"), Column("AUC"), Column("published AUC"), Column("difference", format="+.5f"),
        Column("log loss"), Column("published log loss"),
        Column("epochs", format=".0f"), Column("seconds", format=".0f"),
        Column("settings changed"), Column("files as published"), Column("machine"),
    ]  # fmt: skip
    known = known_files(out)
    rows = []
    for name, published in PUBLISHED.items():
        model, data_set = split_name(name)
        groups: dict[tuple[Any, ...], list[Finished]] = {}
        for run in finished(out, name):
            groups.setdefault((run.changed, run.results["data"]["hash"]), []).append(run)
        for (changed, digest), runs in groups.items():
            auc, logloss = ([run.results["test"][metric] for run in runs] for metric in ("auc", "logloss"))
            rows.append(
                [
                    SETS[data_set], MODELS[model], runs[0].parameters, published.parameters, len(runs),
                    spread(auc), spread(published.auc), mean(auc) - mean(published.auc),
                    spread(logloss), spread(published.logloss),
                    mean(run.results["epochs"] for run in runs), mean(run.results["seconds"] for run in runs),
                    ", ".join(changed) or "none", known.get(digest),
                    "; ".join(dict.fromkeys(machine_of(run.results["env"]) for run in runs)),
                ]
            )  # fmt: skip
    return Table(columns, rows, best=False).to_markdown()


def machine_of(env: dict[str, Any]) -> str:
    return f"{env['platform']}, {env['device']}, torch {env['torch']}"


HEADER = """# BARS' settings, run here

Written by `benchmarks/bars.py`; docs/bars.md says what the settings are. Test metrics of the epoch that is best on
validation, mean ± standard deviation over seeds; where BARS published one run, that run. `difference` is our mean AUC
minus theirs. Only rows whose files are as published, and none of whose settings are changed, compare.

"""


def jobs(args: argparse.Namespace) -> Iterator[Job]:
    there = available(args.data_dir)
    names = [name for name in PUBLISHED if split_name(name)[1] in there]
    names = [name for name in names if not args.only or name.startswith(tuple(args.only))]
    for seed in range(FIRST_SEED, FIRST_SEED + args.seeds):
        for name in names:
            config = configure(name, seed, args.data_dir, args.override)
            yield Job(args.out / name / f"s{seed}", config, args.threads)


def run_all(wanted: list[Job], workers: int) -> Iterator[tuple[Path, str]]:
    """The outcomes of all runs, as they are done; one worker is this process."""
    if workers == 1:
        yield from map(run_one, wanted)
        return
    with ProcessPoolExecutor(workers, get_context("spawn")) as pool:  # a fork of polars' threads would wait for ever
        for future in as_completed([pool.submit(run_one, job) for job in wanted]):
            yield future.result()


def known_files(out: Path) -> dict[str, bool]:
    """Whether files are as published, by a run's `data.hash`."""
    place = out / "files.json"
    known: dict[str, bool] = json.loads(place.read_text(encoding="utf-8")) if place.exists() else {}
    return known


def note_files(names: Iterable[str], data_dir: Path, out: Path) -> None:
    """Write which files are as published, so that the table can say so when they are gone or others."""
    known = known_files(out)
    data_hash.cache_clear()  # the files may be others than at an earlier call
    for name in names:
        data = configure(name, FIRST_SEED, data_dir).data
        with contextlib.suppress(DeepFMError):  # the run says what is wrong with them
            known[data_hash(data)] = are_published(split_name(name)[1], data_dir)
    out.mkdir(parents=True, exist_ok=True)
    (out / "files.json").write_text(json.dumps(known, indent=2) + "\n", encoding="utf-8")


def train_all(args: argparse.Namespace) -> int:
    """Do what is not done yet; how many runs failed, each said in one sentence."""
    there = available(args.data_dir)
    missing = [folder for key, folder in SETS.items() if key not in there]
    if missing:
        print(f"not in {args.data_dir}, so left out: {', '.join(missing)}", flush=True)
    try:
        wanted = list(jobs(args))
    except DeepFMError as error:
        raise SystemExit(f"bars.py: {error}") from None
    if not wanted:
        raise SystemExit(f"nothing to run: {args.data_dir} holds none of the data sets that --only leaves")
    one_of_each = {split_name(job.folder.parent.name)[1]: job.folder.parent.name for job in wanted}
    note_files(one_of_each.values(), args.data_dir, args.out)
    failed = 0
    for number, (folder, reason) in enumerate(run_all(wanted, args.workers), start=1):
        print(f"{number} of {len(wanted)}: {folder}{' failed' if reason else ''}", flush=True)
        if reason:
            failed += 1
            print(f"bars.py: {reason}", file=sys.stderr, flush=True)
    return failed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, default=Path("data/bars"))
    parser.add_argument("--only", nargs="+", help="configurations, or beginnings of their names")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=1, help="runs at once; each holds its data in memory")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of each run")
    parser.add_argument("--out", type=Path, default=Path("outputs/bars"))
    parser.add_argument("--report", type=Path, default=Path("outputs/bars/results.md"))
    parser.add_argument(
        "--override", nargs="+", default=[], metavar="KEY=VALUE", help="to try the command, with an --out of its own"
    )
    parser.add_argument("--table", action="store_true", help="train nothing")
    args = parser.parse_args()
    failed = 0 if args.table else train_all(args)
    text = table(args.out)
    args.report.parent.mkdir(parents=True, exist_ok=True)
    args.report.write_text(f"{HEADER}{text}\n", encoding="utf-8")
    print(text)
    if failed:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
