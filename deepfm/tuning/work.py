"""The work of a study: trials one after another, in this process or in several that share its storage."""

import contextlib
import multiprocessing
import os
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import optuna
import torch
from optuna.trial import TrialState

from deepfm.errors import DeepFMError, TrainingError
from deepfm.tuning.sampling import make_pruner, make_sampler, suggest_values
from deepfm.tuning.settings import StudySettings, require_optuna
from deepfm.tuning.space import Space, flat_settings, with_values
from deepfm.tuning.study import Identity, claim, next_combination, next_slot, open_study, storage_errors
from deepfm.tuning.subject import Subject
from deepfm.tuning.trial import Shelf, run_trial
from deepfm.utils.logging import configure_console, get_logger

log = get_logger(__name__)
FAILURES = (DeepFMError, torch.OutOfMemoryError, MemoryError)  # of a trial; anything else is a fault of the program
LONGEST_SENTENCE = 500
LAST_WORDS_SECONDS = 30  # that a process has to note its interrupted trial


@dataclass(frozen=True)
class Work:
    """What a process needs to know to work on a study.

    Args:
        subject: what is tuned.
        config: what stays; the space's settings are changed trial by trial.
        deadline: the time, as `time.time` gives it, after which no trial starts.
    """

    url: str
    name: str
    identity: Identity
    subject: Subject
    config: Any
    space: Space
    settings: StudySettings
    deadline: float | None = None
    quiet: bool = False

    @property
    def base(self) -> Mapping[str, Any]:
        """The settings that stay, by their dotted names."""
        return flat_settings(self.config)

    @property
    def epochs(self) -> int:
        """The most that a trial has."""
        name = self.subject.rules.epochs
        varied = next((one for one in self.space.parameters if one.name == name), None)
        if varied is None:
            return int(flat_settings(self.config)[name])
        return int(max(varied.choices) if varied.choices is not None else varied.high or 1)

    def open_study(self) -> optuna.Study:
        """The study, with its pruner."""
        return open_study(self.url, self.name, self.identity, make_pruner(self.settings, self.epochs))


def run_trials(
    work: Work,
    shelf: Shelf,
    turn: AbstractContextManager[Any] | None = None,
    interrupted: Callable[[], bool] = lambda: False,
) -> None:
    """Do trials until the study has as many as it should, or the time is up.

    Args:
        turn: held while a trial gets its slot, so that no two processes take the same one.
        interrupted: whether the work is to stop.

    Raises:
        RunError: the storage fails.
        KeyboardInterrupt: the work was stopped; the trial under way is not counted.
    """
    study, base = work.open_study(), work.base
    grid = work.space.grid(base) if work.settings.sampler == "grid" else []
    with storage_errors(work.url):
        while not interrupted() and (work.deadline is None or time.time() < work.deadline):
            with turn or nullcontext():
                slot = next_slot(study, work.settings.trials)
                combination = next_combination(study, grid, work.space)
                if slot is None or (grid and combination is None):
                    return
                values = None if combination is None else grid[combination]
                study.sampler = make_sampler(work.settings, slot, work.space, base, values)
                trial = study.ask()
                claim(trial, slot, combination)
            _run_and_tell(study, trial, work, base, shelf, interrupted)


def run_in_processes(work: Work) -> None:
    """Do the trials in several new processes, each with its share of the threads.

    Raises:
        TrainingError: a process came to an unexpected end; its reason stands above.
        KeyboardInterrupt: after each process has noted that its trial was interrupted.
    """
    context = multiprocessing.get_context("spawn")
    turn, stop = context.Lock(), context.Event()
    sentences = context.SimpleQueue()
    threads = max(1, torch.get_num_threads() // work.settings.jobs)
    processes = [
        context.Process(target=_work_in_process, args=(work, turn, stop, sentences, threads), daemon=True)
        for _ in range(work.settings.jobs)
    ]
    try:
        for process in processes:
            process.start()
        for process in processes:
            process.join()
    except KeyboardInterrupt:
        stop.set()
        for process in processes:
            if process.pid is not None:
                process.join(LAST_WORDS_SECONDS)
        raise
    if any(process.exitcode for process in processes):
        reason = sentences.get() if not sentences.empty() else "its message stands above"
        raise TrainingError(f"a process of the study ended early: {reason}")


def _work_in_process(work: Work, turn: Any, stop: Any, sentences: Any, threads: int) -> None:
    """The life of one process; Ctrl-C reaches it through the one that started it."""
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    configure_console(quiet=work.quiet)
    require_optuna()
    torch.set_num_threads(threads)
    parent = multiprocessing.parent_process()

    def interrupted() -> bool:
        return bool(stop.is_set() or (parent is not None and os.getppid() != parent.pid))

    try:
        run_trials(work, work.subject.shelf(), turn, interrupted)
    except KeyboardInterrupt:
        return
    except DeepFMError as error:
        sentences.put(str(error))
        raise SystemExit(1) from error


def _run_and_tell(
    study: optuna.Study,
    trial: optuna.Trial,
    work: Work,
    base: Mapping[str, Any],
    shelf: Shelf,
    interrupted: Callable[[], bool],
) -> None:
    """Run a trial and store how it ended; a failed one does not end the study."""
    started = time.perf_counter()

    def tell(state: TrialState, value: float | None = None, error: BaseException | None = None) -> None:
        trial.set_user_attr("seconds", round(time.perf_counter() - started, 3))
        if error is not None:
            trial.set_user_attr("error", " ".join(str(error).split())[:LONGEST_SENTENCE] or type(error).__name__)
        study.tell(trial, value, state=state)

    try:
        value = run_trial(trial, with_values(work.config, suggest_values(trial, work.space, base)), shelf, interrupted)
    except optuna.TrialPruned:
        tell(TrialState.PRUNED)
    except FAILURES as error:
        tell(TrialState.FAIL, error=error)
    except BaseException:
        with contextlib.suppress(Exception):
            study.tell(trial, state=TrialState.FAIL)
        raise
    else:
        tell(TrialState.COMPLETE, value)
    _log_trial(study, trial.number)


def _log_trial(study: optuna.Study, number: int) -> None:
    trial = study.get_trials(deepcopy=False)[number]
    ended = {TrialState.COMPLETE: "finished", TrialState.PRUNED: "pruned", TrialState.FAIL: "failed"}[trial.state]
    value = "" if trial.value is None else f" {trial.value:.4f}"
    log.info(
        "trial %d %s%s after %d epochs, %.0f s: %s",
        number, ended, value, len(trial.intermediate_values), trial.user_attrs["seconds"],
        trial.user_attrs.get("error") or ", ".join(f"{name}={value}" for name, value in trial.params.items()),
    )  # fmt: skip
