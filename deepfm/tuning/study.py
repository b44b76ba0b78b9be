"""A study in its storage: opened for one space, metric and data only, and its trials in numbered slots."""

import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import optuna
import psutil
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from deepfm.data.adapter import DataInfo
from deepfm.engine.settings import settings_to_dict
from deepfm.errors import RunError
from deepfm.tuning.click_rules import CLICK_RULES
from deepfm.tuning.rules import Rules
from deepfm.tuning.sampling import values_of
from deepfm.tuning.space import Space, flat_settings

IDENTITY = "deepfm"  # the study's attribute that says what it is a study of
LOCK_SECONDS = 60  # that a process waits for another's write


@dataclass(frozen=True)
class Identity:
    """What all trials of a study share, or they could not be compared.

    Args:
        metric: what trials are judged by, on the validation split.
        space: as `Space.to_dict` gives it.
        data: name and hash of the data.
        settings: those that stay, by their dotted names, without those of the place.
    """

    metric: str
    space: dict[str, Any]
    data: dict[str, Any]
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def direction(self) -> Literal["maximize", "minimize"]:
        """`maximize`, or `minimize` for the log loss."""
        return "minimize" if self.metric == "logloss" else "maximize"

    def refuse_other(self, name: str, stored: Any) -> None:
        """Make sure that a stored study is of this space, metric, data and settings.

        Raises:
            RunError: it is not; the first difference is named.
        """
        other = "continue it with what it was made with, or choose another --study"
        if not isinstance(stored, Mapping) or not {"metric", "space", "data", "settings"} <= set(stored):
            raise RunError(f"study {name!r} was not made by deepfm tune; choose another --study or --storage")
        if stored["metric"] != self.metric:
            raise RunError(f"study {name!r} is judged by {stored['metric']}, not {self.metric}; {other}")
        if stored["data"]["hash"] != self.data["hash"]:
            raise RunError(f"study {name!r} is of other data ({stored['data']['name']}); {other}")
        if list(stored["space"].items()) != list(self.space.items()):
            names = dict.fromkeys([*stored["space"], *self.space])
            changed = [one for one in names if stored["space"].get(one) != self.space.get(one)]
            raise RunError(f"study {name!r} is of another search space ({', '.join(changed) or 'its order'}); {other}")
        for setting_name, value in self.settings.items():
            if stored["settings"].get(setting_name, value) != value:
                raise RunError(
                    f"study {name!r} has {setting_name} = {stored['settings'][setting_name]!r}, not {value!r}; {other}"
                )


def identity_of(config: Any, space: Space, info: DataInfo, rules: Rules = CLICK_RULES) -> Identity:
    """What a study of a configuration, a space and data is."""
    varied = {parameter.name for parameter in space.parameters}
    flat = flat_settings(config)
    plain = settings_to_dict(config)
    settings = {name: _at(plain, name) for name in flat if name not in varied and name not in rules.of_the_place}
    return Identity(config.training.metric, space.to_dict(), asdict(info), settings)


def same_settings(one: Any, other: Any, rules: Rules = CLICK_RULES) -> bool:
    """Whether two configurations train the same, wherever they do it."""
    settings, others = flat_settings(one), flat_settings(other)
    return all(settings[name] == others[name] for name in settings if name not in rules.of_the_place)


def open_study(
    url: str, name: str, identity: Identity, pruner: optuna.pruners.BasePruner | None = None
) -> optuna.Study:
    """Make a study, or go on with the one of that name.

    Raises:
        RunError: the storage cannot be read or written, or the study is of something else.
    """
    with storage_errors(url):
        try:
            storage = _storage(url)
        except (ImportError, ValueError, OSError) as error:  # no driver, no address, no folder
            raise _unusable(url, error) from error
        study = optuna.create_study(
            storage=storage, study_name=name, direction=identity.direction, pruner=pruner, load_if_exists=True
        )
        if IDENTITY in study.user_attrs or study.get_trials(deepcopy=False):
            identity.refuse_other(name, study.user_attrs.get(IDENTITY))
        else:
            study.set_user_attr(IDENTITY, asdict(identity))
    return study


