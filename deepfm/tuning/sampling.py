"""What Optuna is asked for: where a trial's values come from, and when a trial is given up."""

import warnings
from collections.abc import Mapping
from typing import Any

import optuna
from optuna.exceptions import ExperimentalWarning

from deepfm.tuning.parameters import STEP_DIGITS, Parameter, as_plain
from deepfm.tuning.settings import StudySettings
from deepfm.tuning.space import Space
from deepfm.utils.seeding import random_stream

RANDOM_TRIALS = 10  # before TPE has enough to look at
UNPRUNED_TRIALS = 5  # before a median says anything


def make_sampler(
    settings: StudySettings,
    slot: int,
    space: Space,
    base: Mapping[str, Any],
    combination: Mapping[str, Any] | None = None,
) -> optuna.samplers.BaseSampler:
    """Where the values of the trial in a slot come from: a function of the seed, the slot and the trials so far.

    Slot 0 has the configuration's own values where the space holds them, so that a study knows what it starts from.

    Args:
        base: the configuration's settings by their dotted names.
        combination: of the grid, where the sampler is `grid`.
    """
    seed = int(random_stream("tuning", settings.seed, slot).integers(2**31))
    own: Mapping[str, Any] = {}
    if combination is not None:
        own = combination
    elif slot == 0:
        own = {one.name: base[one.name] for one in space.parameters if one.holds(base[one.name])}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        if own:
            fixed = {name: as_plain(value) for name, value in own.items()}
            return optuna.samplers.PartialFixedSampler(fixed, optuna.samplers.RandomSampler(seed))
        if settings.sampler == "tpe":
            return optuna.samplers.TPESampler(n_startup_trials=RANDOM_TRIALS, constant_liar=True, seed=seed)
        return optuna.samplers.RandomSampler(seed)


def make_pruner(settings: StudySettings, epochs: int) -> optuna.pruners.BasePruner:
    """When a trial is given up.

    The median leaves the first five trials and the first fifth of the epochs alone; then a trial ends whose best epoch
    is worse than the median of the others' at that epoch. Hyperband gives most trials few epochs.

    Args:
        epochs: the most that a trial has.
    """
    if settings.pruner == "median":
        return optuna.pruners.MedianPruner(n_startup_trials=UNPRUNED_TRIALS, n_warmup_steps=1 + epochs // 5)
    if settings.pruner == "hyperband":
        return optuna.pruners.HyperbandPruner(min_resource=1, max_resource=epochs, reduction_factor=3)
    return optuna.pruners.NopPruner()


def suggest_values(trial: optuna.Trial, space: Space, base: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a trial, by the settings' dotted names; parameters that take no part are left out."""
    chosen: dict[str, Any] = {}
    for parameter in space.parameters:
        if parameter.takes_part({**base, **chosen}):
            chosen[parameter.name] = _suggest(trial, parameter)
    return chosen


def values_of(params: Mapping[str, Any], space: Space) -> dict[str, Any]:
    """What `suggest_values` gave, from the parameters of a stored trial."""
    return {one.name: _value(one, params[one.name]) for one in space.parameters if one.name in params}


def _suggest(trial: optuna.Trial, parameter: Parameter) -> Any:
    name, low, high = parameter.name, parameter.low, parameter.high
    if parameter.choices is not None:
        return _value(parameter, trial.suggest_categorical(name, [as_plain(choice) for choice in parameter.choices]))
    assert low is not None  # a parameter has choices or a range
    assert high is not None
    if parameter.whole:
        return trial.suggest_int(name, int(low), int(high), step=int(parameter.step or 1), log=parameter.log)
    return _value(parameter, trial.suggest_float(name, low, high, step=parameter.step, log=parameter.log))


def _value(parameter: Parameter, plain: Any) -> Any:
    if parameter.choices is None:
        return plain if parameter.step is None else round(plain, STEP_DIGITS)
    return next(choice for choice in parameter.choices if repr(as_plain(choice)) == repr(plain))
