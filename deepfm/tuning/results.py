"""What a study found, as plain values: for its report, its JSON and the terminal."""

import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.trial import FrozenTrial, TrialState

from deepfm.tuning.study import is_counted

STUDY_VERSION = 1
FEWEST_FOR_IMPORTANCES = 5  # finished trials; fewer say nothing of what mattered
STATES = ("finished", "pruned", "failed", "interrupted", "running")


@dataclass(frozen=True)
class TrialRecord:
    """One trial.

    Args:
        state: one of `STATES`; an interrupted one is not counted, and another takes its place.
        value: the validation metric of its best epoch; of a pruned one, of what it had seen.
        params: by the settings' dotted names; lists are text.
        curve: epoch → validation metric.
        validation: all metrics of the best epoch.
        error: why it failed.
    """

    number: int
    state: str
    value: float | None
    params: dict[str, Any]
    curve: dict[int, float]
    best_epoch: int | None = None
    seconds: float | None = None
    validation: dict[str, float] = field(default_factory=dict)
    error: str | None = None


@dataclass(frozen=True)
class StudyResults:
    """A study as it stands.

    Args:
        metric: what trials are judged by, on the validation split.
        maximize: whether more of it is better.
        importances: setting → its share of what moved the metric, the largest first; None where `importances_note`
            says why there are none.
        about: name, storage, settings, space and data.
        winner: the run of the best trial, with its validation and test metrics; None before it is trained.
    """

    metric: str
    maximize: bool
    trials: tuple[TrialRecord, ...]
    importances: dict[str, float] | None
    importances_note: str
    about: Mapping[str, Any]
    winner: Mapping[str, Any] | None = None

    @property
    def best(self) -> TrialRecord | None:
        """The finished trial with the best value, the first of equals."""
        finished = [trial for trial in self.trials if trial.state == "finished" and trial.value is not None]
        sign = -1 if self.maximize else 1
        return min(finished, key=lambda trial: (sign * (trial.value or 0.0), trial.number), default=None)

    @property
    def counts(self) -> dict[str, int]:
        """How many trials are in each state."""
        return {state: sum(trial.state == state for trial in self.trials) for state in STATES}

    def to_dict(self) -> dict[str, Any]:
        """What `study.json` holds."""
        best = self.best
        return {
            "version": STUDY_VERSION,
            "kind": "study",
            **self.about,
            "metric": self.metric,
            "direction": "maximize" if self.maximize else "minimize",
            "counts": self.counts,
            "best": None if best is None else asdict(best),
            "winner": self.winner,
            "importances": self.importances,
            "importances_note": self.importances_note or None,
            "trials": [asdict(trial) for trial in self.trials],
        }


def read_results(study: optuna.Study, metric: str, about: Mapping[str, Any]) -> StudyResults:
    """The results of a study as its storage holds them."""
    trials = tuple(_record(trial) for trial in study.get_trials(deepcopy=False))
    importances, note = _importances(study, trials)
    maximize = study.direction is optuna.study.StudyDirection.MAXIMIZE
    return StudyResults(metric, maximize, trials, importances, note, about)


def _record(trial: FrozenTrial) -> TrialRecord:
    state = {
        TrialState.COMPLETE: "finished",
        TrialState.PRUNED: "pruned",
        TrialState.FAIL: "failed" if is_counted(trial) else "interrupted",
    }.get(trial.state, "running")
    attributes = trial.user_attrs
    return TrialRecord(
        trial.number,
        state,
        trial.value if state in ("finished", "pruned") else None,
        dict(trial.params),
        dict(sorted(trial.intermediate_values.items())),
        attributes.get("best_epoch"),
        attributes.get("seconds"),
        attributes.get("validation", {}),
        attributes.get("error"),
    )


def _importances(study: optuna.Study, trials: tuple[TrialRecord, ...]) -> tuple[dict[str, float] | None, str]:
    values = [trial.value for trial in trials if trial.state == "finished"]
    if len(values) < FEWEST_FOR_IMPORTANCES:
        return None, (
            f"Importances need {FEWEST_FOR_IMPORTANCES} finished trials, and there are {len(values)}; pruned ones do "
            "not count."
        )
    if len(set(values)) < 2:
        return None, "All finished trials have the same value, so no setting mattered."
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        evaluator = optuna.importance.PedAnovaImportanceEvaluator()
        shares = optuna.importance.get_param_importances(study, evaluator=evaluator)
    if not shares:
        return None, "No setting was varied in enough of the finished trials."
    return {name: float(share) for name, share in sorted(shares.items(), key=lambda one: (-one[1], one[0]))}, ""
