"""Ablations: networks with one part the other way, trained on some folds beside an experiment and by its own code."""

from deepfm.engine.device import resolve_device
from deepfm.engine.run import RunFolder
from deepfm.equities.evaluation.ablation import PartDifference
from deepfm.equities.experiment.ablation import ABLATIONS, arm_of, compare_arms
from deepfm.equities.experiment.fold_run import fold_folder, require_identity
from deepfm.equities.experiment.market import open_market
from deepfm.equities.experiment.record import ABLATED, refuse_other_settings, unfinished
from deepfm.equities.experiment.walk import (
    Watch,
    measure_experiment,
    no_observers,
    refuse_unknown_folds,
    train_runs,
)
from deepfm.equities.settings import EquitiesSettings
from deepfm.errors import ConfigError
from deepfm.utils.io import cannot_write
from deepfm.utils.logging import run_log


def run_ablations(
    settings: EquitiesSettings, experiment: RunFolder, watch: Watch = no_observers
) -> tuple[tuple[PartDifference, ...], list[str]]:
    """Train the arms of `settings.ablation` into `ablations/` of an experiment, and compare what is trained.

    Finished folds are kept, an interrupted one goes on inside. Other processes may train other arms, folds or seeds of
    the experiment at the same time. Where the experiment itself is finished, it is measured again with its ablations.

    Args:
        settings: the experiment's own, in which `ABLATED` may be another.
        experiment: its folder.
        watch: who observes the fit of a fold with a seed.

    Returns:
        What each part brings, of every arm that stands there, and which folds of the experiment itself are left.

    Raises:
        DeepFMError: anything that is wrong with the settings, the data or the device, before work starts.
        RunError: the settings are not those of the experiment, or the panel is not the one it was trained on.
    """
    resolve_device(settings.device)
    refuse_other_settings(settings, experiment, ABLATED)
    wanted = settings.ablation
    if not wanted.folds:
        raise ConfigError("ablation.folds is empty; name the folds to train, such as --folds 2014 2016")
    seeds = wanted.seeds or (settings.seed,)
    if foreign := [seed for seed in seeds if seed not in settings.seeds]:
        raise ConfigError(
            f"ablation.seeds holds {foreign[0]}, which the experiment is not trained with, so nothing could be "
            f"compared; expected some of {', '.join(map(str, settings.seeds))}"
        )
    market = open_market(settings)
    names = [str(number) for number in wanted.folds]
    refuse_unknown_folds(market, names)
    for fold in market.folds:
        for seed in settings.seeds:
            if (run := fold_folder(experiment, fold, seed)).finished:
                require_identity(run, market, fold, settings, seed)
    arms = [arm_of(settings, part, wanted.normalization) for part in wanted.switches]
    place = RunFolder(experiment.path / ABLATIONS)
    with run_log() as log_to:
        try:
            place.path.mkdir(exist_ok=True)
        except OSError as error:
            raise cannot_write(place.path, error) from error
        log_to(place.log)
        for fold in market.folds:
            if fold.name in names:
                runs = [(arm.settings, arm.folder(experiment), seed) for arm in arms for seed in seeds]
                train_runs(market, fold, runs, watch)
        if left := unfinished(market, settings, experiment):
            return compare_arms(market, settings, experiment), left
        return measure_experiment(market, settings, experiment)[1].ablations, []
