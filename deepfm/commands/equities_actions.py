"""What the actions of `deepfm equities` do; imported when one is asked for, and heavy imports inside each."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deepfm.commands.arguments import RUNS_DIR, print_results, print_warnings

if TYPE_CHECKING:
    from deepfm.engine.run import RunFolder
    from deepfm.equities.evaluation.results import Evaluation
    from deepfm.equities.settings import EquitiesSettings


def train(args: argparse.Namespace) -> int:
    """Train an experiment, or go on with one."""
    import shlex

    from deepfm.engine.run import RunFolder
    from deepfm.equities.experiment.record import experiment_settings
    from deepfm.equities.experiment.walk import run_experiment
    from deepfm.errors import ConfigError

    if args.resume:
        if args.config or args.override or args.overwrite:
            raise ConfigError("--resume goes on with an experiment by its own configuration; leave out all else")
        folder = RunFolder(args.resume)
        settings = experiment_settings(folder)
    else:
        settings = _settings(args)
        folder = RunFolder(settings.output_dir or Path(RUNS_DIR, "equities", _name(args)))
    try:
        found = run_experiment(
            settings, folder, _watch(args.quiet), resume=bool(args.resume), overwrite=args.overwrite, folds=args.folds
        )
    except KeyboardInterrupt as error:
        place = shlex.quote(str(folder.path))
        raise KeyboardInterrupt(
            f"interrupted; what is trained is kept, continue with: deepfm equities train --resume {place}"
        ) from error
    if "left" in found:
        print(f"{folder.path}: still to train: {', '.join(found['left'])}; continue with --resume {folder.path}")
        return 0
    print_results(folder, found)
    return 0


def ablate(args: argparse.Namespace) -> int:
    """Train a run's network with one part the other way, and compare."""
    import shlex

    from deepfm.engine.run import RunFolder
    from deepfm.equities.experiment.ablate import run_ablations
    from deepfm.equities.experiment.record import experiment_settings
    from deepfm.equities.reports.ablation import ablation_table, reading
    from deepfm.reporting import print_table

    folder = RunFolder(args.run)
    named = {"folds": args.folds, "seeds": args.seeds, "switches": args.only}
    chosen = [f"ablation.{name}=[{', '.join(values)}]" for name, values in named.items() if values]
    try:
        found, left = run_ablations(experiment_settings(folder, [*args.override, *chosen]), folder, _watch(args.quiet))
    except KeyboardInterrupt as error:
        raise KeyboardInterrupt(
            "interrupted; what is trained is kept, and the same command goes on: "
            f"deepfm equities ablate {shlex.quote(str(folder.path))}"
        ) from error
    if found:
        print_table(ablation_table(found))
        print(reading(found))
    if left:
        print(f"{folder.path}: the experiment itself has still to train: {', '.join(left)}; its report comes then")
    else:
        print(f"report {folder.report}")
    return 0


def predict(args: argparse.Namespace) -> int:
    """Rank the stocks of new days."""
    import dataclasses

    import numpy as np

    from deepfm.engine.device import resolve_device
    from deepfm.equities.experiment.market import about_data
    from deepfm.equities.experiment.prediction import load_rankers, sessions_after, sessions_between
    from deepfm.equities.experiment.prediction import predict as rank
    from deepfm.equities.experiment.predictions import LEARNED_UNTIL, write_predictions
    from deepfm.equities.panels.files import check_panel
    from deepfm.errors import ConfigError

    rankers = load_rankers(args.run, resolve_device(args.device))
    data = rankers[0].settings.data
    path, sectors = (args.panel, args.sectors) if args.panel else (data.path, args.sectors or data.sectors)
    if path is None:
        raise ConfigError("no panel is named; give one with --panel FILE")
    panel, report = check_panel(path, sectors, data.panel)
    print_warnings(report.warnings())
    completed = rankers[0].sectors.completed(panel)
    if completed is not panel:
        kept = int((completed.sectors >= 0).sum())
        what = f"{kept:,} of {panel.num_stocks:,} tickers have those of the training, the others are of an unknown one"
        print_warnings([f"{path} has no sectors: {what}"])
    until = rankers[0].learned_until
    if args.first is None and args.last is None and until is not None:
        sessions = sessions_after(panel, until)
    else:
        sessions = sessions_between(panel, args.first, args.last, data.sequence_length)
    if until is not None and (seen := int((panel.sessions[sessions] <= np.datetime64(until)).sum())):
        print_warnings([f"the network learned from prices up to {until}: {seen:,} of the sessions test nothing"])
    own = about_data(dataclasses.replace(data, path=str(path), sectors=sectors))
    seeds = ", ".join(ranker.about["seed"] for ranker in rankers)
    facts = {"panel": own["hash"], "trained on": rankers[0].about["data"], "fold": rankers[0].about["fold"]}
    if until is not None:
        facts[LEARNED_UNTIL] = until
    rows = write_predictions(args.output, rank(rankers, panel, sessions), {**facts, "seeds": seeds})
    print(f"{rows:,} rows of {len(sessions):,} sessions in {args.output}; fold {facts['fold']}, seeds {seeds}")
    return 0


def evaluate(args: argparse.Namespace) -> int:
    """Measure an experiment again."""
    from deepfm.equities.experiment.market import open_market
    from deepfm.equities.experiment.walk import measure_experiment
    from deepfm.utils.io import read_json, write_json

    folder, settings = _experiment(args)
    market = open_market(settings)
    results, found = measure_experiment(market, settings, folder)
    _print_tables(found)
    if args.json:
        write_json(args.json, read_json(folder.path / "evaluation.json", "evaluation"))
    print_results(folder, results)
    return 0


