"""Training rows per second, evaluation and whole jobs: deepfm against its peers, in one run and in turns.

    make bench-peers                                        # once: the peers' environments, in .bench/
    python benchmarks/throughput.py                         # all workloads
    python benchmarks/throughput.py --workload b --turns 7 --contenders deepfm FuxiCTR "lean loop, fused table"
    python benchmarks/throughput.py --workload a --variant "deepfm, no clipping" training.gradient_clip_norm=null
    python benchmarks/throughput.py --quick                 # tiny sizes: does everything run and learn?

Each contender is a process in its own environment. All are started and warmed up, and then take turns (A B C A B C …)
while the others wait, so that the machine's moods hit all alike; ratios are taken turn by turn. The package's own data
come from DEEPFM_DATA_DIR or ../shared/datasets/ml-100k; Criteo-shaped data are generated. What is measured is in
`contenders/plans.py`. Exits with status 1 if a contender does not learn.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, TextIO

from contenders.plans import ROOT, WORKLOADS, Entry, Plan, prepare
from contenders.report import Measured, machine, table
from contenders.workload import Workload

CONTENDERS = Path(__file__).resolve().parent / "contenders"
JOB_TURNS = 3  # at most: a job is long, and its start is part of it


class Worker:
    """A contender's process, which works only when asked.

    Args:
        entry: the contender.
        folder: the workload's files; the process' log goes there.
        threads: the process' threads.
    """

    def __init__(self, entry: Entry, folder: Path, threads: int) -> None:
        self.entry, self.log = entry, folder / f"{_slug(entry.name)}.log"
        self.process, self._answers = start(command(entry, folder, threads), self.log, threads)

    def read(self) -> dict[str, Any]:
        """The next answer; ends the benchmark with the log's last lines where there is none."""
        line = self._answers.readline()
        if not line:
            raise SystemExit(f"{self.entry.name} ended: {_tail(self.log)}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def ask(self, what: str) -> dict[str, Any]:
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):  # it has died; reading says why
            self.process.stdin.write(f"{what}\n".encode())
            self.process.stdin.flush()
        return self.read()

    def stop(self) -> None:
        """Let it end by itself, or end it."""
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):
            self.process.stdin.close()
        try:
            self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._answers.close()


def start(line: list[str], log: Path, threads: int) -> tuple[subprocess.Popen[bytes], TextIO]:
    """A process with a stream for its answers; what it prints goes to the log."""
    reading, writing = os.pipe()
    line = [*line, "--answers", str(writing)]
    with log.open("wb") as out:
        process = subprocess.Popen(
            line, stdin=subprocess.PIPE, stdout=out, stderr=out, env=environment(threads), cwd=ROOT, pass_fds=[writing]
        )
    os.close(writing)
    return process, os.fdopen(reading, encoding="utf-8")


def command(entry: Entry, folder: Path, threads: int) -> list[str]:
    """How a contender's process is started."""
    line = [str(python(entry)), str(CONTENDERS / f"{entry.script}.py"), str(folder), "--threads", str(threads)]
    line += ["--predict", entry.predict] if entry.predict else []
    return line + (["--override", *entry.overrides] if entry.overrides else [])


def python(entry: Entry) -> Path:
    """The interpreter of a contender's environment."""
    path = ROOT / ".bench" / entry.environment / "bin" / "python" if entry.environment else Path(sys.executable)
    if not path.exists():
        raise SystemExit(f"{entry.name} has no environment at {path.parent.parent}; run `make bench-peers` first")
    return path


