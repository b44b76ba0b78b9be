"""A whole tuning: check, search on the validation split, train the winner, and only then look at the test split."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import optuna
import yaml

from deepfm.engine.loop import Observer
from deepfm.engine.run import RunFolder, environment
from deepfm.engine.settings import settings_to_dict
from deepfm.errors import RunError, TrainingError
from deepfm.reporting import write_html
from deepfm.tuning.clicks import ClickModels
from deepfm.tuning.report import build_study_report
from deepfm.tuning.results import StudyResults, TrialRecord, read_results
from deepfm.tuning.sampling import values_of
from deepfm.tuning.settings import StudySettings
from deepfm.tuning.space import Space, flat_settings, with_values
from deepfm.tuning.study import identity_of, same_settings, shown_url
from deepfm.tuning.subject import Subject
from deepfm.tuning.trial import Shelf
from deepfm.tuning.work import Work, run_in_processes, run_trials
from deepfm.utils.io import cannot_write, read_json, write_json, write_text
from deepfm.utils.logging import get_logger

log = get_logger(__name__)


class StudyFolder:
    """Where a study's files are.

    Args:
        path: the folder, which may not exist yet.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.storage = self.path / "study.db"
        self.results = self.path / "study.json"
        self.report = self.path / "report.html"
        self.best = self.path / "best.yaml"

    def __repr__(self) -> str:
        return f"StudyFolder({str(self.path)!r})"

    @property
    def url(self) -> str:
        """The storage that a study has where no other is named."""
        return f"sqlite:///{self.storage}"

    def run_of(self, trial: TrialRecord) -> RunFolder:
        """The run of a trial that won."""
        return RunFolder(self.path / f"trial-{trial.number:04d}")

    def create(self, study: str) -> "StudyFolder":
        """Make the folder.

        Raises:
            RunError: it cannot be written, or holds another study's results.
        """
        if self.results.exists():
            other = read_json(self.results, "study file").get("name")
            if other != study:
                raise RunError(f"{self.path} holds study {other!r}; choose another --output for {study!r}")
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise cannot_write(self.path, error) from error
        return self


@dataclass(frozen=True)
class Tuning:
    """What is tuned, and where its files go.

    Args:
        config: the settings that stay, and where the search begins; its metric judges the trials.
        subject: the kind of experiment.
        study: the study's name in its storage.
        storage: an address as SQLAlchemy has it; None for an SQLite file in the folder.
    """

    config: Any
    space: Space
    settings: StudySettings
    study: str
    folder: StudyFolder
    storage: str | None = None
    subject: Subject = field(default_factory=ClickModels)

    @property
    def url(self) -> str:
        """The storage's address."""
        return self.storage or self.folder.url


def set_up_study(tuning: Tuning) -> str:
    """Make the study, or make sure that it is the one described; its storage's address, without a password.

    Raises:
        DeepFMError: as `tune_experiment`.
    """
    _prepare(tuning, tuning.subject.shelf())
    return shown_url(tuning.url)


def tune_experiment(tuning: Tuning, observers: Sequence[Observer] = (), *, quiet: bool = False) -> StudyResults:
    """Search, train the winner into a run folder, and write `study.json`, `report.html` and `best.yaml`.

    Trials are judged on the validation split. The test split is scored once, by the winner's own run.

    Args:
        observers: watch the winner's training.
        quiet: whether further processes print warnings only.

    Raises:
        DeepFMError: anything that is wrong with settings, space, data or storage, before the first trial; or that no
            trial finished.
        KeyboardInterrupt: finished trials are kept, and the same call goes on.
    """
    results = _search(tuning, quiet)
    if results.best is None:
        _write(tuning, results, "")
        raise TrainingError(_no_winner(tuning.study, results))
    tried = results.counts["finished"] + results.counts["pruned"]
    config = tuning.subject.winner(best_config(tuning, results.best), tried)
    best_yaml = yaml.safe_dump(settings_to_dict(config), sort_keys=False)
    write_text(tuning.folder.best, best_yaml)
    _write(tuning, results, best_yaml)
    results = replace(results, winner=_train_winner(tuning, results.best, config, observers))
    _write(tuning, results, best_yaml)
    return results