def report(args: argparse.Namespace) -> int:
    """Write an experiment's report again."""
    from deepfm.equities.experiment.market import open_market
    from deepfm.equities.experiment.walk import measure_experiment, write_report
    from deepfm.reporting import refuse_report_name

    place = Path(args.output) if args.output else None
    if place is not None:
        refuse_report_name(place)
    folder, settings = _experiment(args)
    market = open_market(settings)
    found = measure_experiment(market, settings, folder)[1]
    if place is not None:
        write_report(market, settings, folder, found, place)
    print(f"report {place or folder.report}")
    return 0


def backtest(args: argparse.Namespace) -> int:
    """Trade scores."""
    import dataclasses

    import numpy as np

    from deepfm.engine.run import RunFolder
    from deepfm.equities.experiment.market import open_market
    from deepfm.equities.experiment.measure import evaluate_scores, joined_predictions
    from deepfm.equities.experiment.predictions import learned_until_of, read_predictions
    from deepfm.equities.experiment.record import experiment_settings, require_trained
    from deepfm.equities.reports.tables import portfolio_table
    from deepfm.errors import DataError
    from deepfm.reporting import print_table

    if args.predictions:
        folder = RunFolder(args.run)
        settings = experiment_settings(folder, args.override)
    else:
        folder, settings = _experiment(args)
    predictions = read_predictions(args.predictions) if args.predictions else None
    horizons = settings.data.prediction_horizons
    if predictions is not None and predictions.horizons != horizons:
        raise DataError(
            f"{args.predictions} holds scores for the horizons {list(predictions.horizons)}, and "
            f"data.prediction_horizons = {list(horizons)}; expected the same"
        )
    market = open_market(settings)
    if predictions is not None:
        until = learned_until_of(args.predictions)
        if until is not None and (seen := predictions.dates <= np.datetime64(until)).any():
            raise DataError(
                f"{args.predictions} holds {len(np.unique(predictions.dates[seen])):,} sessions up to {until}, which "
                "the network learned from and which test nothing; predict later ones"
            )
        scores, _ = predictions.dense(market.panel)
    else:
        require_trained(market, settings, folder)
        scores, _ = joined_predictions(market, settings, folder)
    settings = dataclasses.replace(settings, evaluation=dataclasses.replace(settings.evaluation, baselines=()))
    found = evaluate_scores(market, settings, scores, long_only=args.long_only, everywhere=bool(args.predictions))
    print_table(portfolio_table(found))
    return 0


def baselines(args: argparse.Namespace) -> int:
    """Measure the baselines of a configuration."""
    from deepfm.equities.experiment.market import open_market
    from deepfm.equities.experiment.measure import evaluate_baselines, provenance
    from deepfm.utils.io import write_json

    settings = _settings(args)
    market = open_market(settings)
    found = evaluate_baselines(market, settings, Path(args.output) if args.output else None)
    _print_tables(found)
    if args.json:
        write_json(args.json, {**found.to_dict(), **provenance(market, settings)})
    return 0


def leak_check(args: argparse.Namespace) -> int:
    """Look for leaks; exit code 1 where one is found."""
    from deepfm.equities.experiment.market import open_market
    from deepfm.equities.leakage.check import leak_check as look
    from deepfm.reporting import print_table
    from deepfm.utils.io import write_json

    settings = _settings(args)
    market = open_market(settings)
    found = look(
        market.panel,
        market.registry,
        market.features.names,
        folds=market.folds,
        labels=market.labels,
        table=market.features,
        options=settings.data.panel,
        graph=settings.graph,
    )
    if args.json:
        write_json(args.json, found.to_dict())
    if found.clean:
        print(
            f"no leak: {len(found.features)} features and the graph without the future at {', '.join(found.cuts)}, "
            f"{len(found.folds)} folds"
        )
        return 0
    print_table(found.to_table())
    return 1


def smoke(args: argparse.Namespace) -> int:
    """From nothing to a report."""
    from deepfm.engine.device import single_thread
    from deepfm.equities.experiment.smoke import prepare_smoke
    from deepfm.equities.experiment.walk import run_experiment

    folder, settings = prepare_smoke(args.folder, args.seed)
    with single_thread():  # batches so small gain nothing from two, and lose much where the machine has other work
        found = run_experiment(settings, folder, _watch(args.quiet), overwrite=True)
    print_results(folder, found)
    return 0


def _settings(args: argparse.Namespace) -> "EquitiesSettings":
    from deepfm.equities.settings import load_equities

    return load_equities(args.config, args.override)


def _name(args: argparse.Namespace) -> str:
    return Path(args.config).stem if args.config else "atft"


def _experiment(args: argparse.Namespace) -> "tuple[RunFolder, EquitiesSettings]":
    """An experiment's folder and its settings, in which nothing but what is measured may be another."""
    from deepfm.engine.run import RunFolder
    from deepfm.equities.experiment.record import experiment_settings, refuse_other_settings

    folder = RunFolder(args.run)
    settings = experiment_settings(folder, args.override)
    refuse_other_settings(settings, folder)
    return folder, settings


def _print_tables(found: "Evaluation") -> None:
    from deepfm.equities.reports.tables import paired_table, portfolio_table, rank_ic_table
    from deepfm.reporting import print_table

    print_table(rank_ic_table(found))
    if found.paired:
        print_table(paired_table(found))
    print_table(portfolio_table(found))


def _watch(quiet: bool) -> Any:
    from deepfm.engine.progress import progress_observers
    from deepfm.equities.settings import METRIC

    return lambda *_: progress_observers(METRIC, quiet)