def environment(threads: int) -> dict[str, str]:
    """The environment of every contender: the same threads, and no progress bars."""
    return {**os.environ, "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads), "TQDM_DISABLE": "1"}


@contextmanager
def workers(entries: list[Entry], folder: Path, threads: int) -> Iterator[list[Worker]]:
    """The processes of some contenders, started one after another."""
    with ExitStack() as stack:
        started = []
        for entry in entries:
            worker = Worker(entry, folder, threads)
            stack.callback(worker.stop)
            started.append(worker)
        yield started


def run_turns(plan: Plan, entries: list[Entry], folder: Path, threads: int, turns: int) -> list[Measured]:
    """Warm every contender up, then let them take turns."""
    with workers(entries, folder, threads) as started:
        measured = []
        for worker in started:
            say(f"  starting {worker.entry.name}")
            about = worker.read()
            measured.append(Measured(worker.entry, about, worker.ask(plan.kind)))
        for turn in range(turns):
            for worker, one in zip(started, measured, strict=True):
                one.turns.append(worker.ask(plan.kind))
                say(f"  turn {turn + 1}/{turns} {worker.entry.name}: {one.turns[-1]['wall']:.2f} s")
    return measured


def run_jobs(entries: list[Entry], folder: Path, threads: int, turns: int) -> list[Measured]:
    """Let whole jobs take turns, each a new process that is timed from outside."""
    measured = [Measured(entry, {}) for entry in entries]
    for turn in range(turns):
        for one in measured:
            answer, seconds = run_job(one.entry, folder, threads, turn)
            one.about = answer.pop("about")
            one.turns.append({"rows": 1, **seconds, **answer})
            say(f"  turn {turn + 1}/{turns} {one.entry.name}: {one.turns[-1]['wall']:.2f} s")
    return measured


def run_job(entry: Entry, folder: Path, threads: int, turn: int) -> tuple[dict[str, Any], dict[str, float]]:
    """One job: what it says, and its wall and CPU seconds and peak memory."""
    run, log = folder / f"{_slug(entry.name)}-{turn}", folder / f"{_slug(entry.name)}.log"
    line = [*command(entry, folder, threads), "--job"] if entry.script else own_job(entry, folder, run)
    answers = folder / "answers"
    with log.open("wb") as out, answers.open("wb") as stream:
        line += ["--answers", str(stream.fileno())] if entry.script else []
        started = time.perf_counter()
        process = subprocess.Popen(
            line, stdout=out, stderr=out, env=environment(threads), cwd=ROOT, pass_fds=[stream.fileno()]
        )
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{entry.name} ended with status {process.returncode}: {_tail(log)}")
    unit = 1 if sys.platform == "darwin" else 1024
    seconds = {"wall": wall, "cpu": usage.ru_utime + usage.ru_stime, "peak": usage.ru_maxrss * unit}
    answer = json.loads(answers.read_text(encoding="utf-8")) if entry.script else own_answer(run)
    return answer, seconds


def own_job(entry: Entry, folder: Path, run: Path) -> list[str]:
    """`deepfm train` with the workload's sizes."""
    workload = Workload.read(folder)
    changes = [
        *workload.as_overrides(),
        f"training.num_epochs={workload.epochs}",
        f"data.data_dir={workload.raw_data}",
        "data.source=files",
        f"data.num_neg_eval={workload.num_candidates}",
        f"output_dir={run}",
        *entry.overrides,
    ]
    config = str(ROOT / "configs" / "deepfm_movielens.yaml")
    return [sys.executable, "-m", "deepfm", "train", "--config", config, "--override", *changes]


def own_answer(run: Path) -> dict[str, Any]:
    """What a run folder says, as a contender would."""
    results = json.loads((run / "results.json").read_text(encoding="utf-8"))
    history = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    about = {"versions": {"deepfm": results["env"]["deepfm"], "torch": results["env"]["torch"]}}
    return {"metrics": results["test"], "losses": [epoch["loss"] for epoch in history], "about": about}


def chosen(plan: Plan, args: argparse.Namespace) -> list[Entry]:
    """The contenders of a workload that this run measures.

    Raises:
        SystemExit: one of them has no environment.
    """
    entries = [e for e in plan.entries if e.name in args.contenders or (not args.contenders and not e.extra)]
    entries += [replace(plan.entries[0], name=name, overrides=tuple(changes)) for name, *changes in args.variant]
    for entry in entries:
        python(entry)
    return entries


def measure(plan: Plan, entries: list[Entry], args: argparse.Namespace, folder: Path) -> list[Measured]:
    """All contenders of a workload."""
    say(plan.title)
    prepare(plan, folder, args.quick, args.seed, args.epochs)
    if plan.kind == "job":
        return run_jobs(entries, folder, args.threads, min(args.turns, JOB_TURNS))
    return run_turns(plan, entries, folder, args.threads, args.turns)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workload", nargs="+", choices=WORKLOADS, default=list(WORKLOADS), metavar="LETTER")
    parser.add_argument("--contenders", nargs="+", default=[], metavar="NAME", help="only these; the first is compared")
    parser.add_argument(
        "--variant", nargs="+", action="append", default=[], metavar=("NAME", "KEY=VALUE"), help="deepfm, configured so"
    )
    parser.add_argument("--threads", type=int, default=2, help="of every contender")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=3, help="of the whole job (e)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="tiny sizes: a test of the benchmark, not a measurement")
    parser.add_argument("--json", type=Path, metavar="FILE", help="everything that was measured")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="the tables")
    args = parser.parse_args()
    plans = [(plan, chosen(plan, args)) for letter in args.workload for plan in WORKLOADS[letter]]
    known = {entry.name for letter in args.workload for plan in WORKLOADS[letter] for entry in plan.entries}
    if unknown := set(args.contenders) - known:
        parser.error(f"no contender {min(unknown)!r}; known: {'; '.join(sorted(known))}")
    where = machine(args.threads, os.getloadavg())
    options = {key: value for key, value in vars(args).items() if not isinstance(value, Path)}
    texts, raw, learned = [where + "\n"], [], True
    print(texts[0])
    with tempfile.TemporaryDirectory(prefix="deepfm-bench-") as folder:
        for number, (plan, entries) in enumerate(plans):
            if not entries:
                continue
            measured = measure(plan, entries, args, Path(folder) / str(number))
            texts.append(table(plan, measured))
            raw.append({"workload": plan.title, "contenders": [asdict(one) for one in measured]})
            learned = learned and all(one.learned() for one in measured)
            print(texts[-1], flush=True)
            if args.markdown:
                args.markdown.write_text("\n".join(texts), encoding="utf-8")
            if args.json:
                everything = {"machine": where, "options": options, "workloads": raw}
                args.json.write_text(json.dumps(everything, indent=1), encoding="utf-8")
    return 0 if learned else 1


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _slug(name: str) -> str:
    return "".join(letter if letter.isalnum() else "-" for letter in name)


def _tail(log: Path) -> str:
    return "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-15:])


if __name__ == "__main__":
    sys.exit(main())
