"""An experiment as its folder holds it: its own settings, what of it is trained, and what may be asked of it."""

from collections.abc import Sequence
from operator import attrgetter

from deepfm.engine.run import RunFolder
from deepfm.engine.setting_names import setting_names
from deepfm.equities.experiment.fold_run import fold_folder, require_identity
from deepfm.equities.experiment.market import Market
from deepfm.equities.settings import EquitiesSettings, load_equities
from deepfm.errors import RunError

WRITER = "deepfm equities train"
PLACE = ("device", "data.path", "data.sectors")  # which may move; that the panel is the same one, its hash says
ABLATED = ("ablation", *PLACE)  # sections and settings that an ablation may change
MEASURED = ("evaluation", "data.feature_modules", *ABLATED)  # and a measurement; of modules the content is compared


def experiment_settings(experiment: RunFolder, overrides: Sequence[str] = ()) -> EquitiesSettings:
    """The settings that an experiment's folder was made with.

    Raises:
        RunError: it is none.
    """
    return load_equities(experiment.require("config", writer=WRITER).config, overrides)


def refuse_other_settings(settings: EquitiesSettings, experiment: RunFolder, free: Sequence[str] = MEASURED) -> None:
    """Make sure that settings are an experiment's own, but for what is free to change.

    Args:
        settings: what is asked for.
        experiment: the folder.
        free: dotted names of sections and settings.

    Raises:
        RunError: another setting differs, so that other seeds, days or networks would stand for the experiment's.
    """
    own = experiment_settings(experiment)
    for name in setting_names(EquitiesSettings):
        if any(name == one or name.startswith(f"{one}.") for one in free):
            continue
        ours, asked = attrgetter(name)(own), attrgetter(name)(settings)
        if ours != asked:
            sections = " and ".join(one for one in free if one in ("evaluation", "ablation"))
            raise RunError(
                f"{experiment.path} is an experiment of other settings than are asked for: {name} = "
                f"{_plain(asked)!r}, its own is {_plain(ours)!r}; change nothing but {sections}, device and where "
                "the panel is"
            )


def unfinished(market: Market, settings: EquitiesSettings, experiment: RunFolder) -> list[str]:
    """What of an experiment is still to train, as text."""
    return [
        f"{fold.name} with seed {seed}"
        for fold in market.folds
        for seed in settings.seeds
        if not fold_folder(experiment, fold, seed).finished
    ]


def require_trained(market: Market, settings: EquitiesSettings, experiment: RunFolder) -> None:
    """Make sure that every fold and seed of an experiment is trained, on this data and by these settings.

    Raises:
        RunError: one is left, or was trained on other data or by other settings, or its results are damaged.
    """
    if left := unfinished(market, settings, experiment):
        more = f" and {len(left) - 1} more are" if len(left) > 1 else " is"
        raise RunError(
            f"{experiment.path} is not trained to its end: fold {left[0]}{more} left; go on with "
            f"`{WRITER} --resume {experiment.path}`"
        )
    for fold in market.folds:
        for seed in settings.seeds:
            require_identity(fold_folder(experiment, fold, seed), market, fold, settings, seed)


def _plain(value: object) -> object:
    """A setting as it is typed."""
    return list(value) if isinstance(value, tuple) else value