@contextmanager
def storage_errors(url: str) -> Iterator[None]:
    """The one sentence for a storage that fails while it is used.

    Raises:
        RunError: it does, with the address without its password.
    """
    try:
        yield
    except (SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
        raise _unusable(url, error) from error


def shown_url(url: str) -> str:
    """The address of a storage without its password."""
    try:
        return make_url(url).render_as_string(hide_password=True)
    except SQLAlchemyError:
        return repr(url)


def next_slot(study: optuna.Study, slots: int) -> int | None:
    """The lowest slot that no trial has; None where all have one. Trials of processes that are gone leave theirs."""
    taken = set()
    for trial in study.get_trials(deepcopy=False):
        if trial.state is TrialState.RUNNING and _is_lost(trial):
            study.tell(trial.number, state=TrialState.FAIL)
        elif trial.state is TrialState.RUNNING or is_counted(trial):
            taken.add(trial.user_attrs.get("slot"))
    return next((slot for slot in range(slots) if slot not in taken), None)


def next_combination(study: optuna.Study, grid: Sequence[Mapping[str, Any]], space: Space) -> int | None:
    """The first combination of a grid that no trial has, whatever sampler it came from; None where all are tried."""
    tried: list[Mapping[str, Any]] = []
    taken: set[int] = set()
    for trial in study.get_trials(deepcopy=False):
        if trial.state is TrialState.RUNNING or is_counted(trial):
            tried.append(values_of(trial.params, space))
            taken.add(trial.user_attrs.get("combination", -1))
    return next((at for at, values in enumerate(grid) if at not in taken and values not in tried), None)


def is_counted(trial: FrozenTrial) -> bool:
    """Whether a trial came to an end of its own: finished, pruned, or failed for a reason; interrupted ones did not."""
    if trial.state is TrialState.FAIL:
        return "error" in trial.user_attrs
    return trial.state in (TrialState.COMPLETE, TrialState.PRUNED)


def claim(trial: optuna.Trial, slot: int, combination: int | None = None) -> None:
    """Note a trial's slot, its combination of a grid, and the process that it is lost with."""
    trial.set_user_attr("process", _this_process())
    trial.set_user_attr("slot", slot)
    if combination is not None:
        trial.set_user_attr("combination", combination)


def _unusable(url: str, error: Exception) -> RunError:
    cause = error.__cause__ if isinstance(error, optuna.exceptions.StorageInternalError) else error
    reason = " ".join(str(getattr(cause, "orig", None) or cause).split())[:200]
    return RunError(
        f"storage {shown_url(url)} cannot be used ({reason}); expected one that can be written, such as "
        "sqlite:///outputs/study.db"
    )


def _storage(url: str) -> optuna.storages.BaseStorage:
    place = make_url(url)
    arguments: dict[str, Any] = {}
    if place.get_backend_name() == "sqlite":
        arguments = {"connect_args": {"timeout": LOCK_SECONDS}}
        if place.database:
            Path(place.database).parent.mkdir(parents=True, exist_ok=True)
    return optuna.storages.RDBStorage(url, engine_kwargs=arguments)


def _this_process() -> list[Any]:
    return [socket.gethostname(), os.getpid(), psutil.Process().create_time()]


def _is_lost(trial: FrozenTrial) -> bool:
    host, number, created = trial.user_attrs.get("process", (None, 0, 0.0))
    if host != socket.gethostname():
        return False  # it may well be at work
    try:
        return bool(psutil.Process(number).create_time() != created)
    except psutil.Error:
        return True


def _at(tree: Mapping[str, Any], name: str) -> Any:
    for part in name.split("."):
        tree = tree[part]
    return tree
