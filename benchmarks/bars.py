"""Train BARS' published settings on its own files and print our test metrics beside the published ones.

    python benchmarks/bars.py --data-dir data/bars                  # whatever is there, five seeds, then the table
    python benchmarks/bars.py --data-dir data/bars --only deepfm_frappe_x1 --seeds 1
    python benchmarks/bars.py --table                               # the table of what is there

`--data-dir` holds `Frappe_x1`, `MovielensLatest_x1` and `Criteo_x1`, each with the `train.csv`, `valid.csv` and
`test.csv` that BARS publishes; what is missing is left out. Each run is a folder below `--out`: a finished one is not
trained again, an interrupted one is resumed. The table goes to `--report`. Published numbers are those of
reczoo/BARS at 1ffaf73 and bc97da0 (`ranking/ctr/*/*/README.md`), all on the test split.
"""

import argparse
import hashlib
import json
import os
import platform
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
FIRST_SEED = 2021
PARTS = ("train", "valid", "test")
SETS = {"frappe_x1": "Frappe_x1", "movielenslatest_x1": "MovielensLatest_x1", "criteo_x1": "Criteo_x1"}
MODELS = {"deepfm": "DeepFM", "xdeepfm": "xDeepFM", "autoint": "AutoInt+", "final_mlp": "FinalMLP"}
MD5 = {
    "frappe_x1": (
        "ba7306e6c4fc19dd2cd84f2f0596d158",
        "88d51bf2173505436d3a8f78f2a59da8",
        "3470f6d32713dc5f7715f198ca7c612a",
    ),
    "movielenslatest_x1": (
        "efc8bceeaa0e895d566470fc99f3f271",
        "e1930223a5026e910ed5a48687de8af1",
        "54e8c6baff2e059fe067fb9b69e692d0",
    ),
    "criteo_x1": (
        "30b89c1c7213013b92df52ec44f52dc5",
        "f73c71fb3c4f66b6ebdfa032646bea72",
        "2c48b26e84c04a69b948082edae46f8c",
    ),
}


@dataclass(frozen=True)
class Published:
    """What BARS says of one configuration: parameters, and test AUC and log loss of each of its runs."""

    parameters: int
    auc: tuple[float, ...]
    logloss: tuple[float, ...]


PUBLISHED = {
    "deepfm_frappe_x1": Published(
        423_280,
        (0.984243, 0.983888, 0.983816, 0.983981, 0.983806),
        (0.148174, 0.150042, 0.149387, 0.147299, 0.152410),
    ),
    "xdeepfm_frappe_x1": Published(
        429_809,
        (0.984507, 0.984446, 0.983468, 0.984208, 0.984059),
        (0.146604, 0.143949, 0.149751, 0.146196, 0.144127),
    ),
    "autoint_frappe_x1": Published(622_180, (0.984812,), (0.149007,)),
    "final_mlp_frappe_x1": Published(253_392, (0.986072,), (0.148415,)),
    "deepfm_movielenslatest_x1": Published(
        1_328_630,
        (0.968515, 0.968224, 0.968233, 0.968092, 0.968050),
        (0.213002, 0.215447, 0.214846, 0.214043, 0.211613),
    ),
    "xdeepfm_movielenslatest_x1": Published(
        1_351_767,
        (0.969674, 0.966895, 0.968227, 0.967941, 0.967755),
        (0.240939, 0.224186, 0.228974, 0.228906, 0.227535),
    ),
    "autoint_movielenslatest_x1": Published(1_383_799, (0.969188,), (0.214772,)),
    "final_mlp_movielenslatest_x1": Published(1_040_902, (0.971968,), (0.196645,)),
    "deepfm_criteo_x1": Published(
        23_429_477,
        (0.813666, 0.813822, 0.813899, 0.813869, 0.813806),
        (0.438147, 0.438006, 0.438007, 0.438005, 0.438002),
    ),
    "xdeepfm_criteo_x1": Published(
        23_461_462,
        (0.813901, 0.813682, 0.813670, 0.813826, 0.813861),
        (0.438018, 0.438202, 0.438280, 0.438003, 0.437991),
    ),
    "autoint_criteo_x1": Published(23_844_454, (0.813939,), (0.437892,)),
    "final_mlp_criteo_x1": Published(22_478_162, (0.814902,), (0.437025,)),
}


def split_name(name: str) -> tuple[str, str]:
    """`final_mlp_frappe_x1` → `final_mlp`, `frappe_x1`."""
    data_set = next(one for one in SETS if name.endswith(one))
    return name.removesuffix(f"_{data_set}"), data_set


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


def run_one(folder: Path, name: str, data_dir: Path, seed: int, overrides: list[str], threads: int) -> Path:
    """Train or resume one run."""
    import torch

    from deepfm.config import load_config
    from deepfm.engine.run import RunFolder
    from deepfm.training.experiment import resume_experiment, train_experiment
    from deepfm.utils.logging import configure_console

    torch.set_num_threads(threads)
    configure_console(quiet=True)
    run = RunFolder(folder)
    if run.finished:
        return folder
    if run.checkpoint.exists():
        resume_experiment(run)
        return folder
    _, data_set = split_name(name)
    schema = ROOT / "configs" / "bars" / "schemas" / Path(config_of(name).data.table_schema or "").name
    own = [f"data.data_dir={data_dir / SETS[data_set]}", f"data.table_schema={schema}", f"seed={seed}"]
    train_experiment(load_config(ROOT / "configs" / "bars" / f"{name}.yaml", [*own, *overrides]), run, overwrite=True)
    return folder


