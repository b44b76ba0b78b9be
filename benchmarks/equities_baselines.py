"""The shipped baselines on the point-in-time NASDAQ panel beside the measured CSVs; prints a table per horizon.

    python benchmarks/equities_baselines.py [--data ../shared/datasets/equities] [--scores FOLDER]
        [--baselines "reversal 5" ridge ...] [--horizons 1 5 10 20] [--delay 1] [--report FOLDER]

Five expanding folds, tested on the years 2013 to 2017, with a gap of max(20, longest horizon + delay) sessions before
each. `--scores` keeps the scores, so that a second run fits nothing. Exits 1 where a RankIC is further than two
Newey-West errors from the CSV's.
"""

import argparse
import resource
import sys
import time
from pathlib import Path

import numpy as np
import polars as pl

from deepfm.equities.baselines import BASELINES, rank_features, walk_forward_scores
from deepfm.equities.evaluation.evaluate import evaluate
from deepfm.equities.evaluation.places import blend
from deepfm.equities.evaluation.results import Evaluation
from deepfm.equities.features import DEFAULT_FEATURES, compute_features
from deepfm.equities.labels import forward_returns
from deepfm.equities.panels.files import read_panel
from deepfm.equities.panels.settings import PanelOptions
from deepfm.equities.walk_forward import WalkForwardSplit
from deepfm.reporting import Column, Table

CSV_NAMES = {
    "reversal 5": "rev5",
    "momentum 20": "mom20",
    "momentum 12-1": "mom12_1",
    "ridge": "ridge",
    "LightGBM": "lgbm",
}
SPLIT = WalkForwardSplit(test_years=tuple(range(2013, 2018)), validation_sessions=0, first_session="2010-01-04")


def measure(arguments: argparse.Namespace) -> Evaluation:
    """All baselines asked for, one of them in the place of the evaluated method."""
    started = time.perf_counter()
    options = PanelOptions(bad_prints="two_sided", drop_partial_last=False)  # as the CSVs were made
    folder = arguments.data
    panel = read_panel(folder / "nasdaq_pit_ohlcv_2009_2017.parquet", folder / "nasdaq_meta.csv", options)
    labels = forward_returns(panel, arguments.horizons, arguments.delay)
    names = arguments.features or [item.name for item in DEFAULT_FEATURES.features if item.group != "sector"]
    table = compute_features(panel, names)
    features = rank_features(table, panel.eligible)
    del table
    print(f"{panel}, {len(features.names)} features: {time.perf_counter() - started:.0f} s", file=sys.stderr)
    folds = SPLIT.folds(panel.sessions, labels.horizons, labels.delay)
    targets = labels.ranked(panel.eligible)
    scores = {}
    for name in arguments.baselines:
        started = time.perf_counter()
        scores |= walk_forward_scores([name], features, targets, folds, arguments.scores)
        print(f"{name}: {time.perf_counter() - started:.0f} s", file=sys.stderr)
    if {"ridge", "LightGBM"} <= set(scores):
        scores["ridge + LightGBM"] = blend({name: scores[name] for name in ("ridge", "LightGBM")})
    del features
    first, *others = scores
    tested = np.concatenate([fold.test for fold in folds])
    rest = {name: scores[name] for name in others}
    return evaluate(scores[first], panel, labels, panel.eligible, rest, sessions=tested, name=first)


def compare(found: Evaluation, folder: Path) -> tuple[list[Table], float]:
    """A table per horizon, and the largest distance from the CSVs in Newey-West errors."""
    files = [folder / f"baselines_pit_{name}.csv" for name in ("rule_ridge", "lgb")]
    known = pl.concat([pl.read_csv(file) for file in files], how="diagonal_relaxed").to_dicts()
    delay = found.settings.delay
    csv = {(row["model"], row["h"]): row for row in known if row["delay"] == delay}
    names = ["RankIC", "ICIR", "Newey-West error", "days", "Sharpe gross", "Sharpe net 10 bp", "turnover"]
    columns = [Column("method"), *(Column(name) for name in names), Column("errors apart", format="+.2f")]
    tables, furthest = [], 0.0
    for at, horizon in enumerate(found.horizons):
        rows = []
        for name, results in found.methods.items():
            result, row = results[at], csv.get((CSV_NAMES.get(name, ""), horizon))
            portfolio, summary = result.portfolio, result.rank_ic
            ours = [
                f"{summary.mean:+.4f}", f"{summary.ratio:+.3f}", f"{summary.error:.4f}", f"{summary.days}",
                f"{portfolio.level(0.0).sharpe:+.2f}", f"{portfolio.level(10.0).sharpe:+.2f}",
                f"{portfolio.mean_turnover:.3f}",
            ]  # fmt: skip
            if row is None:
                rows.append([name, *ours, None])
                continue
            theirs = [
                f"{row['rankic']:+.4f}", f"{row['icir']:+.3f}", f"{row['se_nw']:.4f}", f"{row['days']}",
                f"{row['LS_sharpe']:+.2f}", f"{row['LS_net10bp']:+.2f}", f"{row['turnover']:.3f}",
            ]  # fmt: skip
            apart = (summary.mean - row["rankic"]) / row["se_nw"]
            furthest = max(furthest, abs(apart))
            rows.append([name, *(f"{mine} ({csv})" for mine, csv in zip(ours, theirs, strict=True)), apart])
        caption = f"{horizon} sessions, delay {delay}: ours, and the CSV's in brackets."
        tables.append(Table(columns, rows, caption, best=False))
    return tables, furthest


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/datasets/equities"))
    parser.add_argument("--scores", type=Path)
    parser.add_argument("--baselines", nargs="+", default=list(BASELINES))
    parser.add_argument("--horizons", nargs="+", type=int, default=[1, 5, 10, 20])
    parser.add_argument("--features", nargs="+", help="by default all that need no sector")
    parser.add_argument("--delay", type=int, default=1)
    parser.add_argument("--report", type=Path, help="a folder for the full report")
    arguments = parser.parse_args()
    found = measure(arguments)
    tables, furthest = compare(found, arguments.data)
    for table in tables:
        print(table.to_markdown(), end="\n\n")
    if arguments.report is not None:
        from deepfm.equities.reports.report import build_report
        from deepfm.reporting import write_html, write_markdown
        from deepfm.utils.io import write_json

        document = build_report(found)
        write_html(document, arguments.report / "report.html")
        write_markdown(document, arguments.report / "report.md")
        write_json(arguments.report / "evaluation.json", found.to_dict())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"furthest from the CSVs: {furthest:.2f} Newey-West errors; peak memory {peak:.2f} GB")
    return int(furthest > 2)


if __name__ == "__main__":
    sys.exit(main())
