"""What every contender's process shares: the workload's files, the commands on stdin and the clock.

A contender's script subclasses `Contender` and calls `main`. The process builds everything, says one line of JSON
(versions, parameters), and then answers each line of stdin with one line of JSON: `train` makes one pass over the
training rows, `predict` scores and measures the candidates. It works only while it is asked to, so that contenders
can take turns. This file runs in every peer's environment: standard library, numpy and torch.
"""

import argparse
import json
import os
import platform
import resource
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from ranking import metrics_of_rows, metrics_of_users, rank_of_positive
from torch import nn
from workload import Rows, Workload


class Contender(ABC):
    """One way of training a model and of scoring rows.

    Args:
        workload: sizes and options.
        overrides: `key=value` of a variant; `model` replaces the workload's.

    Attributes:
        distribution: the package whose version is told.
        model: what is trained.
        slow: whether a turn has `slow_rows` only.
    """

    distribution = "torch"
    model: nn.Module
    slow = False

    def __init__(self, workload: Workload, overrides: dict[str, str]) -> None:
        self.workload, self.overrides = workload, overrides

    @abstractmethod
    def load(self, rows: Rows, shuffle: bool) -> Any:
        """What the contender's own loop takes rows in; not timed in a turn, timed in a whole job."""

    @abstractmethod
    def train(self, data: Any) -> float | None:
        """One pass over loaded rows; the mean loss, or None for a contender that does not learn."""

    def score(self, data: Any) -> NDArray[Any]:
        """Scores `(N,)` of loaded rows, in order."""
        raise NotImplementedError

    def score_user(self, rows: Rows) -> NDArray[Any]:
        """Scores of one user's rows."""
        return self.score(self.load(rows, shuffle=False))

    def num_parameters(self) -> int:
        return sum(weight.numel() for weight in self.model.parameters() if weight.requires_grad)


class Channel:
    """The parent's commands on stdin, and the answers to them on a stream of their own, as libraries print to stdout.

    Args:
        answers: the stream's file descriptor.
    """

    def __init__(self, answers: int) -> None:
        self._answers = os.fdopen(answers, "w", encoding="utf-8")

    def answer(self, content: dict[str, Any]) -> None:
        self._answers.write(json.dumps(content) + "\n")
        self._answers.flush()

    def commands(self) -> Iterator[str]:
        for line in sys.stdin:
            yield line.strip()


class Clock:
    """Wall and CPU seconds (of all threads) since it was made."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def read(self) -> dict[str, float]:
        return {"wall": time.perf_counter() - self._wall, "cpu": time.process_time() - self._cpu}


def peak_bytes() -> int:
    """The largest resident size of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def greeting(distribution: str, parameters: int) -> dict[str, Any]:
    """The first line that a worker says."""
    versions = {name: metadata.version(name) for name in dict.fromkeys([distribution, "torch"])}
    return {"versions": versions, "python": platform.python_version(), "parameters": parameters}


def evaluate(score: Callable[[], NDArray[Any]], candidates: Rows) -> dict[str, float]:
    """Metrics of all candidates scored at once, vectorised."""
    assert candidates.offsets is not None
    return metrics_of_rows(score(), candidates.labels, candidates.offsets)


def evaluate_per_user(score_user: Callable[[int, int], NDArray[Any]], candidates: Rows) -> dict[str, float]:
    """The same metrics by a loop over the users, who are scored one after another."""
    assert candidates.offsets is not None
    ranks, everything = [], []
    for start, end in zip(candidates.offsets[:-1].tolist(), candidates.offsets[1:].tolist(), strict=True):
        scores = score_user(start, end).tolist()
        ranks.append(rank_of_positive(scores, candidates.labels[start:end].tolist()))
        everything.extend(scores)
    return metrics_of_users(ranks, everything, candidates.labels)


def arguments() -> argparse.Namespace:
    """What the parent tells a worker at its start."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path, help="workload.json, train.npz and, for `predict`, candidates.npz")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--answers", type=int, default=1, metavar="FD", help="where answers go; stdout by default")
    parser.add_argument("--override", nargs="*", default=[], metavar="KEY=VALUE")
    parser.add_argument("--predict", choices=("bulk", "per-user"), help="train once at the start, then answer predict")
    parser.add_argument("--job", action="store_true", help="do the whole job, say its metrics and end")
    return parser.parse_args()


def main(make: type[Contender]) -> None:
    """Be the worker of a contender."""
    args = arguments()
    channel = Channel(args.answers)
    torch.set_num_threads(args.threads)
    overrides = dict(item.split("=", 1) for item in args.override)
    workload = Workload.read(args.folder)
    workload = replace(workload, model=overrides.get("model", workload.model))
    torch.manual_seed(workload.seed)
    np.random.seed(workload.seed)  # noqa: NPY002, some peers shuffle with it
    if args.job:
        from job import run_job

        answer = run_job(lambda sized: make(sized, overrides), workload)
        channel.answer({"about": greeting(make.distribution, answer.pop("parameters")), **answer})
        return
    contender = make(workload, overrides)
    rows = Rows.read(args.folder / "train.npz", workload.fields, workload.slow_rows if make.slow else None)
    data = contender.load(rows, shuffle=True)
    work = _predictions(contender, data, args) if args.predict else _passes(contender, data, len(rows.labels))
    channel.answer(greeting(make.distribution, contender.num_parameters()))
    for command in channel.commands():
        if command == "quit":
            break
        channel.answer(work())


def _passes(contender: Contender, data: Any, rows: int) -> Callable[[], dict[str, Any]]:
    def work() -> dict[str, Any]:
        clock = Clock()
        loss = contender.train(data)
        return {"rows": rows, **clock.read(), "loss": loss, "peak": peak_bytes()}

    return work


def _predictions(contender: Contender, data: Any, args: argparse.Namespace) -> Callable[[], dict[str, Any]]:
    candidates = Rows.read(args.folder / "candidates.npz", contender.workload.fields)
    contender.train(data)
    loaded = contender.load(candidates, shuffle=False) if args.predict == "bulk" else None

    def work() -> dict[str, Any]:
        clock = Clock()
        if args.predict == "bulk":
            metrics = evaluate(lambda: contender.score(loaded), candidates)
        else:
            metrics = evaluate_per_user(
                lambda start, end: contender.score_user(candidates.part(start, end)), candidates
            )
        return {"rows": len(candidates.labels), **clock.read(), "metrics": metrics, "peak": peak_bytes()}

    return work