def config_of(name: str) -> Any:
    from deepfm.config import load_config

    return load_config(ROOT / "configs" / "bars" / f"{name}.yaml")


def finished(out: Path, name: str) -> list[tuple[Path, dict[str, Any]]]:
    from deepfm.engine.run import RunFolder

    folders = sorted((out / name).glob("s*"))
    return [(folder, RunFolder(folder).read_results()) for folder in folders if RunFolder(folder).finished]


def parameters_of(folder: Path) -> int:
    """The parameters of a run's model, built from its folder."""
    import torch

    from deepfm.data.schema import DatasetSchema
    from deepfm.engine.run import RunFolder
    from deepfm.models import create_model
    from deepfm.training.experiment import run_config

    run = RunFolder(folder)
    config = run_config(run)
    with torch.device("meta"):
        model = create_model(config.model_name, DatasetSchema.load(run.schema), config)
    return sum(weight.numel() for weight in model.parameters())


def spread(values: Any) -> str:
    """Mean ± standard deviation, or the one value."""
    return f"{mean(values):.5f}" + (f" ± {stdev(values):.5f}" if len(values) > 1 else "")


def table(out: Path) -> str:
    """Ours beside the published, in Markdown."""
    from deepfm.reporting import Column, Table

    columns = [
        Column("data set"), Column("model"),
        Column("parameters", format=",d"), Column("published parameters", format=",d"),
        Column("seeds", format="d"), Column("AUC"), Column("published AUC"), Column("difference", format="+.5f"),
        Column("log loss"), Column("published log loss"),
        Column("epochs", format=".0f"), Column("seconds", format=".0f"), Column("files as published"),
    ]  # fmt: skip
    place = out / "files.json"
    known = json.loads(place.read_text(encoding="utf-8")) if place.exists() else {}
    rows = []
    for name, published in PUBLISHED.items():
        runs = finished(out, name)
        if not runs:
            continue
        model, data_set = split_name(name)
        auc, logloss = ([results["test"][metric] for _, results in runs] for metric in ("auc", "logloss"))
        rows.append(
            [
                SETS[data_set], MODELS[model], parameters_of(runs[0][0]), published.parameters, len(runs),
                spread(auc), spread(published.auc), mean(auc) - mean(published.auc),
                spread(logloss), spread(published.logloss),
                mean(results["epochs"] for _, results in runs), mean(results["seconds"] for _, results in runs),
                known.get(data_set),
            ]
        )  # fmt: skip
    return Table(columns, rows, best=False).to_markdown()


HEADER = """# BARS' settings, run here

Written by `benchmarks/bars.py`; docs/bars.md says what the settings are. Test metrics of the epoch that is best on
validation, mean ± standard deviation over seeds; where BARS published one run, that run. `difference` is our mean AUC
minus theirs. Only rows whose files are as published compare.

"""


def jobs(args: argparse.Namespace) -> Iterator[tuple[Path, str, Path, int, list[str], int]]:
    there = available(args.data_dir)
    names = [name for name in PUBLISHED if split_name(name)[1] in there]
    names = [name for name in names if not args.only or name.startswith(tuple(args.only))]
    for number in range(args.seeds):
        for name in names:
            seed = FIRST_SEED + number
            yield args.out / name / f"s{seed}", name, args.data_dir, seed, args.override, args.threads


def run_all(wanted: list[Any], workers: int) -> Iterator[Path]:
    """The folders of all runs, as they are done; one worker is this process."""
    if workers == 1:
        for job in wanted:
            yield run_one(*job)
        return
    with ProcessPoolExecutor(workers) as pool:
        for future in as_completed([pool.submit(run_one, *job) for job in wanted]):
            yield future.result()


def note_files(data_sets: list[str], data_dir: Path, out: Path) -> None:
    """Write which data sets' files are as published, so that the table can say so when they are gone."""
    place = out / "files.json"
    known = json.loads(place.read_text(encoding="utf-8")) if place.exists() else {}
    out.mkdir(parents=True, exist_ok=True)
    known |= {data_set: are_published(data_set, data_dir) for data_set in data_sets}
    place.write_text(json.dumps(known, indent=2) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, default=Path("data/bars"))
    parser.add_argument("--only", nargs="+", help="configurations, or beginnings of their names")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=1, help="runs at once; each holds its data in memory")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of each run")
    parser.add_argument("--out", type=Path, default=Path("outputs/bars"))
    parser.add_argument("--report", type=Path, default=Path("outputs/bars/results.md"))
    parser.add_argument("--override", nargs="+", default=[], metavar="KEY=VALUE", help="to try the command; no results")
    parser.add_argument("--table", action="store_true", help="train nothing")
    args = parser.parse_args()
    if not args.table:
        wanted = list(jobs(args))
        missing = [folder for key, folder in SETS.items() if key not in available(args.data_dir)]
        if missing:
            print(f"not in {args.data_dir}, so left out: {', '.join(missing)}", flush=True)
        if not wanted:
            raise SystemExit(f"nothing to run: {args.data_dir} holds none of the data sets that --only leaves")
        note_files(sorted({split_name(job[1])[1] for job in wanted}), args.data_dir, args.out)
        for number, folder in enumerate(run_all(wanted, args.workers), start=1):
            print(f"{number} of {len(wanted)}: {folder}", flush=True)
    import torch

    text = table(args.out)
    machine = f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}"
    changed = f" Settings changed: {', '.join(args.override)}." if args.override else ""
    args.report.parent.mkdir(parents=True, exist_ok=True)
    args.report.write_text(f"{HEADER}{text}\n\nMachine: {machine}.{changed}\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