def best_config(tuning: Tuning, trial: TrialRecord) -> Any:
    """The configuration of a trial, as the training command takes it."""
    return replace(with_values(tuning.config, values_of(trial.params, tuning.space)), output_dir=None)


def _search(tuning: Tuning, quiet: bool) -> StudyResults:
    shelf = tuning.subject.shelf()
    work, study = _prepare(tuning, shelf)
    try:
        if tuning.settings.jobs == 1:
            run_trials(work, shelf)
        else:
            del shelf  # each process reads its own
            run_in_processes(replace(work, quiet=quiet))
    except KeyboardInterrupt as error:
        counts = _results(tuning, work, study).counts
        kept = counts["finished"] + counts["pruned"] + counts["failed"]
        raise KeyboardInterrupt(
            f"interrupted; {kept} trial{'s are' if kept != 1 else ' is'} kept in {shown_url(tuning.url)}, and the same "
            "command goes on"
        ) from error
    return _results(tuning, work, study)


def _prepare(tuning: Tuning, shelf: Shelf) -> tuple[Work, optuna.Study]:
    """Find what would stop every trial, then make the study."""
    tuning.subject.check(tuning.config)
    if tuning.settings.sampler == "grid":
        tuning.space.grid(flat_settings(tuning.config))
    info, rules = shelf.open(tuning.config), tuning.subject.rules
    tuning.folder.create(tuning.study)
    identity = identity_of(tuning.config, tuning.space, info, rules)
    deadline = None if tuning.settings.timeout is None else time.time() + tuning.settings.timeout
    work = Work(
        tuning.url, tuning.study, identity, tuning.subject, tuning.config, tuning.space, tuning.settings, deadline
    )
    return work, work.open_study()


def _results(tuning: Tuning, work: Work, study: optuna.Study) -> StudyResults:
    settings = tuning.settings
    about: dict[str, Any] = {
        "name": tuning.study,
        "storage": shown_url(tuning.url),
        "sampler": settings.sampler,
        "pruner": settings.pruner,
        "seed": settings.seed,
        "jobs": settings.jobs,
        "model": tuning.subject.model(tuning.config),
        "data": work.identity.data,
        "space": tuning.space.to_dict(),
        "space_source": tuning.space.source,
        "env": environment(tuning.config.device),
    }
    return read_results(study, work.identity.metric, about)


def _train_winner(tuning: Tuning, trial: TrialRecord, config: Any, observers: Sequence[Observer]) -> dict[str, Any]:
    """The winner's run: trained, resumed where it was interrupted, or read where it is finished."""
    run = tuning.folder.run_of(trial)
    subject = tuning.subject
    known = run.config.exists() and same_settings(subject.run_config(run), config, subject.rules)
    try:
        if known and run.finished:
            found = run.read_results()
        elif known and run.checkpoint.exists():
            found = subject.resume(run, observers)
        else:
            log.info("training the best configuration, trial %d, to its test metrics", trial.number)
            found = subject.train(config, run, observers)
    except KeyboardInterrupt as error:
        raise KeyboardInterrupt(
            "interrupted while the winner was trained; the study is kept, and the same command goes on"
        ) from error
    return {"run": str(run.path), "trial": trial.number, **found}


def _write(tuning: Tuning, results: StudyResults, best_yaml: str) -> None:
    space = {parameter.name: str(parameter) for parameter in tuning.space.parameters}
    write_html(build_study_report(results, space, best_yaml), tuning.folder.report)
    write_json(tuning.folder.results, results.to_dict())


def _no_winner(name: str, results: StudyResults) -> str:
    failed = [trial.error for trial in results.trials if trial.error]
    if failed:
        return f"no trial of study {name!r} finished; {len(failed)} failed, the first as: {failed[0]}"
    return f"no trial of study {name!r} finished in the time; give it more (--timeout) or fewer epochs"
